"""What training reports would say next: proposals for speculative decoding.

Reports repeat one another's sentences. The draft keeps the tokens of all training reports, and
their places sorted by what stands before each: places whose past agrees with a context in the most
tokens are neighbours there, found by bisection. What most often followed them is proposed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError

__all__ = ["LARGEST", "LONGEST", "Draft"]

LONGEST = 8
"""Tokens of a context that are compared; a power of 2. More of them find fewer places to ask: on
held-out reports 16 and 32 were right less often."""

LIKELY = 0.3
"""Proposals end where they become less likely, by what training reports said: each costs the
decoder a row."""

FOLLOWED = 32
"""Places with the same past that are asked how they go on, evenly taken if there are more."""

LARGEST = 8_000_000
"""Tokens a draft keeps, 8 bytes each; of more, evenly taken reports."""

GAP = -1
"""Stands before each report and at the end: no context reaches across."""

Numbers = NDArray[np.int32]


class Draft:
    """Proposes how a report goes on, from those seen in training.

    Attributes:
        tokens: all reports one after the other, `GAP` before each and at the end
        order: places in `tokens`, sorted by the `LONGEST` tokens before each, read backwards
    """

    def __init__(self, tokens: Numbers, order: Numbers) -> None:
        self.tokens, self.order = tokens, order
        # Their elements come as int, several times sooner than an array's.
        self._tokens, self._order = tokens.data, order.data

    @classmethod
    def build(cls, reports: Sequence[Sequence[int]], largest: int = LARGEST) -> Draft:
        """From the token ids of each report, its closing token included; the same reports in the
        same order give the same arrays.

        Raises:
            InputError: an id is negative.
        """
        total = sum(len(report) + 1 for report in reports)
        parts: list[Sequence[int]] = []
        for report in reports[:: -(-total // largest) or 1]:
            if len(report) and min(report) < 0:
                raise InputError(f"token ids cannot be negative; a report has {min(report)}.")
            parts += [[GAP], report]
        parts.append([GAP])
        tokens = np.concatenate([np.asarray(part, np.int32) for part in parts])
        return cls(tokens, _sorted_places(tokens))

    def tensors(self) -> dict[str, Numbers]:
        """Arrays to store, for `of`."""
        return {"tokens": self.tokens, "order": self.order}

    @classmethod
    def of(cls, tensors: Mapping[str, Any]) -> Draft:
        """From what `tensors` gave, arrays or CPU tensors.

        Raises:
            InputError: they are not of a draft.
        """
        if tensors.keys() != {"tokens", "order"}:
            raise InputError(f"a draft has tokens and order, not {', '.join(sorted(tensors))}.")
        tokens, order = (
            np.ascontiguousarray(tensors[name], np.int32) for name in ("tokens", "order")
        )
        if tokens.ndim != 1 or order.ndim != 1 or len(order) + 1 != len(tokens):
            raise InputError(
                f"the draft has places of shape {order.shape} for tokens of shape {tokens.shape}; "
                "one fewer is right. Train the report part again."
            )
        if len(order) and (order.min() < 1 or order.max() >= len(tokens)):
            raise InputError("the draft's places lie outside its tokens. Train the report again.")
        return cls(tokens, order)

    def propose(self, report: Sequence[int], most: int) -> list[int]:
        """Up to `most` tokens that may follow `report`, the ids written so far from its first on.

        At each step the most frequent token after the places whose past agrees with the longest
        end of the report, until it is less than `LIKELY`; none if the last token is unknown.
        """
        places = self._places(report)
        tokens = self._tokens
        proposed: list[int] = []
        likely = 1.0
        while places and len(proposed) < most:
            following = [tokens[place] for place in places]
            token, count = Counter(following).most_common(1)[0]
            likely *= count / len(places)
            if token == GAP or likely < LIKELY:
                break
            proposed.append(token)
            places = [p + 1 for p, each in zip(places, following, strict=True) if each == token]
        return proposed

    def _places(self, report: Sequence[int]) -> list[int]:
        """Up to `FOLLOWED` of the places that the longest possible end of `report` stands
        before."""
        recent = list(report[-LONGEST:])
        context = recent if len(recent) == LONGEST else [GAP, *recent]
        low, high = 0, len(self._order)
        for depth, token in enumerate(reversed(context), start=1):
            first = self._bisect(low, high, depth, token)
            stop = self._bisect(first, high, depth, token + 1)
            if first == stop and depth == 1:
                return []
            if first == stop:
                break
            low, high = first, stop
        step = -(-(high - low) // FOLLOWED) or 1
        return self._order[low:high:step].tolist()

    def _bisect(self, low: int, high: int, depth: int, token: int) -> int:
        """The first of the places `low` to `high`, alike in what stands nearer, whose token at
        `depth` before is not below `token`."""
        tokens, order = self._tokens, self._order
        while low < high:
            middle = (low + high) // 2
            if tokens[order[middle] - depth] < token:
                low = middle + 1
            else:
                high = middle
        return low


def _sorted_places(tokens: Numbers) -> Numbers:
    """Every place but the first, by the `LONGEST` tokens before it, the nearest first."""
    # Ranks of single tokens, then of two, four, ... up to each place, from the ranks of halves.
    rank = np.unique(tokens, return_inverse=True)[1].astype(np.int64)
    reach = 1
    while reach < LONGEST:
        earlier = np.zeros_like(rank)  # 0: before the first
        earlier[reach:] = rank[:-reach] + 1
        rank = np.unique(rank * (len(rank) + 1) + earlier, return_inverse=True)[1]
        reach *= 2
    return (np.argsort(rank[:-1], kind="stable") + 1).astype(np.int32)
