"""Helpers of the TransVAE README: read an image, read a checkpoint.

Legend: H, W pixels.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

CHECKPOINT_KEY = "model_state_dict"  # TransVAE README


def preprocess_image(image: "str | Path | Image.Image | np.ndarray", size: int | None = None) -> Tensor:
    """An image file, PIL image or uint8 array (H, W, 3) as a tensor (1, 3, H, W), fp32 in [-1, 1].

    With `size` the shorter side is resized to it (Lanczos) and the centre size x size square is cut out; without it the
    pixels are kept, and the model refuses sides that its compression does not divide. Raises ValueError for an array
    of another kind and FileNotFoundError for a missing file.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an array must be uint8 of shape (H, W, 3), not {image.dtype} of shape {image.shape}")
        picture = Image.fromarray(image)
    else:
        picture = image if isinstance(image, Image.Image) else Image.open(image)
    picture = ImageOps.exif_transpose(picture).convert("RGB")  # phones store portraits lying down
    if size is not None:
        picture = _centre_square(picture, size)
    pixels_HW3 = torch.from_numpy(np.array(picture))
    return (pixels_HW3.permute(2, 0, 1)[None].float() / 127.5 - 1.0).contiguous()


def _centre_square(picture: Image.Image, size: int) -> Image.Image:
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = picture.resize((width, height), Image.Resampling.LANCZOS)
    return resized.crop((left, top, left + size, top + size))


def load_checkpoint(
    path: str | Path, model: nn.Module | None = None, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """The state dict in a .safetensors file, or under "model_state_dict" in a .pt file; into `model` if one is given.

    .pt files are read with weights_only=True: a checkpoint cannot run code. Raises FileNotFoundError for a missing file
    and ValueError for one without a state dict or, with `model`, for one that does not fit it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    content: object
    try:
        if path.suffix == ".safetensors":
            content = {CHECKPOINT_KEY: load_file(path, device=str(device))}
        else:
            content = torch.load(path, map_location=device, weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        # torch's own text advises weights_only=False, which would run whatever the file holds
        raise ValueError(f"{path} is damaged, or holds more than tensors ({type(error).__name__})") from error
    if not isinstance(content, Mapping) or CHECKPOINT_KEY not in content:
        raise ValueError(f"{path} has no key {CHECKPOINT_KEY!r}")
    state = content[CHECKPOINT_KEY]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} does not hold a state dict of tensors")
    if model is not None:
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{path} does not fit {type(model).__name__}: {error}") from error
    return dict(state)
