"""Numbers and tables of a result as text, the same in Markdown, on the page and in a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uvlm.evaluation.protocols import all_protocols
from uvlm.evaluation.results import Result, Score, split_name

__all__ = [
    "Grid",
    "about_lines",
    "class_word",
    "described",
    "general_notes",
    "grids",
    "interval",
    "number",
    "summary",
    "unit_of",
]

UNITS = {"hd95": "mm", "volume_error": "ml"}
"""Of scores that have one, by what stands before the @ of their protocol."""


def unit_of(protocol: str) -> str:
    """ "mm", or "" of a plain number."""
    return UNITS.get(protocol.partition("@")[0], "")


def class_word(task: str) -> str:
    """What the parts of a score are called: "F1: Lung nodule" is of a class, answers of a type."""
    return "type" if task == "vqa" else "class"


def described(protocol: str, task: str) -> str:
    """In one line what a protocol computes and where it is from; "" of one that is not known."""
    infos = {info.name: info for info in all_protocols(task)}
    family = protocol.partition("@")[0] + "@"
    alike = [info for name, info in infos.items() if name.startswith(family)]
    # A tolerance that was asked for is in the name: surface_dice@3mm is surface_dice@2mm.
    info = infos.get(protocol) or (alike[0] if len(alike) == 1 else None)
    if info is None:
        return ""
    first = re.split(r"(?<=[^A-Z.])\.\s+(?=[A-Z])", info.about)[0].rstrip(".")
    return f"{first}. Source: {info.source.rstrip('.')}."


def number(value: float) -> str:
    """Three decimals; more digits for what is small, fewer for what is large."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def interval(low: float, high: float) -> str:
    return f"[{number(low)}, {number(high)}]" if math.isfinite(low) else "-"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rows of ready text under a header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    about: str = ""
    """One line on what is in it."""

    parts: bool = False
    """Whether there is a row for each class."""

    def text(self) -> str:
        """Columns padded with spaces: the first to the left, the others to the right."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, tuple("-" * width for width in widths))
        padded = ["  ".join(_padded(line, widths)).rstrip() for line in lines]
        return "\n".join([self.title, *padded, *self.notes])

    def markdown(self) -> str:
        rule = ("---", *("---:" for _ in self.header[1:]))
        cells = [[cell.replace("|", "\\|") for cell in line] for line in (self.header, *self.rows)]
        lines = ["| " + " | ".join(line) + " |" for line in (cells[0], rule, *cells[1:])]
        notes = [f"\n{note}" for note in self.notes]
        about = [f"{self.about}\n"] if self.about else []
        return "\n".join([f"## {self.title}\n", *about, *lines, *notes])


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    pairs = zip(line, widths, strict=True)
    return [cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(pairs)]


def general_notes(result: Result) -> tuple[str, ...]:
    """What is true of all: notes about joining, those that every protocol has, and what the columns
    beside a score are."""
    notes = [*result.notes.get("", ()), *_shared(result)]
    floors = dict.fromkeys(floor.name for score in result.scores for floor in score.floors)
    if floors:
        first = next(iter(floors))
        notes.append(
            f"Beside a score stands what needs no image ({', '.join(floors)}); 'minus {first}' is "
            "the score less that, with the 95 % interval of the difference."
        )
    return tuple(dict.fromkeys(notes))


def _shared(result: Result) -> list[str]:
    """Notes of every protocol, where there are several."""
    protocols = list(dict.fromkeys(score.protocol for score in result.scores))
    if len(protocols) < 2:
        return []
    first, *others = [result.notes.get(protocol, ()) for protocol in protocols]
    return [note for note in first if all(note in notes for notes in others)]


def grids(result: Result) -> list[Grid]:
    """One table per protocol over all classes, then one per protocol with a row for each class."""
    protocols = list(dict.fromkeys(score.protocol for score in result.scores))
    shared = _shared(result)
    overall, by_class = [], []
    for protocol in protocols:
        own = [score for score in result.scores if score.protocol == protocol]
        notes = tuple(note for note in result.notes.get(protocol, ()) if note not in shared)
        about = described(protocol, result.task)
        whole = [score for score in own if not score.per_class]
        parts = [score for score in own if score.per_class]
        if whole:
            overall.append(_overall(protocol, whole, notes, about))
        if parts:
            by_class.append(_by_class(result, parts, *(((), "") if whole else (notes, about))))
    return overall + by_class


def _named(name: str, protocol: str) -> str:
    unit = unit_of(protocol)
    return f"{name} ({unit})" if unit else name


def _overall(protocol: str, scores: Sequence[Score], notes: tuple[str, ...], about: str) -> Grid:
    floors = list(dict.fromkeys(floor.name for score in scores for floor in score.floors))
    header = ["score", "value", "95 %"]
    for floor in floors:
        header += [floor, f"minus {floor}"]
    same = len({score.higher_is_better for score in scores}) == 1
    rows = []
    for score in scores:
        name = _named(score.name, protocol)
        if not (same or score.higher_is_better):
            name += " (lower is better)"
        row = [name, number(score.value), interval(score.low, score.high)]
        beside = {floor.name: floor for floor in score.floors}
        for name in floors:
            found = beside.get(name)
            row += ["-", "-"] if found is None else [number(found.value), _gain(found.gain)]
        rows.append(tuple(row))
    lower = ("Lower is better.",) if same and not scores[0].higher_is_better else ()
    return Grid(
        title=protocol,
        header=tuple(header),
        rows=tuple(rows),
        notes=(*lower, *notes),
        about=about,
    )


def _gain(gain: Any) -> str:
    if not math.isfinite(gain.difference):
        return "-"
    if not math.isfinite(gain.low):
        return f"{gain.difference:+.3f}"
    return f"{gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def _by_class(result: Result, scores: Sequence[Score], notes: tuple[str, ...], about: str) -> Grid:
    protocol, word = scores[0].protocol, class_word(result.task)
    table: dict[str, dict[str, Score]] = {}
    for score in scores:
        kind, name = split_name(score.name)
        table.setdefault(name, {})[kind] = score
    kinds = list(dict.fromkeys(kind for row in table.values() for kind in row))
    counts = {name: _scored_in(result, found.values()) for name, found in table.items()}
    what = "questions" if result.task == "vqa" else "studies"
    # A score that every study has says nothing on where a class occurs.
    counted = any(0 < count < len(result.ids) for count in counts.values())
    # With floors beside each of several kinds the table would be too wide to read.
    floors = (
        list(dict.fromkeys(f.name for s in scores for f in s.floors)) if len(kinds) == 1 else []
    )
    header = [word, *([what] if counted else [])]
    for kind in kinds:
        header += [_named(kind, protocol), "95 %", *floors]
    rows = []
    for name, found in table.items():
        row = [name, *([str(counts[name])] if counted else [])]
        for kind in kinds:
            row += _cells(found.get(kind), floors)
        rows.append(tuple(row))
    if counted and what == "studies":
        notes = (*notes, "Studies: those in which the class has a score.")
    title = f"{protocol}, by {word}"
    return Grid(
        title=title, header=tuple(header), rows=tuple(rows), notes=notes, about=about, parts=True
    )


def _cells(score: Score | None, floors: Sequence[str]) -> list[str]:
    """Value, interval and floors of one class."""
    if score is None:
        return ["-"] * (2 + len(floors))
    beside = {floor.name: number(floor.value) for floor in score.floors}
    shown = [number(score.value), interval(score.low, score.high)]
    return shown + [beside.get(name, "-") for name in floors]


def _scored_in(result: Result, scores: Iterable[Score]) -> int:
    """How many studies have any of the scores; 0 where studies have none of their own."""
    columns = [result.per_study.get(f"{score.protocol} {score.name}") for score in scores]
    known = [np.isfinite(np.asarray(column, float)) for column in columns if column is not None]
    return int(np.any(known, axis=0).sum()) if known else 0


def about_lines(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was scored, one line each; inputs by name and the beginning of their SHA-256."""
    lines = []
    for key, value in about.items():
        if isinstance(value, Mapping):
            shown = ", ".join(f"{name.replace('_', ' ')}: {item}" for name, item in value.items())
        else:
            shown = str(value)
        lines.append((key.replace("_", " "), shown))
    return lines


def summary(result: Result) -> str:
    """For a terminal: all scores over all classes, notes and what was skipped."""
    found = grids(result)
    shown = [grid.text() for grid in found if not grid.parts] or [grid.text() for grid in found]
    notes = "\n".join(general_notes(result))
    skipped = "\n".join(f"Skipped {name}: {why}" for name, why in result.skipped.items())
    return "\n\n".join(part for part in (*shown, notes, skipped) if part)
