"""HSENet's hybrid encoder: vision transformers side by side over one volume.

Shapes: B batch, C width of a tower, d h w patches along z y x.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import cast

from torch import Tensor

from uvlm.models.stages import StageEncoder
from uvlm.models.tower_config import TowersConfig
from uvlm.models.vit import SlicedVolume, ViT

__all__ = ["Towers"]


class Towers(StageEncoder):
    """A volume in, one map per tower out: stage 1 is that of `volume`, the next that of `slices`.

    A tower the configuration leaves out is no child, and the other is stage 1.

    Attributes:
        checkpointing: of both towers

    Shape:
        x: `SlicedVolume` if there is a gated tower, else (B, 1, D, H, W) or such
        result: one (B, C, d, h, w) per tower
    """

    config: TowersConfig

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        self.config = config
        if config.volume is not None:
            self.volume = ViT(config.volume)
        if config.slices is not None:
            self.slices = ViT(config.slices)

    @property
    def towers(self) -> list[ViT]:
        """Stage after stage."""
        return [cast(ViT, child) for child in self.children()]

    @property
    def checkpointing(self) -> bool:
        return all(tower.checkpointing for tower in self.towers)

    @checkpointing.setter
    def checkpointing(self, on: bool) -> None:
        for tower in self.towers:
            tower.checkpointing = on

    def each_stage(self, x: Tensor | SlicedVolume) -> Iterator[Tensor]:
        for tower in self.towers:
            yield from tower.each_stage(x)

    def pooled(
        self,
        x: Tensor | SlicedVolume,
        pool: Callable[[Tensor, int], Tensor],
        stages: Collection[int] | None = None,
    ) -> dict[int, Tensor]:
        """As `StageEncoder.pooled`; of towers, which do not build on one another, only those
        wanted are computed."""
        made: dict[int, Tensor] = {}
        for number, tower in enumerate(self.towers, start=1):
            if stages is None or number in stages:
                (map_BCdhw,) = tower.each_stage(x)
                made[number] = pool(map_BCdhw, number)
        return made
