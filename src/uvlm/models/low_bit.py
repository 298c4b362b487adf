"""Weights of a decoder made ready for decoding: each token of a report reads all of them.

In 16 or 8 bits only the weights of matrices shrink, the output matrix included; the numbers between
layers keep their type, and so do embeddings looked up, norms, biases and low-rank adapters. "int8":
symmetric, one scale per row of a matrix, so that a weight moves by at most half of its row's
largest / 127. "fp32" keeps every weight; on CPUs, large matrices are stored as they are read
fastest. All get a shortlist of the output matrix where it pays.

Shapes: n rows, E numbers of a row going in, V coming out.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.decoder import Block, TiedEmbedding
from uvlm.models.linear import CACHED, Linear, has_onednn
from uvlm.models.pretrained_rows import TokenHead
from uvlm.models.shortlist import Ranked, Shortlist, ranked, worthwhile

__all__ = [
    "LowBit",
    "LowEmbedding",
    "LowLinear",
    "LowPrecision",
    "Precision",
    "Weights8",
    "Weights16",
    "Weights32",
    "lower",
]

LowPrecision = Literal["bf16", "int8"]
Precision = Literal["fp32", "bf16", "int8"]

FEW_ROWS = 16
"""Rows of a study up to which 8-bit weights are multiplied as they are, with so many rows at once;
for more, as in a prompt, they are first widened."""

LANES = 16
"""PyTorch's product with 8-bit weights reads beyond rows that are no multiple of so many."""

ADAPTERS = ("lora_A", "lora_B")
"""Names of low-rank adapters in PEFT: small, and added to what is rounded."""


class Packed:
    """A matrix (V, E), on CPUs in the order that oneDNN reads fastest: 151,669 x 512 in bfloat16,
    one row: 2.9 against 4.7 ms; 2,048 x 512 in 32 bits, eight rows: 0.12 against 0.18."""

    dtype = torch.float32

    def __init__(self, weight_VE: Tensor) -> None:
        kept = weight_VE.detach().to(self.dtype)
        self.packed = kept.device.type == "cpu" and _packs(self.dtype)
        self.stored = torch.ops.mkldnn._reorder_linear_weight(kept) if self.packed else kept

    def dense(self) -> Tensor:
        """(V, E) of this class's type."""
        return torch.as_tensor(self.stored.to_dense()) if self.packed else self.stored

    def product(self, x_nE: Tensor, bias_V: Tensor | None = None, *, gelu: bool = False) -> Tensor:
        """(..., n, V) of this class's type, from `x_nE`, (..., n, E)."""
        x_nE = x_nE.to(self.dtype)
        if self.packed and not x_nE.requires_grad:  # the product of packed weights has no gradient
            product, after = torch.ops.mkldnn._linear_pointwise, "gelu" if gelu else "none"
            return torch.as_tensor(product(x_nE, self.stored, bias_V, after, [], "none"))
        made = F.linear(x_nE, self.dense(), None if bias_V is None else bias_V.to(self.dtype))
        return F.gelu(made) if gelu else made


class Weights32(Packed):
    """In 32 bits."""


class Weights16(Packed):
    """In bfloat16."""

    dtype = torch.bfloat16


class Weights8:
    """A matrix (V, E) in 8 bits, `stored`, with a scale per row, `scale` (V,) bfloat16."""

    dtype = torch.bfloat16

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

    def product(self, x_nE: Tensor, bias_V: Tensor | None = None, *, gelu: bool = False) -> Tensor:
        """(..., n, V) bfloat16, or of the bias's type, from `x_nE`, (..., n, E).

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
        made = made if bias_V is None else made + bias_V
        return F.gelu(made) if gelu else made


LowBit = Weights32 | Weights16 | Weights8


class LowLinear(nn.Module):
    """In the place of a linear layer."""

    def __init__(self, layer: nn.Linear, precision: Precision) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weights = _low(layer.weight, precision)
        self.bias = layer.bias
        self.gelu = False
        """Whether the activation comes with the product."""
        self.returns: torch.dtype | None = None
        """Type of the result, where it is not the input's."""

    @property
    def weight(self) -> Tensor:
        """(V, E), widened; for those who ask a layer of its type or place."""
        return self.weights.dense()

    def forward(self, x: Tensor) -> Tensor:
        return self.weights.product(x, self.bias, gelu=self.gelu).to(self.returns or x.dtype)


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
        # Of the rounded matrix, whose rows decide: its bound says nothing of another.
        self.shortlist = _shortlist(self.weights.dense() if self.table is None else self.table)

    def forward(self, ids: Tensor) -> Tensor:
        if isinstance(self.weights, Weights8):
            return self.weights.rows(ids).to(self.dtype)
        table = self.weights.stored if self.table is None else self.table
        return F.embedding(ids, table).to(self.dtype)

    def logits(self, h: Tensor) -> Tensor:
        """(B, T, V), as of `TiedEmbedding`."""
        return self.weights.product(h).to(h.dtype)

    def ranked(self, h: Tensor, tolerance: float) -> Ranked | None:
        """As of `TiedEmbedding`."""
        return ranked(self.shortlist, h, self, tolerance)


def lower(decoder: nn.Module, precision: Precision) -> None:
    """Replace the matrices of `decoder` by narrow ones, or by the same in another order, in place.

    For a decoder from scratch and a pretrained one, which "fp32" leaves as it is, on the device
    where it will stay. It can only be used for inference afterwards: neither trained, saved nor
    moved.

    On a GPU "int8" makes the decoder smaller, not faster: weights are widened at each use.
    """
    if precision == "fp32":
        _reorder(decoder)
    else:
        _narrow(decoder, precision)
    for block in decoder.modules():
        if isinstance(block, Block) and isinstance(block.ffn[0], LowLinear):
            up, down = block.ffn[0], cast(LowLinear, block.ffn[2])
            # The activation comes with the product, and what narrows it anyway takes it narrow.
            up.gelu, up.returns, down.returns = True, up.weights.dtype, block.norm1.weight.dtype
            block.ffn[1] = nn.Identity()
    decoder.requires_grad_(False)


def _reorder(decoder: nn.Module) -> None:
    for path, module in list(decoder.named_modules()):
        if isinstance(module, TiedEmbedding):
            module.shortlist = _shortlist(module.weight)
        elif type(module) is Linear and module.weight.numel() >= CACHED and _packs(torch.float32):
            parent = decoder.get_submodule(path.rpartition(".")[0])
            setattr(parent, path.rpartition(".")[2], LowLinear(module, "fp32"))


def _narrow(decoder: nn.Module, precision: LowPrecision) -> None:
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


class _LowHead(LowLinear):
    """In the place of a `TokenHead`, whose new rows stay as they are."""

    def __init__(self, head: TokenHead, precision: LowPrecision) -> None:
        super().__init__(head, precision)
        self.rows = head.rows
        self.at = torch.tensor(head.new_ids, device=head.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        new = F.linear(x.to(self.rows.dtype), self.rows)
        return super().forward(x).index_copy(-1, self.at, new.to(x.dtype))


def _low(weight_VE: Tensor, precision: Precision) -> LowBit:
    kinds: dict[Precision, type[LowBit]] = {"fp32": Weights32, "bf16": Weights16, "int8": Weights8}
    return kinds[precision](weight_VE)


def _shortlist(weight_VE: Tensor) -> Shortlist | None:
    return Shortlist(weight_VE) if worthwhile(weight_VE) else None


def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN reads its own order of this type fastest on this processor."""
    if dtype == torch.float32:
        return has_onednn()
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
