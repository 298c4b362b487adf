"""Weights of a decoder in 16 or 8 bits: each token of a report reads all of them from memory.

Only the weights of matrices shrink, the output matrix included; the numbers between layers keep
their type, and so do embeddings looked up, norms, biases and low-rank adapters. "int8": symmetric,
one scale per row of a matrix, so that a weight moves by at most half of its row's largest / 127.

Shapes: n rows, E numbers of a row going in, V coming out.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.decoder import TiedEmbedding
from uvlm.models.linear import Linear
from uvlm.models.pretrained_rows import TokenHead

__all__ = ["LowBit", "LowEmbedding", "LowLinear", "LowPrecision", "Weights8", "Weights16", "lower"]

LowPrecision = Literal["bf16", "int8"]

FEW_ROWS = 16
"""Rows of a study up to which 8-bit weights are multiplied as they are, with so many rows at once;
for more, as in a prompt, they are first widened."""

LANES = 16
"""PyTorch's product with 8-bit weights reads beyond rows that are no multiple of so many."""

ADAPTERS = ("lora_A", "lora_B")
"""Names of low-rank adapters in PEFT: small, and added to what is rounded."""


class Weights16:
    """A matrix (V, E) in bfloat16, on CPUs in the order that oneDNN reads fastest (151,669 x 512,
    one row: 2.9 against 4.7 ms)."""

    def __init__(self, weight_VE: Tensor) -> None:
        narrow = weight_VE.detach().to(torch.bfloat16)
        self.packed = narrow.device.type == "cpu" and _has_bf16()
        self.stored = torch.ops.mkldnn._reorder_linear_weight(narrow, 1) if self.packed else narrow

    def dense(self) -> Tensor:
        """(V, E) bfloat16."""
        return torch.as_tensor(self.stored.to_dense()) if self.packed else self.stored

    def product(self, x_nE: Tensor) -> Tensor:
        """(..., n, V) of the type of `x_nE`, (..., n, E)."""
        narrow = x_nE.to(torch.bfloat16)
        if self.packed and not x_nE.requires_grad:  # the product of packed weights has no gradient
            product = torch.ops.mkldnn._linear_pointwise
            made = torch.as_tensor(product(narrow, self.stored, None, "none", [], ""))
        else:
            made = F.linear(narrow, self.dense())
        return made.to(x_nE.dtype)


class Weights8:
    """A matrix (V, E) in 8 bits, `stored`, with a scale per row, `scale` (V,) bfloat16."""

    def __init__(self, weight_VE: Tensor) -> None:
        wide = weight_VE.detach().float()
        # The scale in its final precision first, so that rounding it costs nothing more; upwards,
        # so that the largest weight does not leave the range.
        scale = (wide.abs().amax(dim=1) / 127 * (1 + 2**-8)).clamp_min(1e-30).to(torch.bfloat16)
        self.scale = scale
        steps = (wide / scale.float()[:, None]).round().clamp(-127, 127)
        self.stored = steps.to(torch.int8).contiguous()

    def dense(self) -> Tensor:
        """(V, E) float32."""
        return self.stored.float() * self.scale.float()[:, None]

    def rows(self, ids: Tensor) -> Tensor:
        """(..., E) float32."""
        return self.stored[ids].float() * self.scale[ids].float()[..., None]

    def product(self, x_nE: Tensor) -> Tensor:
        """(..., n, V) of the type of `x_nE`, (..., n, E).

        How it is computed hangs on n, not on how many studies stand before it: each gets the
        numbers it gets alone.
        """
        narrow = x_nE.to(torch.bfloat16)
        n, width = narrow.shape[-2:]
        fits = width % LANES == 0 and n <= FEW_ROWS and narrow.numel() > 0
        if fits and narrow.device.type == "cpu" and not x_nE.requires_grad:
            product = torch.ops.aten._weight_int8pack_mm
            groups = torch.split(narrow.reshape(-1, width), FEW_ROWS)
            made = torch.cat([product(each, self.stored, self.scale) for each in groups])
            made = made.view(*x_nE.shape[:-1], -1)
        else:  # 8 bits fit bfloat16 without loss
            made = F.linear(narrow, self.stored.to(torch.bfloat16)) * self.scale
        return made.to(x_nE.dtype)


LowBit = Weights16 | Weights8


class LowLinear(nn.Module):
    """In the place of a linear layer."""

    def __init__(self, layer: nn.Linear, precision: LowPrecision) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weights = _low(layer.weight, precision)
        self.bias = layer.bias

    @property
    def weight(self) -> Tensor:
        """(V, E), widened; for those who ask a layer of its type or place."""
        return self.weights.dense()

    def forward(self, x: Tensor) -> Tensor:
        made = self.weights.product(x)
        return made if self.bias is None else made + self.bias


class LowEmbedding(nn.Module):
    """In the place of a `TiedEmbedding`: one look-up and one output matrix.

    In bfloat16 on CPUs the matrix is kept twice, in oneDNN's order to multiply with and as a table
    to look up in: together they are as large as in 32 bits.
    """

    def __init__(self, embedding: TiedEmbedding, precision: LowPrecision) -> None:
        super().__init__()
        self.dtype = embedding.weight.dtype
        self.weights = _low(embedding.weight, precision)
        # What is packed cannot be looked into.
        packed = isinstance(self.weights, Weights16) and self.weights.packed
        self.table = embedding.weight.detach().to(torch.bfloat16) if packed else None

    def forward(self, ids: Tensor) -> Tensor:
        if isinstance(self.weights, Weights8):
            return self.weights.rows(ids).to(self.dtype)
        table = self.weights.stored if self.table is None else self.table
        return F.embedding(ids, table).to(self.dtype)

    def logits(self, h: Tensor) -> Tensor:
        """(B, T, V), as of `TiedEmbedding`."""
        return self.weights.product(h)


def lower(decoder: nn.Module, precision: LowPrecision) -> None:
    """Replace the matrices of `decoder` by narrow ones, in place.

    For a decoder from scratch and a pretrained one, on the device where it will stay. It can only
    be used for inference afterwards: neither trained, saved nor moved.

    On a GPU "int8" makes the decoder smaller, not faster: weights are widened at each use.
    """
    for path, module in list(decoder.named_modules()):
        name = path.rpartition(".")[2]
        if any(part in ADAPTERS for part in path.split(".")):
            continue
        made: nn.Module
        if type(module) in (nn.Linear, Linear):
            made = LowLinear(module, precision)
        elif isinstance(module, TiedEmbedding):
            made = LowEmbedding(module, precision)
        elif isinstance(module, TokenHead):
            made = _LowHead(module, precision)
        else:
            continue
        parent = decoder.get_submodule(path.rpartition(".")[0])
        setattr(parent, name, made)
    decoder.requires_grad_(False)


class _LowHead(LowLinear):
    """In the place of a `TokenHead`, whose new rows stay as they are."""

    def __init__(self, head: TokenHead, precision: LowPrecision) -> None:
        super().__init__(head, precision)
        self.rows = head.rows
        self.at = torch.tensor(head.new_ids, device=head.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        new = F.linear(x.to(self.rows.dtype), self.rows)
        return super().forward(x).index_copy(-1, self.at, new.to(x.dtype))


def _low(weight_VE: Tensor, precision: LowPrecision) -> LowBit:
    return Weights16(weight_VE) if precision == "bf16" else Weights8(weight_VE)


def _has_bf16() -> bool:
    """Whether oneDNN computes in bfloat16 on this processor."""
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
