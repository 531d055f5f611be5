"""Lines, IsoFLOP parabolas and envelopes do what they say, and say what they are not."""

import numpy as np
import pytest

from transvae_platform.fitting.views.envelope import binned_envelope, running_envelope
from transvae_platform.fitting.views.isoflop import isoflop
from transvae_platform.fitting.views.line import fit_line


def design(a=0.5, levels=6, sizes=7, spread=2.0):
    """Runs of a law whose optimal size is exactly 1e-1 C^a."""
    flops, n = [], []
    for c in np.geomspace(1e17, 1e20, levels):
        flops += [c] * sizes
        n += list(0.1 * c**a * np.exp(np.linspace(-spread, spread, sizes)))
    flops, n = np.array(flops), np.array(n)
    ratio = n / (0.1 * flops**a)
    return flops, n, 1 + ratio**-0.34 / 0.34 + ratio**0.28 / 0.28


def test_line_and_its_interval():
    rng, hits = np.random.default_rng(1), 0
    x = np.geomspace(1, 1e3, 8)
    line = fit_line(x, 3 * x**-0.2)
    assert (line.exponent, line.coefficient) == (pytest.approx(-0.2), pytest.approx(3))
    for _ in range(300):
        low, high = fit_line(x, 3 * x**-0.2 * np.exp(0.05 * rng.standard_normal(8))).interval(0.9)
        hits += low <= -0.2 <= high
    assert 0.85 <= hits / 300 <= 0.95
    assert fit_line([1, 2], [1, 2]).interval(0.9) is None
    for bad in (([1, 1], [1, 2]), ([1, -2], [1, 2]), ([1, 2], [1, np.nan])):
        with pytest.raises(ValueError):
            fit_line(*bad)


def test_isoflop_finds_the_exponent_and_its_bias_is_the_error_it_makes():
    for a, spread in ((0.5, 1.0), (0.5, 3.0), (0.7, 2.0)):
        found = isoflop(*design(a, spread=spread))
        assert found.line.exponent == pytest.approx(a, abs=0.01)
        assert found.bias == pytest.approx(found.line.exponent - a, abs=0.01)


def test_optima_off_the_middle_are_biased_and_the_bias_says_so():
    """Sizes that are centred at small compute and off centre at large: the parabola's error becomes a slope."""
    flops, n, _ = design(spread=1.5)
    n = n * np.exp((np.log(flops) - np.log(flops).min()) / np.ptp(np.log(flops)))
    ratio = n / (0.1 * flops**0.5)
    found = isoflop(flops, n, 1 + ratio**-0.34 / 0.34 + ratio**0.28 / 0.28)
    error = found.line.exponent - 0.5
    assert error < -1e-3
    assert found.bias == pytest.approx(error, rel=0.1)


def test_no_frontier_without_a_design_for_it():
    flops, n, loss = design(levels=2)
    assert isoflop(flops, n, loss).line is None
    assert "2 of 2 compute levels" in isoflop(flops, n, loss).refused
    flops, n, loss = design(sizes=2)
    assert "fewer than 3 sizes" in isoflop(flops, n, loss).levels[0].refused
    flops, n, _ = design()
    assert "smallest or the largest" in isoflop(flops, n, n**-0.1).levels[0].refused


def test_envelopes():
    x, y = np.array([1.0, 2, 4, 8, 16]), np.array([0.5, 0.6, 0.4, 0.45, 0.3])
    assert [v.tolist() for v in running_envelope(x, y)] == [[1, 4, 16], [0.5, 0.4, 0.3]]
    centres, least = binned_envelope(x, y, 2)
    assert least.tolist() == [0.4, 0.3]
    assert np.log10(centres) == pytest.approx([(np.log10(16) + 0.1) / 4, 3 * (np.log10(16) + 0.1) / 4])


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_seeds_of_a_size_are_averaged_before_the_parabola(seeds):
    """Five sizes a level: the nearest five rows would be seeds of one or two of them."""
    rng = np.random.default_rng(1)
    flops, n, loss = (np.repeat(v, seeds) for v in design(sizes=5))
    found = isoflop(flops, n, loss * (1 + 1e-4 * rng.standard_normal(len(loss))))
    assert found.line.exponent == pytest.approx(0.5, abs=0.02)
    for level in found.levels:
        assert level.best_size == pytest.approx(0.1 * level.flops**0.5, rel=0.1)
