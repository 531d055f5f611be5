"""Frozen vision networks: whose features the alignment (VF) loss aims at, and those that S-VAE and PS-VAE stand on.

A network sees the image resized to as many pixels as the wanted grid has patches (224 for the 16x16 grid of a 256-pixel
image and DINOv2's patches of 14). `View` says how; the default is VA-VAE's: bilinear, the image in [-1, 1] as it is,
without ImageNet's mean and deviation.

Legend: B batch, C channels, H, W pixels, h, w grid, T tokens.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

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
)
from transvae.losses.hubs import HuggingFace, Published, Unpublished
from transvae.representation import MICRO_NETWORKS
from transvae.torchvision_cpu import ensure_torchvision

DINOV2_LARGE = "vit_large_patch14_dinov2.lvd142m"  # VA-VAE's; vit_small_patch14_dinov2.lvd142m is the affordable one
HEADS = ("head.", "fc_norm.", "attn_pool.")  # that some ViTs are published with; nothing here reads them
MICRO_HEAD = 16  # channels per head of the micro networks, as in the micro ladder of ViT-VAE (assumption)


class View(NamedTuple):
    """How a network sees an image in [-1, 1]."""

    resize: str = "bilinear"
    """Or "bicubic", as RAE: F.interpolate's modes."""
    normalise: str = "none"
    """Or "network": by the mean and deviation that the network was published with."""


VA_VAE = View()


def patch_tokens(vit: Any, name: str, x_B3HW: Tensor, grid: tuple[int, int], view: View) -> Tensor:
    """(B, C, h, w): the final-norm patch tokens of a ViT called `name` for a grid of its patches, h x w."""
    patch = vit.patch_embed.patch_size[0]
    side = (grid[0] * patch, grid[1] * patch)
    if x_B3HW.shape[2:] != side:
        x_B3HW = F.interpolate(x_B3HW.float(), size=side, mode=view.resize, align_corners=False)
    if view.normalise == "network":
        mean_311, deviation_311 = (x_B3HW.new_tensor(values)[:, None, None] for values in published_as(name))
        x_B3HW = ((x_B3HW + 1) / 2 - mean_311) / deviation_311
    tokens_BTC: Tensor = vit.forward_features(x_B3HW.to(vit.patch_embed.proj.weight.dtype))[:, vit.num_prefix_tokens :]
    return tokens_BTC.transpose(1, 2).unflatten(2, grid)


@cache
def published_as(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation, for images in [0, 1], that a network was trained with; 0.5 for the micro networks."""
    if name in MICRO_NETWORKS:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    ensure_torchvision()
    import timm

    values = timm.models.get_pretrained_cfg(name)
    if values is None:
        raise ValueError(f"timm {timm.__version__} knows no mean and deviation of {name!r}; take normalise='none'")
    return tuple(values.mean), tuple(values.std)


class FeatureNetwork(Frozen):
    """features(x, grid) -> (B, C, h, w): the final-norm patch tokens of any ViT of timm, without gradients.

    `patch` is its patch side in pixels, `channels` its C. Raises ValueError for a name that is no ViT of timm, and
    FrozenWeightsError as `frozen.locate` does.
    """

    def __init__(self, name: str = DINOV2_LARGE, config: FrozenConfig | None = None, view: View = VA_VAE) -> None:
        config = config or FrozenConfig()
        state, origin = read(name, locate(name, _published(name), config), config)
        super().__init__(origin)
        self.name, self.view = name, view
        if origin.weights == "random":
            with drawn_from(config.seed):
                self.vit = _build(name)
        else:
            with torch.device("meta"):
                self.vit = _build(name)
            put(self.vit, _in_timm_format(self.vit, state, origin), origin)
        self.patch: int = self.vit.patch_embed.patch_size[0]
        self.channels: int = self.vit.embed_dim
        self.freeze()

    @torch.no_grad()
    def forward(self, x_B3HW: Tensor, grid: tuple[int, int]) -> Tensor:
        return patch_tokens(self.vit, self.name, x_B3HW, grid, self.view)


def load_features(
    name: str = DINOV2_LARGE,
    config: FrozenConfig | None = None,
    device: torch.device | str = "cpu",
    view: View = VA_VAE,
) -> FeatureNetwork:
    """The process's feature network of this name with these weights on this device, seeing images as `view` says."""
    config = config or FrozenConfig()
    path = locate_features(name, config)
    what = (name, config, torch.device(device), view)
    return once(FeatureNetwork, path, what, lambda: FeatureNetwork(name, config, view).to(device))


def locate_features(name: str, config: FrozenConfig) -> Path | None:
    """The network's file, None for random weights. Raises ValueError and FrozenWeightsError as `FeatureNetwork`."""
    return locate(name, _published(name), config)


def build_features(name: str) -> torch.nn.Module:
    """A feature network on the meta device: shapes without weights. Raises ValueError for an unknown name."""
    _published(name)
    with torch.device("meta"):
        network: torch.nn.Module = _build(name)
    return network


def draw_features(name: str) -> torch.nn.Module:
    """A feature network with random weights of torch's global generator, on the CPU; errors as `build_features`."""
    _published(name)
    with torch.device("cpu"):
        network: torch.nn.Module = _build(name)
    return network


def _build(name: str) -> Any:
    import timm

    if name in MICRO_NETWORKS:
        from timm.models.vision_transformer import VisionTransformer

        depth, width, patch = MICRO_NETWORKS[name]
        return VisionTransformer(
            img_size=8 * patch, patch_size=patch, embed_dim=width, depth=depth, num_heads=width // MICRO_HEAD,
            num_classes=0, dynamic_img_size=True,
        )  # fmt: skip
    return timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)


def _published(name: str) -> Published:
    """Where timm keeps the weights of a model. Raises ValueError for one that is no ViT."""
    ensure_torchvision()
    if name in MICRO_NETWORKS:
        return Unpublished("any hub: it is a network of this project's own")
    import timm

    architecture = name.split(".", 1)[0]
    known = timm.list_models(module="vision_transformer")
    if architecture not in known:
        raise ValueError(
            f"{name!r} is no vision transformer of timm {timm.__version__}; take {DINOV2_LARGE} (VA-VAE), "
            f"vit_small_patch14_dinov2.lvd142m, or another name of timm.list_models(module='vision_transformer')"
        )
    published = timm.list_pretrained(f"{architecture}.*")
    if name != architecture and name not in published:
        raise ValueError(
            f"timm {timm.__version__} publishes no {name!r}; it has {', '.join(published) or 'none of it'}"
        )
    known_as = timm.models.get_pretrained_cfg(name)
    return HuggingFace((known_as and known_as.hf_hub_id) or f"timm/{name}")


def _in_timm_format(vit: torch.nn.Module, state: dict[str, Any], origin: Origin) -> dict[str, Tensor]:
    """Weights under timm's names, from timm's own files as from the original release (dinov2_vitl14_pretrain.pth)."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    try:
        filtered = checkpoint_filter_fn(state, vit)
    except (AttributeError, KeyError, RuntimeError) as error:
        raise FrozenWeightsError(f"{origin.file} holds no weights of {origin.network}: {error}") from error
    wanted = vit.state_dict()
    return {key: weight for key, weight in filtered.items() if key in wanted or not key.startswith(HEADS)}
