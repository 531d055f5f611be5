"""The linear probe: against scikit-learn, its two solvers against each other, what it refuses."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from transvae_platform.errors import SpecError, UserError
from transvae_platform.evaluation.latent_space.probe import ProbeProtocol, _fit, probe


def features(split):
    return split.read(np.arange(len(split))).flatten(1).numpy(), split.labels(np.arange(len(split)))


@pytest.mark.parametrize("c", [0.316, 10.0])
def test_lbfgs_is_scikit_learns_logistic_regression(latents, c):
    train, validation = latents()
    (x, y), (x_val, y_val) = features(train), features(validation)
    theirs = LogisticRegression(C=c, max_iter=1000, tol=1e-8).fit(x, y)
    found = probe(train, validation, ProbeProtocol(c=(c,)))
    assert found.accuracy == pytest.approx(theirs.score(x_val, y_val), abs=0.004)
    ours = _fit(train, np.arange(300), np.unique(y), ProbeProtocol(), c)
    # scores up to a constant per image
    scores = x @ ours.weight.numpy().T + ours.bias.numpy()
    expected = theirs.decision_function(x)
    np.testing.assert_allclose(
        scores - scores.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=0.02
    )
    assert 0.6 < found.accuracy < 0.999


def test_sgd_finds_the_same(latents):
    train, validation = latents()
    slow = probe(train, validation, ProbeProtocol())
    quick = probe(train, validation, ProbeProtocol(solver="sgd", batch_size=64))
    assert quick.accuracy == pytest.approx(slow.accuracy, abs=0.02)
    a, b = (_fit(train, np.arange(300), np.array([10, 11, 12]), ProbeProtocol(solver=s, batch_size=64), 0.316)
            for s in ("lbfgs", "sgd"))  # fmt: skip
    assert (a.weight - b.weight).abs().max() < 0.05


def test_sgd_keeps_its_accuracy_along_the_epochs_and_lbfgs_has_none(latents):
    train, validation = latents()
    found = probe(train, validation, ProbeProtocol(solver="sgd", batch_size=64, epochs=50))
    epochs = [epoch for epoch, _ in found.curve]
    assert len(epochs) == 20
    assert (epochs[0], epochs[-1]) == (1, 50)
    assert epochs == sorted(set(epochs))
    assert found.curve[-1][1] == found.accuracy  # the last point is the classifier that counts
    assert found.curve[0][1] < found.accuracy
    few = probe(train, validation, ProbeProtocol(solver="sgd", batch_size=64, epochs=3))
    assert [epoch for epoch, _ in few.curve] == [1, 2, 3]
    assert probe(train, validation, ProbeProtocol()).curve == []


def test_the_best_c_is_chosen_on_training_images(latents):
    train, validation = latents(noise=1.5)
    found = probe(train, validation, ProbeProtocol(c=(1e-9, 0.01)))
    assert found.chosen_c == 0.01
    assert found.images == {"train": 300, "validation": 300}
    assert found.classes == 3


def test_pooled_features_see_less(latents):
    train, validation = latents(noise=0.8)
    protocol = ProbeProtocol(features="gap")
    assert _fit(train, np.arange(300), np.array([10, 11, 12]), protocol, 1.0).weight.shape == (3, 3)
    assert 0.34 < probe(train, validation, protocol).accuracy <= 1


def test_whether_lbfgs_converged_is_recorded(latents):
    train, validation = latents()
    found, cut = (probe(train, validation, ProbeProtocol(iterations=most)) for most in (1000, 2))
    assert (found.converged, cut.converged) == (True, False)
    assert cut.steps <= 2 < found.steps < 1000
    assert found.gradient < 1e-5 < cut.gradient


@pytest.mark.parametrize("wrong", [{"c": (0.1, -1.0)}, {"c": (0.0,)}, {"c": (math.nan,)}, {"learning_rate": math.inf}])
def test_numbers_without_meaning_are_refused(wrong):
    with pytest.raises(SpecError, match=rf"probe: {next(iter(wrong))} is .*, it must be a finite number above 0"):
        ProbeProtocol(**wrong)


def test_data_without_classes_is_refused(latents):
    train, validation = latents(labelled=False)
    with pytest.raises(UserError, match="have no label"):
        probe(train, validation, ProbeProtocol())


def test_a_solver_that_diverged_is_told_instead_of_the_accuracy_of_what_it_left(latents):
    train, validation = latents()
    with pytest.raises(UserError, match=r"sgd with C 1e-07 ends with weights that are not finite.* rate than 0\.1"):
        probe(train, validation, ProbeProtocol(solver="sgd", c=(1e-7,)))
    assert probe(train, validation, ProbeProtocol(solver="sgd", c=(1e-7, 0.316))).chosen_c == 0.316
