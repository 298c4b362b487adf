"""Task 2's head: learnable queries read the deepest stage by cross-attention (Eq. 2).

Shapes: B batch, M queries (one per label), C channels, N positions of the deepest stage.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["QueryHead"]


class QueryHead(nn.Module):
    """`Linear(Flatten(CrossAttn(Q, f_N)))`, with layer normalisation after the attention.

    Shape:
        deepest: (B, C, D, H, W)
        result: (B, labels), logits
    """

    def __init__(self, channels: int, labels: int, heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(labels, channels))
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Linear(labels * channels, labels)
        nn.init.normal_(self.queries, std=0.02)

    def forward(self, deepest_BCDHW: Tensor) -> Tensor:
        tokens_BNC = deepest_BCDHW.flatten(2).transpose(1, 2)
        queries_BMC = self.queries.expand(len(tokens_BNC), -1, -1)
        # Without the weights PyTorch may take its fused attention.
        read_BMC, _ = self.attention(queries_BMC, tokens_BNC, tokens_BNC, need_weights=False)
        logits: Tensor = self.output(self.norm(read_BMC).flatten(1))
        return logits
