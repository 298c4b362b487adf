"""Where each part of a multimodal sequence sits, and who may attend to whom.

    <vision_start>  v v v v  <vision_end>  text text text
    0               1 .. K   K + 1         K + 2 ..

The mask, the injection and the choice of logits all ask `TokenLayout`, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["MaskKind", "TokenLayout"]

MaskKind = Literal["causal", "vision_bidirectional", "authors"]


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """Positions of one sequence; every row of a batch has the same.

    Text may be padded at its end: nothing before a padding token sees it.
    """

    num_vision: int
    """K, visual tokens."""

    num_text: int
    """Text tokens: prompt and answer."""

    mask: MaskKind = "vision_bidirectional"
    """Whether visual tokens see each other both ways (the paper) or only backwards. "authors": the
    published code's, whose block stands one position too early: the marker before the visual
    tokens sees all of them but the last, and the last one is seen as text is."""

    @property
    def vision(self) -> slice:
        return slice(1, 1 + self.num_vision)

    @property
    def text(self) -> slice:
        return slice(self.vision.stop + 1, len(self))

    def __len__(self) -> int:
        return self.num_vision + 2 + self.num_text

    def visible(self, start: int, device: torch.device | str | None = None) -> Tensor | None:
        """Which positions the queries at `start` to the end may see.

        Returns:
            (len - start, len) bool, True where the query (row) sees the key (column); None for a
            single text token at the end, which sees everything: no mask is made for it.
        """
        length = len(self)
        if start >= self.text.start and start == length - 1:
            return None
        keys = torch.arange(length, device=device)
        queries = keys[start:, None]
        sees = keys <= queries
        if self.mask != "causal":
            sees = sees | (self._both_ways(keys) & self._both_ways(queries))
        return sees

    def _both_ways(self, positions: Tensor) -> Tensor:
        """Whether each position is of those that see one another both ways."""
        shift = 1 if self.mask == "authors" else 0
        first, stop = self.vision.start - shift, self.vision.stop - shift
        inside: Tensor = (positions >= first) & (positions < stop)
        return inside
