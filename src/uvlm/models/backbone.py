"""An encoder alone, as a checkpoint gives it whose other half is not taken."""

from __future__ import annotations

from torch import Tensor, nn

from uvlm.models.config import EncoderOnlyConfig
from uvlm.models.encoder import Encoder

__all__ = ["EncoderOnly"]


class EncoderOnly(nn.Module):
    """What stands in a bundle's part `encoder`; tasks take its weights over.

    Shape:
        x: (B, in_channels, D, H, W)
        result: one (B, C_i, D_i, H_i, W_i) per stage, shallowest first
    """

    def __init__(self, config: EncoderOnlyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)

    def forward(self, x_BCDHW: Tensor) -> list[Tensor]:
        stages: list[Tensor] = self.encoder(x_BCDHW)
        return stages
