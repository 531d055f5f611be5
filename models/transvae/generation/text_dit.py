"""A diffusion transformer over latents that reads text by cross-attention, conditioned on time by adaLN.

With `editing` the latent of a source image joins the noisy one as further channels, whose weights begin at zero
(InstructPix2Pix, section 3.2). It predicts a velocity or a noise: that is the objective's affair.

Legend: B batch, d latent channels, h, w latent positions, N image tokens, L text tokens, E text channels, C width.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transvae.generation.folder import LatentSpace, TextConditions, load_text_config, save_text
from transvae.generation.lightning_dit import (
    TABLE_STD,
    TIME_FEATURES,
    modulate,
    rotate_pairs,
    rotations,
    sincos,
    time_features,
    unpatch,
)
from transvae.generation.text import Text
from transvae.generation.text_config import TextDiTConfig, text_dit_config
from transvae.layers.attention import attention
from transvae.layers.normalisation import EPS, RMSNorm
from transvae.storage import load_weights, locate

Rotation = tuple[Tensor, Tensor] | None
"""cos and sin of `rotations`; None with learned positions."""


class TextDiT(nn.Module):
    """f(x, t, text, source) of the shape of x."""

    def __init__(
        self, config: TextDiTConfig, latents: LatentSpace | None = None, conditions: TextConditions | None = None
    ) -> None:
        """`latents` says which it is trained on, `conditions` with which text and objective."""
        super().__init__()
        self.config, self.latents, self.conditions = config, latents, conditions
        channels = config.latent_dim * (2 if config.editing else 1)
        self.patches = nn.Conv2d(channels, config.width, config.patch, stride=config.patch)
        self.time = nn.Sequential(
            nn.Linear(TIME_FEATURES, config.width), nn.SiLU(), nn.Linear(config.width, config.width)
        )
        self.text = nn.Linear(config.text_dim, config.width)
        self.null_E = nn.Parameter(torch.empty(config.text_dim))
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))
        self.norm = norm_of(config)
        self.modulation = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.patch**2 * config.latent_dim)
        self.cos_Nd: Tensor | None
        self.sin_Nd: Tensor | None
        self.position_NC: Tensor
        if config.blocks == "guide":
            self.position_NC = nn.Parameter(torch.empty(config.as_dit().grid ** 2, config.width))
        self._make_tables()
        self.gradient_checkpointing = False
        self._initialise()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json, model.safetensors and README.md into `folder`, made if missing."""
        save_text(Path(folder), self.config, self.latents, self.conditions, self.state_dict())

    @classmethod
    def from_pretrained(cls, source: str | Path, device: torch.device | str = "cpu") -> Self:
        """Loads what `save_pretrained` wrote, in eval mode: from a local folder, or from a Hugging Face hub id.

        Raises FileNotFoundError where neither can be reached, naming both, and ValueError for a file that does not fit.
        """
        folder = locate(source)
        with torch.device("meta"):
            model = cls(*load_text_config(folder))
        load_weights(folder, model, device)
        with torch.device(device):
            model._make_tables()
        return model.eval()

    def forward(self, x_Bdhw: Tensor, t_B: Tensor, text: Text, source_Bdhw: Tensor | None = None) -> Tensor:
        """The answer at latents, times and captions; `without` drops captions.

        Args:
            t_B: in the objective's unit: [0, 1] for velocities, steps for noise (DiT).
            source_Bdhw: the latent of the image to be edited; None or zeros stand for none.

        Raises:
            ValueError: latents, text or source have another shape than the configuration's.
        """
        x_BNC = self.patches(self._beside(x_Bdhw, source_Bdhw)).flatten(2).transpose(1, 2) + self.position_NC
        if text.tokens.shape[-1] != self.config.text_dim or text.tokens.shape[:-1] != text.mask.shape:
            raise ValueError(
                f"text of shape {tuple(text.tokens.shape)} with a mask {tuple(text.mask.shape)}, the network "
                f"reads {self.config.text_dim} channels: it was made for another text encoder"
            )
        text_BLC = self.text(text.tokens.to(x_BNC.dtype))
        mask_B11L = text.mask[:, None, None]
        condition_BC = F.silu(self.time(time_features(t_B).to(x_BNC.dtype)))
        rotation = None if self.cos_Nd is None or self.sin_Nd is None else (self.cos_Nd, self.sin_Nd)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x_BNC = checkpoint(block, x_BNC, condition_BC, text_BLC, mask_B11L, rotation, use_reentrant=False)
            else:
                x_BNC = block(x_BNC, condition_BC, text_BLC, mask_B11L, rotation)
        shift_BC, scale_BC = self.modulation(condition_BC).chunk(2, dim=1)
        tokens_BNE = self.out(modulate(self.norm(x_BNC), shift_BC, scale_BC))
        return unpatch(tokens_BNE, self.config.patch, self.config.latent_dim)

    def without(self, text: Text, dropped_B: Tensor) -> Text:
        """The text with the learned null token alone in place of the captions that are dropped."""
        nothing_LE = F.pad(self.null_E[None], (0, 0, 0, text.tokens.shape[1] - 1)).to(text.tokens.dtype)
        first_L = torch.arange(text.mask.shape[1], device=text.mask.device) == 0
        return Text(
            torch.where(dropped_B[:, None, None], nothing_LE, text.tokens),
            torch.where(dropped_B[:, None], first_L, text.mask),
        )

    def _make_tables(self) -> None:
        """Functions of the configuration: no part of a checkpoint."""
        c, grid, lightning = self.config, self.config.as_dit().grid, self.config.blocks == "lightning"
        cos_Nd, sin_Nd = rotations(grid, c.width // c.heads) if lightning else (None, None)
        self.register_buffer("cos_Nd", cos_Nd, persistent=False)
        self.register_buffer("sin_Nd", sin_Nd, persistent=False)
        if lightning:
            self.register_buffer("position_NC", sincos(grid, c.width), persistent=False)

    def _beside(self, x_Bdhw: Tensor, source_Bdhw: Tensor | None) -> Tensor:
        c = self.config
        for what, latent in (("latents", x_Bdhw), ("a source", source_Bdhw)):
            if latent is not None and latent.shape[1:] != (c.latent_dim, c.latent_size, c.latent_size):
                raise ValueError(
                    f"{what} of shape {tuple(latent.shape[1:])}, the network is for "
                    f"{(c.latent_dim, c.latent_size, c.latent_size)}"
                )
        if not c.editing:
            if source_Bdhw is not None:
                raise ValueError("a source image was given, but the network was made without editing=True")
            return x_Bdhw
        return torch.cat([x_Bdhw, torch.zeros_like(x_Bdhw) if source_Bdhw is None else source_Bdhw], dim=1)

    @torch.no_grad()
    def _initialise(self) -> None:
        """As LightningDiT and DiT: xavier for products, zeros where a block shall begin as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, RMSNorm):
                nn.init.ones_(module.weight)
        nn.init.xavier_uniform_(self.patches.weight.view(self.config.width, -1))
        self.patches.weight[:, self.config.latent_dim :] = 0.0  # the source, where there is one
        assert self.patches.bias is not None
        nn.init.zeros_(self.patches.bias)
        tables = [p for p in self.time.parameters() if p.dim() == 2]
        learned = [self.position_NC] if isinstance(self.position_NC, nn.Parameter) else []
        for weight in (self.null_E, *tables, *learned):
            nn.init.normal_(weight, std=TABLE_STD)
        for layer in (self.modulation, self.out, *(block.modulation for block in self.blocks)):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


def create_text_dit(name: str, latent_dim: int, latent_size: int, text_dim: int, **switches: Any) -> TextDiT:
    """A TextDiT by name, e.g. `text_dit-XL/1`, for these latents and a text encoder of `text_dim` channels.

    Raises ValueError as `text_dit_config`.
    """
    return TextDiT(text_dit_config(name, latent_dim, latent_size, text_dim, **switches))


class TextBlock(nn.Module):
    """x + gate attention(norm x), x + gate cross(norm x, text), x + gate ffn(norm x); (B, N, C) in and out.

    With the modulation "zero" every branch is shifted, scaled and gated by the condition; "plain" has no gates. The
    condition comes as SiLU(time), (B, C).
    """

    def __init__(self, config: TextDiTConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.gated, self.gelu = config.heads, config.modulation == "zero", config.blocks == "guide"
        self.norm1, self.norm2, self.norm3 = (norm_of(config) for _ in range(3))
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.cross_merge = nn.Linear(width, width)
        hidden = 4 * width if self.gelu else config.as_dit().hidden
        self.inward = nn.Linear(width, hidden if self.gelu else 2 * hidden)
        self.outward = nn.Linear(hidden, width)
        self.modulation = nn.Linear(width, (9 if self.gated else 6) * width)

    def forward(
        self, x_BNC: Tensor, condition_BC: Tensor, text_BLC: Tensor, mask_B11L: Tensor, rotation: Rotation
    ) -> Tensor:
        each = self.modulation(condition_BC).chunk(9 if self.gated else 6, dim=1)
        shifts, scales, gates = each[:3], each[3:6], each[6:] or (None, None, None)
        x_BNC = add(x_BNC, self._attend(modulate(self.norm1(x_BNC), shifts[0], scales[0]), rotation), gates[0])
        x_BNC = add(x_BNC, self._read(modulate(self.norm2(x_BNC), shifts[1], scales[1]), text_BLC, mask_B11L), gates[1])
        return add(x_BNC, self._feed(modulate(self.norm3(x_BNC), shifts[2], scales[2])), gates[2])

    def _attend(self, x_BNC: Tensor, rotation: Rotation) -> Tensor:
        batch, tokens, width = x_BNC.shape
        q_BNhd, k_BNhd, v_BNhd = self.qkv(x_BNC).view(batch, tokens, 3, self.heads, -1).unbind(2)
        if rotation is not None:
            q_BNhd, k_BNhd = (rotate_pairs(t, *rotation) for t in (q_BNhd, k_BNhd))
        merged: Tensor = self.merge(attention(q_BNhd, k_BNhd, v_BNhd).reshape(batch, tokens, width))
        return merged

    def _read(self, x_BNC: Tensor, text_BLC: Tensor, mask_B11L: Tensor) -> Tensor:
        q_BNhd = self.query(x_BNC).unflatten(2, (self.heads, -1))
        k_BLhd, v_BLhd = self.key_value(text_BLC).unflatten(2, (2, self.heads, -1)).unbind(2)
        merged: Tensor = self.cross_merge(attention(q_BNhd, k_BLhd, v_BLhd, mask_B11L).flatten(2))
        return merged

    def _feed(self, x_BNC: Tensor) -> Tensor:
        hidden_BNE = self.inward(x_BNC)
        if self.gelu:
            hidden_BNE = F.gelu(hidden_BNE, approximate="tanh")  # DiT
        else:
            gate, value = hidden_BNE.chunk(2, dim=-1)
            hidden_BNE = F.silu(gate) * value
        out: Tensor = self.outward(hidden_BNE)
        return out


def add(x_BNC: Tensor, branch_BNC: Tensor, gate_BC: Tensor | None) -> Tensor:
    """x + gate branch."""
    return x_BNC + branch_BNC if gate_BC is None else torch.addcmul(x_BNC, gate_BC[:, None], branch_BNC)


def norm_of(config: TextDiTConfig) -> nn.Module:
    """DiT's LayerNorm, whose scale and shift come from the condition alone, or LightningDiT's RMSNorm."""
    if config.blocks == "guide":
        return nn.LayerNorm(config.width, eps=EPS, elementwise_affine=False)
    return RMSNorm(config.width)


def for_editing(model: TextDiT) -> TextDiT:
    """The same network with source channels, whose weights are zero: it answers as before, whatever the source."""
    widened = TextDiT(dataclasses.replace(model.config, editing=True))
    state = model.state_dict()
    state["patches.weight"] = F.pad(state["patches.weight"], (0, 0, 0, 0, 0, model.config.latent_dim))
    widened.load_state_dict(state)
    return widened.to(model.null_E)
