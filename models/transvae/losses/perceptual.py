"""LPIPS on VGG16, the perceptual loss of VA-VAE and TransVAE (weight 1.0; TransVAE paper, section 3.1), or on AlexNet.

The linear layers come with the package `lpips` (version 0.1; the same file as in taming-transformers), the trunk from
torchvision's published checkpoint. AlexNet is for metrics only: torchmetrics takes it by default, and so does DC-AE.

Legend: B batch, H, W pixels.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transvae.losses.frozen import (
    Frozen,
    FrozenConfig,
    FrozenWeightsError,
    Origin,
    drawn_from,
    locate,
    once,
    put,
    read,
    refuse_other_bytes,
    sha256_of,
)
from transvae.losses.hubs import TorchHub
from transvae.losses.sizes import SMALLEST
from transvae.torchvision_cpu import ensure_torchvision


@dataclass(frozen=True)
class Trunk:
    """A network whose features are compared: its name, where torchvision publishes it, the smallest image it takes."""

    network: str
    published: TorchHub
    smallest: int
    linear: str
    """SHA-256 of the package's file of linear layers, first digits (lpips 0.1.4 of PyPI)."""


TRUNKS = {  # torchvision, IMAGENET1K_V1
    "vgg": Trunk(
        "VGG16 of LPIPS", TorchHub("https://download.pytorch.org/models/vgg16-397923af.pth"), SMALLEST, "a78928a0af1e"
    ),
    "alex": Trunk(
        "AlexNet of LPIPS", TorchHub("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"), 31, "df73285e35b2"
    ),
}


class LPIPS(Frozen):
    """lpips(x, y) -> (B,) in fp32, >= 0, for images (B, 3, H, W) in [-1, 1]; the same number as the package's.

    Always in eval mode: its linear layers contain dropout. `trunk` is one of TRUNKS. Raises FrozenWeightsError as
    `frozen.locate` does.
    """

    def __init__(self, config: FrozenConfig | None = None, trunk: str = "vgg") -> None:
        config = config or FrozenConfig()
        kind = TRUNKS[trunk]
        state, origin = read(kind.network, locate_lpips(config, trunk), config)
        super().__init__(origin)
        self.smallest = kind.smallest
        package = _build(trunk)
        import lpips

        package.scaling_layer = lpips.ScalingLayer()
        linear = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{trunk}.pth"
        refuse_other_bytes("Linear layers of LPIPS", linear, kind.linear)
        put(package.lins, _linear_weights(linear), Origin("LPIPS", "pretrained", file=linear.name))
        if origin.weights == "random":
            _draw(package.net, config.seed)
        else:
            put(package.net, _trunk_weights(package.net, state), origin)
        self.package = package
        self.freeze()

    def forward(self, x_B3HW: Tensor, y_B3HW: Tensor) -> Tensor:
        if x_B3HW.shape != y_B3HW.shape or x_B3HW.ndim != 4 or min(x_B3HW.shape[2:]) < self.smallest:
            raise ValueError(
                f"LPIPS compares images (B, 3, H, W) of one shape, at least {self.smallest} pixels on each side, "
                f"not {tuple(x_B3HW.shape)} and {tuple(y_B3HW.shape)}"
            )
        with torch.autocast(x_B3HW.device.type, enabled=False):
            distance_B: Tensor = self.package(x_B3HW.float(), y_B3HW.float()).flatten()
            return distance_B


def load_lpips(config: FrozenConfig | None = None, device: torch.device | str = "cpu", trunk: str = "vgg") -> LPIPS:
    """The process's LPIPS with these weights on this device."""
    config = config or FrozenConfig()
    path = locate_lpips(config, trunk)
    return once(LPIPS, path, (config, torch.device(device), trunk), lambda: LPIPS(config, trunk).to(device))


def locate_lpips(config: FrozenConfig, trunk: str = "vgg") -> Path | None:
    """The trunk's file, None for random weights. Raises FrozenWeightsError where it is missing, with the ways out."""
    return locate(TRUNKS[trunk].network, TRUNKS[trunk].published, config)


def trunk_in(file: Path) -> str:
    """The key of TRUNKS whose published file this is, by its SHA-256. Raises FrozenWeightsError if it is of none."""
    sha256 = sha256_of(file)
    for key, trunk in TRUNKS.items():
        if sha256.startswith(trunk.published.digits):
            return key
    known = ", ".join(f"{trunk.network} {trunk.published.digits}" for trunk in TRUNKS.values())
    raise FrozenWeightsError(f"{file} has the SHA-256 {sha256[:12]}…, the published files begin with: {known}")


def build_trunk() -> nn.Module:
    """VGG16's convolutions on the meta device: shapes without weights."""
    trunk: nn.Module = _build("vgg").net
    return trunk


def _build(trunk: str) -> Any:
    ensure_torchvision()
    import lpips

    with torch.device("meta"), warnings.catch_warnings():  # VGG16's classifier alone would be 0.5 GB
        warnings.simplefilter("ignore")  # the package asks torchvision by a deprecated name
        return lpips.LPIPS(net=trunk, pretrained=False, pnet_rand=True, verbose=False)


def _linear_weights(file: Path) -> dict[str, Tensor]:
    """lin0.model.1.weight ... of the package's file, under the names that the list of layers has."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    return {key.removeprefix("lin"): weight for key, weight in state.items()}


def _trunk_weights(trunk: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """features.N.* of torchvision's checkpoint under the package's names sliceK.N.*; the classifier is left out."""
    names = {key.split(".", 1)[1]: key for key in trunk.state_dict()}
    found = {key.removeprefix("features."): key for key in state if key.startswith("features.")}
    return {names.get(name, key): state[key] for name, key in found.items()}


def _draw(trunk: nn.Module, seed: int) -> None:
    """torchvision's own initialisation of VGG16, for either trunk."""
    trunk.to_empty(device="cpu")
    with drawn_from(seed):
        for module in trunk.modules():
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
