"""A fit is a run of its study's experiment, linked to the runs it was made of, and logged once."""

import json

import pytest

from transvae_platform.cli.fit_files import keep_fits
from transvae_platform.errors import UserError
from transvae_platform.fitting import Request, answer, runs_of
from transvae_platform.tracking.fits import log_fit, tagged
from transvae_platform.tracking.runs import Tracker


@pytest.fixture
def document(study):
    rows = [
        {"run": study.trials[k].id if k < 2 else f"elsewhere-{k}", "family": "vit", "size": size, "seed": 0, "n": x,
         "val/l1": 0.1 + 0.1 * (x / 1e6) ** -0.3}
        for k, (size, x) in enumerate(zip("TBLHG", (1e6, 3e6, 1e7, 3e7, 6e7), strict=True))
    ]  # fmt: skip
    (found,) = answer(runs_of(rows, "t"), Request(columns={"N": "n"}))
    return found


def test_a_fit_is_linked_to_its_runs_and_logged_once(client, server, study, document, tmp_path):
    for trial in study.trials:
        study.train(trial, 20.0)
    tracker = Tracker(server, study.state(), study.home)
    assert tracker.send(now=True)
    run_id = log_fit(client, study.spec.study, document)
    assert log_fit(client, study.spec.study, document) == run_id
    run = client.get_run(run_id)
    ours = [tracker.run_id(study.state().trials[t.id]) for t in study.trials]
    assert sorted(run.data.tags["source_runs"].split(",")) == sorted(ours)
    assert run.data.tags["missing_runs"] == "elsewhere-2,elsewhere-3,elsewhere-4"
    assert (run.data.tags["kind"], run.data.tags["form"], run.info.status) == ("fit", "L(N)", "FINISHED")
    assert run.data.metrics["vit.alpha"] == pytest.approx(0.3)
    with open(client.download_artifacts(run_id, "fit.json", str(tmp_path))) as file:  # noqa: PTH123
        assert json.load(file) == document
    changed = {**document, "request": {**document["request"], "level": 0.95}}
    assert log_fit(client, study.spec.study, changed) != run_id


def test_no_source_run_is_cut_off():
    ids = [f"{i:032d}" for i in range(400)]
    tags = tagged("source_runs", ids)
    assert list(tags) == ["source_runs", "source_runs_2", "source_runs_3"]
    assert [one for part in tags.values() for one in part.split(",")] == ids
    assert max(map(len, tags.values())) <= 5000


def test_a_study_that_was_never_submitted_there_is_an_error(client, document):
    with pytest.raises(KeyError, match="never-there"):
        log_fit(client, "never-there", document)


def test_a_study_that_ended_keeps_its_fits_as_files_and_runs(client, server, study, uri):
    for seed, trial in enumerate(study.trials):
        study.train(trial, 20.0 + seed)
    state = study.state()
    assert Tracker(server, state, study.home).send(now=True)
    (study.folder / "fits").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        keep_fits(state, study.home, uri)  # MLflow has them all the same
    kept = client.search_runs([client.get_experiment_by_name(study.spec.study).experiment_id], "tags.kind = 'fit'")
    assert len(kept) == 2
    (study.folder / "fits").unlink()
    for _ in range(2):  # the second submission of a finished study changes nothing
        keep_fits(state, study.home, uri)
        experiment = client.get_experiment_by_name(study.spec.study).experiment_id
        runs = client.search_runs([experiment], "tags.kind = 'fit'")
        assert sorted(json.loads(r.data.params["columns"].replace("'", '"'))["N"] for r in runs) == [
            "parameters",
            "training_flops",
        ]
    files = sorted(path.name for path in (study.folder / "fits").iterdir())
    assert [name.split("-L_N-")[1].rpartition("-")[0] for name in files] == [
        "parameters-val_l1",
        "training_flops-val_l1",
    ]


def test_numbers_that_no_solver_takes_do_not_end_the_study(study, monkeypatch, capsys):
    study.train(study.trials[0], 20.0)

    def stuck(*_):
        raise ValueError("f(a) and f(b) must have different signs")

    monkeypatch.setattr("transvae_platform.fitting.answer", stuck)
    keep_fits(study.state(), study.home, "http://nowhere")
    assert "none were kept: f(a) and f(b) must have different signs" in capsys.readouterr().out
