"""The one entry point: the report, its refusals, its JSON, and that nothing in the data makes it crash."""

import csv
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from tests.fitting.public import DATA, needs_public_data

from transvae_platform.fitting import Point, fit_families

GADRE = DATA / "gadre" / "gadre_models.csv"


@pytest.fixture
def study(rows):
    rng = np.random.default_rng(50)  # all three scatter alike
    return [p for f, a in (("cnn", 0.2), ("swin", 0.25), ("transvae", 0.3)) for p in rows(f, a, sd=0.004, rng=rng)]


def codes(fit):
    return [r.code for r in fit.refusals]


def test_report_of_a_sound_study(study):
    report = fit_families(study, metric="val/l1")
    fit = report.family("transvae")
    assert (fit.n_sizes, fit.variance.kind, fit.variance.df) == (5, "pooled", 6)
    assert fit.alpha_interval.lower < 0.3 < fit.alpha_interval.upper
    assert fit.alpha_interval.lower < fit.alpha < fit.alpha_interval.upper
    assert fit.E_interval.lower < fit.E < fit.E_interval.upper
    assert fit.E_interval_own.variance == "own"
    assert fit.verdict.startswith(f"alpha = {fit.alpha:.2f} [")
    assert "pooled over 3 families, df 6, 5 sizes" in fit.verdict
    assert fit.gain.total == pytest.approx(np.log(fit.sizes[0].mean / fit.sizes[-1].mean))
    assert fit.gain.interval.lower < fit.gain.total < fit.gain.interval.upper
    assert fit.monotone.falling
    assert fit.hold_out.inside
    assert fit.hold_out.beats_baselines
    assert fit.hold_out.last_value == fit.sizes[-2].mean
    assert fit.seed_sd == pytest.approx(0.004, rel=0.6)
    assert list(fit.residuals) == ["T", "B", "L", "H", "G"]
    assert pytest.approx(fit.law.A0 * fit.law.N0**fit.alpha) == fit.A


def test_curve_and_band_end_where_predictions_are_refused(study, ladder):
    fit = fit_families(study, metric="l1").family("cnn")
    xs = np.array([ladder["T"] / 5, ladder["T"], ladder["G"], 3.9 * ladder["G"], 4.1 * ladder["G"]])
    lower, upper = fit.band(xs)
    curve = fit.curve(xs)
    assert np.isnan([curve, lower, upper]).tolist() == [[True, False, False, False, True]] * 3
    assert (lower[1:4] < curve[1:4]).all()
    assert (curve[1:4] < upper[1:4]).all()
    inside, outside = fit.predict(3 * ladder["G"]), fit.predict(5 * ladder["G"])
    assert inside.lower < inside.value < inside.upper
    assert outside.value is None
    assert outside.refusal.code == "extrapolation"
    assert "5.0 times the largest fitted size" in outside.refusal.sentence


def test_report_round_trips_through_json(study):
    bad = [Point("cnn", "G", 9, 2.3e9, float("nan")), Point("lonely", "T", 0, 1e7, 1.0)]
    report = fit_families(study + bad, metric="l1")
    data = report.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["schema_version"] == 2
    assert len(data["provenance"]["data_sha256"]) == 64
    assert data["excluded"][0]["reason"] == "value is not finite (nan)"
    by_name = {f["family"]: f for f in data["families"]}
    assert by_name["cnn"]["alpha"] == report.family("cnn").alpha
    assert len(by_name["cnn"]["drawing"]["upper"]) == len(by_name["cnn"]["drawing"]["x"])
    assert None not in by_name["cnn"]["drawing"]["upper"]
    assert by_name["lonely"]["drawing"] is None
    assert "passes through any three points" in by_name["lonely"]["refusals"][0]["sentence"]


def test_order_of_rows_does_not_matter(study):
    shuffled = list(study)
    random.Random(1).shuffle(shuffled)
    assert fit_families(shuffled, metric="l1").to_dict() == fit_families(study, metric="l1").to_dict()


def test_hash_follows_the_data(study):
    changed = [replace(study[0], value=study[0].value * 1.0001), *study[1:]]
    hashes = {fit_families(p, metric="l1").provenance["data_sha256"] for p in (study, changed)}
    assert len(hashes) == 2


def test_three_sizes_give_neither_alpha_nor_floor_but_a_gain(rows):
    fit = fit_families(rows("cnn", 0.3, sizes="TBL"), metric="l1").family("cnn")
    assert codes(fit) == ["too-few-sizes"]
    assert (fit.alpha, fit.E, fit.A, fit.alpha_interval) == (None, None, None, None)
    assert fit.verdict.startswith("cannot tell: 3 usable sizes")
    assert fit.gain.total > 0
    assert fit.gain.interval is None
    assert np.isnan(fit.curve([1e8])).all()
    assert fit.predict(1e8).refusal.code == "no-law"


def test_four_sizes_have_an_interval_only_when_pooled(rows):
    rng = np.random.default_rng(42)
    four = rows("swin", 0.3, sizes="TBLH", sd=0.004, rng=rng)
    alone = fit_families(four, metric="l1").family("swin")
    assert alone.alpha is not None
    assert alone.alpha_interval is None
    assert codes(alone) == ["no-interval", "no-hold-out"]
    assert "cannot tell how sure" in alone.verdict
    assert np.isnan(alone.band([1e8])).all()
    pooled = fit_families(four + rows("vit", 0.3, sd=0.004, rng=rng), metric="l1").family("swin")
    assert pooled.alpha_interval is not None
    assert pooled.alpha_interval_own is None
    assert (pooled.variance.kind, pooled.variance.df) == ("pooled", 3)


def test_flat_data_cannot_tell(ladder):
    flat = [Point("cnn", s, 0, x, 0.7) for s, x in ladder.items()]
    fit = fit_families(flat, metric="l1").family("cnn")
    assert fit.verdict.startswith("cannot tell: the best law is a constant")
    assert fit.alpha is None
    rng = np.random.default_rng(42)
    noisy = [replace(p, seed=s, value=0.7 + 0.01 * rng.standard_normal()) for p in flat for s in range(3)]
    assert fit_families(noisy, metric="l1").family("cnn").verdict.startswith("cannot tell")


def test_step_is_unbounded_above_in_words(ladder):
    values = (1.0, 0.9, 0.9005, 0.8995, 0.9)
    points = [Point("cnn", s, 0, x, v) for (s, x), v in zip(ladder.items(), values, strict=True)]
    fit = fit_families(points, metric="l1").family("cnn")
    assert fit.verdict.startswith("cannot tell: the interval for alpha is unbounded above")
    assert fit.alpha_interval.upper == np.inf


def test_floor_that_reaches_zero_is_an_upper_limit(rows):
    rng = np.random.default_rng(43)
    fit = fit_families(rows("cnn", 0.2, sd=0.004, share=1.0, rng=rng), metric="l1").family("cnn")
    assert "floor-reaches-zero" in codes(fit)
    assert f"E <= {fit.E_interval.upper:.3g}" in fit.verdict
    assert fit.verdict.startswith("alpha = ")


def test_bad_rows_are_excluded_with_their_reason(study):
    bad = [
        Point("cnn", "T", 10, 44e6, float("nan")),
        Point("cnn", "T", 11, 44e6, float("inf")),
        Point("cnn", "T", 12, 44e6, 0.0),
        Point("cnn", "T", 13, -1.0, 0.5),
        Point("cnn", "T", 14, 44e6, None),
        Point("cnn", "T", 15, "many", 0.5),
        Point("cnn", "T", 16, 44e6, 0.9, excluded="killed at step 100"),
        study[0],
    ]
    clean, report = fit_families(study, metric="l1"), fit_families(study + bad, metric="l1")
    assert len(report.excluded) == len(bad)
    reasons = " | ".join(e.reason for e in report.excluded)
    for part in ("not finite (nan)", "not finite (inf)", "value is not positive", "x is not positive"):
        assert part in reasons
    for part in ("value is not a number (None)", "x is not a number ('many')", "killed at step 100", "exact copy"):
        assert part in reasons
    assert report.family("cnn") == clean.family("cnn")
    assert json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        (Point("cnn", "T", 0, 44e6, 0.5), "two different rows for one seed"),
        (Point("cnn", "T", 9, 50e6, 1.0), "differ in x"),
        (Point("cnn", "T2", 0, 44e6, 1.0), "have the same x"),
    ],
)
def test_mixed_rows_refuse_their_family_only(study, extra, why):
    report = fit_families([*study, extra], metric="l1")
    fit = report.family("cnn")
    assert codes(fit) == ["mixed-rows"]
    assert why in fit.verdict
    assert report.family("swin").alpha is not None


@pytest.mark.parametrize("metric", ["psnr", "val/ssim", "linear_probe-accuracy"])
def test_metrics_that_rise_are_refused(study, metric):
    report = fit_families(study, metric=metric)
    assert [r.code for r in report.refusals] == ["rising-metric"]
    assert all(f.alpha is None for f in report.families)
    assert fit_families(study, metric="ssim_loss").families[0].alpha is not None


def test_nothing_usable_is_an_answer():
    for points in ([], [Point("cnn", "T", 0, 1e7, float("nan"))]):
        report = fit_families(points, metric="l1")
        assert [r.code for r in report.refusals] == ["no-rows"]
        assert json.dumps(report.to_dict(), allow_nan=False)


def test_rise_beyond_noise_is_flagged(rows, study):
    worse = [replace(p, value=p.value * 1.2) if (p.family, p.size) == ("cnn", "H") else p for p in study]
    monotone = fit_families(worse, metric="l1").family("cnn").monotone
    assert monotone.flagged
    assert "towards H, more than noise explains" in monotone.sentence
    one_seed = [Point("cnn", s, 0, x, v) for s, x, v in (("T", 1e7, 1.0), ("B", 2e7, 1.01))]
    assert "unknown" in fit_families(one_seed, metric="l1").family("cnn").monotone.sentence


def test_largest_size_too_far_for_a_hold_out(rows):
    points = [replace(p, x=p.x * 10) if p.size == "G" else p for p in rows("cnn", 0.3)]
    fit = fit_families(points, metric="l1").family("cnn")
    assert fit.hold_out is None
    assert codes(fit) == ["extrapolation"]


def test_level_and_family_name_are_checked(study):
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_families(study, metric="l1", level=90)
    with pytest.raises(KeyError, match="cnn, swin, transvae"):
        fit_families(study, metric="l1").family("vit")


@needs_public_data
def test_published_exponent_at_a_fixed_token_ratio():
    """At a fixed token ratio the law of Gadre et al. (arXiv 2403.08540) is L(N) = E + A N^-alpha exactly."""
    with GADRE.open() as file:
        rows = [r for r in csv.DictReader(file) if r["dataset"] == "rpj" and float(r["multiplier"]) == 1]
    points = [Point("rpj", r["model"], 0, float(r["params"]), float(r["loss_c4_val"])) for r in rows]
    fit = fit_families(points, metric="loss_c4_val").family("rpj")
    assert fit.n_sizes == 6
    # Their fit (other models and weights): alpha 0.272851, E 1.836648.
    assert fit.alpha_interval.lower < 0.272851 < fit.alpha_interval.upper
    assert fit.E_interval.lower < 1.836648 < fit.E_interval.upper
