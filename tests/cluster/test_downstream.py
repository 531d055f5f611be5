"""What generators need before they train: labels within the classes, tokenizers of the code that was said."""

from types import SimpleNamespace

import numpy as np
import pytest

from transvae import create_model
from transvae_platform.cluster import downstream
from transvae_platform.cluster.downstream import find_tokenizers, refuse_labels
from transvae_platform.errors import SpecError, UserError
from transvae_platform.study.text_spec import Editing, TextSpec


class Labels:
    """Samples of which only the labels are asked for."""

    def __init__(self, labels):
        self._labels = labels

    def __len__(self):
        return 4 if self._labels is None else len(self._labels)

    def labels(self, ids):
        if self._labels is None:
            raise UserError("train-00000.arrow: 4 of 4 records have no label")
        return np.array(self._labels)[ids]


@pytest.fixture
def refuse(monkeypatch):
    """Check labels of training and held-out images against a number of classes."""

    def check(classes, train, held_out=(0,), location="data/x"):
        monkeypatch.setattr(downstream, "open_training_data", lambda *_: (Labels(train), Labels(held_out)))
        made = SimpleNamespace(parts=((SimpleNamespace(location=location), 1.0),))
        spec = SimpleNamespace(downstream=SimpleNamespace(classes=classes, text=None) if classes else None)
        refuse_labels(spec, made)

    return check


def test_labels_within_the_classes_pass(refuse):
    refuse(3, [0, 1, 2])
    refuse(None, None)
    refuse(1, None)  # reads no labels
    refuse(2, [5], location="s3://bucket/x")  # is not read for this


def test_labels_beyond_the_classes_are_refused_before_any_training(refuse):
    with pytest.raises(SpecError, match=r"downstream.classes: 3, but the images have labels from 0 to 7 - set 8"):
        refuse(3, [0, 7])
    with pytest.raises(SpecError, match="labels from 3 to 3"):
        refuse(3, [0, 1], held_out=(3,))
    with pytest.raises(SpecError, match="labels from -1 to 0"):
        refuse(3, [0, -1])


def test_images_without_labels_are_refused_with_the_way_out(refuse):
    with pytest.raises(SpecError, match=r"downstream.classes: .* have no label - or set 1, which reads no labels"):
        refuse(3, None)


class Captions(Labels):
    """Samples of which only the captions are asked for."""

    parts = ((SimpleNamespace(fingerprint="images"), 1.0),)

    def column(self, ids, name):
        assert name == "caption"
        return [self._labels[number] for number in ids]

    def sources(self):
        return np.full(len(self), -1)


@pytest.mark.parametrize(
    ("train", "held_out", "told"),
    [
        (["a", None], ["b"], "sample 1 of images has no caption"),
        (["a", "b"], ["c", "  "], "sample 1 of images has an empty caption"),
    ],
)
def test_missing_and_empty_captions_are_refused_before_any_training(monkeypatch, train, held_out, told):
    monkeypatch.setattr(downstream, "open_training_data", lambda *_: (Captions(train), Captions(held_out)))
    made = SimpleNamespace(parts=((SimpleNamespace(location="data/x"), 1.0),))
    spec = SimpleNamespace(downstream=SimpleNamespace(classes=1000, text=TextSpec()))
    with pytest.raises(SpecError, match=rf"downstream.text: data: {told}.* give them with data.captions"):
        refuse_labels(spec, made)
    monkeypatch.setattr(downstream, "open_training_data", lambda *_: (Captions(["a"]), Captions(["b"])))
    refuse_labels(spec, made)
    spec.downstream.text = TextSpec(editing=Editing())
    with pytest.raises(SpecError, match=r"downstream.text.editing: none of the training images is an edit, or none"):
        refuse_labels(spec, made)


@pytest.fixture
def waiting():
    """Generators that wait for a tokenizer."""

    def make(model, code):
        source = SimpleNamespace(model=str(model), code=code)
        return [SimpleNamespace(generator=SimpleNamespace(tokenizer=source)), SimpleNamespace(generator=None)]

    return make


def test_a_tokenizer_is_found_and_lies_where_all_nodes_see_it(waiting, tmp_path):
    create_model("cnn-micro-T/f4d4").save_pretrained(tmp_path / "elsewhere")
    home = tmp_path / "home"
    trials = waiting(tmp_path / "elsewhere", "f4d4")
    maker = find_tokenizers(trials, home, "")[str(tmp_path / "elsewhere")]
    assert maker.folder.is_relative_to(home)
    first = (maker.folder / "model.safetensors").read_bytes()
    assert first == (tmp_path / "elsewhere" / "model.safetensors").read_bytes()
    assert find_tokenizers(trials, home, "")[str(tmp_path / "elsewhere")] == maker
    inside = waiting(maker.folder, "f4d4")
    assert find_tokenizers(inside, home, "")[str(maker.folder)].folder == maker.folder


def test_another_code_and_no_tokenizer_are_refused_by_name(waiting, tmp_path):
    create_model("cnn-micro-T/f4d4").save_pretrained(tmp_path / "vae")
    with pytest.raises(SpecError, match=r"downstream.tokenizers: .*vae is f4d4, not f8d16 - correct its code"):
        find_tokenizers(waiting(tmp_path / "vae", "f8d16"), tmp_path, "")
    with pytest.raises(SpecError, match=r"downstream.tokenizers: nowhere-vae: no tokenizer"):
        find_tokenizers(waiting("nowhere-vae", "f8d16"), tmp_path, "")
