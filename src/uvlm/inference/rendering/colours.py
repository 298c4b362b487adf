"""One number and one colour for each pathology of a report, the same wherever it is shown.

Colours are those of Okabe and Ito, told apart by colour-blind readers, and two more; the number
stands beside every use, so that none depends on colour. After ten pathologies colours repeat.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

from uvlm.inference.evidence.types import ReportEvidence

__all__ = ["Colour", "Mark", "hex_of", "ink_on", "marks_of", "organ_colour"]

Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (240, 228, 66),
    (0, 114, 178),
    (178, 223, 138),
    (136, 34, 85),
    (153, 153, 153),
)

GOLDEN = 0.381966
"""Of a full turn: neighbouring values get distant hues."""

STATED = ("present", "uncertain")


@dataclass(frozen=True)
class Mark:
    """How one pathology is marked."""

    number: int
    """From 1, in the order of the report."""

    label: str

    @property
    def colour(self) -> Colour:
        return PALETTE[(self.number - 1) % len(PALETTE)]


def marks_of(evidence: ReportEvidence | None) -> dict[str, Mark]:
    """A mark for each label that a sentence states as present or uncertain."""
    sentences = () if evidence is None else evidence.sentences
    labels = dict.fromkeys(
        stated.label
        for sentence in sentences
        for stated in sentence.findings
        if stated.status in STATED
    )
    return {label: Mark(number, label) for number, label in enumerate(labels, 1)}


def hex_of(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is read better on a colour."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else (255, 255, 255)


def organ_colour(value: int) -> Colour:
    """A pale colour for a class of anatomy, by its value in the mask."""
    red, green, blue = colorsys.hsv_to_rgb(value * GOLDEN % 1.0, 0.45, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)
