"""Task 1: the encoder with a U-Net decoder, one logit map per class and resolution.

Shapes: B batch, C classes with background first, D H W voxels along z y x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import Tensor, nn

from uvlm.errors import ConfigError
from uvlm.models.config import SegmentationConfig
from uvlm.models.encoder import (
    Encoder,
    initialise_convolutions,
    name_weights_once,
    residual_encoder,
)

__all__ = ["SegmentationModel"]


class SegmentationModel(nn.Module):
    """A volume or patch in, segmentation logits out.

    Shape:
        x: (B, in_channels, D, H, W)
        result: (B, C, D, H, W) in eval mode; in training mode a list for deep supervision, that
            map first, then one per coarser decoder level at the level's own size
    """

    def __init__(self, config: SegmentationConfig) -> None:
        super().__init__()
        if not config.classes:
            raise ConfigError("segmentation needs classes; take them from the dataset's masks.")
        self.config = config
        self.encoder = Encoder(config.encoder)
        # UNetDecoder reads sizes from a residual encoder and keeps it as a submodule, which would
        # put every encoder weight into the state dict twice: it gets one without memory.
        with torch.device("meta"):
            template = residual_encoder(config.encoder)
        self.decoder: Any = UNetDecoder(
            template,
            num_classes=1 + len(config.classes),
            n_conv_per_stage=config.convs_per_stage,
            deep_supervision=True,
        )
        del self.decoder.encoder
        name_weights_once(self.decoder)
        initialise_convolutions(self.decoder)

    def forward(self, x_BCDHW: Tensor) -> Tensor | list[Tensor]:
        return self.decode(self.encoder(x_BCDHW))

    def decode(self, stages: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """`forward` from the encoder's stages on."""
        self.decoder.deep_supervision = self.training
        levels = self.decoder(stages)
        if not self.training:
            return self._at_input_size(levels)
        return [self._at_input_size(levels[0]), *levels[1:]]

    def _at_input_size(self, logits_BCDHW: Tensor) -> Tensor:
        factor = self.config.encoder.strides[0]
        if factor == 1:
            return logits_BCDHW
        return F.interpolate(logits_BCDHW, scale_factor=factor, mode="trilinear")
