"""Lengths that a sentence names, in millimetres. No torch import.

"12 x 9 mm" is one size of two lengths. Bounds ("less than 4 mm"), distances, the thickness of
slices and what something measured earlier ("previously 6 mm") are no sizes of a finding.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Size", "sizes_in"]

_NUMBER = r"\d{1,4}(?:[.,]\d{1,2})?"
_SIZE = re.compile(
    rf"(?<![\w.,])(?P<numbers>{_NUMBER}(?:\s?(?:mm|cm)?\s?(?:x|×|\*|-|–|to|by)\s?{_NUMBER}){{0,2}})"
    r"[\s-]?(?P<unit>mm|cm|millimet(?:er|re)s?|centimet(?:er|re)s?)(?![\w³²^])",
    re.I,
)
_BOUND = re.compile(
    r"(?:less|smaller|fewer|larger|greater|more|thicker|wider) than(?: or equal to)?\s*$"
    r"|(?:under|below|over|above|exceed\w*|at least|[<>≤≥])\s*$",
    re.I,
)
_OTHER = re.compile(
    r"(?:slices?|sections?|cuts?|interval)\s+(?:thickness\s+)?(?:of\s+)?$|distance\s+(?:of\s+)?$",
    re.I,
)
_OTHER_AFTER = re.compile(
    r"[\s-]+(?:(?:thick\s+)?(?:slice|section|cut)s?\b|slice thickness|intervals?\b|thresholds?\b"
    r"|(?:away\s+)?from\b|(?:distal|proximal|superior|inferior|above|below|beneath)\b)",
    re.I,
)
_EARLIER = re.compile(
    r"\b(?:previous(?:ly)?|prior|formerly|earlier|initially|versus|vs\.?)[\s:,(]*"
    r"(?:(?:measur\w+|was|were|size|diameter|about|approximately|of|at|as)\s+){0,3}$"
    r"|\b(?:was|were|had been|(?<!ranging )(?<!ranges )(?<!varying )from)\s+$",
    re.I,
)
"""But "was measured as 8 mm" is said of today too."""

_EARLIER_AFTER = re.compile(
    r"\s*(?:(?:on|in|at) (?:the |an? |his |her )?"
    r"(?:prior|previous|earlier|former|preceding|old|last)\b|in (?:19|20)\d\d\b)"
    r"|\s+(?:previously|formerly|earlier|before|initially)\b(?!\W*(?:measur\w+\s+)?\d)",
    re.I,
)
_GROWN = re.compile(r"\bfrom\s+$", re.I)
_TO = re.compile(r"\bto\b|[\dm]to\b", re.I)

_LOOK_BACK = 30
"""Characters before a length in which a word that makes it another thing is looked for."""


class Size(NamedTuple):
    """One size and where it stands."""

    mm: tuple[float, ...]
    """Its lengths, as written."""

    start: int
    end: int
    """Characters of the text."""

    @property
    def largest(self) -> float:
        return max(self.mm)


def sizes_in(text: str) -> tuple[Size, ...]:
    """The sizes that `text` names, in order."""
    found = []
    for match in _SIZE.finditer(text):
        before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
        if _BOUND.search(before) or _OTHER.search(before):
            continue
        if _OTHER_AFTER.match(text, match.end()):
            continue
        scale = 10.0 if match["unit"].lower().startswith("c") else 1.0
        numbers = re.findall(_NUMBER, match["numbers"])
        if _EARLIER.search(before) or _EARLIER_AFTER.match(text, match.end()):
            if not (_GROWN.search(before) and _TO.search(match["numbers"])):
                continue
            numbers = numbers[-1:]  # "from 6 to 12 mm"
        mm = tuple(round(float(number.replace(",", ".")) * scale, 2) for number in numbers)
        if max(mm) > 0:
            found.append(Size(mm, *match.span()))
    return tuple(found)
