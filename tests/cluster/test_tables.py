"""A study's registered models measured for tables 1 and 2, with a real registry; the work is done in this process."""

from __future__ import annotations

import contextlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from transvae import create_model
from transvae.losses.frozen import Frozen, Origin
from transvae.tokenizers.files import file_sha256
from transvae_dashboards.evaluations import write_evaluations
from transvae_platform.cluster import table_inputs, tables
from transvae_platform.cluster.planning import prepare
from transvae_platform.cluster.sources import find_source, make_source
from transvae_platform.cluster.table_inputs import fetch_networks, refuse_impossible_tables
from transvae_platform.cluster.tables import measure_models
from transvae_platform.data.listing import list_source
from transvae_platform.data.making import on_ray
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import give_name
from transvae_platform.errors import SpecError, UnreachableError
from transvae_platform.evaluation import finish, measure
from transvae_platform.evaluation.latent_space.probe import ProbeProtocol
from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.study.data_spec import Data
from transvae_platform.study.evaluation_spec import Evaluation
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import Journal
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.state import StudyState
from transvae_platform.study.tables_spec import Preset, ProbeSpec
from transvae_platform.tracking.server import connect

ASKED = {
    "reconstruction": {"presets": ["detok"], "data": ["study", "larger"], "networks": "random"},
    "probe": {"iterations": 20},
}
VIEW = {"kind": "centre", "enlarge": True}


class Means(Frozen):
    """Three numbers of each picture in place of Inception's features, which would take a second per picture."""

    def __init__(self) -> None:
        super().__init__(Origin("means", "random", seed=0))

    def forward(self, levels_B3HW: Tensor) -> Tensor:
        return levels_B3HW.float().mean((2, 3)) / 255


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes of coloured noise."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(24):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 255, (16, 16, 3), np.uint8)).save(path)
    return folder


def study(images, asked=ASKED):
    data = {"source": "folder", "path": str(images), "resolution": 16, "view": VIEW, "holdout": 0.3}
    return StudySpec.model_validate(
        {
            "study": "tiny", "question": "?", "expected": {"outcome": "!", "source": "assumption"},
            "grid": {"ladder": "micro", "code": "f8d8", "families": {"vit": ["T"]}, "seeds": [0, 1]},
            "data": data, "evaluation": {"sets": {"larger": {**data, "resolution": 24}}}, "tables": asked,
            "recipe": {"steps": 4, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 1},
        }
    )  # fmt: skip


class Trained:
    """A study whose two trials have ended and are registered."""

    def __init__(self, home, spec):
        self.home, self.spec, self.uri = home, spec, f"sqlite:///{home}/mlflow.db"
        self.folder = home / "studies" / "tiny"
        for section in (spec.data, spec.evaluation.sets["larger"]):
            make_source(find_source(section, home), home, lambda text: None)
        self.client = connect(self.uri, home)
        experiment = self.client.create_experiment("tiny", artifact_location=(home / "artifacts").as_uri())
        self.journal = Journal(self.folder / "journal.jsonl")
        self.journal.append("submitted", spec=spec.model_dump(mode="json"), lineage={"code": "a"})
        self.client.create_registered_model("tiny-vit-T")
        self.runs = []
        for trial in build_grid(spec, "d" * 16):
            self.journal.append("queued", trial=trial.model_dump(mode="json"), cost={"parameters": 7.0})
            own = Journal(self.folder / "trials" / trial.id / "journal.jsonl")
            own.append("finished", step=4, metrics={})
            own.close()
            torch.manual_seed(trial.seed)
            self.runs.append(self.client.create_run(experiment).info.run_id)
            self.register(trial.id, create_model(trial.model))

    def register(self, trial, model, spoil=False):
        made = self.home / "models" / "new"
        model.save_pretrained(made)
        if spoil:
            state = load_file(made / "model.safetensors")
            state[next(key for key in state if key.startswith("decoder"))].view(-1)[0] = math.nan
            save_file(state, made / "model.safetensors")
        sha256 = file_sha256(made / "model.safetensors")
        made.rename(self.home / "models" / sha256)
        tags = {"weights_sha256": sha256}
        number = len(self.client.search_model_versions("name='tiny-vit-T'"))
        version = self.client.create_model_version("tiny-vit-T", str(made), self.runs[number % 2], tags=tags)
        uri = f"models:/tiny-vit-T/{version.version}"
        self.journal.append("registered", trial=trial, uri=uri, psnr=1.0)

    def measure(self, spec=None):
        spec, state = spec or self.spec, StudyState(self.folder)
        networks = fetch_networks(spec, self.home)
        measure_models(spec, networks, self.home, self.uri, None, self.journal, state, lambda text: None)
        return state

    def told(self):
        found = self.client.search_runs([self.client.get_experiment_by_name("tiny").experiment_id])
        return [run for run in found if run.data.tags.get("kind") == "evaluation"]


@pytest.fixture
def worked(monkeypatch):
    """Every piece of work that was done; `limit` of them end the process."""
    done = SimpleNamespace(pieces=[], limit=99)

    def mapper(function, work):
        for piece in work:
            if len(done.pieces) == done.limit:
                raise KeyboardInterrupt
            function(piece)
            done.pieces.append(function.__name__)
            yield piece

    monkeypatch.setattr(on_ray, "run_on_ray", run_locally)
    monkeypatch.setattr(tables, "ray_mapper", lambda *_, **options: contextlib.nullcontext(mapper))
    monkeypatch.setattr(measure, "load_inception", lambda *arguments: Means())
    monkeypatch.setattr(finish, "DIMENSION", 3)
    return done


@pytest.fixture
def trained(tmp_path, images, worked):
    return Trained(tmp_path, study(images))


def test_killed_measurements_continue_and_stand_in_mlflow_and_on_the_pages(trained, worked):
    worked.limit = 1
    with pytest.raises(KeyboardInterrupt):
        trained.measure()
    worked.limit = 99
    state = trained.measure()
    # two models: two data sets, the latents of both splits, a probe
    assert sorted(worked.pieces) == ["extract_shard"] * 4 + ["measure_piece"] * 2 + ["measure_shard"] * 4
    assert (len(state.measured), state.notes) == (6, [])
    told = trained.told()
    assert sorted(run.data.tags[MLFLOW_PARENT_RUN_ID] for run in told) == sorted(trained.runs * 3)
    assert {key for run in told for key in run.data.metrics} == {"eval/psnr", "eval/rfid_random", "eval/probe_accuracy"}
    pages = write_evaluations(trained.home, trained.folder, state)
    assert "tiny-vit-T/2" in pages["table 1"].read_text()
    assert "iterations 20" in pages["table 2"].read_text()
    assert "24 px, n = 7" in pages["extrapolation"].read_text()
    other = SimpleNamespace(measured={}, generators=[])
    assert "tiny-vit-T/2" not in write_evaluations(trained.home, trained.home, other)["table 1"].read_text()
    assert "tiny-vit-T/2" in write_evaluations(trained.home, trained.home)["table 1"].read_text()

    assert trained.measure().measured == state.measured
    assert (len(worked.pieces), len(trained.told())) == (10, 6)
    more = study("/", {**ASKED, "reconstruction": {**ASKED["reconstruction"], "presets": ["detok", "rae"]}})
    again = trained.measure(more.model_copy(update={"data": trained.spec.data, "evaluation": trained.spec.evaluation}))
    assert (len(worked.pieces), len(again.measured)) == (14, 10)


def test_one_broken_model_does_not_stop_the_others(trained, worked):
    first = next(iter(StudyState(trained.folder).trials))
    trained.register(first, create_model("vit-micro-T/f8d8"), spoil=True)
    state = trained.measure()
    assert {trial for trial, _ in state.not_measured} == {first}
    assert "7 of 7 outputs are not finite" in state.not_measured[first, "detok on study"]
    assert any(note.startswith(f"{first}: detok on larger: evaluate: ") for note in state.notes)
    assert len(state.measured) >= 3
    trained.register(first, create_model("vit-micro-T/f8d8"))
    assert trained.measure().notes == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"reconstruction": {"data": ["coco"]}}, r"tables.reconstruction.data: no data set 'coco'"),
        ({"reconstruction": {"files": {"vgg": "/none.pth"}}}, r"files.vgg: there is no file /none.pth"),
        ({"probe": {"augment": "flip"}}, "needs the solver sgd"),
        ({"reconstruction": {"presets": ["detok", "dcae"]}}, r"LPIPS of the preset dcae .* 31 .* of study have 16"),
        ({"reconstruction": {"presets": ["dcae"], "data": ["larger"]}}, "those of larger have 24"),
        ({"density": {"images": 90, "split": "validation"}}, "tables.density: 90 images are too few .* more than 90"),
        ({"density": {}}, "tables.density: 17 images are too few"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_trains(tmp_path, images, asked, said):
    spec = study(images, asked)
    with pytest.raises(SpecError, match=said):
        refuse_impossible_tables(spec, find_source(spec.data, tmp_path), tmp_path)


def test_images_without_classes_are_not_probed(tmp_path, images):
    spec = study(images / "a", {"probe": {}})
    with pytest.raises(SpecError, match=r"tables.probe: a probe learns classes"):
        refuse_impossible_tables(spec, find_source(spec.data, tmp_path), tmp_path)


def test_missing_weights_end_the_submission_before_anything_trains(tmp_path, images, monkeypatch):
    def missing(config, *_):
        raise table_inputs.FrozenWeightsError("VGG16 of LPIPS: no weights")

    monkeypatch.setattr(table_inputs, "locate_lpips", missing)
    with pytest.raises(UnreachableError, match=r"tables.reconstruction.files.vgg=/path/to/file"):
        fetch_networks(study(images, {"reconstruction": {}}), tmp_path)


def test_keys_of_the_study_file_are_those_of_the_measurements():
    assert set(Preset.__args__) == set(PRESETS)
    assert ProbeProtocol(**ProbeSpec().model_dump()) == ProbeProtocol()


def test_sets_that_are_only_measured_may_be_held_out_as_a_whole(tmp_path, images):
    spec = study(images)
    alone = spec.data.model_copy(update={"resolution": 24, "holdout": 1.0})
    made = ingest(list_source(str(images), "classes"), alone, tmp_path, run_locally)
    give_name(tmp_path, "val-24", made)
    assert made.samples("train") == 0
    wanted = {"source": "dataset", "path": "val-24", "resolution": 24}
    measured = spec.model_copy(update={"evaluation": Evaluation.model_validate({"sets": {"larger": wanted}})})
    assert prepare(measured, tmp_path).sets["larger"].held_out == 24
    trained_on = spec.model_copy(update={"data": Data.model_validate(wanted)})
    with pytest.raises(SpecError, match="data: val-24 has validation images only, and studies train"):
        prepare(trained_on, tmp_path)
