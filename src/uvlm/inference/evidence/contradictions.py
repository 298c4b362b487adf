"""Where a report, the class head, the mask and the heat maps do not fit together.

Each check is silent where its witness is not to be believed: the class head beside its operating
points, a class of the mask that the segmentation hardly found in validation, a size that measures
something else than a lesion's diameter. No torch import.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from uvlm.inference.evidence.disputes import other_side, other_size, says_both
from uvlm.inference.evidence.structures import labels_of
from uvlm.inference.evidence.types import (
    Contradiction,
    Lesion,
    SentenceEvidence,
    StatedFinding,
)
from uvlm.inference.evidence.witnesses import Witnesses, in_words, percent

__all__ = ["contradictions_of"]

CLEAR_ML = 1.0
CLEAR_MM = 10.0
CLEAR_VOXELS = 4
"""Volume, diameter, and diameter in voxels of what the segmentation saw, from which on a piece of
the mask speaks against "there is none"."""

_NOT_ALL = re.compile(
    r"\b(?:other|another|additional|additionally|further|new|newly|else|elsewhere|second|more|rest"
    r"|remain\w*|previous\w*|prior|resol\w+|regress\w*|disappear\w*|significant\w*|enlarged"
    r"|patholog\w*|suspicious|large|massive|marked|obvious|active|infiltrat\w*|except|besides|apart"
    r"|aside)\b",
    re.I,
)
"""Words of a denial that is not of everything."""


class _Denial(NamedTuple):
    sentence: int
    sides: tuple[str, ...]
    """() for all of it."""


def contradictions_of(
    sentences: Sequence[SentenceEvidence], witnesses: Witnesses
) -> tuple[Contradiction, ...]:
    """All there are, in order of the sentences, then what no sentence speaks of."""
    found: list[Contradiction] = [*_itself(sentences)]
    for index, sentence in enumerate(sentences):
        stated: dict[str, StatedFinding] = {}
        for finding in sentence.findings:
            if finding.status == "present":
                stated.setdefault(finding.label, finding)
        for finding in stated.values():
            found += _unlikely(index, finding, witnesses)
            found += other_side(index, finding, sentences, witnesses)
        found += other_size(index, sentence, witnesses)
    found += _overlooked(sentences, witnesses)
    last = len(sentences)
    return tuple(sorted(found, key=lambda c: last if c.sentence is None else c.sentence))


def _itself(sentences: Sequence[SentenceEvidence]) -> Iterator[Contradiction]:
    """One sentence states what another denies; once per label, at the later of the two."""
    stated: dict[str, list[int]] = {}
    denied: dict[str, list[int]] = {}
    for index, sentence in enumerate(sentences):
        here = {f.label: f for f in sentence.findings if f.status == "present"}
        for label in here:
            stated.setdefault(label, []).append(index)
        for finding in sentence.findings:
            if finding.status != "absent" or finding.label in here or finding.sides:
                continue
            if not _NOT_ALL.search(sentence.text):
                denied.setdefault(finding.label, []).append(index)
    for label in sorted(stated.keys() & denied.keys()):
        yield Contradiction(
            kind="itself",
            message=f"The report says that there is {in_words(label)}, and that there is none.",
            sentence=max(stated[label][0], denied[label][0]),
            label=label,
        )


def _unlikely(index: int, finding: StatedFinding, witnesses: Witnesses) -> Iterator[Contradiction]:
    """The report says it is there, the class head denies it."""
    known = witnesses.point(finding.label)
    if known is None or known[1].low is None or known[0] > known[1].low:
        return
    yield Contradiction(
        kind="denied",
        message=f"The report says there is {in_words(finding.label)}, but the image classifier "
        f"finds it unlikely ({percent(known[0])}).",
        sentence=index,
        label=finding.label,
    )


def _overlooked(
    sentences: Sequence[SentenceEvidence], witnesses: Witnesses
) -> Iterator[Contradiction]:
    """What the report denies, or is silent on, and class head or mask show; once per class."""
    denied, granted = _denied(sentences)
    for label in dict.fromkeys([*witnesses.probabilities, *denied]):
        seen = _confident(label, witnesses)
        if label not in denied:
            if seen is not None and label not in granted:
                yield Contradiction(
                    kind="unmentioned",
                    message=f"No sentence mentions {in_words(label)}, but {seen}.",
                    label=label,
                )
            continue
        # The head tells no sides: what is denied of one says nothing of what it found.
        whole = next((one for one in denied[label] if not one.sides), None)
        against = [(whole, seen)] if whole is not None and seen is not None else []
        against += _shown(label, denied[label], granted, witnesses)
        for (sentence, sides), what in against[:1]:
            side = f" on the {sides[0]}" if sides else ""
            yield Contradiction(
                kind="denied",
                message=f"The report says there is no {in_words(label)}{side}, but {what}.",
                sentence=sentence,
                label=label,
            )


def _confident(label: str, witnesses: Witnesses) -> str | None:
    """What the class head says where it is confident of a label."""
    known = witnesses.point(label)
    if known is None or known[1].high is None or known[0] < known[1].high:
        return None
    return f"the image classifier is confident of it ({percent(known[0])})"


def _shown(
    label: str, denials: Sequence[_Denial], granted: set[str], witnesses: Witnesses
) -> list[tuple[_Denial, str]]:
    """Denials of what the mask shows in a clear size, and what it shows."""
    known = witnesses.point(label)
    if known is not None and known[1].low is not None and known[0] <= known[1].low:
        return []  # the class head denies it too
    found = []
    for denial in denials:
        lesions = witnesses.shown(label)
        shown = [x for x in lesions if _is_clear(x, denial.sides, granted, witnesses)]
        if shown:
            largest = max(shown, key=lambda lesion: lesion.volume_ml)
            size = f"{largest.diameter_mm:.0f} mm, {largest.volume_ml:.1f} ml"
            found.append((denial, f"the segmentation shows it ({size})"))
    return found


def _is_clear(
    lesion: Lesion, sides: tuple[str, ...], granted: set[str], witnesses: Witnesses
) -> bool:
    """Whether a piece of the mask cannot be anything but what is denied, where it is denied."""
    if lesion.name not in witnesses.sure_classes or lesion.volume_ml < CLEAR_ML:
        return False
    if lesion.diameter_mm < max(CLEAR_MM, CLEAR_VOXELS * witnesses.spacing_mm):
        return False
    if granted.intersection(labels_of(lesion.name)):
        return False
    return not sides or lesion.side in ("both", *sides)


def _denied(
    sentences: Sequence[SentenceEvidence],
) -> tuple[Mapping[str, list[_Denial]], set[str]]:
    """Label -> what denies it, and the labels of which more is said than that.

    A denial beside a finding in one section ("a nodule ..., no other nodule") denies something
    else; findings that deny what the impression states do not.
    """
    granted = {
        (finding.label, sentence.section)
        for sentence in sentences
        for finding in sentence.findings
        if finding.status != "absent"
    }
    denied: dict[str, list[_Denial]] = {}
    for index, sentence in enumerate(sentences):
        for finding in sentence.findings:
            if finding.status != "absent" or (finding.label, sentence.section) in granted:
                continue
            denials = denied.setdefault(finding.label, [])
            # Both sides named one by one: which is denied is not known.
            if len(finding.sides) < 2 or says_both(sentence.text, finding):
                sides = finding.sides if len(finding.sides) == 1 else ()
                denials.append(_Denial(index, sides))
    return denied, {label for label, _ in granted}
