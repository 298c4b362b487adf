"""Where each part of a multimodal sequence sits, and who may attend to whom.

    <vision_start>  v v v v  <vision_end>  text text text
    0               1 .. K   K + 1         K + 2 ..

Either marker may be missing. The mask, the injection and the choice of logits all ask
`TokenLayout`, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["MaskKind", "PaddedPrompts", "TokenLayout"]

MaskKind = Literal["causal", "vision_bidirectional", "authors"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PaddedPrompts:
    """Prompts of different lengths in one batch, each padded at its end to the longest.

    What is written after them stands in one column for all rows. It does not see the padding, and
    its position is counted as if there were none: a row is what it would be alone.
    """

    lengths_B: Tensor
    """Text tokens of each row's own prompt."""

    longest: int
    """The largest of them."""

    def rows(self, chosen_n: Tensor) -> PaddedPrompts:
        """Of the rows with these indices."""
        return PaddedPrompts(lengths_B=self.lengths_B[chosen_n], longest=self.longest)

    def padded_BS(self, text_S: Tensor) -> Tensor:
        """Which of the text's places, counted from its first, hold padding."""
        padded: Tensor = (text_S >= self.lengths_B[:, None]) & (text_S < self.longest)
        return padded


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """Positions of one sequence; every row of a batch has the same, but for `prompts`.

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

    prompts: PaddedPrompts | None = None
    """Where the text of the rows begins with prompts of different lengths."""

    opening: int = 1
    """Positions before the visual tokens: a marker, or the language model's beginning of a text."""

    closing: int = 1
    """Positions between the visual tokens and the text."""

    @property
    def vision(self) -> slice:
        return slice(self.opening, self.opening + self.num_vision)

    @property
    def text(self) -> slice:
        return slice(self.vision.stop + self.closing, len(self))

    def __len__(self) -> int:
        return self.opening + self.num_vision + self.closing + self.num_text

    def visible(self, start: int, device: torch.device | str | None = None) -> Tensor | None:
        """Which positions the queries at `start` to the end may see.

        Returns:
            (len - start, len) bool, True where the query (row) sees the key (column); None for a
            single text token at the end, which sees everything: no mask is made for it. With
            `prompts` (B, 1, len - start, len), always.
        """
        length = len(self)
        if self.prompts is None and start >= self.text.start and start == length - 1:
            return None
        keys = torch.arange(length, device=device)
        queries = keys[start:, None]
        sees = keys <= queries
        if self.mask != "causal":
            sees = sees | (self._both_ways(keys) & self._both_ways(queries))
        if self.prompts is None:
            return sees
        return sees & ~self.prompts.padded_BS(keys - self.text.start)[:, None, None]

    def positions(self, start: int, device: torch.device | str | None = None) -> Tensor:
        """What the embeddings from `start` on count as for rotary positions: (len - start,), or
        (B, len - start) with `prompts`."""
        places = torch.arange(start, len(self), device=device)
        if self.prompts is None:
            return places
        after = places >= self.text.start + self.prompts.longest
        counted: Tensor = places - after * (self.prompts.longest - self.prompts.lengths_B)[:, None]
        return counted

    def _both_ways(self, positions: Tensor) -> Tensor:
        """Whether each position is of those that see one another both ways."""
        shift = 1 if self.mask == "authors" else 0
        first, stop = self.vision.start - shift, self.vision.stop - shift
        inside: Tensor = (positions >= first) & (positions < stop)
        return inside
