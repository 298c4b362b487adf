"""Which finding of a sentence a size belongs to. No torch import.

A size belongs to the nearest thing that is named: a finding, or an organ or vessel whose size it is
("the liver measures 17 cm"), but not one that only says where something lies ("in the liver"). Of
several sizes a finding has the nearest; sizes in a row ("8 mm and 6 mm") count as one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from uvlm.inference.evidence.sizes import Size, sizes_in
from uvlm.inference.evidence.types import SentenceEvidence, StatedFinding

__all__ = ["measured"]

_ORGAN = re.compile(
    r"\b(?:aort\w*|arter(?:y|ies)|veins?|vena cava|vessels?|trunk|ducts?|choledoch\w*|liver|spleen"
    r"|kidneys?|pancreas|gallbladder|bladder|prostate|uterus|ovar(?:y|ies)|thyroid|heart|atri(?:um|a)"
    r"|ventricles?|trachea|bronch(?:us|i)|o?esophagus|stomach|bowel|colon|appendix|thymus|adrenals?"
    r"|glands?|vertebrae?|pericardium|lymph nodes?|nodes?|catheters?|tubes?|stents?|calculi?"
    r"|calculus|stones?|hernias?)\b",
    re.I,
)
_PLACE = re.compile(
    r"\b(?:in|inside|within|at|of|to|near|from|on|into|by|behind|along|involving|beside|beneath|under"
    r"|above|below|between|around|touching|abutting)\s+"
    r"(?:(?:the|a|an|its|his|her)\s+)?(?:(?!and\b|or\b|with\b|the\b|of\b)[a-z-]+\s+){0,3}$",
    re.I,
)
"""Before an organ that is only where something lies."""

_OF_ITS_OWN = re.compile(
    r"\b(?:diameters?|sizes?|calib\w+|widths?|lengths?|heights?|spans?|dimensions?|thickness"
    r"|measurements?)\s+$",
    re.I,
)
_ROW = re.compile(r"\s*(?:,|/|&|\band\b|\bor\b|\bto\b|, and\b)?\s*", re.I)


def measured(sentence: SentenceEvidence) -> list[tuple[StatedFinding, Size]]:
    """Findings that are or may be there with the sizes they are said to have, in order of the
    text."""
    rows = _rows(sentence.text)
    if not rows:
        return []
    organs = _measured_organs(sentence)
    nearest: dict[int, tuple[int, list[Size]]] = {}
    for row in rows:
        start, end = row[0].start, row[-1].end
        apart = [max(f.start - end, start - f.end, 0) for f in sentence.findings]
        if not apart:
            break
        number = min(range(len(apart)), key=apart.__getitem__)
        if any(max(a - end, start - b, 0) <= apart[number] for a, b in organs):
            continue
        if number not in nearest or apart[number] < nearest[number][0]:
            nearest[number] = apart[number], row
    return [
        (sentence.findings[number], size)
        for number, (_, row) in sorted(nearest.items())
        if sentence.findings[number].status in ("present", "uncertain")
        for size in row
    ]


def _rows(text: str) -> list[list[Size]]:
    """Sizes, those in a row together."""
    rows: list[list[Size]] = []
    for size in sizes_in(text):
        if rows and _ROW.fullmatch(text, rows[-1][-1].end, size.start):
            rows[-1].append(size)
        else:
            rows.append([size])
    return rows


def _measured_organs(sentence: SentenceEvidence) -> Sequence[tuple[int, int]]:
    """Characters of the organs that a size may belong to."""
    text, found = sentence.text, []
    for match in _ORGAN.finditer(text):
        of_finding = any(
            (f.start < match.end() and match.start() < f.end) or 0 <= f.start - match.end() <= 1
            for f in sentence.findings
        )
        place = _PLACE.search(text, 0, match.start())
        own = place is not None and _OF_ITS_OWN.search(text, 0, place.start())
        if not of_finding and (place is None or own):
            found.append(match.span())
    return found
