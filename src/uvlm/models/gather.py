"""Rows of all processes as one tensor that gradients pass through.

Without torch.distributed, or with one process, everything here is the identity.

Shapes: B rows of this process, P processes, N = P x B rows of all.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["first_row", "gather_rows"]


def gather_rows(rows: Tensor) -> Tensor:
    """(B, ...) of each process -> (N, ...), in the order of their ranks.

    Each process receives, for its own rows, the sum of the gradients that all processes have for
    them. So with a loss per process the averaged gradient is that of the losses' mean. Every
    process must call this with as many rows, backward too.
    """
    if _processes() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def first_row(own: int) -> int:
    """Place of this process's first row among all, for `own` rows per process."""
    return dist.get_rank() * own if _processes() > 1 else 0


def _processes() -> int:
    together = dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if together else 1


class _Gather(torch.autograd.Function):
    """torch.distributed.nn.functional.all_gather does the same, and is no longer kept up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.own = len(rows)
        whole = rows.contiguous()
        parts = [torch.empty_like(whole) for _ in range(_processes())]
        dist.all_gather(parts, whole)
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        first = first_row(ctx.own)
        return summed[first : first + ctx.own]
