"""Trials that start from a registered model, or from a folder of one."""

from types import SimpleNamespace

import pytest

from transvae import create_model
from transvae_platform.cluster.initial import find_initial
from transvae_platform.errors import SpecError
from transvae_platform.study.grid import build_grid
from transvae_platform.study.load import load_study

STUDY = """\
study: second
question: What does stage 2 add?
expected: {outcome: Something., source: assumption}
grid: {ladder: micro, code: f8d8, families: {vit: [T]}}
data: {source: bundled, resolution: 32, view: {kind: crops, per_photograph: 4}}
recipe:
  steps: 4
  batch_size: 4
  learning_rate: 0.001
  warmup_steps: 0
  decoder_stage: {steps: 4}
  start_from: models/{model}
"""


@pytest.fixture
def study(tmp_path):
    """The study file, beside a folder with the model that it starts from."""

    def write(model="vit-micro-T/f8d8", *changes):
        create_model(model).save_pretrained(tmp_path / "models" / "vit-T")
        (tmp_path / "study.yaml").write_text(STUDY)
        return load_study(tmp_path / "study.yaml", changes)

    return write


def test_a_folder_beside_the_file_is_found_and_decides_the_trial(study, tmp_path):
    spec = study()
    initial = find_initial(spec, None, tmp_path / "home", None, {})
    assert initial["vit-T"].folder == str(tmp_path / "models" / "vit-T")
    (trial,) = build_grid(spec, "d" * 16, initial)
    assert trial.initial == initial["vit-T"]
    other = find_initial(study(), None, tmp_path / "home", None, {})  # the same architecture, other weights
    assert other["vit-T"].weights_sha256 != initial["vit-T"].weights_sha256
    assert build_grid(spec, "d" * 16, other)[0].id != trial.id


def test_a_study_goes_on_from_what_it_began_with(study, tmp_path):
    spec = study()
    initial = find_initial(spec, None, tmp_path / "home", None, {})

    begun = build_grid(spec, "d" * 16, initial)[0]
    known = SimpleNamespace(trials={begun.id: SimpleNamespace(trial=begun)})  # submitted before
    study()  # other weights lie there now
    assert find_initial(spec, known, tmp_path / "home", None, {}) == initial


def test_another_architecture_is_refused_by_what_differs(study, tmp_path):
    spec = study("vit-micro-B/f8d8")
    with pytest.raises(
        SpecError, match=r"recipe.start_from: .* is of another architecture than vit-T: .*encoder.* instead of"
    ):
        find_initial(spec, None, tmp_path / "home", None, {})


def test_a_missing_model_is_refused_with_both_forms(study, tmp_path):
    spec = study("vit-micro-T/f8d8", "recipe.start_from=/nowhere/{model}")
    with pytest.raises(SpecError, match=r"/nowhere/vit-T is no model .*give models:/NAME@alias, or a folder"):
        find_initial(spec, None, tmp_path / "home", None, {})
