"""What a labeller promises: a report in, 0 or 1 for every class out, with the words that decided.

Rules, a trained classifier or a language model may stand behind it; callers see no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Evidence", "Labeller", "Labels", "Section", "Status"]

Status = Literal["present", "absent", "uncertain", "history"]
Section = Literal["findings", "impression"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One place in a report where a class is spoken of, and what is said about it."""

    label: str
    """The class, as in `Labeller.classes`."""

    status: Status

    sentence: str
    """As cleaned: single spaces, no stray double quotes."""

    words: str
    """What decided: `sentence[start:end]`."""

    start: int
    end: int
    """Characters of `sentence`."""

    section: Section

    sides: frozenset[str]
    """Of "left" and "right"; empty where no side is named."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a labeller says about one report."""

    values: Mapping[str, int]
    """0 or 1 for every class of the labeller, in its order."""

    evidence: tuple[Evidence, ...]
    """Every decision in order of the text, absent ones too; empty where a labeller gives none."""


class Labeller(Protocol):
    """Anything that labels reports."""

    @property
    def name(self) -> str:
        """Says how and what: "rules@chest18"."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def label(self, reports: Sequence[str]) -> list[Labels]:
        """One `Labels` per report, in the order given; a report without content is all zeros."""
