"""Products with a weight matrix, as fast as a CPU allows.

Shapes: n rows, E numbers of a row going in, V coming out.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CACHED", "Linear", "has_onednn", "linear"]

FEW_ROWS = 4
"""Rows up to which the batched product reads a large matrix fastest."""

CACHED = 2**18
"""Entries of a matrix below which it lies in a core's cache, and PyTorch's choice is right."""

LARGE = 2**24
"""Multiplications from which oneDNN is asked, which prepares itself for every new shape."""


class Linear(nn.Linear):
    """`nn.Linear` by way of `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(x_nE: Tensor, weight_VE: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """`F.linear` for any number of leading axes, to the rounding of 32 bits.

    On CPUs with AVX-512 oneDNN computes large products in 32 bits and their gradients: PyTorch's
    choice, MKL, leaves half of such a processor unused where Intel did not make it (AMD EPYC,
    1,570 x 512 by 1,536: 12 against 25 ms on one core; 8 rows by 151,669 x 512: 11 against 30 on
    two). For fewer rows see `_few_rows`.
    """
    if x_nE.device.type != "cpu":
        return F.linear(x_nE, weight_VE, bias_V)
    rows, large = x_nE.numel() // x_nE.shape[-1], weight_VE.numel() >= CACHED
    if large and (rows == 1 or (rows <= FEW_ROWS and len(weight_VE) >= weight_VE.shape[1])):
        made_nV = _few_rows(x_nE, weight_VE)
        return made_nV if bias_V is None else made_nV + bias_V.to(made_nV.dtype)
    wide = x_nE.dtype == weight_VE.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if wide and (large or rows * weight_VE.numel() >= LARGE) and has_onednn():
        return torch.as_tensor(_Product.apply(x_nE, weight_VE, bias_V))  # type: ignore[no-untyped-call]
    return F.linear(x_nE, weight_VE, bias_V)


def has_onednn() -> bool:
    """Whether oneDNN's products in 32 bits are the faster ones on this processor."""
    return torch._C._has_mkldnn and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _few_rows(x_nE: Tensor, weight_VE: Tensor) -> Tensor:
    """For at most `FEW_ROWS` rows on the CPU, where each step of decoding reads the whole matrix.

    The batched product reads it at the memory's speed, the plain one at half of it (151,669 x 512,
    one row: 7 against 19 ms; four rows: 7 against 27).
    """
    rows_En = x_nE.flatten(0, -2).T
    groups = 8
    whole = len(weight_VE) // groups * groups
    grouped = weight_VE[:whole].view(groups, -1, weight_VE.shape[1])
    most_Vn = torch.bmm(grouped, rows_En.expand(groups, -1, -1)).flatten(0, 1)
    rest_Vn = weight_VE[whole:] @ rows_En
    return torch.cat((most_Vn, rest_Vn)).T.reshape(*x_nE.shape[:-1], len(weight_VE))


class _Product(torch.autograd.Function):
    """The product and both its gradients by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x_nE: Tensor, weight_VE: Tensor, bias_V: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_nE, weight_VE)
        return _product(x_nE, weight_VE, bias_V)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_nV: Tensor) -> Any:
        x_nE, weight_VE = ctx.saved_tensors
        by_x, by_weight, by_bias = ctx.needs_input_grad
        rows_nV, rows_nE = gradient_nV.flatten(0, -2), x_nE.flatten(0, -2)
        return (
            _product(gradient_nV, weight_VE.T) if by_x else None,
            _product(rows_nV.T, rows_nE.T) if by_weight else None,
            rows_nV.sum(0) if by_bias else None,
        )


def _product(x_nE: Tensor, weight_VE: Tensor, bias_V: Tensor | None = None) -> Tensor:
    # The operation that torch.compile puts in the place of a linear layer on CPUs.
    made = torch.ops.mkldnn._linear_pointwise(x_nE, weight_VE, bias_V, "none", [], "")
    return torch.as_tensor(made)
