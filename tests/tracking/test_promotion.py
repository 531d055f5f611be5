"""Promotion: an alias moves to what deserves it, every failed condition is told, and every move is on record."""

import dataclasses
import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from transvae_platform.cli.main import main
from transvae_platform.cli.render_registry import print_version
from transvae_platform.errors import SpecError, UserError
from transvae_platform.tracking import promotion
from transvae_platform.tracking.promotion import Candidate, promote, promotions, refusals, sha256
from transvae_platform.tracking.registry import best_version, described, register_best, registered_models
from transvae_platform.tracking.runs import Tracker


@pytest.fixture
def register(client, server, study):
    """Register a trial of the study as a submission does."""

    def run(trial):
        state = study.state()
        tracker = Tracker(server, state, study.home)
        assert tracker.send(now=True)
        known = state.trials[trial.id]
        return register_best(client, tracker.experiment_id, tracker.run_id(known), known)

    return run


@pytest.fixture
def name(study):
    return f"{study.spec.study}-vit-T"


@pytest.fixture
def candidate(tmp_path):
    """A version of which everything is as it must be."""
    save_file({"a": torch.ones(3), "b": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    tags = {
        "trial_id": "vit-1", "seed": "0", "step": "40", "data_fingerprint": "d" * 16, "lineage.code": "0.1.0+gaaaa",
        "lineage.commit": "a" * 40, "lineage.difference": "f" * 64, "lineage.environment": "e" * 64,
        "lineage.python": "3.11.9", "val.psnr": "20", "val.l1": f"{1 / 3:.12g}",
        "weights_sha256": sha256(tmp_path / "model.safetensors"), "config_sha256": sha256(tmp_path / "config.json"),
    }  # fmt: skip
    return Candidate(
        tags, tmp_path, {"trial.state": "finished", "trial.reason": ""}, {"val/psnr": 20.0, "val/l1": 1 / 3},
        frozenset({f"{'f' * 64}.diff", f"{'e' * 64}.txt"}),
    )  # fmt: skip


def told(candidate, **changes):
    return list(refusals(dataclasses.replace(candidate, **changes)))


def test_what_is_complete_is_not_refused(candidate):
    assert told(candidate) == []
    assert told(candidate, tags={**candidate.tags, "lineage.difference": "none"}) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ended": {}}, "trial: its run is not in MLflow"),
        ({"ended": {"trial.state": "failed", "trial.reason": "NaN"}}, r"trial: it is failed \(NaN\), not finished"),
        ({"ended": {"trial.state": "running"}}, "trial: it is running, not finished"),
        ({"validated": {}}, "evaluation: its run holds no validation .* of step 40"),
        ({"validated": {"val/psnr": 20.0, "val/l1": None}}, "evaluation: val/l1 at step 40 is missing"),
        ({"validated": {"val/psnr": float("nan")}}, "evaluation: val/psnr at step 40 is nan"),
        ({"validated": {"val/psnr": 19.0}}, "evaluation: val/psnr at step 40 is 19, but the version says 20.0"),
        ({"texts": frozenset({f"{'e' * 64}.txt"})}, r"lineage: ffff.*\.diff is not among the lineage files"),
        ({"texts": frozenset({f"{'f' * 64}.diff"})}, r"lineage: eeee.*\.txt is not among the lineage files"),
    ],
)
def test_each_condition_of_the_run_is_asked(candidate, changes, reason):
    (said,) = told(candidate, **changes)
    assert pytest.raises(AssertionError, match=reason).matches(AssertionError(said)), said


@pytest.mark.parametrize(
    "tag", ["trial_id", "seed", "data_fingerprint", "lineage.code", "lineage.environment", "lineage.python"]
)
@pytest.mark.parametrize("value", [None, "", "unknown"])
def test_each_fact_of_the_lineage_is_asked(candidate, tag, value):
    tags = {key: text for key, text in candidate.tags.items() if key != tag}
    reasons = told(candidate, tags=tags if value is None else {**tags, tag: value})
    assert any(f"is not recorded (tag {tag})" in reason for reason in reasons)


@pytest.mark.parametrize("tag", ["lineage.commit", "lineage.difference"])
def test_unknown_code_needs_to_be_allowed(candidate, tag):
    for tags in ({**candidate.tags, tag: "unknown"}, {k: v for k, v in candidate.tags.items() if k != tag}):
        unknown = dataclasses.replace(candidate, tags=tags)
        (reason,) = refusals(unknown)
        assert "--allow-unknown-code" in reason
        assert not list(refusals(unknown, allow_unknown_code=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_not_finite_is_found(candidate, value):
    weights = candidate.folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["b"][1, 0] = value
    save_file(tensors, weights)
    (reason,) = told(candidate, tags={**candidate.tags, "weights_sha256": sha256(weights)})
    assert reason.startswith("weights: not finite in b - ")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_other_bytes_are_found(candidate, name):
    content = bytearray((candidate.folder / name).read_bytes())
    content[-1] ^= 1
    (candidate.folder / name).write_bytes(content)
    (reason,) = told(candidate)
    assert reason.startswith(f"files: {name} differs from the registered SHA-256")


@pytest.mark.parametrize("content", [None, b"", b"no safetensors"])
def test_weights_that_cannot_be_read_are_refused(candidate, content):
    weights = candidate.folder / "model.safetensors"
    weights.unlink() if content is None else weights.write_bytes(content)
    assert told(candidate)


def test_one_error_names_every_failed_condition(client, study, register, name):
    study.lineage = {"code": "0.1.0", "python": "3.11.9", "commit": "unknown", "difference": "none"}
    trial = study.trials[0]
    study.train(trial, 20.0)
    with pytest.raises(UserError, match="lineage"):
        register(trial)
    version = best_version(client, name)
    client.set_model_version_tag(name, version.version, "weights_sha256", "0" * 64)
    client.set_model_version_tag(name, version.version, "val.psnr", "25")
    client.set_tag(version.run_id, "trial.state", "failed")
    with pytest.raises(UserError) as caught:
        promote(client, best_version(client, name), "best", "command")
    first, *reasons = str(caught.value).splitlines()
    assert first == f"models:/{name}/1 may not become @best:"
    assert [reason.split(":")[0].strip() for reason in reasons] == [
        "trial", "evaluation", "files", "lineage", "lineage",
    ]  # fmt: skip
    assert not client.get_registered_model(name).aliases
    assert not promotions(client, name)


def test_registration_asks_the_same_before_it_moves_best(client, study, register, name, capsys):
    study.train(study.trials[0], 20.0)
    register(study.trials[0])
    study.lineage = {**study.lineage, "commit": "unknown"}
    study.train(study.trials[1], 30.0)
    with pytest.raises(UserError, match="may not become @best:\n  lineage: no commit is known"):
        register(study.trials[1])
    assert str(client.get_registered_model(name).aliases["best"]) == "1"
    assert len(client.search_model_versions(f"name='{name}'")) == 2, "it can be loaded by its number"
    promote(client, best_version(client, name), "best", "command", allow_unknown_code=True)
    assert str(client.get_registered_model(name).aliases["best"]) == "2"
    promote(client, client.get_model_version(name, "1"), "champion", "command", allow_unknown_code=True)
    recorded = {(move.alias, move.version): move.unknown_code for move in promotions(client, name)}
    assert recorded == {("best", "1"): False, ("best", "2"): True, ("champion", "1"): False}, "only where it was needed"
    print_version(described(client, best_version(client, name)), "")
    assert capsys.readouterr().out.count("(command, unknown code allowed)") == 1
    rows = {row["uri"]: row["unknown_code"] for row in registered_models(client) if row["study"] == study.spec.study}
    assert rows == {f"models:/{name}@best": "allowed", f"models:/{name}@champion": ""}


def test_records_of_earlier_releases_say_nothing_of_unknown_code(client, study, register, name):
    study.train(study.trials[0], 20.0)
    register(study.trials[0])
    earlier = {"version": "1", "previous": "", "by": "a@b", "how": "command"}
    client.set_registered_model_tag(name, "promoted.champion.2026-01-01T00:00:00.000000Z", json.dumps(earlier))
    assert [move.unknown_code for move in promotions(client, name, "champion")] == [False]


def test_bytes_are_those_that_the_registry_gives(client, study, register, name, home):
    study.train(study.trials[0], 20.0)
    register(study.trials[0])
    (stored,) = [
        path for path in (home / "mlartifacts" / study.spec.study).rglob("model.safetensors") if path.is_file()
    ]
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(UserError, match=r"files: model.safetensors differs from the registered SHA-256"):
        promote(client, best_version(client, name), "champion", "command")
    stored.unlink()
    with pytest.raises(UserError, match=r"files: model.safetensors is missing"):
        promote(client, best_version(client, name), "champion", "command")


def test_every_move_is_on_record_and_a_persons_choice_stays(client, study, register, name):
    for trial, psnr in zip(study.trials, (20.0, 22.0), strict=True):
        study.train(trial, psnr)
        register(trial)
    assert [(move.version, move.previous, move.how) for move in promotions(client, name, "best")] == [
        ("1", "", "registration"), ("2", "1", "registration"),
    ]  # fmt: skip
    promote(client, client.get_model_version(name, "1"), "best", "command")
    promote(client, client.get_model_version(name, "1"), "best", "command")  # nothing moves, nothing is written
    for trial in study.trials:
        register(trial)
    assert str(client.get_registered_model(name).aliases["best"]) == "1"
    promote(client, best_version(client, name), "champion", "command")
    moves = promotions(client, name)
    assert [(move.alias, move.version, move.previous, move.how) for move in moves] == [
        ("best", "1", "", "registration"), ("best", "2", "1", "registration"), ("best", "1", "2", "command"),
        ("champion", "2", "", "command"),
    ]  # fmt: skip
    assert all("@" in move.by and move.at.endswith("Z") for move in moves)
    rows = {row["uri"]: row for row in registered_models(client) if row["study"] == study.spec.study}
    best, champion = rows[f"models:/{name}@best"], rows[f"models:/{name}@champion"]
    assert (best["version"], best["previous"], best["promoted_at"]) == ("1", "2", moves[2].at)
    assert (champion["version"], champion["promoted_by"]) == ("2", f"{moves[3].by} (command)")


def test_a_move_that_a_kill_left_unrecorded_is_recorded(client, study, register, name, monkeypatch):
    study.train(study.trials[0], 20.0)
    monkeypatch.setattr(type(client), "set_registered_model_tag", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        register(study.trials[0])
    monkeypatch.undo()
    assert not promotions(client, name)
    register(study.trials[0])
    assert [(move.version, move.previous) for move in promotions(client, name)] == [("1", "")]


@pytest.mark.parametrize("alias", ["latest", "v3", "a b", ""])
def test_an_alias_that_cannot_be_one_is_a_usage_error(client, study, register, name, alias):
    study.train(study.trials[0], 20.0)
    register(study.trials[0])
    with pytest.raises(SpecError, match="--alias: "):
        promote(client, best_version(client, name), alias, "command")


def test_version_is_described_with_its_lineage(client, study, register, name):
    study.train(study.trials[0], 20.0)
    register(study.trials[0])
    shown = described(client, best_version(client, name))
    assert (shown["uri"], shown["aliases"]) == (f"models:/{name}/1", ["best"])
    assert shown["metrics"] == {"val/l1": 0.05, "val/psnr": 20.0}
    assert (shown["lineage"]["lineage.commit"], shown["lineage"]["seed"]) == ("a" * 40, "0")
    json.dumps(shown)


def test_commands_promote_show_and_list(client, study, register, name, uri, capsys, monkeypatch):
    def transvae(*arguments):
        common = ["--home", str(study.home), "--tracking-uri", uri]
        monkeypatch.setattr(sys, "argv", ["transvae", "registry", *arguments, *common])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    for trial, psnr in zip(study.trials, (20.0, 19.0), strict=True):
        study.train(trial, psnr)
        register(trial)
    assert transvae("promote", f"{name}/2") == (0, f"models:/{name}@best is version 2, before it 1\n", "")
    assert transvae("promote", name, "--alias", "champion") == (0, f"models:/{name}@champion is version 1\n", "")
    code, _, err = transvae("promote", name, "--alias", "latest")
    assert (code, err.startswith("error: --alias: 'latest'")) == (2, True)
    _, out, _ = transvae("show", f"{name}@best")
    for text in (f"models:/{name}/2  @best", "val/psnr:", "lineage.commit:", "before it 1", "(command)", "load_model("):
        assert text in out
    document = json.loads(transvae("list", "--json")[1])
    rows = {row["uri"]: row for row in document["models"]}
    assert rows[f"models:/{name}@best"]["previous"] == "1"
    assert f"models:/{name}@champion" in transvae("list")[1]
    client.set_tag(best_version(client, f"{name}/1").run_id, "trial.state", "failed")
    code, out, err = transvae("promote", f"{name}/1")
    assert (code, out) == (1, "")
    assert "may not become @best:\n  trial: it is failed" in err


def test_the_run_is_found_again_after_it_was_superseded(client, study, server, register, name):
    trial = study.trials[0]
    study.train(trial, 20.0)
    register(trial)
    version = best_version(client, name)
    client.log_metric(version.run_id, "val/psnr", 20.5, 1, 40)
    client.delete_tag(version.run_id, "points_sha256")
    register(trial)  # sends first, which makes a new run
    assert client.get_run(version.run_id).info.lifecycle_stage == "deleted"
    assert promote(client, version, "champion", "command").version == "1"
    assert promotion.promotions(client, name, "champion")
