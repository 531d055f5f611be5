"""Inception features of FID: torch-fidelity's network, fed as torch-fidelity or as pytorch-fid feeds it.

Both projects publish the same weights (the TensorFlow graph of 2015-12-05, converted; the first digits of the SHA-256,
6726825d, stand in both file names) and differ in how an image becomes 299 x 299 pixels: torch-fidelity as TensorFlow 1
does, which is also what ADM's evaluator sees, pytorch-fid by torch's bilinear interpolation. The distances differ in
the second or third decimal, so the name of the extractor is part of a protocol and of every record.

Legend: B batch, H, W pixels, D = 2048 features.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transvae.losses.frozen import Frozen, FrozenConfig, drawn_from, locate, once, put, read
from transvae.losses.hubs import TorchHub
from transvae.torchvision_cpu import ensure_torchvision

NETWORK = "Inception of FID"
DIMENSION = 2048
SIDE = 299
WEIGHTS = TorchHub(
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


def _like_torch_fidelity(x_B3HW: Tensor) -> Tensor:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    resized: Tensor = interpolate_bilinear_2d_like_tensorflow1x(x_B3HW.float(), size=(SIDE, SIDE), align_corners=False)
    return (resized - 128) / 128


def _like_pytorch_fid(x_B3HW: Tensor) -> Tensor:
    resized = F.interpolate(x_B3HW.float() / 255, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * resized - 1


EXTRACTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch-fidelity": _like_torch_fidelity,
    "pytorch-fid": _like_pytorch_fid,
}
"""Name -> from 8-bit levels (B, 3, H, W) to what the network sees (B, 3, 299, 299)."""


class Inception(Frozen):
    """inception(levels) -> (B, 2048) float32, for 8-bit levels (B, 3, H, W).

    Raises FrozenWeightsError as `frozen.locate` does, KeyError for an extractor that does not exist.
    """

    def __init__(self, extractor: str, config: FrozenConfig) -> None:
        state, origin = read(NETWORK, locate(NETWORK, WEIGHTS, config), config)
        super().__init__(origin)
        self._prepare = EXTRACTORS[extractor]
        network = _unloaded()
        if origin.weights == "random":
            _draw(network, config.seed)
        else:
            put(network, state, origin)
        # the published order; what follows the pooling classifies
        layers = dict(network.named_children())
        del layers["fc"]
        self.layers = nn.Sequential(*layers.values())
        for weight in self.layers.parameters():
            if (
                weight.dim() == 4
            ):  # a fifth quicker on a CPU, whatever the order of the images (benchmarks/evaluation.py)
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.freeze()

    @torch.inference_mode()
    def forward(self, levels_B3HW: Tensor) -> Tensor:
        with torch.autocast(levels_B3HW.device.type, enabled=False):
            features_BD: Tensor = self.layers(self._prepare(levels_B3HW)).flatten(1)
        return features_BD


def load_inception(extractor: str, config: FrozenConfig, device: torch.device | str = "cpu") -> Inception:
    """The process's Inception with these weights on this device."""
    path = locate_inception(config)
    return once(
        Inception, path, (extractor, config, torch.device(device)), lambda: Inception(extractor, config).to(device)
    )


def locate_inception(config: FrozenConfig) -> Path | None:
    """Its file, None for random weights. Raises FrozenWeightsError where it is missing, with the ways out."""
    return locate(NETWORK, WEIGHTS, config)


def _unloaded() -> nn.Module:
    """torch-fidelity's network without weights: its constructor would read a file as pickle, which can run code."""
    ensure_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, state: dict[str, Tensor], **options: bool) -> object:
            return super().load_state_dict(state, **options) if state else None  # nothing, from the constructor

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.device("meta"):
        network: nn.Module = Unloaded("inception-v3-compat", [str(DIMENSION)], nothing)
    return network


def _draw(network: nn.Module, seed: int) -> None:
    """He's initialisation: features of random networks stay of the size of published ones."""
    network.to_empty(device="cpu")
    with drawn_from(seed):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.reset_parameters()
