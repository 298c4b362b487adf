"""Small configurations with every feature of the paper's: four stages, more layers than stages."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from uvlm.models.config import DecoderConfig, EncoderConfig, InjectionConfig, ReportConfig

ENCODER = EncoderConfig(features=(4, 6, 8, 8), strides=(1, 2, 2, 2), blocks=(1, 1, 2, 1))
SHAPE = (16, 16, 32)  # 2x2x4 = 16 tokens at the deepest stage, 4x4x8 = 128 before it
DECODER = DecoderConfig(vocab_size=50, layers=5, width=24, heads=2, ffn=32)
REPORT = ReportConfig(
    encoder=ENCODER, shape=SHAPE, decoder=DECODER, vision_start_id=3, vision_end_id=4
)
NEXT_TO_DEEPEST = replace(REPORT, injection=InjectionConfig(reference_stage=-2))


def random_stages(config: ReportConfig, batch: int = 2, seed: int = 0) -> list[Tensor]:
    """Stage outputs of a volume, as leaves that collect gradients."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(
            batch, channels, *config.encoder.stage_grid(config.shape, i), generator=generator
        ).requires_grad_()
        for i, channels in enumerate(config.encoder.features, start=1)
    ]


def random_tokens(config: ReportConfig, batch: int = 2, length: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, config.decoder.vocab_size, (batch, length), generator=generator)
