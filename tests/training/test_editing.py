"""Edits: an image whose caption says how it is made of another one, from the captions file to what is drawn."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photographs
from tests.training.conftest import SPEC
from tests.training.test_text_generating import run
from tests.training.twins import KilledError, assert_same, kill_at, last_state

from transvae import Autoencoder, create_model
from transvae.generation import TextDiT
from transvae.generation.text import Text, open_text_encoder
from transvae_platform.data.latents.extract import extract_latents, plan_extraction
from transvae_platform.data.listing import list_source
from transvae_platform.data.listing.captions import with_captions
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.mixture import JoinedSamples
from transvae_platform.data.sets.samples import open_data
from transvae_platform.data.stream.latents import LatentStream, latent_space
from transvae_platform.errors import UserError
from transvae_platform.evaluation.generation import draw_images
from transvae_platform.study.data_spec import Sampling
from transvae_platform.study.grid import build_grid
from transvae_platform.study.journal import read_journal
from transvae_platform.study.spec import StudySpec
from transvae_platform.study.trial import Initial
from transvae_platform.training.checkpoint import CheckpointStore
from transvae_platform.training.text_generating import TextGenerating
from transvae_platform.world import World

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
DATA = {"source": "folder", "path": "x", "resolution": 32, "view": {"kind": "centre"}, "holdout": 0.5, "seed": 1}
DOWNSTREAM = {
    "generators": ["micro-S/2"],
    "text": {"encoder": "hashed-16", "guidance": 2.0, "noise": {"sampled": 4}, "editing": {"guidance": 1.5}},
    "recipe": {"steps": 8, "batch_size": 4, "learning_rate": 1e-3, "ema_decay": 0.9, "label_dropout": 0.3},
    "evaluation": {"every": 4, "log_every": 1, "images": 4, "pictures": 4},
}  # fmt: skip
ENCODER = open_text_encoder("hashed-16")


@pytest.fixture(scope="module")
def edits(tmp_path_factory):
    """Latents of photographs and of their grey versions, which are edits; and the autoencoder that made them."""
    folder = tmp_path_factory.mktemp("edits")
    lines = []
    (folder / "images").mkdir()
    for name in PHOTOGRAPHS:
        image = Image.fromarray(getattr(photographs, name)())
        image.save(folder / "images" / f"{name}.png")
        image.convert("L").save(folder / "images" / f"{name}-grey.png")
        lines.append({"file_name": f"{name}.png", "caption": f"a photograph of {name}"})
        lines.append({"file_name": f"{name}-grey.png", "caption": "take its colours", "source": f"{name}.png"})
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    listing = with_captions(list_source(str(folder / "images")), folder / "captions.jsonl")
    made = ingest(listing, StudySpec.model_validate({**SPEC, "data": DATA}).data, folder, run_locally)
    torch.manual_seed(7)
    create_model("vit-micro-T/f8d8", resolution=32).save_pretrained(folder / "vae")
    plan = plan_extraction(made, str(folder / "data" / made.fingerprint), folder / "vae", model_name="test")
    latents = extract_latents(plan, folder, run_locally)
    return open_data(str(folder / "data" / latents.fingerprint), folder, 10**9), folder / "vae"


@pytest.fixture
def task(edits):
    def make(initial=None, **text):
        down = {**DOWNSTREAM, "text": {**DOWNSTREAM["text"], **text}}
        trial = build_grid(StudySpec.model_validate({**SPEC, "data": DATA, "downstream": down}), "f" * 16)[-1]
        trial = trial.model_copy(update={"initial": initial})
        (train_latents, held_out), vae = edits
        decode = Autoencoder.from_pretrained(vae).decode
        return TextGenerating(trial, World(), latent_space(train_latents), decode, ENCODER, held_out)

    return make


def test_an_edit_lies_with_its_source_and_comes_with_its_latent(edits):
    for samples in edits[0]:
        sources, captions = samples.sources(), samples.column(np.arange(len(samples)), "caption")
        assert [source >= 0 for source in sources] == [caption == "take its colours" for caption in captions]
        assert (sources >= 0).sum() == 2  # of four photographs half are held out, with their edits
        stream = LatentStream(samples, Sampling(), batch_size=4, seed=0, labelled=False, captioned=True, edits=True)
        batch = stream.batch(0)
        _, _, mirrored = stream._turns.at(0)
        assert 0 < mirrored.sum() < 4
        for place, number in enumerate(batch.ids.tolist()):
            assert bool(batch.edited[place]) == (sources[number] >= 0)
            if batch.edited[place]:
                kept = samples.read(sources[[number]], "latent_flip" if mirrored[place] else "latent")[0]
                assert (batch.sources[place].numpy() == kept).all()
                assert not torch.equal(batch.sources[place], batch.latents[place])


def test_sources_of_a_mixture_count_through_its_parts(edits):
    (first, _), (second, _) = edits[0], edits[0]
    joined, own = JoinedSamples([first, second], [0.5, 0.5]).sources(), first.sources()
    assert joined.tolist() == [*own, *(source + len(first) if source >= 0 else -1 for source in own)]


def test_killed_and_resumed_equals_uninterrupted(task, edits, tmp_path, monkeypatch):
    run(task(), edits[0], tmp_path / "whole")
    kill_at(monkeypatch, (3,), LatentStream)
    with pytest.raises(KilledError):
        run(task(), edits[0], tmp_path / "run")
    run(task(), edits[0], tmp_path / "run")
    assert_same(last_state(tmp_path / "run"), last_state(tmp_path / "whole"))
    assert {record["event"] for record in read_journal(tmp_path / "run" / "journal.jsonl")} >= {"step"}
    with CheckpointStore(tmp_path / "run" / "checkpoints", keep=9).newest_good() as found:
        kept = TextDiT.from_pretrained(found[1] / "ema")
    assert kept.config.editing
    assert kept.patches.weight[:, kept.config.latent_dim :].any()  # zeros before the training
    picture = Image.open(sorted((tmp_path / "run" / "pictures").iterdir())[-1])
    one_row = Image.open(sorted((tmp_path / "run" / "pictures").iterdir())[-1]).width // 4
    assert picture.height >= 2 * (one_row - 4)  # sources above the samples


def test_sources_are_zero_without_an_edit_and_where_they_are_dropped(task, edits):
    one = task()
    stream = one.make_stream(edits[0][0], batch_size=4, seed=0)
    batch = stream.batch(0)
    none = torch.zeros(2, 4, dtype=torch.bool)
    *_, no_text_B, source_Bdhw = one.on_path(batch, 0, 0, none)
    assert [bool(source.any()) for source in source_Bdhw] == batch.edited.tolist()
    assert torch.equal(source_Bdhw[batch.edited], one._scale.normalise(batch.sources)[batch.edited])
    *_, no_text_B, source_Bdhw = one.on_path(batch, 0, 0, torch.tensor([[True] * 4, [True] * 4]))
    assert no_text_B.all()
    assert not source_Bdhw.any()
    uniform_B = torch.linspace(0, 1, 1001, dtype=torch.float64)
    text_B, sources_B = one.dropped(uniform_B)
    shares = [x.double().mean().item() for x in (text_B, sources_B, text_B & sources_B)]
    assert shares == pytest.approx([0.3, 0.3, 0.15], abs=2e-3)
    assert not one.dropped(torch.ones(3)).any()


def test_what_is_drawn_follows_the_source_of_its_caption(task):
    one = task()
    for layer in (one.model.out, one.model.modulation, *(block.modulation for block in one.model.blocks)):
        torch.nn.init.normal_(layer.weight, std=0.3)
    torch.nn.init.normal_(one.model.patches.weight, std=0.3)
    drawer, sampler = one.drawn_with(one.model), one.trial.generator.sampler.model_copy(update={"batch": 4})

    def first(**changes):
        return next(draw_images(dataclasses.replace(drawer, **changes), one._decode, sampler, np.arange(4),
                                World()))[1]  # fmt: skip

    is_edit = [caption == "take its colours" for caption in drawer.captions[:4]]
    assert sorted(is_edit) == [False, False, True, True]
    assert [bool(source.any()) for source in drawer.sources(np.arange(4))] == is_edit
    plain = first()
    assert torch.equal(plain, first())
    without = first(sources=lambda numbers: torch.zeros(len(numbers), 8, 4, 4))
    assert [not torch.equal(a, b) for a, b in zip(plain, without, strict=True)] == is_edit
    stronger = drawer.spec.model_copy(update={"editing": drawer.spec.editing.model_copy(update={"guidance": 4.0})})
    assert [not torch.equal(a, b) for a, b in zip(plain, first(spec=stronger), strict=True)] == is_edit


def test_a_generator_of_text_is_where_one_of_edits_starts(task, edits, tmp_path):
    """It draws what that drew, whatever the source, on the normalisation that its weights were trained with."""
    first = task(editing=None)
    for layer in (first.model.out, first.model.modulation, *(block.modulation for block in first.model.blocks)):
        torch.nn.init.normal_(layer.weight, std=0.3)
    first.model.latents = dataclasses.replace(first.model.latents, mean=(0.5,) * 8, std=(2.0,) * 8)
    first.model.save_pretrained(tmp_path)
    weights = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    initial = Initial(folder=str(tmp_path), weights_sha256=weights)

    one = task(initial=initial)
    batch = one.make_stream(edits[0][0], batch_size=4, seed=0).batch(0)
    x_Bdhw, _, t_B, tokens, mask, _, source_Bdhw = one.on_path(batch, 0, 0, torch.zeros(2, 4, dtype=torch.bool))
    assert source_Bdhw.any()
    drawn, expected = (
        one.model(x_Bdhw, t_B, Text(tokens, mask), source_Bdhw),
        first.model(x_Bdhw, t_B, Text(tokens, mask)),
    )
    assert expected.any()
    torch.testing.assert_close(drawn, expected)
    assert torch.equal(one._scale.normalise(batch.latents), (batch.latents.float() - 0.5) / 2.0)
    assert (one.model.latents.mean, one.model.latents.fingerprint) == ((0.5,) * 8, one._space.fingerprint)
    run(one, edits[0], tmp_path / "run")
    assert one.model.patches.weight[:, 8:].any()  # the source channels learn

    first.model.latents = dataclasses.replace(first.model.latents, tokenizer={**one._space.tokenizer, "config": "x"})
    first.model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"downstream.start_from: .* was trained on latents of test, these are of test"):
        task(initial=initial)
    first.model.latents = one._space
    first.model.conditions = dataclasses.replace(first.model.conditions, encoder={"kind": "hashed", "seed": 1})
    first.model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"downstream.start_from: .* reads the text encoder .*'seed': 1.* - give that"):
        task(initial=initial)
    with torch.no_grad():
        first.model.null_E.add_(1)
    first.model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"downstream.start_from: the weights in .* are no longer those"):
        task(initial=initial)


def test_an_edit_whose_source_is_missing_is_named(edits, monkeypatch):
    samples = edits[0][0]
    column = samples.column
    moved = {"source": lambda cells: [None if cell is None else 99 for cell in cells]}
    monkeypatch.setattr(samples, "column", lambda ids, name: moved.get(name, list)(column(ids, name)))
    with pytest.raises(UserError, match=r"is an edit of item 99, which is no train sample .* remove the edit"):
        samples.sources()


def test_dropping_more_than_there_is_is_refused():
    down = {**DOWNSTREAM, "recipe": {**DOWNSTREAM["recipe"], "label_dropout": 0.7}}
    with pytest.raises(ValueError, match=r"drops the source alone, so it is at most 2/3, not 0.7"):
        StudySpec.model_validate({**SPEC, "downstream": down})
    down = {**DOWNSTREAM, "recipe": {**DOWNSTREAM["recipe"], "label_dropout": 0.0},
            "text": {**DOWNSTREAM["text"], "guidance": 1.0}}  # fmt: skip
    with pytest.raises(ValueError, match=r"text.editing.guidance: without recipe.label_dropout"):
        StudySpec.model_validate({**SPEC, "downstream": down})


def test_trials_without_editing_keep_their_names():
    """The key came later: its absence is no part of what a trial is called."""
    text = {key: value for key, value in DOWNSTREAM["text"].items() if key != "editing"}
    spec = StudySpec.model_validate({**SPEC, "downstream": {**DOWNSTREAM, "text": text}})
    assert "editing" not in spec.downstream.decides("micro-S/2")["text"]
    edited = StudySpec.model_validate({**SPEC, "downstream": DOWNSTREAM})
    assert build_grid(spec, "f" * 16)[-1].id != build_grid(edited, "f" * 16)[-1].id
