"""Run an encoder at inference with little memory: each stage is pooled as soon as it is computed.

At the paper's size the first stage alone holds 1.6 GB; the report model reads only its average
over the grid of visual tokens, 49 kB.

Shapes: B batch, C_i channels of stage i, D H W voxels along z y x, K visual tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from uvlm.models.align import AlignStages
from uvlm.models.encoder import Encoder

__all__ = ["Features", "encode"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """What the heads need of one run of an encoder."""

    deepest: Tensor
    """(B, C_N, D_N, H_N, W_N), for the class head."""

    tokens: dict[int, Tensor] = field(default_factory=dict)
    """Stage, counted from 1 -> (B, K, C_i), for `AlignStages.project`."""


@torch.inference_mode()
def encode(encoder: Encoder, x: Tensor, align: AlignStages | None = None) -> Features:
    """Run stage after stage; with `align`, pool those it reads.

    Args:
        x: (B, 1, D, H, W) float32
    """
    tokens: dict[int, Tensor] = {}
    x = encoder.stem(x)
    for number, stage in enumerate(encoder.stages, start=1):
        x = stage(x)
        if align is not None and number in align.used_stages:
            tokens[number] = align.pool_stage(x, number)
    return Features(deepest=x, tokens=tokens)
