"""The face of every encoder: a volume in, one map per stage out, shallow to deep.

Shapes: B batch, C channels of a stage, D H W voxels along z y x.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["StageEncoder"]


class StageEncoder(nn.Module):
    """What the U-Net's encoder, a vision transformer and towers have in common.

    Attributes:
        config: with `num_stages`, `features` and `stage_grid`
        checkpointing: keep only the input of each part for the backward pass and compute the rest
            a second time; same gradients, a third more time
        channels_last: lay volumes out with channels last where convolutions gain by it
    """

    config: Any

    def __init__(self) -> None:
        super().__init__()
        self.checkpointing = False
        self.channels_last = False

    def each_stage(self, x: Any) -> Iterator[Tensor]:
        """Stage after stage, each (B, C_i, D_i, H_i, W_i); a caller that lets go of one frees it
        before the next but one."""
        raise NotImplementedError

    def forward(self, x: Any) -> list[Tensor]:
        return list(self.each_stage(x))

    def pooled(
        self,
        x: Any,
        pool: Callable[[Tensor, int], Tensor],
        stages: Collection[int] | None = None,
    ) -> dict[int, Tensor]:
        """What `pool(stage, number)` makes of each stage, as soon as the stage is there, so that
        no more than two full maps exist together: at 192x256x256 the first alone has 1.6 GB.

        Args:
            pool: such as `AlignStages.pool_stage`
            stages: numbers, counted from 1, of those wanted; None for all. What is deeper than
                the last of them is not computed.
        """
        wanted = range(1, self.config.num_stages + 1) if stages is None else stages
        made: dict[int, Tensor] = {}
        for number, stage_BCDHW in enumerate(self.each_stage(x), start=1):
            if number in wanted:
                made[number] = pool(stage_BCDHW, number)
            if number >= max(wanted):
                break
        return made

    def _run(self, part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            # Nothing in these parts is random.
            again: Tensor = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False)
            return again
        return part(x)
