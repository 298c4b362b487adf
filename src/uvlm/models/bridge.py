"""From an encoder's stages to what a decoder receives: aligned stages, or packed ones."""

from __future__ import annotations

from typing import TypeAlias

from uvlm.models.align import AlignStages
from uvlm.models.config import ReportConfig
from uvlm.models.packer import PackStages

__all__ = ["Bridge", "build_bridge"]

Bridge: TypeAlias = AlignStages | PackStages
"""Both have `pool_stage`, `pooled_grid`, `project` and `stages_used`."""


def build_bridge(config: ReportConfig) -> Bridge:
    """With random weights."""
    return AlignStages(config) if config.packer is None else PackStages(config)
