"""Numbers and tables of a result as text, the same in Markdown, on the page and in a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uvlm.evaluation.results import Result, Score, split_name

__all__ = ["Grid", "about_lines", "grids", "interval", "number", "summary"]


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
        return "\n".join([f"## {self.title}\n", *lines, *notes])


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    pairs = zip(line, widths, strict=True)
    return [cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(pairs)]


def grids(result: Result) -> list[Grid]:
    """One table per protocol over all classes, then one per protocol with a row for each class."""
    protocols = list(dict.fromkeys(score.protocol for score in result.scores))
    overall, by_class = [], []
    for protocol in protocols:
        own = [score for score in result.scores if score.protocol == protocol]
        notes = tuple(result.notes.get(protocol, ()))
        whole = [score for score in own if not score.per_class]
        parts = [score for score in own if score.per_class]
        if whole:
            overall.append(_overall(protocol, whole, notes))
        if parts:
            by_class.append(_by_class(protocol, parts, () if whole else notes))
    return overall + by_class


def _overall(protocol: str, scores: Sequence[Score], notes: tuple[str, ...]) -> Grid:
    floors = list(dict.fromkeys(floor.name for score in scores for floor in score.floors))
    header = ["score", "value", "95 %"]
    for floor in floors:
        header += [floor, f"minus {floor}"]
    same = len({score.higher_is_better for score in scores}) == 1
    rows = []
    for score in scores:
        name = score.name if same or score.higher_is_better else f"{score.name} (lower is better)"
        row = [name, number(score.value), interval(score.low, score.high)]
        beside = {floor.name: floor for floor in score.floors}
        for name in floors:
            found = beside.get(name)
            row += ["-", "-"] if found is None else [number(found.value), _gain(found.gain)]
        rows.append(tuple(row))
    lower = ("Lower is better.",) if same and not scores[0].higher_is_better else ()
    return Grid(title=protocol, header=tuple(header), rows=tuple(rows), notes=(*lower, *notes))


def _gain(gain: Any) -> str:
    if not math.isfinite(gain.difference):
        return "-"
    if not math.isfinite(gain.low):
        return f"{gain.difference:+.3f}"
    return f"{gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


def _by_class(protocol: str, scores: Sequence[Score], notes: tuple[str, ...]) -> Grid:
    table: dict[str, dict[str, Score]] = {}
    for score in scores:
        kind, name = split_name(score.name)
        table.setdefault(name, {})[kind] = score
    kinds = list(dict.fromkeys(kind for row in table.values() for kind in row))
    header = ["class"]
    for kind in kinds:
        header += [kind, "95 %"]
    rows = []
    for name, found in table.items():
        row = [name]
        for kind in kinds:
            value = found.get(kind)
            row += (
                ["-", "-"]
                if value is None
                else [number(value.value), interval(value.low, value.high)]
            )
        rows.append(tuple(row))
    title = f"{protocol}, by class"
    return Grid(title=title, header=tuple(header), rows=tuple(rows), notes=notes)


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
    shown = [grid.text() for grid in grids(result) if not grid.title.endswith("by class")]
    if not shown:
        shown = [grid.text() for grid in grids(result)]
    notes = "\n".join(result.notes.get("", ()))
    skipped = "\n".join(f"Skipped {name}: {why}" for name, why in result.skipped.items())
    return "\n\n".join(part for part in (*shown, notes, skipped) if part)
