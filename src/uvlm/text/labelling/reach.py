"""How far the words that deny, doubt or recall reach within a clause.

"No" and "without" reach forward over a list, "was not seen" backward over all before it, "other
than" protects what follows. A clause is gone through once; each thing it names then asks here, so
that a clause of a thousand things is no slower than a thousand of one.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from uvlm.text.labelling.cues import Cue

__all__ = ["Before", "Reach", "directly"]

_NEW_ITEM = re.compile(
    r"[,:] (?=there (?:is|are|was|were)\b|(?:and )?an? "
    # "No mass, small or large" goes on.
    r"|(?:trace|tiny|minimal|mild|moderate|slight|small (?:right|left|bilateral|amount|hiatal))\b"
    r"(?!(?: [\w-]+){0,5} n?or\b))"
)
_TORN = ("- ", "– ")
_DENIALS = frozenset({"before", "after", "gone"})
_MEASURED = re.compile(r"\d ?(?:mm|cm)\b")
_EARLIER = re.compile(r"\b(?:previous|prior|earlier|old|former|last|described|defined|mentioned)")
_CAUSE = re.compile(
    r"\b(?:secondary|due|related) to\b|\b(?:because of|caused by|in terms of|suggest|in favou?r of"
    r"|compatible with|consistent with)"
)


class Before(NamedTuple):
    """The cues before a place that reach it."""

    denial: Cue | None = None
    """The last "no" or "without". It reaches over a list ("no nodule, mass or effusion") until a
    new item opens ("no effusion, a nodule ...") or, once its verb has passed, a comma ("no mass was
    seen, hiatal hernia")."""

    exception: Cue | None = None
    """The last "other than", until a comma."""

    doubt: Cue | None = None
    """The last "possible", until a comma."""

    past: Cue | None = None
    """The last "history of", until a comma or verb."""


class Reach:
    """What the cues of one clause, in order, say about places in it."""

    def __init__(self, low: str, cues: Sequence[Cue], clause: tuple[int, int]) -> None:
        self._low, self._cues = low, cues
        self._starts = [cue.start for cue in cues]
        self._ends = [cue.end for cue in cues]
        self._states = _states(low, cues)
        self._denials = _denials_after(low, cues)
        self._measured = [match.end() for match in _MEASURED.finditer(low, *clause)]
        self._doubts = [n for n, cue in enumerate(cues) if cue.kind == "maybe_before"]
        self._commas = [cue.start for cue in cues if cue.kind == "pause" and low[cue.start] == ","]
        self._pauses = [cue.start for cue in cues if cue.kind == "pause"]

    def before(self, start: int) -> Before:
        """What reaches a thing that begins at `start`."""
        return self._states[bisect_right(self._ends, start)]

    def denied_within(self, start: int, end: int) -> bool:
        """Whether a denial stands inside of what was matched."""
        first, last = bisect_left(self._starts, start), bisect_right(self._ends, end)
        return any(cue.kind in _DENIALS for cue in self._cues[first:last])

    def excepted_after(self, end: int) -> bool:
        """Whether "other than" stands right after: "no effusion other than a thin layer"."""
        number = bisect_left(self._starts, end)
        return (
            number < len(self._cues)
            and self._cues[number].kind == "except"
            and not self._low[end : self._cues[number].start].strip()
        )

    def denied_after(self, end: int) -> Cue | None:
        """The "was not seen" that speaks of a thing that ends at `end`.

        What was measured was seen, if not in the past: "an effusion of 2 cm, a mass was not seen".
        """
        denial = self._denials[bisect_left(self._starts, end)]
        if denial is None:
            return None
        measured = bisect_left(self._measured, end)
        pause = bisect_left(self._pauses, denial.start) - 1
        if measured < len(self._measured) and pause >= 0:
            last = self._pauses[pause]
            apart = self._measured[measured] <= last and not directly(
                self._low, self._cues[bisect_left(self._starts, last)], denial
            )
            if apart and not _EARLIER.search(self._low, end, denial.end):
                return None
        return denial

    def doubted_after(self, end: int) -> Cue | None:
        """The doubt behind a thing, up to a comma."""
        comma = bisect_left(self._commas, end)
        limit = self._commas[comma] if comma < len(self._commas) else len(self._low)
        for number in self._doubts[bisect_left(self._doubts, bisect_left(self._starts, end)) :]:
            cue = self._cues[number]
            if cue.start > limit:
                return None
            if self._low[cue.start] != "?" or _asked(self._low[end : cue.start]):
                return cue
        return None


def directly(low: str, pause: Cue, cue: Cue) -> bool:
    """Whether a denial follows right after a pause, without a subject of its own."""
    return cue.kind != "verb" and not low[pause.end : cue.start].strip()


def _states(low: str, cues: Sequence[Cue]) -> list[Before]:
    """What reaches on after the first `n` cues, for every n."""
    state, spoken = Before(), False
    states = [state]
    for cue in cues:
        if cue.kind == "before":
            state, spoken = state._replace(denial=cue), False
        elif cue.kind == "verb":
            state, spoken = state._replace(past=None), True
        elif cue.kind == "except":
            state = state._replace(exception=cue)
        elif cue.kind == "maybe_after":
            state = state._replace(doubt=cue)
        elif cue.kind == "history":
            state = state._replace(past=cue)
        elif cue.kind == "pause" and low[cue.start] in ",:":
            ends = (spoken and low[cue.start] == ",") or _NEW_ITEM.match(low, cue.start)
            state = Before(denial=None if ends else state.denial)
        states.append(state)
    return states


def _denials_after(low: str, cues: Sequence[Cue]) -> list[Cue | None]:
    """The denial that reaches back to before the cue `n`, for every n and the end."""
    found: list[Cue | None] = [None]
    # The first "was not seen" and the like further on, and the pause before it.
    denial: Cue | None = None
    pause_before = gone_next = False
    following: Cue | None = None
    for cue in reversed(cues):
        last = found[-1]
        if cue.kind == "rel":
            # "a cyst in which no wall / where a wall was not seen": speaks of something else;
            # "a cyst which was not seen" does not.
            own = following is not None and following.kind == "after" and low[cue.start] == "w"
            last = following if own and following and following.start <= cue.end + 1 else None
            denial = last
        elif cue.kind in ("after", "gone"):
            last = denial = cue
            pause_before, gone_next = False, cue.kind == "gone"
        elif cue.kind == "before" and low[max(0, cue.start - 2) : cue.start] in _TORN:
            # "effusion - no thickening was seen": a word pair torn apart, both are denied.
            last = cue
        elif cue.kind == "verb":
            # "is smaller and was not seen": a pause stands right before the denial.
            last = denial if gone_next or pause_before else None
        elif cue.kind == "pause" and denial is not None and following is denial:
            pause_before = directly(low, cue, denial)
        following = cue
        found.append(last)
    return found[::-1]


def _asked(between: str) -> bool:
    """Whether a question mark asks about what stands before `between`.

    It reaches back to the bracket it stands in, "effusion (mesothelioma?)" has an effusion, unless
    it stands there alone: "effusion (?)". A cause is asked about for itself.
    """
    return not between.strip(" (") or not (set("(,;?") & set(between) or _CAUSE.search(between))
