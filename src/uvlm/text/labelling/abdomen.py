"""Lesions of liver, kidneys and pancreas in abdominal reports.

Reads tables of findings in RadGPT's grammar ("Liver lesion 1: Location: hepatic segment 2"),
tables of counts and running text. Every lesion that is named is given to an organ: by its own
sentence, the sentence before, or the heading it stands under. Cysts, masses, tumours and unspecific
dark spots count; stones, fat, size and what an operation left behind do not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from uvlm.registry import ABDOMEN_LABELS
from uvlm.text.labelling.abdomen_places import ORGANS, Spot, find_places, find_spots
from uvlm.text.labelling.abdomen_table import is_open, read_counts
from uvlm.text.labelling.abdomen_words import (
    BY_NAME,
    HEADING,
    KIND,
    LESION_COUNT,
    NOTHING,
    PRIMARY,
    REMOVED_AFTER,
    SEGMENTED,
    SKIPPED,
    TREATED_AFTER,
    TREATED_BEFORE,
)
from uvlm.text.labelling.context import Sentence, lowered, read_sentences
from uvlm.text.labelling.language import is_english
from uvlm.text.labelling.protocol import Evidence, Labels, Section, Status
from uvlm.text.sides import sides_in

__all__ = ["ABDOMEN", "AbdomenLabeller"]

_CLASS = dict(zip(("liver", "kidney", "pancreas"), ABDOMEN_LABELS, strict=True))
_NEXT_SECTION = re.compile(
    r"\b(?:findings|impressions?|conclusions?|report|results?|abdomen|liver|spleen|pancreas|kidneys?"
    r"|lower chest|lung bases?)\s*:|\n[ \t]*(?:\n|[a-z][a-z ,/&-]{2,40}:)"
)
# A line that begins a heading, a point or a paragraph ends the sentence of the line before.
_LINE_END = re.compile(
    r"(?<![.!?\s])[ \t]*\n"
    r"(?=[ \t]*(?:\n|[-•*]|\(?\d{1,2}[.)]|[A-Z][A-Za-z ,/&-]{2,40}\d?:))"
)
_ZERO = re.compile(r"\b(?:0|zero) (?:\w+ ){0,2}$")
_NOT_A_SPOT = re.compile(
    r"\b(?:fat|fatty|adipos\w+|\w*steato\w*|perfusion|sparing|geographic|infarct\w*|diffuse)\b"
)
_STONE = re.compile(r"\b(?:stones?|calcul\w+|calcif\w+)\b")
_TAKEN_FOR = re.compile(
    r"\b(?:in favou?r of|(?:compatible|consistent) with|represent\w*|secondary to|due to)"
    r" (?:\w+ ){0,5}?(?:fat|fatty|adipos\w+|\w*steato\w*|perfusion|sparing|stones?|calcul\w+)\b"
)
_BRIGHT, _DENSITIES = ("hyper", "high"), ("hypo", "hyper", "low", "high", "iso")
# No title: "Liver lesion 1:" is a lesion, "Cysts in the liver Note:" lacks a full stop.
_GOES_ON = re.compile(r"^s? ?\d|\w (?:note|comment|addendum|advice|recommendation)s? ?:$")
_DOUBTS_ALL = re.compile(r"exclude|ruled? out|cannot|could not")

_REMEMBERED = 20_000
_ENDS = re.compile(r"(?<=[.!?])\s|\n")


class _About(NamedTuple):
    """What the sentences so far are about, for a lesion that names no organ."""

    heading: frozenset[str] = frozenset()
    subject: frozenset[str] = frozenset()
    segmented: bool = False
    """Whether the last organ that was named is another one with numbered segments."""
    counting: bool = False
    """Whether the lines are those of a table of counts."""


_Found = tuple[tuple[Evidence, bool], ...]
"""What a sentence says, and whether it makes the class 1."""


class AbdomenLabeller:
    """See `Labeller`."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Section, _About], tuple[_Found, _About]] = {}

    @property
    def name(self) -> str:
        return "rules@abdomen3"

    @property
    def classes(self) -> tuple[str, ...]:
        return ABDOMEN_LABELS

    def label(self, reports: Sequence[str]) -> list[Labels]:
        """One `Labels` per report; all zeros without evidence where nothing is said, or not in
        English."""
        return [self._label(report) for report in reports]

    def _label(self, report: str) -> Labels:
        values = dict.fromkeys(ABDOMEN_LABELS, 0)
        evidence: list[Evidence] = []
        about, section = _About(), "findings"
        text = _LINE_END.sub(".\n", _described(report)) if is_english(report) else ""
        for sentence in read_sentences(text):
            if sentence.section != section:
                about, section = _About(), sentence.section
            found, about = self._read(sentence, about)
            for item, counts in found:
                evidence.append(item)
                values[item.label] |= counts
        return Labels(values=values, evidence=tuple(evidence))

    def _read(self, sentence: Sentence, about: _About) -> tuple[_Found, _About]:
        """`_read`, kept for the next time: reports of a hospital share most of their sentences."""
        key = (sentence.text, sentence.section, about)
        if key not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = _read(sentence, about)
        return self._known[key]


ABDOMEN = AbdomenLabeller()
"""Liver, kidney and pancreas lesion."""


def _described(report: str) -> str:
    """The report without what it says of the patient's past and of the technique."""
    report = report.replace("\r", "\n")
    low = lowered(report)
    kept, start = [], 0
    for skipped in SKIPPED.finditer(low):
        if skipped.start() < start:
            continue
        kept.append(report[start : skipped.start()])
        # Without a header after it the section is one sentence or line.
        following = _NEXT_SECTION.search(low, skipped.end()) or _ENDS.search(low, skipped.end())
        start = following.start() if following else len(report)
    return "\n".join([*kept, report[start:]])


def _read(sentence: Sentence, about: _About) -> tuple[_Found, _About]:
    """What a sentence says, and what the sentences so far are about after it."""
    low = sentence.low
    spots = find_spots(sentence, segmented=about.segmented)
    heading = HEADING.match(low)
    if heading:
        named = {s.kind for s in spots if s.end <= heading.end() and s.kind in ORGANS}
        if named:
            about = about._replace(heading=frozenset(named), subject=frozenset())
    counts = read_counts(low, about.counting)
    found = [
        _evidence(sentence, c.label, c.start, ("present" if c.some else "absent", c.start, c.end))
        for c in counts
    ]
    for number, spot in enumerate(spots):
        if spot.kind != "lesion" and spot.kind not in BY_NAME:
            continue
        # Asked first: cheaper than what is said of a lesion.
        labels = _labels_of(sentence, spots, number, about)
        decided = _decide(sentence, spot, heading) if labels else None
        if decided is None:
            continue
        status, start, end = decided
        for label in labels:
            gone = status == "present" and _was_removed(sentence, label, spot)
            outcome = ("history" if gone else status, start, end)
            found.append(_evidence(sentence, label, spot.start, outcome))
    organs = {s.kind for s in spots if s.kind in ORGANS}
    if organs:
        about = about._replace(
            subject=frozenset(organs) if len(organs) == 1 else frozenset(),
            segmented="liver" not in organs and SEGMENTED.search(low) is not None,
        )
    return tuple(found), about._replace(counting=is_open(low) or bool(about.counting and counts))


def _evidence(
    sentence: Sentence, label: str, at: int, decided: tuple[Status, int, int]
) -> tuple[Evidence, bool]:
    status, start, end = decided
    clause = sentence.text[slice(*sentence.clause_at(at))]
    words = sentence.text[start:end]
    item = Evidence(
        label=label,
        status=status,
        sentence=sentence.text,
        words=words,
        start=start,
        end=end,
        section=sentence.section,
        sides=sides_in(clause),
    )
    named = KIND.match(sentence.low, at)
    probable = status == "uncertain" and named and not _DOUBTS_ALL.search(words.lower())
    return item, status == "present" or bool(probable)


def _decide(
    sentence: Sentence, spot: Spot, heading: re.Match[str] | None
) -> tuple[Status, int, int] | None:
    """What is said of a lesion; None where it is a heading or no lesion after all."""
    low = sentence.low
    first, last = sentence.clause_at(spot.start)
    word = low[spot.start : spot.end]
    if word.startswith(_DENSITIES) and (
        _NOT_A_SPOT.search(low, first, last)
        or _TAKEN_FOR.search(low, spot.end)
        or (word.startswith(_BRIGHT) and _STONE.search(low, first, last))
    ):
        return None
    count = LESION_COUNT.match(low, spot.end)
    if count:
        nothing = NOTHING.fullmatch(count["value"] or count["number"] or count["zero"])
        return ("absent" if nothing else "present"), spot.start, count.end()
    if heading and spot.end < heading.end():
        rest = low[spot.end : heading.end()]
        if not _GOES_ON.search(rest):
            return None
    if _ZERO.search(low, max(0, spot.start - 30), spot.start):
        return "absent", spot.start, spot.end
    decided = sentence.decide(spot.start, spot.end)
    if decided.status == "absent":
        return decided
    past = TREATED_BEFORE.search(low, max(first, spot.start - 120), spot.start)
    if past:
        return "history", past.start(), spot.end
    gone = TREATED_AFTER.match(low, spot.end, last)
    if gone:
        return "history", spot.start, gone.end()
    return decided


def _was_removed(sentence: Sentence, label: str, spot: Spot) -> bool:
    """Whether the organ was operated on for the tumour: "renal cancer, after nephrectomy".

    Not where the tumour is said to lie on the other side.
    """
    if not PRIMARY.match(sentence.low, spot.start):
        return False
    operation = REMOVED_AFTER[label].match(sentence.low, spot.end)
    if not operation:
        return False
    first, _ = sentence.clause_at(spot.start)
    there = sides_in(sentence.low[first : operation.start("how")])
    return not there or not sides_in(operation["how"]) or bool(there & sides_in(operation["how"]))


def _labels_of(sentence: Sentence, spots: list[Spot], number: int, about: _About) -> list[str]:
    """The classes that a lesion belongs to; none where it lies in another organ or nowhere."""
    kinds = find_places(sentence, spots, number)
    if not kinds and spots[number].kind in BY_NAME:
        return [BY_NAME[spots[number].kind]]
    kinds = kinds or about.subject or about.heading
    return [label for organ, label in _CLASS.items() if organ in kinds]
