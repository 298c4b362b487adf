"""Rows of a frozen vocabulary that are trained: tokens the base has never seen.

Shapes: n new tokens, E width, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TokenEmbedding", "TokenHead", "first_rows"]

NOISE = 0.1
"""Spread of new rows about the mean of the old, in standard deviations of the old."""


class TokenEmbedding(nn.Embedding):
    """A frozen embedding whose entries `new_ids` come from the trainable `rows` (n, E), float32."""

    def __init__(self, old: nn.Embedding, new_ids: tuple[int, ...]) -> None:
        super().__init__(old.num_embeddings, old.embedding_dim, old.padding_idx, _weight=old.weight)
        self.weight = old.weight
        self.new_ids = new_ids
        shape = (len(new_ids), old.embedding_dim)
        self.rows = nn.Parameter(torch.empty(shape, device=old.weight.device, dtype=torch.float32))

    def forward(self, input: Tensor) -> Tensor:
        old = super().forward(input)
        match = input[..., None] == input.new_tensor(self.new_ids)
        new = F.embedding(match.int().argmax(dim=-1), self.rows)
        return torch.where(match.any(dim=-1, keepdim=True), new.to(old.dtype), old)


class TokenHead(nn.Linear):
    """A frozen output matrix whose entries `new_ids` come from the trainable `rows` (n, E)."""

    def __init__(self, old: nn.Linear, new_ids: tuple[int, ...], rows: nn.Parameter | None) -> None:
        super().__init__(old.in_features, old.out_features, bias=False, device="meta")
        self.weight = old.weight
        self.new_ids = new_ids
        shape = (len(new_ids), old.in_features)
        made = torch.empty(shape, device=old.weight.device, dtype=torch.float32)
        self.rows = nn.Parameter(made) if rows is None else rows

    def forward(self, input: Tensor) -> Tensor:
        old = super().forward(input)
        new = F.linear(input.to(self.rows.dtype), self.rows)
        at = torch.tensor(self.new_ids, device=old.device)
        return old.index_copy(-1, at, new.to(old.dtype))


def first_rows(known_VE: Tensor, new_ids: tuple[int, ...]) -> Tensor:
    """(n, E) float32: the mean of the known rows, each new one a little apart from the others.

    Rows far from the others, as random ones are, would dominate the first softmax; equal ones
    would be one token. The same ids give the same rows.
    """
    rows = known_VE.float()
    mean, spread = rows.mean(dim=0), rows.std(dim=0)
    noise = [torch.randn(len(mean), generator=torch.Generator().manual_seed(i)) for i in new_ids]
    return torch.stack([mean + NOISE * spread * each for each in noise])
