"""Run an encoder at inference with less memory than its forward pass takes.

The first stage decides: at the paper's size one of its maps holds 1.6 GB and a residual block has
four alive at once. Normalising in place leaves three. Stages are pooled as soon as they are
computed, for the report model reads only their averages over the grid of visual tokens.
Results are the same to the last bit.

Shapes: B batch, C_i channels of stage i, D H W voxels along z y x, K visual tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.align import AlignStages
from uvlm.models.encoder import Encoder

__all__ = ["Features", "encode"]

CHANNELS_AT_ONCE = 4
LARGE = 16_000_000
"""Elements of a map worth normalising in pieces."""


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
    with _normalising_in_place(encoder):
        x = encoder.stem(x)
        for number, stage in enumerate(encoder.stages, start=1):
            x = stage(x)
            if align is not None and number in align.used_stages:
                tokens[number] = align.pool_stage(x, number)
    return Features(deepest=x, tokens=tokens)


@contextmanager
def _normalising_in_place(encoder: nn.Module) -> Iterator[None]:
    """Allowed because every normalisation of the encoder reads a convolution nobody else reads."""
    norms = [module for module in encoder.modules() if isinstance(module, nn.InstanceNorm3d)]
    for norm in norms:
        object.__setattr__(norm, "forward", partial(_normalise, norm))
    try:
        yield
    finally:
        for norm in norms:
            object.__delattr__(norm, "forward")


def _normalise(norm: nn.InstanceNorm3d, x: Tensor) -> Tensor:
    """(B, C, D, H, W), overwritten if large."""
    step = CHANNELS_AT_ONCE if x.numel() > LARGE else x.shape[1]
    for first in range(0, x.shape[1], step):
        channels = slice(first, first + step)
        part = x[:, channels]
        weight, bias = norm.weight[channels], norm.bias[channels]
        part.copy_(F.instance_norm(part, weight=weight, bias=bias, eps=norm.eps))
    return x
