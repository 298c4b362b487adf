"""Where mask and heat maps speak against the side or the size that a report names.

The class head's map depends on nothing but the label, and points for labels alone that the head
recognises. No torch import.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from uvlm.inference.evidence.measured import measured
from uvlm.inference.evidence.sentences import as_large, on_side
from uvlm.inference.evidence.structures import labels_of
from uvlm.inference.evidence.types import Contradiction, Lesion, SentenceEvidence, StatedFinding
from uvlm.inference.evidence.witnesses import Witnesses, in_words, percent

__all__ = ["other_side", "other_size", "says_both"]

OTHER_SIDE = 0.8
"""Share of the heat on one side from which on it disputes the other."""

FOCAL = frozenset(
    {"Lung nodule", "Consolidation", "Liver lesion", "Kidney lesion", "Pancreas lesion"}
)
"""Labels of single lesions, whose sizes in a report are diameters."""

VOXELS = 2
"""A lesion must be as many voxels across, of what the segmentation saw, to be missed in a mask."""

_NOT_A_DIAMETER = re.compile(r"\bshort(?:est)?[- ]ax[ie]s\b|\bthick|\bdepth\b|\bdeep\b", re.I)
_BOTH = re.compile(r"\bboth\b|\bbi-?(?:lateral|bas|apical|hilar)", re.I)
_PAUSE = re.compile(r"[,;:.]")
_OTHER = {"left": "right", "right": "left"}


def other_side(
    index: int,
    finding: StatedFinding,
    sentences: Sequence[SentenceEvidence],
    witnesses: Witnesses,
) -> Iterator[Contradiction]:
    """Mask or heat map speak against a side that the report names."""
    named = finding.sides
    lesions = witnesses.shown(finding.label)
    seen = None
    if lesions:
        bare = [side for side in named if not any(on_side(x, (side,)) for x in lesions)]
        if bare and witnesses.complete(finding.label) and _can_lack(finding, sentences[index]):
            seen = f"the segmentation shows it on the {_OTHER[bare[0]]} only"
    elif len(named) == 1:
        other = _heat_elsewhere(index, finding, sentences, witnesses)
        if other is not None:
            where = _OTHER[named[0]]
            seen = f"the image classifier's evidence for it lies on the {where} ({percent(other)})"
    if seen is not None:
        place = "both sides" if len(named) == 2 else f"the {named[0]}"
        yield Contradiction(
            kind="side",
            message=f"The report places {in_words(finding.label)} on {place}, but {seen}.",
            sentence=index,
            label=finding.label,
        )


def other_size(
    index: int, sentence: SentenceEvidence, witnesses: Witnesses
) -> Iterator[Contradiction]:
    """A size is named that no lesion of the mask has, or none on the side that is named."""
    if _NOT_A_DIAMETER.search(sentence.text):
        return
    for finding, size in measured(sentence):
        label = finding.label
        if label not in FOCAL or size.largest < VOXELS * witnesses.spacing_mm:
            continue
        known = any(label in labels_of(name) for name in witnesses.lesion_classes)
        if not known or not witnesses.complete(label):
            continue
        lesions = witnesses.shown(label)
        here = [lesion for lesion in lesions if on_side(lesion, finding.sides)]
        if any(as_large(lesion, size.largest) for lesion in here):
            continue
        said = f"{in_words(label)} of {size.largest:g} mm"
        if any(as_large(lesion, size.largest) for lesion in lesions):
            if not here:
                continue  # the side itself is disputed
            side = finding.sides[0]
            yield Contradiction(
                kind="side",
                message=f"The report places {said} on the {side}, but the segmentation shows one "
                f"of that size on the {_OTHER[side]} only.",
                sentence=index,
                label=label,
            )
            continue
        yield Contradiction(
            kind="size",
            message=f"The report names {said}, but {_nearest(here or lesions, size.largest)}.",
            sentence=index,
            label=label,
        )


def _nearest(lesions: Sequence[Lesion], mm: float) -> str:
    if not lesions:
        return "the segmentation shows none"
    near = min((x.diameter_mm for x in lesions), key=lambda each: abs(each - mm))
    return f"the nearest in size of those that the segmentation shows has {near:.0f} mm"


def _can_lack(finding: StatedFinding, sentence: SentenceEvidence) -> bool:
    """Whether that the mask lacks a named side says anything.

    Little of several small lesions, of which one is easily lost; and nothing where both sides come
    from two words: one of them may be denied, or compared with.
    """
    if len(finding.sides) < 2:
        return True
    return finding.label not in FOCAL and says_both(sentence.text, finding)


def says_both(text: str, finding: StatedFinding) -> bool:
    """Whether a finding's own clause of `text` says "both" or the like, not one side and then the
    other."""
    start = max(text.rfind(sign, 0, finding.start) for sign in ",;:.") + 1
    stop = _PAUSE.search(text, finding.end)
    return _BOTH.search(text, start, stop.start() if stop else len(text)) is not None


def _heat_elsewhere(
    index: int,
    finding: StatedFinding,
    sentences: Sequence[SentenceEvidence],
    witnesses: Witnesses,
) -> float | None:
    """Share of the heat on the side not named, where it disputes the one that is.

    The map is of all that a sentence states, so all of it must be on the same side and recognised.
    It is the same map for every sentence that states this, so none may name the other side.
    """
    share = witnesses.left_shares[index] if index < len(witnesses.left_shares) else None
    here = [f for f in sentences[index].findings if f.status == "present"]
    elsewhere = [
        f
        for sentence in sentences
        for f in sentence.findings
        if f.label == finding.label and f.status in ("present", "uncertain")
    ]
    sides = {side for f in (*here, *elsewhere) for side in f.sides}
    asked = {f.label for f in here} & {finding.label, *witnesses.probabilities}
    if share is None or sides != set(finding.sides) or not asked <= set(witnesses.recognised):
        return None
    other = share if finding.sides[0] == "right" else 1 - share
    return other if other >= OTHER_SIDE else None
