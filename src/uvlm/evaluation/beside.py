"""Own results beside published values: the table, the figure, and which value fits which score.

A published value stands under a score of the same name and protocol. Where its source does not
tell the protocol it is marked "?".
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import zip_longest

from uvlm.evaluation.comparable import Key
from uvlm.evaluation.published import MARK, PublishedRow
from uvlm.evaluation.rendering.plots import systems_plot
from uvlm.evaluation.rendering.words import Grid, interval, number
from uvlm.evaluation.results import Score

__all__ = ["by_protocol", "cell", "figure", "fitting_rows", "published_grid"]

NOT_MACRO = ("@micro", "-weighted")

DRAWN = 6
"""Systems in the figure; it has as many colours."""

SHOWN = 36
"""Letters of a name in the legend, with what stands after it."""


def cell(score: Score) -> str:
    """Value and interval."""
    limits = interval(score.low, score.high)
    return number(score.value) + (f" {limits}" if limits != "-" else "")


def fitting_rows(
    published: Sequence[PublishedRow], keys: Sequence[Key]
) -> dict[Key, list[PublishedRow]]:
    """Score -> published rows of the same name whose protocol is the same or may be.

    Of a family, "bleu", any protocol may be it, but one over classes weighted or pooled: all values
    published without a protocol are macro averages. A row that names none goes to the first score
    of its name, the task's principal one.
    """
    first = {name: protocol for protocol, name in reversed(keys)}

    def fits(row: PublishedRow, key: Key) -> bool:
        protocol, name = key
        # "R@100" of a paper that does not state the direction fits both.
        if row.protocol == protocol and name.endswith(f" {row.metric}"):
            return True
        if row.metric != name:
            return False
        if not row.protocol:
            return protocol == first[name]
        family = "" if protocol.endswith(NOT_MACRO) else protocol.split("@")[0]
        return row.protocol in (protocol, family)

    return {key: [row for row in published if fits(row, key)] for key in keys}


def published_grid(
    fitting: dict[Key, list[PublishedRow]],
    scores: Sequence[dict[Key, Score]],
    names: Sequence[str],
    apart: Sequence[Key] = (),
) -> Grid:
    """Own results, then published ones, each with the number of its source in the notes.

    Args:
        apart: scores to which values were published that are over other classes
    """
    columns = [key for key, found in fitting.items() if found]
    rows = [
        (name, *(cell(found[key]) for key in columns), "own result")
        for name, found in zip(names, scores, strict=True)
    ]
    groups: dict[tuple[str, str, str], dict[Key, PublishedRow]] = {}
    for key in columns:
        for row in fitting[key]:
            groups.setdefault((row.system, row.dataset, row.source), {})[key] = row
    numbers = _source_numbers(fitting)
    for (system, dataset, source), found in groups.items():
        where = numbers[dataset, source]
        cells = [_published_cell(found.get(key)) for key in columns]
        rows.append((system, *cells, f"{MARK} [{where}]"))
    notes = [f"Rows with a source are {MARK}; nothing is tested against them."]
    if any(not row.protocol_known for found in groups.values() for row in found.values()):
        notes.append("?: the protocol is not stated, so the value may have been counted otherwise.")
    if not groups:
        notes = [] if apart else ["No published value has the name and protocol of a score here."]
    if apart:
        protocols = ", ".join(dict.fromkeys(protocol for protocol, _ in apart))
        notes.append(f"Values published over other classes than those here left out: {protocols}.")
    shown = [row for found in groups.values() for row in found.values()]
    for (dataset, source), where in numbers.items():
        own = [row for row in shown if (row.dataset, row.source) == (dataset, source)]
        notes.append(f"[{where}] {dataset or 'dataset not stated'}; {source}. {_remarks(own)}")
    header = ("system", *(f"{name} ({protocol})" for protocol, name in columns), "where")
    return Grid(
        title="Beside published values", header=header, rows=tuple(rows), notes=tuple(notes)
    )


def by_protocol(grid: Grid) -> list[Grid]:
    """The grid of `published_grid` in parts that fit into a terminal: only the systems that have
    a value of a protocol, and the notes once, in the last."""
    own = "own result"
    parts = [re.fullmatch(r"(.*) \((.*)\)", name) for name in grid.header[1:-1]]
    columns: dict[str, list[tuple[int, str]]] = {}
    for i, part in enumerate(parts, 1):
        if part:
            columns.setdefault(part[2], []).append((i, part[1]))
    found = []
    for protocol, members in columns.items():
        rows = [
            (row[0], *(row[i] for i, _ in members), row[-1])
            for row in grid.rows
            if row[-1] == own or any(row[i] != "-" for i, _ in members)
        ]
        header = ("system", *(name for _, name in members), "where")
        title = f"{grid.title}: {protocol}"
        found.append(Grid(title=title, header=header, rows=tuple(rows)))
    return [*found[:-1], replace(found[-1], notes=grid.notes)] if found else [grid]


def _source_numbers(fitting: dict[Key, list[PublishedRow]]) -> dict[tuple[str, str], int]:
    """(dataset, source) -> its number in the notes"""
    found = dict.fromkeys((row.dataset, row.source) for rows in fitting.values() for row in rows)
    return {source: i for i, source in enumerate(found, 1)}


def _remarks(rows: Sequence[PublishedRow]) -> str:
    """The notes of a source; with the scores they are about if there are several."""
    metrics: dict[str, dict[str, None]] = {}
    for row in rows:
        metrics.setdefault(row.note, {})[row.metric] = None
    if len(metrics) == 1:
        return rows[0].note
    systems = {
        note: dict.fromkeys(row.system for row in rows if row.note == note) for note in metrics
    }
    every = len({row.system for row in rows})
    return " ".join(
        f"{', '.join(found)}"
        + (f" of {'; '.join(systems[note])}" if len(systems[note]) < every else "")
        + f": {note}"
        for note, found in metrics.items()
    )


def _published_cell(row: PublishedRow | None) -> str:
    if row is None:
        return "-"
    limits = f" {interval(*row.interval)}" if row.interval else ""
    return number(row.value) + limits + ("" if row.protocol_known else " ?")


def figure(
    keys: Sequence[Key],
    scores: Sequence[dict[Key, Score]],
    names: Sequence[str],
    fitting: dict[Key, list[PublishedRow]],
) -> str:
    """Scores between 0 and 1; of published systems the best of every score in turn, as many as
    there are colours. Values of a protocol not stated have an entry of their own, marked "?"."""
    drawn = [key for key in keys if all(0.0 <= found[key].value <= 1.0 for found in scores)]
    if not drawn:
        return ""
    systems: dict[str, list[Score]] = {}
    for name, found in zip(names, scores, strict=True):
        systems[_label(name, "", systems)] = [found[key] for key in drawn]
    rows = {key: fitting[key] for key in drawn}
    numbers = _source_numbers(fitting)
    for entry in _best(rows)[: max(0, DRAWN - len(names))]:
        system, dataset, source, known = entry
        after = f"{'' if known else ' ?'} (published [{numbers[dataset, source]}])"
        label = _label(system, after, systems)
        systems[label] = [_as_score(key, rows[key], entry) for key in drawn]
    labels = [f"{name} ({protocol})" for protocol, name in drawn]
    return systems_plot("Comparison", labels, systems)


Entry = tuple[str, str, str, bool]
"""(system, dataset, source, whether the protocol is known) of what is drawn in one colour"""


def _entry(row: PublishedRow) -> Entry:
    return row.system, row.dataset, row.source, row.protocol_known


def _best(fitting: dict[Key, list[PublishedRow]]) -> list[Entry]:
    """The best of every score, then the second of every one, and so on; each entry once."""
    ranked = [sorted(rows, key=lambda row: -row.value) for rows in fitting.values()]
    return list(
        dict.fromkeys(
            _entry(row) for rank in zip_longest(*ranked) for row in rank if row is not None
        )
    )


def _label(name: str, after: str, taken: Collection[str]) -> str:
    """Short, for a legend wider than the drawing leaves it no room; numbered if taken."""
    room = SHOWN - (len(after) or len(" (published)"))
    short = name if len(name) <= room else f"{name[: room - 3]}..."
    label, number = short + after, 1
    while label in taken:
        number += 1
        label = f"{short} {number}{after}"
    return label


def _as_score(key: Key, rows: Sequence[PublishedRow], entry: Entry) -> Score:
    row = next((row for row in rows if _entry(row) == entry), None)
    low, high = row.interval if row and row.interval else (math.nan, math.nan)
    value = row.value if row else math.nan
    return Score(protocol=key[0], name=key[1], value=value, low=low, high=high)
