"""Softmax attention behind one function, with the kernel chosen once per process.

Legend: B batch, N tokens, h heads, d head dimension, H, W map, C = h x d channels.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.attention as torch_attention
import torch.nn.functional as F
from torch import Tensor, nn

from transvae.layers.initialise import as_branch_output
from transvae.layers.normalisation import RMSNorm
from transvae.layers.position import rotate

FLASH_MAX_HEAD_DIM = 256  # flash-attn 2: larger heads (the CNN's single head) are not supported
FLASH_DTYPES = (torch.float16, torch.bfloat16)


@lru_cache(maxsize=1)
def attention_backend() -> str:
    """The kernel of this process: "flash-attn", "sdpa+FA4", "sdpa+FA3" or "sdpa". Chosen at the first call.

    flash-attn needs CUDA and the package; FA4 and FA3 are implementations that torch can register below its own SDPA
    where their packages are installed. Calls that a kernel cannot serve (CPU, fp32, a bias, large heads) use SDPA.
    """
    if not torch.cuda.is_available():
        return "sdpa"
    if _flash() is not None:
        return "flash-attn"
    for implementation in ("FA4", "FA3"):
        if implementation in torch_attention.list_flash_attention_impls():
            try:
                torch_attention.activate_flash_attention_impl(implementation)
            except (ImportError, RuntimeError):  # listed by torch, but its package or the GPU generation is missing
                continue
            return f"sdpa+{implementation}"
    return "sdpa"


@lru_cache(maxsize=1)
def _flash() -> Callable[..., Tensor] | None:
    try:
        from flash_attn import flash_attn_func
    except ImportError:  # not installed, or built for another torch
        return None
    function: Callable[..., Tensor] = flash_attn_func
    return function


def attention(q_BNhd: Tensor, k_BNhd: Tensor, v_BNhd: Tensor, bias_BhNN: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v, all of shape (B, N, h, d); `bias` broadcasts to (B, h, N, N).

    The N x N matrix is never stored by the fused kernels. All kernels agree within the rounding of the dtype.
    """
    flash = _flash() if attention_backend() == "flash-attn" else None
    usable = q_BNhd.is_cuda and q_BNhd.dtype in FLASH_DTYPES and q_BNhd.shape[-1] <= FLASH_MAX_HEAD_DIM
    if flash is not None and usable and bias_BhNN is None:
        return flash(q_BNhd, k_BNhd, v_BNhd)
    return sdpa(q_BNhd, k_BNhd, v_BNhd, bias_BhNN)


def sdpa(q_BNhd: Tensor, k_BNhd: Tensor, v_BNhd: Tensor, bias_BhNN: Tensor | None = None) -> Tensor:
    """The same by torch's scaled_dot_product_attention, on any device and dtype."""
    q_BhNd, k_BhNd, v_BhNd = (t.transpose(1, 2) for t in (q_BNhd, k_BNhd, v_BNhd))
    return F.scaled_dot_product_attention(q_BhNd, k_BhNd, v_BhNd, attn_mask=bias_BhNN).transpose(1, 2)


class SelfAttention(nn.Module):
    """Global self-attention over a map: fused qkv, optional per-head q/k RMSNorm, then rotation, then softmax.

    In and out (B, H, W, C). 4C^2 parameters, plus 4C with `bias` and 2d with `qk_norm`. (TransVAE paper, sections
    3.2.1 and 3.3.2; the per-head norm is the "QKV norm" of appendix H.)
    """

    def __init__(self, channels: int, head_dim: int, *, rope: bool, qk_norm: bool, bias: bool) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.rope = rope
        self.qkv = nn.Linear(channels, 3 * channels, bias=bias)
        self.q_norm = RMSNorm(head_dim) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head_dim) if qk_norm else nn.Identity()
        self.out = as_branch_output(nn.Linear(channels, channels, bias=bias))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        batch, height, width, channels = x_BHWC.shape
        heads = channels // self.head_dim
        qkv_BN3hd = self.qkv(x_BHWC).view(batch, height * width, 3, heads, self.head_dim)
        q_BNhd, k_BNhd, v_BNhd = qkv_BN3hd.unbind(2)
        q_BNhd, k_BNhd = self.q_norm(q_BNhd), self.k_norm(k_BNhd)
        if self.rope:
            q_BNhd, k_BNhd = (rotate(t, height, width) for t in (q_BNhd, k_BNhd))
        mixed_BNhd = attention(q_BNhd, k_BNhd, v_BNhd)
        mixed: Tensor = self.out(mixed_BNhd.reshape(batch, height, width, channels))
        return mixed
