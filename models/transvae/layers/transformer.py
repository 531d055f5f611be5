"""The transformer block that TransVAE's attention stages and the ViT share.

Legend: B batch, H, W map, C channels.
"""

from torch import Tensor, nn

from transvae.config import TransVAELayout, ViTLayout
from transvae.layers.attention import SelfAttention
from transvae.layers.feedforward import FeedForward
from transvae.layers.normalisation import token_norm


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + ffn(norm(x)). In and out (B, H, W, C); no biases in the maps.

    (TransVAE paper, sections 3.2 and 3.3; 15C^2 parameters with the full-convolution FFN, 12C^2 with a plain one at
    ratio 4.)
    """

    def __init__(
        self, channels: int, layout: TransVAELayout | ViTLayout, activation: type[nn.Module], norm_bias: bool
    ) -> None:
        super().__init__()
        self.attention_norm = token_norm(layout.norm, channels, norm_bias)
        self.attention = SelfAttention(
            channels, layout.head_dim, rope=layout.position == "rope", qk_norm=layout.qk_norm, bias=False
        )
        self.ffn_norm = token_norm(layout.norm, channels, norm_bias)
        self.ffn = FeedForward(channels, layout.ffn, layout.ffn_ratio, activation, bias=False)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BHWC = x_BHWC + self.attention(self.attention_norm(x_BHWC))
        out: Tensor = x_BHWC + self.ffn(self.ffn_norm(x_BHWC))
        return out
