"""Hubs that publish the weights of frozen networks, and the caches that their own tools keep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache


class Published(Protocol):
    """A file that a hub publishes; as a string, the place where its cache is looked into."""

    @property
    def digits(self) -> str:
        """The first digits of the file's SHA-256 that its publisher states; empty if it states none."""
        ...

    def cached(self) -> Path | None: ...

    def download(self) -> Path: ...


@dataclass(frozen=True)
class TorchHub:
    """A checkpoint with the first digits of its SHA-256 in its name, as torch.hub caches it."""

    url: str

    def __str__(self) -> str:
        return str(Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[-1])

    @property
    def digits(self) -> str:
        return self.url.rsplit("/", 1)[-1].rpartition(".")[0].rsplit("-", 1)[-1]

    def cached(self) -> Path | None:
        return Path(str(self)) if Path(str(self)).is_file() else None

    def download(self) -> Path:
        path = Path(str(self))
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(self.url, str(path), hash_prefix=self.digits, progress=False)
        return path


@dataclass(frozen=True)
class HuggingFace:
    """A file of a repository of the Hugging Face hub."""

    repository: str
    file: str = "model.safetensors"
    digits: str = ""

    def __str__(self) -> str:
        return f"{constants.HF_HUB_CACHE} ({self.file} of {self.repository})"

    def cached(self) -> Path | None:
        path = try_to_load_from_cache(self.repository, self.file, cache_dir=constants.HF_HUB_CACHE)
        return Path(path) if isinstance(path, str) else None

    def download(self) -> Path:
        return Path(hf_hub_download(self.repository, self.file, cache_dir=constants.HF_HUB_CACHE))


@dataclass(frozen=True)
class Unpublished:
    """What no hub has; as a string, the words after "no weights in"."""

    where: str
    digits: str = ""

    def __str__(self) -> str:
        return self.where

    def cached(self) -> Path | None:
        return None

    def download(self) -> Path:
        raise OSError("nobody publishes them")
