"""What every decoder does alike, whether trained from scratch or pretrained.

Shapes: B batch, T positions of this call, E width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from uvlm.models.config import DecoderConfig, PretrainedConfig
from uvlm.models.injection import VisualPlan
from uvlm.models.layout import TokenLayout
from uvlm.models.shortlist import Ranked

__all__ = ["Cache", "LanguageDecoder", "LogitsAt"]

LogitsAt = Tensor | slice | None
"""Which text positions of a call get logits: all (None), a slice, indices (n,), or a mask (B, T)
whose True positions come out flattened as (n, V)."""


class Cache(Protocol):
    """Keys and values of the positions so far."""

    length: int
    capacity: int

    def crop(self, length: int) -> None:
        """Forget the positions from `length` on."""

    def choose(self, rows_n: Tensor, since: int = 0) -> None:
        """Make row i what row `rows_n[i]` was, from position `since` on.

        Rows may be repeated and left out; with `since` their number stays, and what stands before
        it is not touched.
        """


class LanguageDecoder(nn.Module):
    """Embeddings in, logits out.

    Shape:
        embeddings: (B, T, E), the positions of `layout` that follow the cached ones
        result: (B, T', V), T' text positions of this call, or those named by `logits_at`
    """

    config: DecoderConfig | PretrainedConfig
    positions: int = 1 << 31
    """Longest sequence; a decoder from scratch computes its rotary table for any."""

    def hidden(
        self,
        embeddings_BTE: Tensor,
        layout: TokenLayout,
        plan: VisualPlan | None = None,
        cache: Any = None,
    ) -> Tensor:
        """States of this call's positions, (B, T, E), from which `head` makes logits.

        Raises:
            ValueError: the positions do not fit the layout, the cache or the plan.
        """
        raise NotImplementedError

    def head(self, h_BTE: Tensor) -> Tensor:
        """Hidden states to logits."""
        raise NotImplementedError

    def ranked(self, h_BTE: Tensor, tolerance: float = 0.0) -> Ranked:
        """Hidden states to the ids of their largest logits, (B, T), and whether the second largest
        is within `tolerance` times the largest absolute logit of it, (B, T)."""
        logits_BTV = self.head(h_BTE)
        best_BT1 = logits_BTV.argmax(dim=-1, keepdim=True)
        if not tolerance:
            return best_BT1[..., 0], torch.ones_like(best_BT1[..., 0], dtype=torch.bool)
        first_BT = logits_BTV.gather(-1, best_BT1)[..., 0].float()
        second_BT = logits_BTV.scatter(-1, best_BT1, -torch.inf).amax(dim=-1).float()
        largest_BT = torch.maximum(first_BT.abs(), logits_BTV.amin(dim=-1).float().abs())
        # Turned round, so that a margin that is no number counts as near.
        return best_BT1[..., 0], ~(first_BT - second_BT > tolerance * largest_BT)

    def best(self, h_BTE: Tensor) -> Tensor:
        """Hidden states to the ids of their largest logits, (B, T)."""
        return self.ranked(h_BTE)[0]

    def forward(
        self,
        embeddings_BTE: Tensor,
        layout: TokenLayout,
        plan: VisualPlan | None = None,
        cache: Any = None,
        logits_at: LogitsAt = None,
    ) -> tuple[Tensor, Any]:
        """Logits at text positions, and the cache with this call's positions added.

        Visual positions never get logits: nothing is predicted there.
        """
        return self.head(self.states(embeddings_BTE, layout, plan, cache, logits_at)), cache

    def states(
        self,
        embeddings_BTE: Tensor,
        layout: TokenLayout,
        plan: VisualPlan | None = None,
        cache: Any = None,
        at: LogitsAt = None,
    ) -> Tensor:
        """What `forward` makes logits of: states at text positions, (B, T', E) or (n, E)."""
        first_text = max(layout.text.start - (cache.length if cache else 0), 0)
        h_BTE = self.hidden(embeddings_BTE, layout, plan, cache)[:, first_text:]
        if isinstance(at, Tensor) and at.dtype == torch.bool:
            return h_BTE[at]
        return h_BTE if at is None else h_BTE[:, at]

    def check(
        self,
        embeddings_BTE: Tensor,
        layout: TokenLayout,
        plan: VisualPlan | None,
        cache: Cache | None,
    ) -> None:
        """Raise ValueError if the positions do not fit the layout, the cache or the plan."""
        start = cache.length if cache else 0
        given, length = embeddings_BTE.shape[1], len(layout)
        if start + given != length:
            raise ValueError(
                f"the layout has {length} positions, got {given} embeddings after {start} cached "
                "positions"
            )
        if cache and length > cache.capacity:
            raise ValueError(f"{length} positions do not fit a cache of {cache.capacity}")
        if plan is None:
            return
        if start:
            raise ValueError(f"vision enters with the first positions, not after {start} of them")
        beyond = [layer for layer in plan.per_layer if not 1 <= layer <= self.config.layers]
        if beyond or plan.prefix.shape[1] != layout.num_vision:
            raise ValueError(
                f"the plan has {plan.prefix.shape[1]} visual tokens for layers "
                f"{sorted(plan.per_layer)}; the layout has {layout.num_vision} and the decoder "
                f"{self.config.layers} layers"
            )
