"""A model on disk: config.json, model.safetensors and README.md in one folder, or the same on the Hugging Face hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from transvae.config import AutoencoderConfig

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"


def save(folder: Path, config: AutoencoderConfig, state: Mapping[str, Tensor]) -> None:
    """Writes an autoencoder's three files, making the folder if it is missing."""
    write(folder, config.to_dict(), state, _card(config, sum(tensor.numel() for tensor in state.values())))


def write(folder: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], card: str) -> None:
    """Writes the three files of a model of any kind, making the folder if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    # safetensors refuses strided views, and channels_last weights are such.
    save_file({key: tensor.detach().contiguous().cpu() for key, tensor in state.items()}, folder / WEIGHTS)
    as_readable_as_folder(folder / WEIGHTS)
    (folder / CARD).write_text(card)


def locate(source: str | Path) -> Path:
    """A local folder as it is; anything else as a hub id, downloaded into the hub's cache.

    Raises FileNotFoundError with the ways out if there is neither.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(str(source), allow_patterns=[CONFIG, WEIGHTS]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"no pretrained model {str(source)!r}: it is no local folder, and the Hugging Face hub did not answer "
            f"with it ({type(error).__name__}). Give a folder written by save_pretrained, or a hub id such as "
            f"owner/name; create_model({str(source)!r}) builds an untrained one."
        ) from error


def load_config(folder: Path) -> AutoencoderConfig:
    """Raises FileNotFoundError for a folder without config.json and ValueError for one that is not valid."""
    return AutoencoderConfig.from_dict(load_values(folder))


def load_values(folder: Path) -> dict[str, Any]:
    """What config.json holds, of a model of any kind; errors are those of `load_config`."""
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {CONFIG}; give a folder written by save_pretrained")
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}, not a mapping")
    return values


def as_readable_as_folder(path: Path) -> None:
    """Lets others read a file that safetensors made for its owner alone, if they may read the folder."""
    path.chmod(path.parent.stat().st_mode & 0o666)


def load_weights(folder: Path, model: nn.Module, device: torch.device | str) -> None:
    """Puts the saved tensors into `model` (on meta before), bit for bit.

    Raises FileNotFoundError for a folder without weights and ValueError where keys or shapes differ.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {WEIGHTS}; give a folder written by save_pretrained")
    try:
        model.load_state_dict(load_file(path, device=str(device)), assign=True)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit its {CONFIG}: {error}") from error


def _card(config: AutoencoderConfig, parameters: int) -> str:
    use = (
        "reconstruction, mu, logvar = model(image)"
        if config.has_pixels
        else "features = model.semantics(model.encode(image))  # of its vision network; it has no pixels"
    )
    return f"""---
library_name: transvae
tags: [autoencoder, {config.family}]
---
# {config.name}

A {config.family} autoencoder with {parameters:,} parameters: compression {config.compression},
{config.latent_dim} latent channels, trained at {config.resolution}x{config.resolution} pixels.

```python
from transvae import Autoencoder
from transvae.utils import preprocess_image

model = Autoencoder.from_pretrained("this-folder")
image = preprocess_image("picture.jpg", size={config.resolution})  # (1, 3, H, W) in [-1, 1]
{use}
```
"""
