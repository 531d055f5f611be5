"""The registry: only what may be published, once, and loaded back as it was."""

import shutil
from pathlib import Path

import pytest
import torch
from tests.tracking.conftest import Averaged, Study

from transvae import create_model
from transvae_platform.errors import UserError
from transvae_platform.tracking import registry
from transvae_platform.tracking.promotion import promote, sha256
from transvae_platform.tracking.registry import (
    best_version,
    load_model,
    register_best,
    registered_models,
    registered_name,
)
from transvae_platform.tracking.runs import Tracker
from transvae_platform.training.checkpoint import open_checkpoints


@pytest.fixture
def register(client, server, study):
    """Register a trial of the study as a submission does."""

    def run(trial, state=None):
        state = state or study.state()
        tracker = Tracker(server, state, study.home)
        assert tracker.send(now=True)
        known = state.trials[trial.id]
        return register_best(client, tracker.experiment_id, tracker.run_id(known), known)

    return run


def versions(client, study):
    return client.search_model_versions(f"name='{study.spec.study}-vit-T'")


def test_best_checkpoint_is_registered_once_with_its_lineage(client, study, register):
    trial = study.trials[0]
    study.start(trial)
    study.validate(trial, 20, 21.0, seed=1)
    study.validate(trial, 40, 19.0, best=20, seed=2)
    study.finish(trial)
    first = register(trial)
    assert register(trial) == first
    assert first["name"] == registered_name(study.state().trials[trial.id]) == f"{study.spec.study}-vit-T"
    assert (first["version"], first["uri"]) == (1, f"models:/{first['name']}/1")
    (version,) = versions(client, study)
    tags = version.tags
    assert (tags["trial_id"], tags["lineage.code"], tags["val.psnr"]) == (trial.id, "0.1.0+gaaaa", "21")
    assert tags["model"] == "vit-micro-T/f8d8"
    assert tags["data_fingerprint"] == "d" * 16


def test_models_of_a_calibration_have_names_that_mlflow_takes(home, server, client):
    rates = [1e-3, 2e-3]
    study = Study(home, "calibrated", grid={"ladder": "micro", "code": "f8d8", "families": {"vit": ["T", "B"]}},
                  calibration={"learning_rates": rates, "stop_at": [20]})  # fmt: skip
    trial = study.trials[0]
    study.train(trial, 20.0)
    study.finish(trial)
    state = study.state()
    tracker = Tracker(server, state, home)
    assert tracker.send(now=True)
    known = state.trials[trial.id]
    assert "lr-0.00" in known.trial.label
    made = register_best(client, tracker.experiment_id, tracker.run_id(known), known)
    assert made["name"] == f"calibrated-{known.trial.label}".replace("0.00", "0_00")
    assert client.get_model_version(made["name"], "1").tags["trial_id"] == trial.id


def test_checkpoint_on_a_store_is_registered(client, study, home, register, uri):
    distant = type(study)(home, f"{study.spec.study}-far", checkpoints="memory://bucket/checkpoints")
    trial = distant.trials[0]
    distant.train(trial, 20.0, seed=7)
    assert not (distant.folder / "trials" / trial.id / "checkpoints").exists()
    name = register(trial, distant.state())["name"]
    loaded = load_model(f"models:/{name}@best", home=home, tracking_uri=uri).state_dict()
    torch.manual_seed(7)
    expected = create_model(trial.model).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in expected.items())


@pytest.mark.parametrize(("psnrs", "best"), [((20.0, 22.0), 2), ((22.0, 20.0), 1)])
def test_alias_points_to_the_highest_psnr(client, study, register, psnrs, best):
    for trial, psnr in zip(study.trials, psnrs, strict=True):
        study.train(trial, psnr)
        register(trial)
    name = f"{study.spec.study}-vit-T"
    assert int(client.get_model_version_by_alias(name, "best").version) == best
    (row,) = [row for row in registered_models(client) if row["study"] == study.spec.study]
    assert (row["version"], row["uri"], float(row["psnr"])) == (str(best), f"models:/{name}@best", 22.0)


def test_alias_that_a_kill_left_out_is_made_good(client, study, register):
    trial = study.trials[0]
    study.train(trial, 20.0)
    name = register(trial)["name"]
    client.delete_registered_model_alias(name, "best")
    register(trial)
    assert int(client.get_model_version_by_alias(name, "best").version) == 1


def test_models_of_other_users_of_the_server_are_left_alone(client, study, register):
    other = f"somebody-elses-{study.spec.study}"
    client.create_registered_model(other)
    version = client.create_model_version(other, source=study.folder.as_uri())
    assert other not in {row["uri"] for row in registered_models(client)}
    client.set_registered_model_alias(other, "best", version.version)
    assert f"models:/{other}@best" not in {row["uri"] for row in registered_models(client)}


@pytest.mark.parametrize("selector", ["@best", "/1", "/latest", ""])
def test_loaded_model_is_the_registered_one(study, register, uri, selector):
    trial = study.trials[0]
    study.train(trial, 20.0, seed=7)
    name = register(trial)["name"]
    loaded = load_model(f"models:/{name}{selector}", home=study.home, tracking_uri=uri)
    torch.manual_seed(7)
    expected = create_model(trial.model).eval()
    assert not loaded.training
    assert loaded.config == expected.config
    state = expected.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


def test_model_is_found_where_the_home_is(study, register, uri, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study.train(study.trials[0], 20.0)
    name = register(study.trials[0])["name"]
    assert load_model(f"models:/{name}@best", home=study.home).config.name == "vit-micro-T/f8d8"
    assert load_model(f"models:/{name}@best", home=tmp_path / "elsewhere", tracking_uri=uri)


@pytest.mark.parametrize("damage", ["flipped bit", "missing"])
def test_damaged_weights_are_not_loaded(study, register, uri, damage, tmp_path):
    study.train(study.trials[0], 20.0)
    registered = register(study.trials[0])
    model = f"models:/{registered['name']}@best"
    load_model(model, home=tmp_path, tracking_uri=uri)
    cache = tmp_path / "models" / str(registered["sha256"])
    weights = cache / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content) if damage == "flipped bit" else weights.unlink()
    with pytest.raises(UserError, match="delete that folder"):
        load_model(model, home=tmp_path, tracking_uri=uri)
    shutil.rmtree(cache)
    load_model(model, home=tmp_path, tracking_uri=uri)


@pytest.mark.parametrize("wrong", ["models:/no-such-model@best", "models:/no-such-model", "no-such-model/3"])
def test_unknown_model_names_those_that_exist(study, register, uri, wrong):
    study.train(study.trials[0], 20.0)
    name = register(study.trials[0])["name"]
    with pytest.raises(UserError, match=rf"no such model in the registry .* - registered models: .*{name}"):
        load_model(wrong, home=study.home, tracking_uri=uri)


@pytest.mark.parametrize("wrong", ["@worst", "/99"])
def test_unknown_version_or_alias_names_those_of_the_model(study, register, uri, wrong):
    study.train(study.trials[0], 20.0)
    name = register(study.trials[0])["name"]
    with pytest.raises(UserError, match=rf"{name} has versions 1, aliases @best \(1\)"):
        load_model(f"models:/{name}{wrong}", home=study.home, tracking_uri=uri)


def test_unfinished_or_failed_trial_is_not_registered(client, study, register):
    running, failed = study.trials
    for trial in study.trials:
        study.start(trial)
        study.validate(trial, 20, 20.0)
    study.own[failed.id].append("failed", reason="lost")
    for trial, state in ((running, "running"), (failed, "failed")):
        with pytest.raises(UserError, match=f"only finished trials are registered, this one is {state}"):
            register(trial)
    assert not versions(client, study)


def test_result_that_is_not_finite_is_not_registered(client, study, register):
    study.train(study.trials[0], float("nan"))
    with pytest.raises(UserError, match="its metrics are not finite, it is not registered"):
        register(study.trials[0])
    assert not versions(client, study)


def test_weights_that_are_not_finite_are_not_registered(client, study, register):
    study.train(study.trials[0], 20.0, spoil=float("inf"))
    with pytest.raises(UserError, match="it is not registered: weights: not finite in "):
        register(study.trials[0])
    assert not versions(client, study)


def test_a_download_that_arrives_damaged_is_not_kept(study, register, uri, tmp_path, monkeypatch):
    study.train(study.trials[0], 20.0)
    model = f"models:/{register(study.trials[0])['name']}@best"
    whole = registry.download_artifacts

    def torn(source, dst_path, tracking_uri):
        found = whole(source, dst_path=dst_path, tracking_uri=tracking_uri)
        (Path(dst_path) / "config.json").write_text("{}")
        return found

    monkeypatch.setattr(registry, "download_artifacts", torn)
    with pytest.raises(UserError, match=r"as downloaded, files: config.json differs from the registered SHA-256"):
        load_model(model, home=tmp_path, tracking_uri=uri)
    assert not list((tmp_path / "models").iterdir())
    monkeypatch.undo()
    assert load_model(model, home=tmp_path, tracking_uri=uri)


def damage(study, trial, step):
    weights = study.folder / "trials" / trial.id / "checkpoints" / f"step_{step:09d}" / "ema" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def test_damaged_last_checkpoint_is_not_registered_but_trained_again(client, study, register):
    trial = study.trials[0]
    study.start(trial)
    study.validate(trial, 20, 19.0)
    study.validate(trial, 40, 20.0)
    study.finish(trial)
    damage(study, trial, 40)
    with pytest.raises(UserError, match=r"cannot be used: ema/model.safetensors differs .*the next submission trains"):
        register(trial)
    assert not versions(client, study)


def test_the_next_best_checkpoint_takes_the_place_of_one_that_training_does_not_come_back_to(client, study, register):
    trial = study.trials[0]
    study.start(trial)
    for step, psnr in ((10, 20.5), (20, 21.0), (30, 19.0), (40, 20.0)):
        study.validate(trial, step, psnr, best=20 if step > 10 else 10, seed=step)
    study.finish(trial)
    damage(study, trial, 20)
    damage(study, trial, 10)
    found = register(trial)
    (version,) = versions(client, study)
    assert (version.tags["step"], version.tags["val.psnr"], found["psnr"]) == ("40", "20", 20.0)
    assert "step_000000020: the checkpoint cannot be used" in found["instead_of"]
    assert register(trial) == found


@pytest.mark.parametrize("checkpoints", [None, "memory://spares/"])
def test_the_second_copy_of_a_damaged_best_checkpoint_gives_the_very_result(client, server, home, checkpoints):
    study = Study(home, "memory-copy" if checkpoints else "copy", checkpoints)
    trial, store = study.trials[0], open_checkpoints(study.trials[0], study.folder / "trials" / study.trials[0].id)
    study.start(trial)
    study.validate(trial, 20, 21.0, seed=1)
    with store.verified(20) as best:
        expected = sha256(best / "ema" / "model.safetensors")
    torch.manual_seed(1)
    again = Averaged(20, create_model(trial.model), study.lineage, trial.id)
    spare = store.keep_spare(20, again.write_result)
    study.own[trial.id].append("checkpoint", step=20, sha256=store._recorded.get(20, ""), best_step=20, spare=spare)
    study.validate(trial, 40, 19.0, best=20, seed=2)
    study.finish(trial)
    store.place.remove("step_000000020")
    state = study.state()
    tracker = Tracker(server, state, home)
    assert tracker.send(now=True)
    known = state.trials[trial.id]
    found = register_best(client, tracker.experiment_id, tracker.run_id(known), known)
    assert (found["sha256"], found["psnr"], "instead_of" in found) == (expected, 21.0, False)


def test_what_the_registry_has_is_not_lost_with_its_checkpoint(client, study, register):
    trial = study.trials[0]
    study.train(trial, 20.0)
    first = register(trial)
    damage(study, trial, 40)
    assert register(trial) == first


@pytest.fixture
def spoil(home):
    """Flip a bit of the weights that the registry has of a version, or remove its files."""

    def run(version, gone=False):
        (weights,) = (home / "mlartifacts").rglob(f"{version.source.removeprefix('models:/')}/**/model.safetensors")
        content = bytearray(weights.read_bytes())
        content[-5] ^= 1
        shutil.rmtree(weights.parent) if gone else weights.write_bytes(content)

    return run


@pytest.mark.parametrize("gone", [False, True])
def test_what_is_damaged_in_the_registry_is_registered_again(client, study, register, uri, spoil, tmp_path, gone):
    trial = study.trials[0]
    study.train(trial, 20.0)
    first = register(trial)
    spoil(versions(client, study)[0], gone)
    found = register(trial)
    assert found == first | {"version": 2, "uri": f"models:/{first['name']}/2"} == register(trial)
    assert int(client.get_model_version_by_alias(first["name"], "best").version) == 2
    assert best_version(client, first["name"]).version == 2
    assert "model.safetensors" in client.get_model_version(first["name"], "1").tags["damaged"]
    assert load_model(f"models:/{first['name']}@best", home=tmp_path, tracking_uri=uri)


def test_an_alias_that_a_person_gave_to_a_damaged_version_stays(client, study, register, spoil):
    for trial, psnr in zip(study.trials, (21.0, 20.0), strict=True):
        study.train(trial, psnr)
        name = register(trial)["name"]
    promote(client, client.get_model_version(name, "2"), "best", "command")
    spoil(client.get_model_version(name, "2"))
    assert register(study.trials[1])["version"] == 3
    assert int(client.get_model_version_by_alias(name, "best").version) == 2


def test_what_is_damaged_in_the_registry_and_here_is_lost(client, study, register, spoil):
    trial = study.trials[0]
    for each, psnr in zip(study.trials, (21.0, 20.0), strict=True):
        study.train(each, psnr)
        name = register(each)["name"]
    damage(study, trial, 40)
    spoil(client.get_model_version(name, "1"))
    with pytest.raises(UserError, match="the next submission trains what is lost again"):
        register(trial)
    assert best_version(client, name).version == 2


def test_best_step_without_its_metrics_is_not_registered(client, study, register):
    trial = study.trials[0]
    study.start(trial)
    study.validate(trial, 20, 21.0)
    study.validate(trial, 40, 20.0, best=20)
    study.finish(trial)
    path = study.folder / "trials" / trial.id / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"val/psnr":21.0', b'"val/psnr":29.0'))
    with pytest.raises(UserError, match="validation at step 20 is damaged - submit again"):
        register(trial)


def test_lineage_is_that_of_the_checkpoint_not_of_the_last_attempt(client, study, register):
    trial = study.trials[0]
    study.start(trial)
    study.validate(trial, 40, 20.0)
    study.lineage = {**study.lineage, "commit": "b" * 40}
    study.start(trial, resumed_from=40)
    study.finish(trial)
    register(trial)
    (version,) = versions(client, study)
    assert version.tags["lineage.commit"] == "a" * 40


def test_a_model_that_studies_did_not_register_is_refused(client, uri, home):
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "file:///tmp/elsewhere")
    for asked in ("foreign/1", "foreign"):
        with pytest.raises(UserError, match=r"foreign.* was not registered by a study of this project"):
            load_model(f"models:/{asked}", home=home, tracking_uri=uri)
        with pytest.raises(UserError, match=r"was not registered by a study"):
            best_version(client, asked)
