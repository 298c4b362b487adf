"""One run of an encoder, and what is kept of it.

Each stage is pooled as soon as it is there and let go of: at 192x256x256 the first alone has
1.6 GB, what is kept of all of them some megabytes.

Shapes: K visual tokens, C channels of a stage, D H W voxels along z y x of the volume, d h w of a
        stage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from uvlm.models.bridge import Bridge
from uvlm.models.vit import SlicedVolume

__all__ = ["Encoded", "Stages", "encode"]


class Stages(Protocol):
    """Any encoder, or what runs one otherwise."""

    def each_stage(self, x: Any) -> Iterator[Tensor]:
        """Maps of all stages, shallowest first."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """What the heads need of one volume."""

    deepest: Tensor
    """(1, C, d, h, w), the last stage."""

    tokens: Mapping[int, Tensor] = field(default_factory=dict)
    """Stage, counted from 1 -> (1, K, C), pooled to the decoder's grid, or all its voxels where
    they are packed; {} without a report."""

    kept: Mapping[int, Tensor] = field(default_factory=dict)
    """Stage -> (1, C, d, h, w), the maps that were asked for."""


def encode(
    encoder: Stages,
    x: Tensor | SlicedVolume,
    align: Bridge | None,
    keep: Collection[int] = (),
) -> Encoded:
    """Run `encoder` once; what is kept is float32, whatever it calculates in.

    Args:
        x: (1, 1, D, H, W), with the features of its slices for an encoder that looks at them
        align: of the report part that reads the stages, if one does
        keep: numbers of the stages to keep unpooled
    """
    tokens, kept = dict[int, Tensor](), dict[int, Tensor]()
    wanted = () if align is None else align.stages_used
    deepest = None
    for number, stage in enumerate(encoder.each_stage(x), start=1):
        if align is not None and number in wanted:
            tokens[number] = align.pool_stage(stage, number).float()
        if number in keep:
            kept[number] = stage.float()
        deepest = stage
        del stage  # or it would stay until the next is made
    assert deepest is not None
    return Encoded(deepest=deepest.float(), tokens=tokens, kept=kept)
