"""Trials that start from a registered model, or from a folder of one."""

import dataclasses
from types import SimpleNamespace

import pytest

from transvae import create_model
from transvae.generation import LatentSpace, TextDiT, text_dit_config
from transvae.generation.folder import TextConditions
from transvae.generation.noise_schedule import NoiseSchedule
from transvae.generation.text import open_text_encoder
from transvae_platform.cluster.initial import find_initial, refuse_other_tokenizers
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


DOWNSTREAM = """\
downstream:
  generators: [micro-S/2]
  tokenizers: {vae: {model: "models:/vae@best", code: f8d8}}
  text: {encoder: hashed-16, editing: {}}
  start_from: models/{model}
  recipe: {steps: 4, batch_size: 4}
"""
SPACE = LatentSpace("l", "d", 32, "sample", {"name": "v", "weights_sha256": "a" * 64, "config": "c"}, (0.0,) * 8,
                    (1.0,) * 8)  # fmt: skip
CONDITIONS = TextConditions("hashed-16", open_text_encoder("hashed-16").identity, "noise", NoiseSchedule())


@pytest.fixture
def editing(tmp_path):
    """A study of edits, beside a text-to-image generator that it starts from."""

    def write(*changes, space=SPACE, conditions=CONDITIONS, name="text_dit-micro-S/2", **switches):
        model = TextDiT(text_dit_config(name, 8, 4, 16, **switches), space, conditions)
        model.save_pretrained(tmp_path / "models" / "t2i-micro-S-2-on-vae")
        without = STUDY.replace("  decoder_stage: {steps: 4}\n  start_from: models/{model}\n", "")
        (tmp_path / "study.yaml").write_text(without + DOWNSTREAM)
        return load_study(tmp_path / "study.yaml", ("downstream.vaes=[]", *changes))

    return write


def test_a_generator_of_text_is_found_for_one_of_edits(editing, tmp_path):
    spec = editing()
    initial = find_initial(spec, None, tmp_path / "home", None, {})
    assert set(initial) == {"t2i-micro-S-2-on-vae"}
    with_it, without = (build_grid(spec, "d" * 16, given)[-1] for given in (initial, {}))
    assert with_it.initial == initial["t2i-micro-S-2-on-vae"]
    assert with_it.id != without.id
    maker = SimpleNamespace(model="models:/vae@best", weights_sha256="a" * 64)
    refuse_other_tokenizers([with_it], {"models:/vae@best": maker})
    maker.weights_sha256 = "b" * 64
    with pytest.raises(SpecError, match=r"start_from: .* on latents of v, t2i-micro-S-2-on-vae is on those of models:"):
        refuse_other_tokenizers([with_it], {"models:/vae@best": maker})


@pytest.mark.parametrize(
    ("changes", "given", "told"),
    [
        ((), {"name": "text_dit-micro-B/2"}, "depth 6 instead of 4"),
        ((), {"blocks": "lightning"}, "blocks 'lightning' instead of 'guide'"),
        (("downstream.text.editing=null",), {"editing": True}, "editing True instead of False"),
        ((), {"space": dataclasses.replace(SPACE, content="mean")}, "content 'mean' instead of 'sample'"),
        ((), {"space": None}, "content None instead of 'sample'; resolution None instead of 32"),
        (("downstream.text.objective=velocity",), {}, "objective 'noise' instead of 'velocity'"),
        (("downstream.text.noise.steps=500",), {}, r"noise NoiseSchedule\(steps=1000.* instead of NoiseSchedule"),
        (("downstream.start_from=/nowhere",), {}, "/nowhere is no model .*give models:/NAME@alias, or a folder"),
    ],
)
def test_another_generator_is_refused_by_what_differs(editing, tmp_path, changes, given, told):
    spec = editing(*changes, **given)
    with pytest.raises(SpecError, match=rf"downstream.start_from: .*{told}"):
        find_initial(spec, None, tmp_path / "home", None, {})


def test_no_generator_knows_the_latents_of_a_study_s_own_autoencoders(editing, tmp_path):
    with pytest.raises(SpecError, match=r"start_from: .* an autoencoder that this study trains.*downstream.vaes=\[\]"):
        find_initial(editing("downstream.vaes=['*']"), None, tmp_path / "home", None, {})


def test_without_autoencoders_and_tokenizers_there_are_no_latents(editing):
    with pytest.raises(SpecError, match=r"vaes: none, and no tokenizers"):
        editing("downstream.tokenizers={}")


def test_autoencoders_that_start_from_a_model_may_have_generators(study, tmp_path):
    spec = study("vit-micro-T/f8d8", "downstream={generators: [micro-S/1], recipe: {steps: 4, batch_size: 4}}")
    initial = find_initial(spec, None, tmp_path / "home", None, {})
    assert set(initial) == {"vit-T"}
    assert [trial.initial for trial in build_grid(spec, "d" * 16, initial)] == [initial["vit-T"], None]
