"""The sentences of a report, what each of them states, and which lesions it may speak of.

Labellers read a text of their own (cleaned, cut at line ends); what they found is brought back to
the characters of the sentence it stands in. No torch import.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from uvlm.inference.evidence.measured import measured
from uvlm.inference.evidence.sizes import sizes_in
from uvlm.inference.evidence.structures import labels_of
from uvlm.inference.evidence.types import Lesion, SentenceEvidence, StatedFinding
from uvlm.text.cleaning import split_sections, split_sentences
from uvlm.text.labelling.abdomen import ABDOMEN
from uvlm.text.labelling.chest import CHEST
from uvlm.text.labelling.protocol import Evidence, Labeller, Section

__all__ = [
    "as_large",
    "labeller_for",
    "on_side",
    "read_report",
    "sections_of",
    "spoken_of",
]


def labeller_for(region: str) -> Labeller:
    """The labeller that reads reports of a body region."""
    return ABDOMEN if region == "abdomen" else CHEST


def sections_of(report: str) -> list[tuple[str, Section]]:
    """Every sentence in the order of the text, and the section it stands in."""
    findings, impression = map(split_sentences, split_sections(report))
    left: dict[Section, list[str]] = {"findings": findings, "impression": impression}
    current: Section = "findings"
    found: list[tuple[str, Section]] = []
    for sentence in split_sentences(report):
        if left[current][:1] != [sentence]:
            other: Section = "impression" if current == "findings" else "findings"
            current = other if left[other][:1] == [sentence] else current
        left[current] = left[current][1:]
        found.append((sentence, current))
    return found


def read_report(
    report: str, labeller: Labeller, probabilities: Mapping[str, float] | None = None
) -> tuple[SentenceEvidence, ...]:
    """Each sentence with the findings it states and the sizes it names.

    Args:
        probabilities: of the class head, per label
    """
    sentences = sections_of(report)
    (labels,) = labeller.label([report])
    stated: dict[int, list[StatedFinding]] = {}
    for item, spot in _placed(labels.evidence, [text for text, _ in sentences]):
        text = sentences[spot.sentence][0]
        finding = StatedFinding(
            label=item.label,
            status=item.status,
            words=text[spot.start : spot.end],
            start=spot.start,
            end=spot.end,
            sides=tuple(sorted(item.sides)),
            probability=(probabilities or {}).get(item.label),
        )
        stated.setdefault(spot.sentence, []).append(finding)
    return tuple(
        SentenceEvidence(
            text=text,
            section=section,
            findings=tuple(sorted(stated.get(index, []), key=lambda f: (f.start, f.end))),
            sizes_mm=tuple(mm for size in sizes_in(text) for mm in size.mm),
        )
        for index, (text, section) in enumerate(sentences)
    )


def spoken_of(sentence: SentenceEvidence, lesions: Sequence[Lesion]) -> tuple[int, ...]:
    """Indices of the lesions that a sentence may speak of.

    Those of the classes it says are, or may be, there; on the side it names; where it names
    sizes of them and some are as large, those.
    """
    sizes = measured(sentence)
    found: dict[int, None] = {}
    for finding in sentence.findings:
        if finding.status not in ("present", "uncertain"):
            continue
        here = [
            i
            for i, lesion in enumerate(lesions)
            if finding.label in labels_of(lesion.name) and on_side(lesion, finding.sides)
        ]
        mine = [size.largest for of, size in sizes if of.label == finding.label]
        fitting = [i for i in here if any(as_large(lesions[i], mm) for mm in mine)]
        found |= dict.fromkeys(fitting or here)
    return tuple(sorted(found))


def on_side(lesion: Lesion, sides: tuple[str, ...]) -> bool:
    """Whether a lesion may lie on one of the named sides; no side named is any side."""
    return not sides or lesion.side in (None, "both", *sides)


def as_large(lesion: Lesion, mm: float) -> bool:
    """Whether a lesion's diameter is `mm` to within 5 mm or 30 % of it.

    Readers differ by a few millimetres, and a mask's edge lies a voxel in or out.
    """
    return abs(lesion.diameter_mm - mm) <= max(5.0, 0.3 * mm)


class _Spot(NamedTuple):
    sentence: int
    start: int
    end: int


def _placed(
    evidence: Iterable[Evidence], sentences: Sequence[str]
) -> Iterable[tuple[Evidence, _Spot]]:
    """Where in `sentences` each piece of evidence stands; both are in the order of the text.

    White space is passed over, which no step of cleaning keeps, and so are the ends of sentences,
    which a labeller may put elsewhere.
    """
    places = [(i, at) for i, text in enumerate(sentences) for at in _signs(text)]
    whole = "".join(sentences[i][at] for i, at in places)
    offset, read = -1, ""
    seen: set[tuple[str, int, int]] = set()
    for item in evidence:
        key = (item.label, item.start, item.end)
        # The same again is said by the next sentence of the same words.
        if item.sentence != read or key in seen:
            # Where a line ends a sentence, the labeller puts a full stop of its own.
            wanted = "".join(item.sentence.split()).rstrip(".")
            found = whole.find(wanted, offset + 1)
            # Sections may stand in another order than the labeller reads them.
            found = found if found >= 0 else whole.find(wanted)
            if found < 0:
                continue
            offset, read, seen = found, item.sentence, set()
        seen.add(key)
        own = _signs(item.sentence)
        first = offset + sum(at < item.start for at in own)
        last = min(offset + sum(at < item.end for at in own), len(places)) - 1
        index, start = places[first]
        end = max(at for i, at in places[first : last + 1] if i == index) + 1
        yield item, _Spot(index, start, end)


def _signs(text: str) -> list[int]:
    """Where a text is not white space."""
    return [at for at, sign in enumerate(text) if not sign.isspace()]
