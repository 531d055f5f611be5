"""The first screen: the question, the answer in plain sentences, what was expected, and how much was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transvae_dashboards import formats
from transvae_dashboards.icons import family_mark, state_mark
from transvae_dashboards.laws import in_order
from transvae_dashboards.markup import Html, join, tag
from transvae_dashboards.tables import FAMILIES, FAMILY_NAMES, METRIC_NAMES, SIZE_NAMES, X_WORDS, TrialRow, mean
from transvae_platform.fitting import FamilyFit, FitReport
from transvae_platform.fitting.compare import Contrast
from transvae_platform.study.calibration import outcomes, transfer
from transvae_platform.study.state import STATES, StudyState


def opening(state: StudyState, rows: Sequence[TrialRow], fits: Mapping[str, FitReport]) -> Html:
    """The page's header."""
    expected = state.spec.get("expected", {})
    return tag(
        "header",
        tag("p", "Scaling study", class_="eyebrow"),
        tag("h1", state.name),
        tag("p", state.spec.get("question", "This study has not been submitted yet."), class_="question"),
        _rates(state) if state.spec.get("calibration") else _answers(fits["parameters"], rows),
        _expectation(expected.get("outcome"), expected.get("source")),
        _headlines(state),
    )


def _rates(state: StudyState) -> Html:
    """The answer of a calibration."""
    said = sorted(transfer(outcomes(state)), key=lambda answer: FAMILIES.index(answer[0]))
    if not said:
        return tag("div", tag("p", "No answer yet: no family has two sizes with a finished rate."), class_="answer")
    lines = [
        tag("li", tag("div", family_mark(family)), tag("div", tag("p", f"{sentence}."))) for family, sentence in said
    ]
    return tag("div", tag("h2", "Answer"), tag("ul", *lines), class_="answer")


def answer(fit: FamilyFit, rows: Sequence[TrialRow], metric: str) -> str:
    """What one family's sizes show, as a plain sentence."""
    name = METRIC_NAMES.get(metric, metric)
    if fit.gain is None:
        left = sum(row.family == fit.family and not row.finished for row in rows)
        waiting = f"; {left} of its trials have not finished" if left else ""
        return f"Cannot tell how {name} changes with size: fewer than two sizes are finished{waiting}."
    first, last = SIZE_NAMES[fit.gain.first], SIZE_NAMES[fit.gain.last]
    share = fit.sizes[-1].mean / fit.sizes[0].mean - 1
    quality = [_psnr(rows, fit.family, size) for size in (fit.gain.first, fit.gain.last)]
    levels = f"; PSNR goes from {quality[0]} to {quality[1]} dB" if formats.NONE not in quality else ""
    change = f"{'falls' if share < 0 else 'rises'} by {formats.percent(abs(share))}"
    interval = fit.gain.interval
    if interval is not None and interval.lower <= 0 <= interval.upper:
        return (
            f"Cannot tell whether {name} falls with size: from {first} to {last} it {change}, within the noise{levels}."
        )
    unsure = "" if interval is not None else " (one measurement of each end, noise unknown)"
    return f"From {first} to {last}, {name} {change}{unsure}{levels}."


def _answers(report: FitReport, rows: Sequence[TrialRow]) -> Html:
    if not report.families:
        return tag("div", tag("p", "No answer yet: no trial has been queued."), class_="answer")
    lines = [
        tag(
            "li", tag("div", family_mark(fit.family)),
            tag("div", tag("p", answer(fit, rows, report.metric)), tag("p", _sentence(fit.verdict), class_="verdict")),
        )
        for fit in in_order(report)
    ]  # fmt: skip
    comparison = tag("p", between(report), class_="between")
    return tag("div", tag("h2", "Answer"), tag("ul", *lines), comparison, class_="answer")


def between(report: FitReport) -> str:
    """Which families differ, in one sentence."""
    tested = [contrast for contrast in report.gain_contrasts if contrast.p_holm is not None]
    decided = [contrast for contrast in tested if not contrast.answer.startswith("cannot tell")]
    if len(report.families) < 2:
        return "One family only: nothing to compare."
    if not tested:
        return "Between families: cannot tell, too few sizes are finished to compare their gains."
    rest = len(report.gain_contrasts) - len(decided)
    if not decided:
        return "Between families: cannot tell which gains more from its size; no difference exceeds the noise."
    clauses: list[str] = []
    for better in FAMILIES:
        worse = [c.second if _better(c) == c.first else c.first for c in decided if _better(c) == better]
        if worse:
            clauses.append(f"{FAMILY_NAMES[better]} {'more' if clauses else 'gains more'} than {_listed(worse)}")
    p = formats.p_value(max(contrast.p_holm or 0.0 for contrast in decided))
    sentence = f"Per tenfold {X_WORDS[report.x_name]}, {'; '.join(clauses)} (p {p} after Holm)."
    return sentence + (f" Other pairs: cannot tell ({rest} of {len(report.gain_contrasts)})." if rest else "")


def _better(contrast: Contrast) -> str:
    return contrast.first if (contrast.difference or 0.0) > 0 else contrast.second


def _listed(families: Sequence[str]) -> str:
    names = [FAMILY_NAMES[family] for family in sorted(families, key=FAMILIES.index)]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." if text.startswith("cannot") else text


def _psnr(rows: Sequence[TrialRow], family: str, size: str) -> str:
    cell = [r.psnr for r in rows if (r.family, r.size, r.variant) == (family, size, "base") and r.finished]
    return formats.number(mean(cell), 1)


def _expectation(outcome: str | None, source: str | None) -> Html:
    if outcome is None:
        return Html("")
    return tag("p", tag("strong", "Expected beforehand. "), outcome, " ", tag("cite", f"({source})"), class_="expected")


def _headlines(state: StudyState) -> Html:
    trials = state.trials.values()  # the rows, and generators
    counts = {name: len(state.in_state(name)) for name in STATES}
    hours = {
        device: sum(t.seconds * t.trial.workers.workers for t in trials if t.trial.workers.device == device)
        for device in ("gpu", "cpu")
    }
    flops = sum(t.cost.get("training_flops", 0.0) * t.trial.recipe.batch_size * t.step for t in trials)
    marks = [join([state_mark(name), " ", tag("b", str(counts[name]))]) for name in STATES if counts[name]]
    items: list[tuple[str, str]] = [
        ("Trials", f"{counts['finished']} of {len(trials)}"),
        *((f"{device.upper()} time", formats.duration(seconds)) for device, seconds in hours.items() if seconds),
        ("Images seen", formats.scaled(sum(t.images for t in trials), formats.COUNT_UNITS)),
        ("Training FLOPs", formats.scaled(flops)),
    ]
    if (at := as_of(state)) is not None:
        items.append(("As of", formats.moment(at)))
    cells = [tag("div", tag("dt", name), tag("dd", value)) for name, value in items]
    return join([tag("dl", *cells, class_="headlines"), tag("p", join(marks, " "), class_="states")])


def as_of(state: StudyState) -> float | None:
    """When the last record that the page draws on was written (the journal's time: the page has no clock)."""
    times = [submission["at"] for submission in state.submissions]
    for trial in state.trials.values():
        times += [start["at"] for start in trial.started]
        times += [record["at"] for records in (trial.train, trial.validation) for record in records.values()]
    return max(times, default=None)
