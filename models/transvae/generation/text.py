"""Captions as tokens: the contract of text encoders, a small one that needs nothing, and T5.

A text encoder is frozen: the same caption has the same tokens, up to T5's rounding in batches of another size. What it
is stands in `identity`, so that a generator can be kept from another one's tokens.

Legend: B captions, L tokens, E text channels.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from transvae.generation.text_shapes import HASHED, HASHED_LENGTH, LENGTH, TextEncoderError, text_shape

WORD = re.compile(r"\w+|[^\w\s]")


class Text(NamedTuple):
    """Encoded captions. At least one token of each is valid."""

    tokens: Tensor
    """(B, L, E)"""
    mask: Tensor
    """(B, L): True where a token is part of its caption."""


class TextEncoder(ABC):
    """encode(captions) -> Text."""

    channels: int
    """E."""
    length: int
    """L, of every batch: longer captions are cut."""
    identity: dict[str, str | int]
    """What decides its answers."""

    def encode(self, captions: Sequence[str]) -> Text:
        """Raises TextEncoderError for a caption that is missing or empty, naming its place."""
        for place, caption in enumerate(captions):
            if not isinstance(caption, str) or not caption.strip():
                raise TextEncoderError(
                    f"caption {place} of {len(captions)} is {'empty' if isinstance(caption, str) else repr(caption)}; "
                    "every image needs one (a generator learns to do without text by dropping it, not by empty ones)"
                )
        if not captions:
            raise TextEncoderError("no captions to encode")
        return self._encode(captions)

    @abstractmethod
    def _encode(self, captions: Sequence[str]) -> Text: ...


class HashedWords(TextEncoder):
    """One fixed vector per word, plus one per place: no training, no files, the same on every machine.

    For tests and micro studies: words differ, order counts, nothing is known of meaning. A word's E numbers are uniform
    with variance 1, from the SHAKE-256 of seed and lower-case word; so are a place's, at a tenth of that (assumption).
    """

    PLACE = 0.1

    def __init__(self, channels: int = HASHED, length: int = HASHED_LENGTH, seed: int = 0) -> None:
        if channels < 1 or length < 1:
            raise TextEncoderError(f"hashed words need positive channels and length, not {channels} and {length}")
        self.channels, self.length, self.seed = channels, length, seed
        self.identity = {"kind": "hashed", "channels": channels, "length": length, "seed": seed}
        self._vector = lru_cache(maxsize=100_000)(self._draw)

    def _encode(self, captions: Sequence[str]) -> Text:
        tokens_BLE = torch.zeros(len(captions), self.length, self.channels)
        mask_BL = torch.zeros(len(captions), self.length, dtype=torch.bool)
        for row, caption in enumerate(captions):
            for place, word in enumerate(WORD.findall(caption.lower())[: self.length]):
                tokens_BLE[row, place] = self._vector(f"word {word}") + self.PLACE * self._vector(f"place {place}")
                mask_BL[row, place] = True
        return Text(tokens_BLE, mask_BL)

    def _draw(self, what: str) -> Tensor:
        data = hashlib.shake_256(f"{self.seed} {what}".encode()).digest(4 * self.channels)
        uniform_E = np.frombuffer(data, dtype="<u4").astype(np.float64) / 2**32
        return torch.from_numpy(((uniform_E - 0.5) * 12**0.5).astype(np.float32))


class T5Text(TextEncoder):
    """The encoder of T5, from a folder in the format of transformers (an optional extra) or from the hub's cache.

    Args:
        source: a folder, or a repository of the hub, e.g. google/t5-v1_1-xxl.
        download: fetch what the cache lacks.

    Raises:
        TextEncoderError: transformers is missing, or there are no usable files, with the ways out.
    """

    def __init__(
        self, source: str | Path, length: int = LENGTH, device: torch.device | str = "cpu", download: bool = False
    ) -> None:
        try:
            from transformers import AutoTokenizer, T5EncoderModel
        except ImportError:
            raise TextEncoderError(f"{source}: T5 needs transformers: pip install -e '.[text]'") from None
        folder = locate_t5(source, download)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            network = T5EncoderModel.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise TextEncoderError(f"{folder} holds no T5 that transformers can open: {error}") from None
        self._network = network.to(device).eval().requires_grad_(False)
        self.channels, self.length = int(network.config.d_model), length
        self.identity = {
            "kind": "t5", "channels": self.channels, "length": length, "weights_sha256": _weights_sha256(folder)
        }  # fmt: skip

    @torch.no_grad()
    def _encode(self, captions: Sequence[str]) -> Text:
        device = self._network.device
        batch = self._tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        ).to(device)
        mask_BL = batch["attention_mask"].bool()
        answer = self._network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return Text(answer.last_hidden_state.float() * mask_BL[..., None], mask_BL)


def open_text_encoder(name: str | Path, device: torch.device | str = "cpu", download: bool = False) -> TextEncoder:
    """`hashed` or `hashed-E` (channels), `t5-v1_1-SIZE` of the hub, or a folder of T5's files.

    Raises:
        TextEncoderError: there is none of this name, with those that exist; or as the encoder itself.
    """
    channels, _ = text_shape(name)
    if str(name).startswith("hashed"):
        return HashedWords(channels)
    return T5Text(name if Path(name).is_dir() else f"google/{name}", device=device, download=download)


def locate_t5(source: str | Path, download: bool) -> Path:
    """A folder as it is, or the snapshot of a repository in the hub's cache. Raises TextEncoderError without files."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        wanted = ["*.json", "*.model", "*.safetensors", "*.bin"]
        return Path(snapshot_download(str(source), allow_patterns=wanted, local_files_only=not download))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise TextEncoderError(
            f"{source} is neither a folder nor {'to be had from the hub' if download else 'in the cache of the hub'} "
            f"({type(error).__name__}); give a folder of it, let it be fetched with download=true, or take hashed"
        ) from None


def _weights_sha256(folder: Path) -> str:
    """Of all files with weights, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
