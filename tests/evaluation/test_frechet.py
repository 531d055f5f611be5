"""FID's numerics: golden numbers, a closed form, and moments that are the same bits in any pieces and order."""

import numpy as np
import pytest
from scipy import linalg

from transvae_platform.evaluation.frechet import disagreement, frechet_distance, too_few
from transvae_platform.evaluation.moments import Gaussian, Moments

D = 2048


def feature(rng, n, scale, dimension=D):
    """The reference's recipe: absolute values of normal ones with variances 1/k over the columns."""
    spectrum = np.sqrt(1 / np.arange(1, dimension + 1))
    return np.abs(rng.normal(size=(n, dimension)).astype(np.float32) * spectrum * scale).astype(np.float32)


def gaussian(values):
    return Gaussian(len(values), values.mean(0).astype(np.float64), np.cov(values, rowvar=False))


def of_features(a, b):
    """The distance by the singular values of A B', without a matrix of D x D: exact for few features."""
    difference = (a.mean(0) - b.mean(0)).astype(np.float64)
    one, other = (x.astype(np.float64) - x.astype(np.float64).mean(0) for x in (a, b))
    one, other = one / np.sqrt(len(a) - 1), other / np.sqrt(len(b) - 1)
    traces = np.square(one).sum() + np.square(other).sum()
    return difference @ difference + traces - 2 * linalg.svdvals(one @ other.T).sum()


def moments(*pieces):
    made = Moments.empty(pieces[0].shape[1])
    for piece in pieces:
        made.add(piece)
    return made


def same_bits(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("count", "total", "coarse", "mixed", "fine")
    )


@pytest.mark.slow
def test_golden_numbers_of_2048_dimensions():
    rng = np.random.default_rng(0)
    a, b, c, d = (feature(rng, n, s) for n, s in ((10_000, 1.0), (10_000, 1.02), (1_000, 1.0), (1_000, 1.02)))
    assert frechet_distance(gaussian(a), gaussian(b)) == pytest.approx(0.10897210800367851, abs=1e-10)
    # a rank of 999: solvers of D x D matrices agree to 1.5e-7, ours with that of the features themselves
    few = frechet_distance(gaussian(c), gaussian(d))
    assert few == pytest.approx(0.9557638092942, abs=1.5e-7)
    assert few == pytest.approx(of_features(c, d), abs=1e-11)
    for same in (a, c):
        assert abs(frechet_distance(gaussian(same), gaussian(same))) < 1e-12
    # with our own moments, whose means are not rounded to float32: 1.6e-8 apart
    exact = frechet_distance(moments(a[:3000], a[3000:]).gaussian(), moments(b).gaussian())
    assert exact == pytest.approx(0.10897210800367851, abs=5e-8)


def test_solvers_agree_with_scipy_sqrtm():
    rng = np.random.default_rng(1)
    a, b = gaussian(feature(rng, 600, 1.0, 96)), gaussian(feature(rng, 500, 1.05, 96) + np.float32(0.01))
    root = linalg.sqrtm(a.covariance @ b.covariance)
    difference = a.mean - b.mean
    expected = difference @ difference + np.trace(a.covariance + b.covariance - 2 * root.real)
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-10)
    assert frechet_distance(b, a) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("n", [2, 20, 95])
def test_fewer_images_than_dimensions_are_exact(n):
    rng = np.random.default_rng(7)
    a, b = feature(rng, n, 1.0, 96), feature(rng, n, 1.05, 96)
    assert frechet_distance(gaussian(a), gaussian(b)) == pytest.approx(of_features(a, b), abs=1e-7)  # means: float32
    assert abs(frechet_distance(gaussian(a), gaussian(a))) < 1e-13


def test_features_without_variance_have_the_distance_of_their_means():
    same, other = (Gaussian(5, np.full(3, mean), np.zeros((3, 3))) for mean in (0.0, 2.0))
    assert frechet_distance(same, other) == 12
    assert frechet_distance(same, Gaussian(5, np.zeros(3), np.eye(3))) == 3
    assert disagreement(same, other, 12.0) is None


def test_torch_fidelity_computes_the_same():
    from transvae.torchvision_cpu import ensure_torchvision

    ensure_torchvision()
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    rng = np.random.default_rng(2)
    a, b = gaussian(feature(rng, 400, 1.0, 64)), gaussian(feature(rng, 400, 1.1, 64))
    theirs = fid_statistics_to_metric(
        {"mu": a.mean, "sigma": a.covariance}, {"mu": b.mean, "sigma": b.covariance}, verbose=False
    )
    assert frechet_distance(a, b) == pytest.approx(theirs["frechet_inception_distance"], abs=1e-9)


def test_closed_form_of_diagonal_gaussians():
    rng = np.random.default_rng(3)
    means, variances = rng.normal(size=(2, 50)), rng.uniform(0.1, 2, size=(2, 50))
    a, b = (Gaussian(100, mean, np.diag(variance)) for mean, variance in zip(means, variances, strict=True))
    expected = ((means[0] - means[1]) ** 2).sum() + ((np.sqrt(variances[0]) - np.sqrt(variances[1])) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_moments_are_the_same_bits_in_any_pieces_and_order():
    rng = np.random.default_rng(4)
    values = (rng.normal(size=(1000, 40)) * rng.uniform(0.001, 9, 40)).astype(np.float32)
    whole = moments(values)
    shuffled = rng.permutation(values)
    singly = moments(*np.array_split(shuffled, 171))
    assert same_bits(whole, singly)
    left, right = moments(*np.array_split(shuffled[:313], 7)), moments(shuffled[313:])
    right.merge(left)
    assert same_bits(whole, right)
    plain = [np.float64(0)]
    for pieces in (values, shuffled):  # what plain sums would do, or the test shows nothing
        plain.append(sum((piece.astype(np.float64)[:, None] * piece for piece in pieces), start=np.zeros((40, 40))))
    assert not np.array_equal(plain[1], plain[2])


def test_moments_are_those_of_numpy():
    values = feature(np.random.default_rng(5), 300, 3.0, 20)
    found = moments(values).gaussian()
    np.testing.assert_allclose(found.mean, values.astype(np.float64).mean(0), atol=1e-7)
    np.testing.assert_allclose(found.covariance, np.cov(values.astype(np.float64), rowvar=False), atol=1e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 64.0, -64.0])
def test_features_whose_sums_would_not_be_exact_are_refused(bad):
    values = np.zeros((3, 2), np.float32)
    values[1, 1] = bad
    with pytest.raises(ValueError, match="finite and below 64"):
        Moments.empty(2).add(values)


def test_bounds_are_those_of_the_exactness():
    # the largest sums there may be: every feature at the bound, as many as are allowed
    made = Moments.empty(1)
    values = np.full((2**12, 1), np.nextafter(np.float32(64), np.float32(0)), np.float32)
    piece = moments(values)
    for _ in range(2**7):
        made.merge(piece)
    exact = int(values[0, 0].astype(np.float64) * 2**24) * 2**19
    assert made.total[0] * 2**24 == exact
    assert made.coarse.max() * 2**22 <= 2**53
    with pytest.raises(ValueError, match="not exact"):
        made.merge(piece)


def test_too_few_images_are_said():
    assert too_few(2049, 2048) is None
    assert "n = 2,048" in str(too_few(2048, 2048))


def test_one_feature_and_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="two features or more"):
        moments(np.zeros((1, 2), np.float32)).gaussian()
    a, b = (Gaussian(9, np.zeros(d), np.eye(d)) for d in (2, 3))
    with pytest.raises(ValueError, match="2 and of 3 numbers"):
        frechet_distance(a, b)
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(a, Gaussian(9, np.full(2, np.nan), np.eye(2)))


def test_disagreement_of_the_solvers_is_said(monkeypatch):
    rng = np.random.default_rng(6)
    a, b = gaussian(feature(rng, 200, 1.0, 16)), gaussian(feature(rng, 200, 1.1, 16))
    distance = frechet_distance(a, b)
    assert disagreement(a, b, distance) is None
    assert disagreement(a, a, frechet_distance(a, a)) is None
    assert "two solutions disagree" in str(disagreement(a, b, distance * 1.01))
    solve = linalg.eigvalsh
    for wrong in (lambda values: values * 1.01, lambda values: np.full(16, values.mean())):
        monkeypatch.setattr(linalg, "eigvalsh", lambda matrix, wrong=wrong, **options: wrong(solve(matrix)))
        # both directions are wrong in the same way: the sums are not
        assert "two solutions disagree" in str(disagreement(a, b, frechet_distance(a, b)))
