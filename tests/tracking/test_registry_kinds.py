"""What is registered beside autoencoders with pixels: S-VAE by its features, generators by their loss."""

import pytest
import torch
from tests.tracking.conftest import NUMBERS, Study

from transvae import create_model
from transvae.generation import DiTConfig, LightningDiT, TextDiT, TextDiTConfig
from transvae.generation.folder import TextConditions
from transvae_platform.cli.render_registry import _quality
from transvae_platform.errors import UserError
from transvae_platform.tracking.registry import load_generator, load_model, register_best, registered_models
from transvae_platform.tracking.runs import Tracker

RANDOM = {"network": "random", "lpips": None}
S_VAE = {
    "grid": {"ladder": "micro", "code": "f8d16", "families": {"s-vae": ["T"]}, "seeds": [0, 1]},
    "recipe": {"steps": 40, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 4, "semantic": RANDOM},
}
DOWN = {"generators": ["micro-S/2"], "recipe": {"steps": 40, "batch_size": 8}}
LABELLED, CAPTIONED = {**DOWN, "classes": 3}, {**DOWN, "text": {"encoder": "hashed-8", "objective": "velocity"}}


@pytest.fixture
def make(home, client, server):
    """A study, and what registers one of its trials as a submission does."""

    def made(**changes):
        study = Study(home, f"kinds{next(NUMBERS)}", **changes)

        def register(trial):
            state = study.state()
            tracker = Tracker(server, state, study.home)
            assert tracker.send(now=True)
            known = state.trials[trial.id]
            return register_best(client, tracker.experiment_id, tracker.run_id(known), known)

        return study, register

    return made


def test_the_best_s_vae_has_the_least_error_of_features(make, client, home, uri):
    study, register = make(**S_VAE)
    for trial, error in zip(study.trials, (0.3, 0.2), strict=True):
        study.start(trial)
        study.step(trial, 40)
        metrics = {"val/semantic_random": error, "val/cosine_random": 1 - error}
        study.keep(trial, 40, metrics, create_model(trial.model))
        study.finish(trial)
        assert register(trial)["semantic_random"] == error
    (row,) = [row for row in registered_models(client) if row["study"] == study.spec.study]
    assert (row["version"], row["psnr"], float(row["features"])) == ("2", "", 0.2)
    assert _quality(row) == "features 0.2000"
    assert not load_model(row["uri"], home=home, tracking_uri=uri).config.has_pixels


def network(trial):
    if trial.generator.text:
        conditions = TextConditions("hashed-8", {"kind": "hashed"}, "velocity", None)
        return TextDiT(TextDiTConfig(**trial.model_config_values), None, conditions)
    return LightningDiT(DiTConfig(**trial.model_config_values))


@pytest.mark.parametrize(("down", "kind"), [(LABELLED, LightningDiT), (CAPTIONED, TextDiT)], ids=["labels", "captions"])
def test_generators_are_ranked_by_their_loss_and_loaded_as_what_they_are(make, client, home, uri, down, kind):
    study, register = make(downstream=down)
    made = [trial for trial in study.trials if trial.generator]
    assert len(made) == 2
    for trial, loss in zip(made, (0.7, 0.9), strict=True):
        torch.manual_seed(trial.seed)
        study.start(trial)
        study.step(trial, 40)
        study.keep(trial, 40, {"val/loss": loss, "val/mse": loss}, network(trial))
        study.finish(trial)
        assert register(trial)["loss"] == loss
    (row,) = [row for row in registered_models(client) if row["study"] == study.spec.study]
    assert (row["version"], row["loss"], _quality(row)) == ("1", "0.7", "loss 0.7000")
    loaded = load_generator(row["uri"], home=home, tracking_uri=uri)
    assert type(loaded) is kind
    torch.manual_seed(made[0].seed)
    expected = network(made[0]).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    with pytest.raises(UserError, match="is no autoencoder"):
        load_model(row["uri"], home=home, tracking_uri=uri)
