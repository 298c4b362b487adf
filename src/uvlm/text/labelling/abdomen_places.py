"""Where a lesion lies, by the words of its own sentence.

By its adjective ("renal cyst"), what follows it ("a cyst in the kidney") or what comes before it
("the kidney has a cyst"); not what it only touches.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from uvlm.text.labelling.abdomen_words import (
    BY_NAME,
    OTHER,
    SEGMENT,
    SEGMENTED,
    SETTLED,
    TOUCHES,
    WORDS,
)
from uvlm.text.labelling.context import Sentence

__all__ = ["ORGANS", "Spot", "find_places", "find_spots"]

ORGANS = frozenset({"liver", "kidney", "pancreas", OTHER})
"""Kinds of words that are places."""

_NOT_AN_ADJECTIVE = re.compile(
    r"\b(?:in|of|on|at|is|are|was|were|with|within|has|have|had|contain\w*|show\w*|without|no|to"
    r"|from|the|a|an|there|normal|unremarkable|demonstrat\w*|for|by|and|or|but|not)\b|[,;:()]"
)
_JOINED = re.compile(
    r"[ ,/&]*(?:(?:and|or|as well as|plus)\b)?(?: ?(?:in|of|within|to|the|both|right|left|bilateral"
    r"|upper|lower|mid|pole|lobe|lobes|parenchyma|head|body|tail|neck|process|segments?)\b)*[ /]*"
)
_LIVER = re.compile(r"\b(?:liver|hepatic|hepat)")
_OF = re.compile(r"[ ,/&()\dab-]*(?:of|in|within) (?:(?:the|both|left|right) )*")
_AS_IN_LUNG = re.compile(r"\b(?:nodul|opacit|ground|consolid|solid|mass|infiltr)")
_NEAR = 25
"""Words of interest that are looked at on either side of a lesion."""
_BETWEEN = re.compile(r"\bbetween (?:the )?(?:\w+ ){0,2}?$")


class Spot(NamedTuple):
    """A word of interest in a sentence."""

    kind: str
    start: int
    end: int


def find_spots(sentence: Sentence, *, segmented: bool) -> list[Spot]:
    """Every word of interest; a numbered segment is given to the liver or to something else.

    `segmented` says whether what was spoken of before is something else that has segments.
    """
    spots = [Spot(m.lastgroup or "", *m.span()) for m in WORDS.finditer(sentence.low)]
    return [
        spot._replace(kind=_whose(sentence, spot, following, segmented))
        if spot.kind == SEGMENT
        else spot
        for spot, following in zip(spots, [*spots[1:], None], strict=False)
    ]


def _whose(sentence: Sentence, segment: Spot, following: Spot | None, segmented: bool) -> str:
    low = sentence.low
    if following and _OF.fullmatch(low, segment.end, following.start):
        return following.kind if following.kind in ORGANS else "liver"
    clause = sentence.clause_at(segment.start)
    if sentence.names(_LIVER, clause):
        return "liver"
    if sentence.names(SEGMENTED, clause):
        return OTHER
    # "Segment 6" alone: of the lung, if that was spoken of and this looks like it.
    lung = segmented and sentence.names(_AS_IN_LUNG, clause)
    return OTHER if lung else "liver"


def find_places(sentence: Sentence, spots: list[Spot], number: int) -> frozenset[str]:
    """The organs that the lesion `spots[number]` lies in by its own sentence."""
    low, lesion = sentence.low, spots[number]
    clause = sentence.clause_at(lesion.start)
    all_before = [s for s in spots[max(0, number - _NEAR) : number] if s.kind in ORGANS]
    before = [s for s in all_before if s.start >= clause[0]]
    if before and _is_adjective(low, before[-1], lesion):
        return _chain_back(low, before)
    after = _organs_after(low, clause[1], spots[number + 1 : number + _NEAR])
    if after and _BETWEEN.search(low, max(lesion.end, after[0].start - 40), after[0].start):
        return frozenset({OTHER})
    if after := _own_places(low, after):
        return _chain_on(low, after)
    if before := _own_places(low, before):
        return _chain_back(low, before)
    elsewhere = _own_places(low, all_before)
    return frozenset({elsewhere[-1].kind}) if elsewhere else frozenset()


def _organs_after(low: str, end: int, spots: list[Spot]) -> list[Spot]:
    """The organs between a lesion and the next one."""
    after: list[Spot] = []
    for spot in spots:
        if spot.start >= end:
            break
        if spot.kind in ORGANS:
            after.append(spot)
        elif spot.kind == "lesion" or spot.kind in BY_NAME:
            # "a lesion of the liver and renal cysts": the adjective is the next one's.
            while after and _is_adjective(low, after[-1], spot):
                after.pop()
            if after:
                break
    return after


def _own_places(low: str, organs: list[Spot]) -> list[Spot]:
    """Without those that a lesion only touches, "adjacent to the spleen and left kidney"."""
    kept: list[Spot] = []
    beside: Spot | None = None
    for spot in organs:
        if TOUCHES.search(low, max(0, spot.start - 60), spot.start) or (
            beside and _JOINED.fullmatch(low, beside.end, spot.start)
        ):
            beside = spot
        else:
            kept.append(spot)
            beside = None
    return kept


def _is_adjective(low: str, organ: Spot, lesion: Spot) -> bool:
    """Whether an organ's name belongs to the lesion after it: "renal cortical cyst"."""
    between = low[organ.end : lesion.start]
    return len(between.split()) <= 3 and not _NOT_AN_ADJECTIVE.search(between)


def _chain_on(low: str, spots: list[Spot]) -> frozenset[str]:
    """The first organ and those joined to it, "liver, pancreas and left kidney"."""
    chain = [spots[0]]
    for spot in spots[1:]:
        if not _JOINED.fullmatch(low, chain[-1].end, spot.start):
            break
        chain.append(spot)
    while len(chain) > 1 and SETTLED.match(low, chain[-1].end):
        chain.pop()
    return frozenset(s.kind for s in chain)


def _chain_back(low: str, spots: list[Spot]) -> frozenset[str]:
    """The last organ and those joined to it from before."""
    chain = [spots[-1]]
    for spot in reversed(spots[:-1]):
        if not _JOINED.fullmatch(low, spot.end, chain[-1].start):
            break
        chain.append(spot)
    return frozenset(s.kind for s in chain)
