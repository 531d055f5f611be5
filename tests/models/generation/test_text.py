"""Text encoders: hashed words, a tiny T5 in the published format, and what is refused."""

import builtins
import hashlib
import struct

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from transvae.generation.text import HashedWords, T5Text, open_text_encoder
from transvae.generation.text_shapes import TextEncoderError
from transvae.torchvision_cpu import ensure_torchvision


def test_a_words_numbers_are_its_hash():
    """Independent of any generator: SHAKE-256, four bytes per number, little endian, spread to variance 1."""
    text = HashedWords(4, 3, seed=5).encode(["Red"])

    def vector(what):
        data = hashlib.shake_256(f"5 {what}".encode()).digest(16)
        return [(number / 2**32 - 0.5) * 12**0.5 for number in struct.unpack("<4I", data)]

    expected = [a + 0.1 * b for a, b in zip(vector("word red"), vector("place 0"), strict=True)]
    assert text.tokens[0, 0].tolist() == pytest.approx(expected, rel=1e-6)
    assert text.mask.tolist() == [[True, False, False]]
    assert not text.tokens[0, 1:].any()


def test_words_differ_places_count_and_neighbours_do_not():
    encoder = HashedWords(64, 8)
    text = encoder.encode(["the cat sees the dog", "the dog sees the cat", "THE CAT sees, the dog"])
    assert text.tokens.shape == (3, 8, 64)
    assert text.mask.sum(1).tolist() == [5, 5, 6]
    assert torch.equal(text.tokens[0, :3], text.tokens[2, :3])
    assert not torch.equal(text.tokens[0, 0], text.tokens[0, 3]), "the same word in another place"
    assert not torch.allclose(text.tokens[0, 1], text.tokens[1, 1])
    assert torch.equal(encoder.encode(["the dog sees the cat"]).tokens[0], text.tokens[1])
    many = HashedWords(64, 77).encode([" ".join(f"w{i}" for i in range(100))])
    assert many.mask.all(), "longer captions are cut"
    assert float(many.tokens.var()) == pytest.approx(1.01, abs=0.05)


def test_what_an_encoder_is_stands_in_its_identity():
    identities = [HashedWords().identity, HashedWords(32).identity, HashedWords(seed=1).identity]
    assert len({str(sorted(identity.items())) for identity in identities}) == 3


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (["a cat", " \n"], "caption 1 of 2 is empty; every image needs one"),
        ([None], "caption 0 of 1 is None; every image needs one"),
        ([], "no captions"),
    ],
)
def test_missing_captions_are_refused_by_their_place(captions, message):
    with pytest.raises(TextEncoderError, match=message):
        HashedWords().encode(captions)


def test_names_are_opened_and_others_refused(tmp_path, monkeypatch):
    assert open_text_encoder("hashed").channels == 64
    assert open_text_encoder("hashed-32").channels == 32
    with pytest.raises(TextEncoderError, match=r"no text encoder 't5-v1_1-xxxl': .*did you mean 't5-v1_1-x+l'"):
        open_text_encoder("t5-v1_1-xxxl")
    with pytest.raises(TextEncoderError, match=r"no text encoder 'clip': .*there are hashed, hashed-64"):
        open_text_encoder("clip")
    with pytest.raises(TextEncoderError, match="positive channels and length, not 0 and 16"):
        open_text_encoder("hashed-0")


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("transformers"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TextEncoderError, match=r"T5 needs transformers: pip install -e '.\[text\]'"):
        open_text_encoder("t5-v1_1-xxl")


@pytest.fixture(scope="module")
def transformers():
    ensure_torchvision()
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(transformers, tmp_path_factory):
    """A tiny T5 with random weights, written as its publishers write it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    path = tmp_path_factory.mktemp("t5")
    words = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "cat", "dog"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    transformers.T5EncoderModel(config).save_pretrained(path)
    return path


def test_t5_is_read_from_a_folder(transformers, folder):
    encoder = open_text_encoder(folder)
    encoder.length = 6
    text = encoder.encode(["a red cat", "dog"])
    assert text.tokens.shape == (2, 6, 16)
    assert text.mask.sum(1).tolist() == [4, 2], "with the token that ends a caption"
    assert not text.tokens[1, 2:].any()
    network = transformers.T5EncoderModel.from_pretrained(folder).eval()
    with torch.no_grad():
        alone = network(input_ids=torch.tensor([[7, 1]])).last_hidden_state[0]
    torch.testing.assert_close(text.tokens[1, :2], alone, atol=1e-5, rtol=1e-5)
    assert encoder.identity["kind"] == "t5"
    assert encoder.identity == open_text_encoder(folder).identity | {"length": encoder.identity["length"]}


def test_folders_and_caches_without_t5_are_refused(transformers, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TextEncoderError, match="empty holds no T5 that transformers can open"):
        T5Text(tmp_path / "empty")

    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("nothing")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(
        TextEncoderError, match=r"neither a folder nor in the cache of the hub .*download=true, or take"
    ):
        open_text_encoder("t5-v1_1-xxl")
