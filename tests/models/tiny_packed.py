"""Small reports with HSENet's parts: two towers or a U-Net, packers, and markers of each kind."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tests.models.tiny import DECODER, REPORT
from uvlm.models.config import InjectionConfig, ReportConfig
from uvlm.models.tower_config import PackerConfig, TowersConfig, ViTConfig
from uvlm.models.vit import SlicedVolume

SHAPE = (4, 16, 16)
TOWER = ViTConfig(shape=SHAPE, patch=(2, 4, 4), width=8, layers=2, heads=2, mlp=12)
"""2x4x4 = 32 tokens."""

TOWERS = TowersConfig(volume=TOWER, slices=replace(TOWER, width=12, slice_width=6))
NOTHING = InjectionConfig(layers=())
PACKED = ReportConfig(
    encoder=TOWERS,
    shape=SHAPE,
    injection=NOTHING,
    packer=PackerConfig(kernel=(1, 2, 2)),
    decoder=DECODER,
    mask="causal",
    vision_start_id=3,
    vision_end_id=4,
)
"""Two towers of 2x2x2 = 8 regions each: 16 visual tokens."""

INJECTED = replace(PACKED, packer=None, injection=InjectionConfig(), mask="vision_bidirectional")
"""The towers without packers: each enters a layer."""

UNET_PACKED = replace(
    REPORT, injection=NOTHING, packer=PackerConfig(kernel=(1, 2, 2), stages=(3, 4))
)
"""4x2x4 and 2x1x2 regions: 36 visual tokens."""


def sliced(batch: int = 2, seed: int = 0) -> SlicedVolume:
    generator = torch.Generator().manual_seed(seed)
    volume: Tensor = torch.rand(batch, 1, *SHAPE, generator=generator)
    return SlicedVolume(volume, torch.randn(batch, 3, 6, generator=generator))
