"""Any encoder from its configuration, and what it takes from a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from uvlm.models.encoder import Encoder
from uvlm.models.stages import StageEncoder
from uvlm.models.tower_config import TowersConfig, ViTConfig
from uvlm.models.towers import Towers
from uvlm.models.vision_config import VisionConfig
from uvlm.models.vit import SlicedVolume, ViT

__all__ = ["build_encoder", "vision_input"]


def build_encoder(config: VisionConfig) -> StageEncoder:
    """An `Encoder`, `ViT` or `Towers` with random weights."""
    if isinstance(config, ViTConfig):
        return ViT(config)
    if isinstance(config, TowersConfig):
        return Towers(config)
    return Encoder(config)


def vision_input(batch: Mapping[str, Any]) -> Tensor | SlicedVolume:
    """What an encoder takes: `image` of a batch alone, or with its `slices` if it has them."""
    image: Tensor = batch["image"]
    return SlicedVolume(image, batch["slices"]) if "slices" in batch else image
