"""What the terminal shows of a fit: the document's numbers in tables, and in words what it declines to say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from transvae_platform.cli.tables import console, table

SHOWN = 6  # reasons and cells; the JSON holds all


def print_document(document: Mapping[str, Any]) -> None:
    """One fit."""
    request, source, result = document["request"], document["source"], document["result"]
    group = "".join(f", {name} = {value}" for name, value in document["group"].items())
    title = f"{request['form']} fitted to {request['loss']}{group}: {source['rows_fitted']} rows of {source['path']}"
    _say(title)
    if "expression" in result:
        _say(result["expression"])
    _dropped(document["dropped"])
    {"law": _law, "families": _families, "line": _line, "isoflop": _isoflop, "envelope": _envelope, "curve": _curve}[
        document["kind"]
    ](result)
    for sentence in result.get("refusals", ()):
        _say(f"cannot say: {sentence if isinstance(sentence, str) else sentence['sentence']}")


def _dropped(dropped: Sequence[Mapping[str, Any]]) -> None:
    """Every reason with its rows."""
    rows: dict[str, list[int]] = {}
    for entry in dropped:
        rows.setdefault(entry["reason"], []).append(entry["row"])
    for reason, numbers in rows.items():
        more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
        which = ", ".join(map(str, numbers[:SHOWN])) + more
        _say(f"not fitted: row{'s' if len(numbers) > 1 else ''} {which}: {reason}")


def _law(result: Mapping[str, Any]) -> None:
    if result["parameters"] is None:
        return
    spread, lad = result["bootstrap"], result["least_absolute"]
    columns = [("parameter", "left"), ("estimate", "right")]
    if spread:
        columns += [("standard error", "right"), (f"{100 * spread['level']:g} % interval", "right")]
    if lad:
        columns.append(("least absolute deviations", "right"))
    rows = table(*columns)
    for name, value in result["parameters"].items():
        cells = [name, f"{value:.7g}"]
        if spread:
            error = spread["standard_errors"][name]
            cells += ["" if error is None else f"{error:.5g}", _span(spread["intervals"][name])]
        rows.add_row(*cells, *([f"{lad['parameters'][name]:.7g}"] if lad else []))
    console().print(rows, markup=False)
    proof = result["proof"]
    _say(
        f"optimum: objective {proof['objective']:.13g} (sum, delta {proof['delta']}, {proof['residuals']} residuals), "
        f"gradient {proof['gradient_max']:.1e}, {proof['starts_agreeing']} of {proof['starts']} starts agree, "
        f"condition {proof['condition']:.2g}"
    )
    if lad:
        _say(f"least absolute deviations are another estimator: sum of |r| {lad['sum_abs_residual']:.10g}")
    if spread:
        _say(f"bootstrap: {spread['replicates']} resamples of {spread['runs']} runs, seed {spread['seed']}, "
             f"{spread['failed']} not converged")  # fmt: skip
        if spread["moved"] is not None:
            _say(f"bootstrap: a term vanishes in the fit, so every resample started once more with all terms present; "
                 f"{spread['moved']} found a lower optimum")  # fmt: skip
    _sweep(result["delta_sweep"])
    if (test := result["back_test"]) is not None:
        rivals = ", ".join(f"{k.replace('_', ' ')} {100 * v:.2f} %" for k, v in test["baselines"].items())
        error = f"mean error {100 * test['mean_error']:.2f} % ({rivals})"
        _say(f"back-test, {test['points']} points with {test['held_out']} held out: {error}")
    _predictions(result["predictions"])


def _span(interval: Sequence[float] | None) -> str:
    if interval is None:
        return "none"
    return f"{interval[0]:.5g} to {interval[1]:.5g}" if interval[0] != 0 else f"<= {interval[1]:.5g}"


def _sweep(sweep: Sequence[Mapping[str, Any]]) -> None:
    names = list(sweep[0]["parameters"])
    rows = table(("delta", "right"), *((name, "right") for name in names), ("objective", "right"), ("proven", "left"))
    for fit in sweep:
        values = [f"{fit['parameters'][name]:.6g}" for name in names]
        rows.add_row(str(fit["delta"]), *values, f"{fit['objective']:.10g}", "yes" if fit["converged"] else "no")
    _say("what delta does to the estimates:")
    console().print(rows, markup=False)


def _predictions(predictions: Sequence[Mapping[str, Any]], what: str = "held out") -> None:
    if not predictions:
        return
    told: list[str] = []
    rows = table((what, "left"), ("predicted", "right"), ("measured", "right"), ("error", "right"))
    for cell in predictions:
        name = cell["name"] or f"row {cell['row']}"
        if cell.get("refusal"):
            rows.add_row(name, "refused", f"{cell['measured']:.5g}", "")
            told.append(f"cannot say: {name}: {cell['refusal']}")
            continue
        rows.add_row(name, f"{cell['predicted']:.5g}", f"{cell['measured']:.5g}", f"{100 * cell['error']:+.4f} %")
        if cell.get("warning"):
            told.append(f"caution: {name}: {cell['warning']}")
    console().print(rows, markup=False)
    for sentence in told:
        _say(sentence)


def _families(result: Mapping[str, Any]) -> None:
    names = ("sizes", "alpha", "E", "gain", "seed sd", "hold-out error", "of a power law", "last value")
    rows = table(("family", "left"), *((name, "right") for name in names))
    for fit in result["families"]:
        test, gain = fit["hold_out"], fit["gain"]
        errors = (
            [f"{100 * test[k]:+.2f} %" for k in ("error", "power_law_error", "last_value_error")] if test else [""] * 3
        )
        rows.add_row(
            fit["family"], str(fit["n_sizes"]), _estimate(fit["alpha"], fit["alpha_interval"]),
            _estimate(fit["E"], fit["E_interval"]), "" if gain is None else _estimate(gain["total"], gain["interval"]),
            "" if fit["seed_sd"] is None else f"{100 * fit['seed_sd']:.2f} %", *errors,
        )  # fmt: skip
    console().print(rows, markup=False)
    for fit in result["families"]:
        _say(f"{fit['family']}: {fit['verdict']}")
        own, spread = fit["alpha_interval_own"], result["variances"]["spread"].get(fit["family"])
        if spread is not None and spread["apart"]:
            times, p = spread["ratio"] ** 0.5, spread["p_value"]
            _say(f"{fit['family']}: scatters {times:.2g} times as much as the others (p = {p:.2g}): own variance")
        elif own is not None and fit["alpha"] is not None and fit["variance"]["kind"] == "pooled":
            _say(f"{fit['family']}: with its own variance alone alpha = {_estimate(fit['alpha'], own)}")
        if fit["saturation"] is not None:
            _say(f"{fit['family']}: {fit['saturation']['sentence']}")
    _family_sweep(result["delta_sweep"])
    contrasts = [*result["gain_contrasts"], *result["alpha_contrasts"], *result["ratios"]]
    if contrasts:
        rows = table(("pair", "left"), ("question", "left"), ("difference", "right"), ("answer", "left"))
        for contrast in contrasts:
            shown = "" if contrast["difference"] is None else _estimate(contrast["difference"], contrast["interval"])
            rows.add_row(f"{contrast['first']} - {contrast['second']}", contrast["question"], shown, contrast["answer"])
        console().print(rows, markup=False)
    if (shared := result["shared_floor"]) is not None:
        alphas = ", ".join(f"{family} {alpha:.2f}" for family, alpha in shared["alphas"].items())
        _say(
            f"with one E for all ({shared['E']:.4g}): alpha {alphas}; F test p = {shared['p_value']:.2g}. "
            f"{shared['label']}"
        )
    for found in result["predictions"]:
        _say(f"{found['family']} at {found['x']:.4g}: {_predicted(found)}")
    for fit in result["families"]:
        for refusal in fit["refusals"]:
            _say(f"cannot say: {refusal['sentence']}")
    for caution in result["cautions"]:
        _say(f"caution: {caution}")
    for reason, count in Counter(e["reason"] for e in result["excluded"]).items():
        _say(f"not fitted: {count} rows: {reason}")


def _family_sweep(sweep: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    if not any(sweep.values()):
        return
    rows = table(("family", "left"), ("delta", "right"), ("alpha", "right"), ("E", "right"), ("proven", "left"))
    for family, fits in sweep.items():
        for fit in fits:
            proven = "no" if fit["doubts"] else "yes"
            rows.add_row(family, str(fit["delta"]), f"{fit['alpha']:.4g}", f"{fit['E']:.4g}", proven)
    _say("what Huber's delta would do to the estimates (a sensitivity, the fit above is least squares):")
    console().print(rows, markup=False)


def _estimate(value: float | None, interval: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    if interval is None:
        return f"{value:.3g}"
    if not interval["bounded_below"] and interval["bounded_above"]:
        return f"<= {interval['upper']:.3g}"
    low, high = (f"{v:.3g}" if v is not None else "unbounded" for v in (interval["lower"], interval["upper"]))
    return f"{value:.3g} [{low}, {high}]"


def _predicted(found: Mapping[str, Any]) -> str:
    if found["refusal"]:
        return str(found["refusal"])
    interval = "" if found["lower"] is None else f" [{found['lower']:.4g}, {found['upper']:.4g}]"
    return f"{found['value']:.4g}{interval}" + (f" - {found['warning']}" if found["warning"] else "")


def _line(result: Mapping[str, Any]) -> None:
    interval = result["interval"]
    shown = "" if interval is None else f" [{interval[0]:.4f}, {interval[1]:.4f}] ({100 * result['level']:g} %)"
    _say(f"a = {result['parameters']['a']:.6f}{shown}, G = {result['parameters']['G']:.6g}, {result['points']} points")
    _say(f"note: {result['note']}")


def _isoflop(result: Mapping[str, Any]) -> None:
    rows = table(("C", "right"), ("sizes", "right"), ("optimal N", "right"), ("loss there", "right"))
    for level in result["levels"]:
        best = [f"{level[k]:.4g}" if level[k] is not None else "-" for k in ("best_size", "best_loss")]
        rows.add_row(f"{level['flops']:.3g}", str(level["sizes"]), *best)
    console().print(rows, markup=False)
    if "parameters" in result:
        _line(result)
        if result["bias"] is not None:
            _say(f"bias of the procedure here: {result['bias']:+.4f}")
    else:
        _say(f"note: {result['note']}")


def _envelope(result: Mapping[str, Any]) -> None:
    line = result["log10"]
    _say(f"log10 y = {line['intercept']:.8f} {line['slope']:+.8f} log10 x through {result['envelope_points']} points "
         f"({result['envelope']})")  # fmt: skip
    _predictions(result["predictions"], "cell")
    if result["mean_absolute_error"] is not None:
        _say(f"mean absolute error over {len(result['predictions'])} cells: {result['mean_absolute_error']:.16g}")
    _say(f"note: {result['note']}")


def _curve(result: Mapping[str, Any]) -> None:
    rows = table(("run", "left"), ("at images", "right"), ("forecast", "right"), ("largest back-test error", "right"),
                 ("back-tests", "right"), ("better than naive", "left"))  # fmt: skip
    for forecast in result["forecasts"]:
        margin = f"{100 * forecast['margin']:.2f} %"
        rows.add_row(forecast["run"], f"{forecast['images']:.4g}", f"{forecast['value']:.5g}", margin,
                     str(len(forecast["back_tests"])), "yes" if forecast["beats_baselines"] else "no")  # fmt: skip
    if result["forecasts"]:
        console().print(rows, markup=False)
    _say(result["label"])


def _say(text: str) -> None:
    console().print(text, markup=False, highlight=False, soft_wrap=True)
