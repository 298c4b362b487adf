"""What any encoder is configured by. No torch import: command-line help and recipes read it."""

from __future__ import annotations

from typing import TypeAlias

from uvlm.models.config import EncoderConfig
from uvlm.models.tower_config import TowersConfig, ViTConfig

__all__ = ["VisionConfig"]

VisionConfig: TypeAlias = EncoderConfig | ViTConfig | TowersConfig
"""U-Net, one vision transformer, or towers of them: `num_stages`, `features`, `stage_grid`."""
