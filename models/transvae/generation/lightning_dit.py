"""LightningDiT: a diffusion transformer over latents, conditioned on time and class by adaLN-zero.

RMSNorm, SwiGLU, 2-D rotary positions and a fixed sin-cos embedding beside them (LightningDiT, models/lightningdit.py).

Legend: B batch, d latent channels, h, w latent positions, N tokens, C width, p patch.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transvae.generation.config import DiTConfig, dit_config
from transvae.generation.folder import LatentSpace, load_config, save
from transvae.layers.attention import attention
from transvae.layers.normalisation import EPS, RMSNorm
from transvae.storage import load_weights, locate

TIME_FEATURES = 256  # LightningDiT, as DiT
MAX_PERIOD = 10_000  # of time features, rotation and sin-cos embedding (LightningDiT)
TABLE_STD = 0.02  # of the label table and the time MLP (DiT)


class LightningDiT(nn.Module):
    """v(x, t, y): the velocity from noise (t = 0) to data (t = 1), of the shape of x.

    `latents` says what x is: a trained network means nothing without it.
    """

    def __init__(self, config: DiTConfig, latents: LatentSpace | None = None) -> None:
        super().__init__()
        self.config, self.latents = config, latents
        self.patches = nn.Conv2d(config.latent_dim, config.width, config.patch, stride=config.patch)
        self.time = nn.Sequential(
            nn.Linear(TIME_FEATURES, config.width), nn.SiLU(), nn.Linear(config.width, config.width)
        )
        self.labels = nn.Embedding(config.classes + 1, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.width)
        self.modulation = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.patch**2 * config.latent_dim)
        self.cos_Nd: Tensor
        self.sin_Nd: Tensor
        self.position_NC: Tensor
        self._make_tables()
        self.gradient_checkpointing = False
        self._initialise()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json, model.safetensors and README.md (a model card) into `folder`, made if missing."""
        save(Path(folder), self.config, self.latents, self.state_dict())

    @classmethod
    def from_pretrained(cls, source: str | Path, device: torch.device | str = "cpu") -> Self:
        """Loads what `save_pretrained` wrote, in eval mode: from a local folder, or from a Hugging Face hub id.

        Raises FileNotFoundError where neither can be reached, naming both, and ValueError for a file that does not fit.
        """
        folder = locate(source)
        with torch.device("meta"):
            model = cls(*load_config(folder))
        load_weights(folder, model, device)
        with torch.device(device):
            model._make_tables()
        return model.eval()

    def forward(self, x_Bdhw: Tensor, t_B: Tensor, y_B: Tensor) -> Tensor:
        """The velocity at latents, times in [0, 1] and labels; `classes` is the null label.

        Raises ValueError for latents of another shape than the configuration's.
        """
        c = self.config
        if x_Bdhw.shape[1:] != (c.latent_dim, c.latent_size, c.latent_size):
            raise ValueError(
                f"latents of shape {tuple(x_Bdhw.shape[1:])}, the network is for "
                f"{(c.latent_dim, c.latent_size, c.latent_size)}"
            )
        x_BNC = self.patches(x_Bdhw).flatten(2).transpose(1, 2) + self.position_NC
        condition_BC = F.silu(self.time(time_features(t_B).to(x_BNC.dtype)) + self.labels(y_B))
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x_BNC = checkpoint(block, x_BNC, condition_BC, self.cos_Nd, self.sin_Nd, use_reentrant=False)
            else:
                x_BNC = block(x_BNC, condition_BC, self.cos_Nd, self.sin_Nd)
        shift_BC, scale_BC = self.modulation(condition_BC).chunk(2, dim=1)
        return unpatch(
            self.out(modulated_norm(self.norm, x_BNC, shift_BC, scale_BC)), self.config.patch, self.config.latent_dim
        )

    def _make_tables(self) -> None:
        """Functions of the configuration: no part of a checkpoint."""
        cos_Nd, sin_Nd = rotations(self.config.grid, self.config.width // self.config.heads)
        self.register_buffer("cos_Nd", cos_Nd, persistent=False)
        self.register_buffer("sin_Nd", sin_Nd, persistent=False)
        self.register_buffer("position_NC", sincos(self.config.grid, self.config.width), persistent=False)

    def _initialise(self) -> None:
        """As LightningDiT: xavier for products, zeros where a block shall begin as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, RMSNorm):
                nn.init.ones_(module.weight)
        nn.init.xavier_uniform_(self.patches.weight.view(self.config.width, -1))
        assert self.patches.bias is not None
        nn.init.zeros_(self.patches.bias)
        for weight in (self.labels.weight, *(p for p in self.time.parameters() if p.dim() == 2)):
            nn.init.normal_(weight, std=TABLE_STD)
        modulations = [module.modulation for module in self.modules() if isinstance(module, Block)]
        for layer in (self.modulation, self.out, *modulations):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


def create_dit(
    name: str, latent_dim: int, latent_size: int, *, classes: int = 1000, qk_norm: bool = False
) -> LightningDiT:
    """A LightningDiT by name, e.g. `lightning_dit-B/1`, for latents (latent_dim, latent_size, latent_size).

    Raises ValueError for an unknown name or parts that do not fit.
    """
    return LightningDiT(dit_config(name, latent_dim, latent_size, classes=classes, qk_norm=qk_norm))


class Block(nn.Module):
    """x + gate attention(norm x) and x + gate swiglu(norm x), shifted, scaled and gated by the condition.

    (B, N, C) in and out. The condition comes as SiLU(time + label), (B, C).
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, head_dim = config.width, config.width // config.heads
        self.heads = config.heads
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm = RMSNorm(head_dim) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head_dim) if config.qk_norm else nn.Identity()
        self.inward, self.outward = nn.Linear(width, 2 * config.hidden), nn.Linear(config.hidden, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x_BNC: Tensor, condition_BC: Tensor, cos_Nd: Tensor, sin_Nd: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition_BC).chunk(6, dim=1)
        mixed = self._attend(modulated_norm(self.norm1, x_BNC, shift1, scale1), cos_Nd, sin_Nd)
        x_BNC = torch.addcmul(x_BNC, gate1[:, None], mixed)
        gate, value = self.inward(modulated_norm(self.norm2, x_BNC, shift2, scale2)).chunk(2, dim=-1)
        return torch.addcmul(x_BNC, gate2[:, None], self.outward(F.silu(gate) * value))

    def _attend(self, x_BNC: Tensor, cos_Nd: Tensor, sin_Nd: Tensor) -> Tensor:
        batch, tokens, width = x_BNC.shape
        q_BNhd, k_BNhd, v_BNhd = self.qkv(x_BNC).view(batch, tokens, 3, self.heads, -1).unbind(2)
        q_BNhd, k_BNhd = (rotate_pairs(t, cos_Nd, sin_Nd) for t in (self.q_norm(q_BNhd), self.k_norm(k_BNhd)))
        merged: Tensor = self.merge(attention(q_BNhd, k_BNhd, v_BNhd).reshape(batch, tokens, width))
        return merged


def unpatch(x_BNE: Tensor, patch: int, latent_dim: int) -> Tensor:
    """Tokens of a square grid with their patches' values (B, N, p p d) -> (B, d, h, w)."""
    grid = math.isqrt(x_BNE.shape[1])
    x_Bghppd = x_BNE.view(len(x_BNE), grid, grid, patch, patch, latent_dim)
    return x_Bghppd.permute(0, 5, 1, 3, 2, 4).reshape(len(x_BNE), latent_dim, grid * patch, grid * patch)


def modulate(x_BNC: Tensor, shift_BC: Tensor, scale_BC: Tensor) -> Tensor:
    """x (1 + scale) + shift, the same at every token."""
    return torch.addcmul(shift_BC[:, None], x_BNC, 1 + scale_BC[:, None])


def modulated_norm(norm: RMSNorm, x_BNC: Tensor, shift_BC: Tensor, scale_BC: Tensor) -> Tensor:
    """modulate(norm(x)), the norm's weight joined to the scale: a pass over all tokens less, forward and backward."""
    normed_BNC = F.rms_norm(x_BNC, (x_BNC.shape[-1],), None, EPS)
    return torch.addcmul(shift_BC[:, None], normed_BNC, (norm.weight * (1 + scale_BC))[:, None])


def time_features(t_B: Tensor) -> Tensor:
    """(B,) times in [0, 1] -> (B, 256) fp32: cosines, then sines, of t at periods from 2 pi to 2 pi 10,000 (DiT)."""
    half = TIME_FEATURES // 2
    frequencies = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, device=t_B.device, dtype=torch.float32) / half)
    angles_BF = t_B.float()[:, None] * frequencies
    return torch.cat([angles_BF.cos(), angles_BF.sin()], dim=1)


def rotations(grid: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and sin, each (N, d/2), of the angle of every pair of channels: d/4 by the row, d/4 by the column.

    The frequencies are 10,000^(-2k / (d/2)), k = 0 .. d/4 - 1, positions are whole numbers (EVA-02's rotation).
    """
    quarter = head_dim // 4
    frequencies = MAX_PERIOD ** (-torch.arange(quarter, dtype=torch.float32) / quarter)
    angles_gf = torch.arange(grid, dtype=torch.float32)[:, None] * frequencies
    rows, columns = angles_gf[:, None].expand(grid, grid, quarter), angles_gf[None].expand(grid, grid, quarter)
    angles_Nd = torch.cat([rows, columns], dim=-1).reshape(grid * grid, 2 * quarter)
    return angles_Nd.cos(), angles_Nd.sin()


def rotate_pairs(x_BNhd: Tensor, cos_Nd: Tensor, sin_Nd: Tensor) -> Tensor:
    """Turn channels (2i, 2i + 1) of queries or keys by the i-th angle of their token."""
    if x_BNhd.dtype == torch.float32 and x_BNhd.device.type == "cpu" and not torch.compiler.is_compiling():
        # a quarter of the time of the real form (measured); elsewhere complex numbers are slow or unknown
        turned_BNhf = torch.view_as_complex(x_BNhd.unflatten(-1, (-1, 2))) * torch.complex(cos_Nd, sin_Nd)[:, None]
        return torch.view_as_real(turned_BNhf).flatten(-2)
    even, odd = x_BNhd.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos_Nd[:, None].to(x_BNhd.dtype), sin_Nd[:, None].to(x_BNhd.dtype)
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)


def sincos(grid: int, width: int) -> Tensor:
    """The fixed embedding (N, C) of MAE: sines and cosines of the column in the first half, of the row in the other."""
    quarter = width // 4
    omega = MAX_PERIOD ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles_gf = torch.arange(grid, dtype=torch.float64)[:, None] * omega
    table_gE = torch.cat([angles_gf.sin(), angles_gf.cos()], dim=1)
    columns, rows = table_gE[None].expand(grid, grid, -1), table_gE[:, None].expand(grid, grid, -1)
    return torch.cat([columns, rows], dim=-1).reshape(grid * grid, width).float()
