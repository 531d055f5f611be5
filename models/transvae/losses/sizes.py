"""Which sizes the losses and their networks can work with: plain numbers, without torch.

Legend: h, w grid.
"""

from dataclasses import dataclass

MATCHES = ("latents", "features", "image")
CELL = 16  # image pixels per feature: VA-VAE resizes 256 pixels to 224, 16 patches of 14
SMALLEST = 16  # pixels, for VGG16: four halvings leave one value


@dataclass(frozen=True)
class Meeting:
    """Sides of the square grids, in positions, and of the image that the vision network sees, in pixels."""

    latents: int
    features: int
    grid: int
    image: int


def meeting(resolution: int, compression: int, match: str, patch: int) -> Meeting:
    """How a model's latents and a vision network of this patch meet. Raises ValueError for sizes that cannot."""
    if match not in MATCHES:
        raise ValueError(f"match={match!r} does not exist; choose one of {', '.join(MATCHES)}")
    cell = compression if match == "image" else CELL
    for name, side in (("compression", compression), ("pixels per feature", cell)):
        if resolution < side or resolution % side:
            raise ValueError(f"resolution {resolution} is not a multiple of {side} ({name}), so match={match!r} fails")
    latents, features = resolution // compression, resolution // cell
    if latents % features:
        raise ValueError(
            f"match={match!r}: {latents}x{latents} latents do not divide into {features}x{features} features "
            f"(compression {compression}, {cell} pixels per feature); match='image' fits any compression"
        )
    return Meeting(latents, features, features if match == "latents" else latents, features * patch)


def logits_side(side: int, layers: int) -> int:
    """How many logits a side of `side` pixels leaves of a discriminator. Raises ValueError if none."""
    left = (side >> layers) - 2
    if left < 1:
        most = max(0, (side // 3).bit_length() - 1)
        raise ValueError(
            f"{side} pixels leave a discriminator of {layers} layers no logits; take at most {most} layers"
        )
    return left
