"""The frozen networks of the losses: where their weights come from.

1. `pretrained` reads the published file: the one that `path` names, otherwise the one in the cache of the hub that
   publishes it. `download` fetches it into that cache; without it nothing is ever downloaded. Where the publisher
   states digits of the file's SHA-256, a file with other bytes is refused, whatever it is called.
2. `random` draws the weights from `seed`. torch's global generator neither decides them nor advances. `unverified`
   reads the file at `path` whatever its bytes are: networks made for tests, or trained by somebody else.
3. A network is loaded once per process, and again where the file behind it has changed.
4. Its `origin` says what it is, with the file's SHA-256, so that a lineage can name it. Terms that another
   network computes are never called like those of the published one (`Frozen.term`).
"""

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from transvae.losses.hubs import Published

WEIGHTS = ("pretrained", "random", "unverified")
UNREADABLE = (OSError, RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError)
"""What torch.load raises for a file that holds no weights, whatever its bytes are."""


class FrozenWeightsError(Exception):
    """The weights of a frozen network are missing, damaged or of another network."""


@dataclass(frozen=True, kw_only=True)
class FrozenConfig:
    """Which weights a frozen network gets (rules 1 and 2). Raises ValueError for options that contradict each other."""

    weights: str = "pretrained"
    path: str | None = None
    download: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weights not in WEIGHTS:
            raise ValueError(f"weights={self.weights!r} does not exist; choose one of {', '.join(WEIGHTS)}")
        if self.weights == "random" and (self.path is not None or self.download):
            raise ValueError("weights='random' reads no file; leave path and download out")
        if self.weights == "unverified" and (self.path is None or self.download):
            raise ValueError("weights='unverified' reads the file at path and downloads none; give path alone")
        if self.path is not None and self.download:
            raise ValueError(f"path={self.path!r} names the file, so download=True has nothing to do; give one of them")


@dataclass(frozen=True)
class Origin:
    """What a frozen network is: its name and either the file it was read from or the seed it was drawn from."""

    network: str
    weights: str
    file: str | None = None
    sha256: str | None = None
    seed: int | None = None


def term_of(name: str, weights: str) -> str:
    """What a term computed with one of WEIGHTS is called; see `Frozen.term`."""
    return name if weights == "pretrained" else f"{name}_{weights}"


class Frozen(nn.Module):
    """A network that is never trained: no gradients for its weights, always in eval mode, whatever `train` is told."""

    def __init__(self, origin: Origin) -> None:
        super().__init__()
        self.origin = origin

    def freeze(self) -> None:
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def term(self, name: str) -> str:
        """What a term computed with this network is called: `name`, or `name_random`, `name_unverified`."""
        return term_of(name, self.origin.weights)


def locate(network: str, published: Published, config: FrozenConfig) -> Path | None:
    """The file to read, None for random weights.

    Raises FrozenWeightsError where it is missing, with the ways out, or not the published one.
    """
    if config.weights == "random":
        return None
    path = _found(network, published, config)
    if config.weights == "pretrained":
        refuse_other_bytes(network, path, published.digits)
    return path


def refuse_other_bytes(network: str, path: Path, digits: str) -> None:
    """Raises FrozenWeightsError unless the SHA-256 of the file begins with the digits that its publisher states."""
    if not (found := sha256_of(path)).startswith(digits):
        raise FrozenWeightsError(
            f"{network}: {path} has the SHA-256 {found[:12]}…, the published file begins with {digits}: its numbers "
            "would be of another network - get the published file"
        )


def sha256_of(path: Path) -> str:
    """Of a file's bytes, read once per process while size and time stay the same."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


@lru_cache
def _digest(path: Path, size: int, time: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _found(network: str, published: Published, config: FrozenConfig) -> Path:
    if config.path is not None:
        if not Path(config.path).is_file():
            raise FrozenWeightsError(f"{network}: there is no weight file {config.path}; correct the option path")
        return Path(config.path)
    cached = published.cached()
    if cached is None and config.download:
        try:
            return published.download()
        except (OSError, RuntimeError, HfHubHTTPError) as error:
            raise FrozenWeightsError(
                f"{network}: the weights for {published} could not be downloaded ({type(error).__name__}: {error}); "
                f"give a copy of the file with the option path"
            ) from error
    if cached is None:
        raise FrozenWeightsError(
            f"{network}: no weights in {published}; give the file with the option path, let it be fetched with "
            f"download=true, or take weights=random (its terms are then named _random)"
        )
    return cached


def read(network: str, path: Path | None, config: FrozenConfig) -> tuple[dict[str, Any], Origin]:
    """The contents of a .safetensors or .pth file (empty for random weights) and what to call them in a lineage.

    Raises FrozenWeightsError for a file that cannot be read.
    """
    if path is None:
        return {}, Origin(network, "random", seed=config.seed)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (*UNREADABLE, SafetensorError) as error:
        raise FrozenWeightsError(f"{network}: {path} cannot be read as weights ({error})") from error
    if not isinstance(state, dict):
        raise FrozenWeightsError(f"{network}: {path} holds a {type(state).__name__}, not named weights")
    return state, Origin(network, config.weights, file=path.name, sha256=sha256_of(path))


def put(module: nn.Module, state: dict[str, Tensor], origin: Origin) -> None:
    """Gives `module` (on meta before) exactly the weights of `state`, in fp32.

    Raises FrozenWeightsError where a name is missing or too many, or a shape differs.
    """
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise FrozenWeightsError(f"{origin.file} holds no weights of {origin.network}: {error}") from error
    module.float()


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """What is initialised inside, on the CPU, is a function of `seed`; the global generators do not notice."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which reseeds the accelerators, too
        yield


Network = TypeVar("Network", bound=Frozen)
_loaded: dict[tuple[Any, ...], Frozen] = {}


def once(kind: type[Network], path: Path | None, what: tuple[Any, ...], build: Callable[[], Network]) -> Network:
    """The network that `kind`, `what` and the file as it is now decide: built at the first call in this process."""
    status = None if path is None else path.stat()
    key = (kind, *what, path, status and (status.st_size, status.st_mtime_ns))
    if key not in _loaded:
        _loaded[key] = build()
    network = _loaded[key]
    assert isinstance(network, kind)
    return network
