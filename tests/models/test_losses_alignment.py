"""The alignment loss against its formula in float64, its projection, and how grids meet."""

import pytest
import torch

from transvae.losses.alignment import AlignmentConfig, Projection, alignment, meet
from transvae.losses.sizes import Meeting, meeting


def _by_hand(z, f, distance_margin, cosine_margin):
    """VA-VAE's two sums, position by position, in float64."""
    z, f = z.double().flatten(2), f.double().flatten(2)
    batch, _, positions = z.shape
    distance = cosine = 0.0
    for b in range(batch):
        for i in range(positions):
            cosine += max(0.0, 1 - cosine_margin - _cosine(z[b, :, i], f[b, :, i]))
            for j in range(positions):
                difference = abs(_cosine(z[b, :, i], z[b, :, j]) - _cosine(f[b, :, i], f[b, :, j]))
                distance += max(0.0, difference - distance_margin)
    return distance / (batch * positions**2), cosine / (batch * positions)


def _cosine(a, b):
    return (a @ b / (a.norm() * b.norm())).item()


@pytest.mark.parametrize("margins", [(0.25, 0.5), (0.0, 0.0), (0.1, 0.9)])
def test_the_formula(margins):
    z, f = torch.randn(2, 6, 3, 3), torch.randn(2, 6, 3, 3) + 0.5
    total, terms = alignment(z, f, *margins)
    distance, cosine = _by_hand(z, f, *margins)
    assert terms["distance"].item() == pytest.approx(distance, rel=1e-5)
    assert terms["cosine"].item() == pytest.approx(cosine, rel=1e-5)
    assert total.item() == pytest.approx(distance + cosine, rel=1e-5)
    assert total.dtype == torch.float32


@pytest.mark.parametrize("margins", [(0.0, 0.0), (0.25, 0.5), (1.0, 0.2)])
def test_latents_that_are_the_features_cost_nothing(margins):
    f = torch.randn(2, 16, 4, 4)
    assert alignment(f, f, *margins)[0].item() == pytest.approx(0.0, abs=1e-6)
    assert alignment(3 * f, f, *margins)[0].item() == pytest.approx(0.0, abs=1e-6)  # cosines know no length


def test_bf16_is_evaluated_in_fp32():
    z, f = torch.randn(1, 8, 2, 2).bfloat16(), torch.randn(1, 8, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = alignment(z, f, 0.0, 0.0)[0]
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, alignment(z.float(), f, 0.0, 0.0)[0])


def test_gradients_reach_the_latents_and_the_projection():
    z, f = torch.randn(2, 5, 3, 3, requires_grad=True), torch.randn(2, 7, 3, 3)
    projection = Projection(5, 7)
    alignment(projection(z), f, 0.25, 0.5)[0].backward()
    assert z.grad.abs().sum() > 0
    assert projection.weight.grad.abs().sum() > 0


def test_the_projection_is_a_linear_map_drawn_from_torchs_generator():
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        states.append(Projection(32, 1024).weight)
    assert torch.equal(*states)
    assert states[0].shape == (1024, 32, 1, 1)
    assert [name for name, _ in Projection(2, 3).named_parameters()] == ["weight"]
    assert states[0].abs().max() <= 32**-0.5  # torch's default for a convolution, as in VA-VAE


def test_two_grids_are_refused():
    with pytest.raises(ValueError, match="do not meet"):
        alignment(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 2, 2), 0.0, 0.0)


@pytest.mark.parametrize(
    ("resolution", "f", "match", "patch", "expected"),
    [
        (256, 16, "latents", 14, Meeting(latents=16, features=16, grid=16, image=224)),  # VA-VAE
        (256, 16, "image", 14, Meeting(latents=16, features=16, grid=16, image=224)),
        (256, 8, "latents", 14, Meeting(latents=32, features=16, grid=16, image=224)),  # appendix F, 1 to 3
        (256, 8, "features", 14, Meeting(latents=32, features=16, grid=32, image=224)),
        (256, 8, "image", 14, Meeting(latents=32, features=32, grid=32, image=448)),
        (256, 16, "latents", 16, Meeting(latents=16, features=16, grid=16, image=256)),  # MAE, not resized
        (96, 16, "latents", 14, Meeting(latents=6, features=6, grid=6, image=84)),  # LightningDiT, issue 60
        (32, 8, "latents", 14, Meeting(latents=4, features=2, grid=2, image=28)),  # the micro ladder
        (32, 4, "features", 14, Meeting(latents=8, features=2, grid=8, image=28)),
        (256, 32, "image", 14, Meeting(latents=8, features=8, grid=8, image=112)),
    ],
)
def test_where_grids_meet(resolution, f, match, patch, expected):
    assert meeting(resolution, f, match, patch) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((40, 8, "latents", 14), "resolution 40 is not a multiple of 16"),
        ((8, 8, "latents", 14), "resolution 8 is not a multiple of 16"),
        ((40, 16, "image", 14), "resolution 40 is not a multiple of 16"),
        ((256, 32, "latents", 14), "8x8 latents do not divide into 16x16 features"),
        ((256, 32, "features", 14), "match='image' fits any compression"),
        ((256, 8, "pixels", 14), "choose one of latents, features, image"),
    ],
)
def test_sizes_that_do_not_meet_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        meeting(*arguments)


def test_meeting_pools_latents_or_enlarges_features():
    z, f = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    pooled, same = meet(z, f, "latents")
    assert same is f
    torch.testing.assert_close(pooled, z.unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean(dim=(3, 5)))
    same, enlarged = meet(z, f, "features")
    assert same is z
    torch.testing.assert_close(enlarged[..., 0, 0], f[..., 0, 0])  # bilinear, corners not aligned
    torch.testing.assert_close(enlarged[..., 0, 1], 0.75 * f[..., 0, 0] + 0.25 * f[..., 0, 1])
    g = torch.randn(2, 5, 4, 4)
    for match in ("latents", "features", "image"):
        assert all(torch.equal(a, b) for a, b in zip(meet(z, g, match), (z, g), strict=True))


def test_pooling_and_projecting_commute():
    z, f = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    projection = Projection(3, 5)
    torch.testing.assert_close(projection(meet(z, f, "latents")[0]), meet(projection(z), f, "latents")[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight": -0.1}, "weight=-0.1"),
        ({"largest": float("inf")}, "largest=inf"),
        ({"distance_margin": 3.0}, "distance_margin=3.0"),
        ({"cosine_margin": -1.0}, "cosine_margin=-1.0"),
        ({"cosine_margin": float("nan")}, "cosine_margin=nan"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AlignmentConfig(**values)
