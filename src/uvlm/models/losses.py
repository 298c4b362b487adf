"""Cross-entropy over a vocabulary without the logits of all positions at once.

Shapes: n answer tokens of a batch, E decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["answer_cross_entropy"]

Head = Callable[[Tensor], Tensor]


def answer_cross_entropy(
    hidden_nE: Tensor,
    head: Head,
    targets_n: Tensor,
    *,
    smoothing: float = 0.0,
    chunk: int = 128,
) -> Tensor:
    """Sum of the cross-entropies of `head(hidden_nE)` with `targets_n`, in float32.

    Logits exist for `chunk` positions at a time: with a gradient they are made a second time in
    the backward pass instead of being kept. 400 positions of 151,669 entries are 0.24 GB of
    logits, and as much again for their gradient and for their softmax; 128 are a third of that.

    Args:
        hidden_nE: (n, E), one row per token to predict
        head: (m, E) to (m, V)
        targets_n: (n,) ids
        smoothing: share of the target spread evenly over the vocabulary
        chunk: most rows whose logits exist at once

    Returns:
        scalar; 0 for no row, still with a gradient (of zeros) for everything it depends on

    Raises:
        ValueError: another number of rows than targets, or `chunk` below 1.
    """
    if len(hidden_nE) != len(targets_n) or chunk < 1:
        raise ValueError(
            f"{len(hidden_nE)} rows for {len(targets_n)} targets in chunks of {chunk}; "
            "rows and targets must be as many, the chunk at least 1"
        )

    def summed(rows_mE: Tensor, wanted_m: Tensor) -> Tensor:
        logits_mV = head(rows_mE).float()
        return F.cross_entropy(logits_mV, wanted_m, reduction="sum", label_smoothing=smoothing)

    # A single chunk is used at once: computing it again would save nothing.
    again = torch.is_grad_enabled() and len(hidden_nE) > chunk
    total = hidden_nE.new_zeros((), dtype=torch.float32)
    for rows_mE, wanted_m in zip(
        torch.split(hidden_nE, chunk), torch.split(targets_n, chunk), strict=True
    ):
        if again:
            part = checkpoint(
                summed, rows_mE, wanted_m, use_reentrant=False, preserve_rng_state=False
            )
        else:
            part = summed(rows_mE, wanted_m)
        total = total + part
    return total
