"""The feed-forward half of a transformer block, with or without a convolution inside (paper, section 3.3.1).

Legend: B batch, H, W map, C channels, E hidden channels = ratio x C.
"""

from torch import Tensor, nn

from transvae.layers.initialise import as_branch_output


class FeedForward(nn.Module):
    """out(act(in(x))), with an optional 3x3 convolution on the hidden map: h = h + act(conv(h)).

    In and out (B, H, W, C). `kind` "standard" has no convolution (8C^2 parameters at ratio 4), "dwconv" a depth-wise
    one (8C^2 + 36C at ratio 4), "fullconv" a full one (11C^2 at ratio 1, the one of TransVAE). The hidden residual
    starts after the first activation, as in DHVT's feed-forward.
    """

    def __init__(self, channels: int, kind: str, ratio: float, activation: type[nn.Module], bias: bool) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.inward = nn.Linear(channels, hidden, bias=bias)
        self.activation = activation()
        self.conv: nn.Conv2d | None = None
        if kind != "standard":
            grouping = hidden if kind == "dwconv" else 1
            self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=grouping, bias=bias)
        self.outward = as_branch_output(nn.Linear(hidden, channels, bias=bias))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        h_BHWE: Tensor = self.activation(self.inward(x_BHWC))
        if self.conv is not None:
            # Channel-last tokens seen as channel-first are torch's channels_last format: no copy is made.
            convolved_BEHW = self.conv(h_BHWE.permute(0, 3, 1, 2))
            h_BHWE = h_BHWE + self.activation(convolved_BEHW.permute(0, 2, 3, 1))
        out: Tensor = self.outward(h_BHWE)
        return out
