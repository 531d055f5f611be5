"""A switch given in the wrong type is refused when the configuration is built, not read as something else."""

import pytest

from transvae.registry import model_config


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("transvae-T/f16d32", {"dc_path": "no"}),
        ("transvae-T/f16d32", {"qk_norm": "false"}),
        ("transvae-T/f16d32", {"latent_dim": True}),
        ("transvae-T/f16d32", {"latent_dim": 8.5}),
        ("transvae-T/f16d32", {"ffn_ratio": float("nan")}),
        ("cnn-T/f16d32", {"decoder_blocks": 2.5}),
    ],
)
def test_wrong_types_are_named(name, overrides):
    with pytest.raises(ValueError, match="is not of the type"):
        model_config(name, **overrides)
