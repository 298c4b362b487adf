"""Own results beside published values: the table, the figure, and which value fits which score.

A published value stands under a score of the same name and protocol. Where its source does not
tell the protocol it is marked "?".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from uvlm.evaluation.published import MARK, PublishedRow
from uvlm.evaluation.rendering.plots import systems_plot
from uvlm.evaluation.rendering.words import Grid, interval, number
from uvlm.evaluation.results import Score

__all__ = ["Key", "cell", "figure", "fitting_rows", "published_grid"]

DRAWN = 6
"""Systems in the figure; it has as many colours."""

SHOWN = 24
"""Letters of a name in its legend."""

Key = tuple[str, str]
"""(protocol, name of the score)"""


def cell(score: Score) -> str:
    """Value and interval."""
    limits = interval(score.low, score.high)
    return number(score.value) + (f" {limits}" if limits != "-" else "")


def fitting_rows(
    published: Sequence[PublishedRow], keys: Sequence[Key]
) -> dict[Key, list[PublishedRow]]:
    """Score -> published rows of the same name whose protocol is the same or may be.

    Of a family, "bleu", any protocol may be it; a row that names none goes to the first score of
    its name, the task's principal one.
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
        return row.protocol in (protocol, protocol.split("@")[0])

    return {key: [row for row in published if fits(row, key)] for key in keys}


def published_grid(
    fitting: dict[Key, list[PublishedRow]],
    scores: Sequence[dict[Key, Score]],
    names: Sequence[str],
) -> Grid:
    columns = [key for key, found in fitting.items() if found]
    rows = [
        (name, *(cell(found[key]) for key in columns), "own result")
        for name, found in zip(names, scores, strict=True)
    ]
    groups: dict[tuple[str, str, str], dict[Key, PublishedRow]] = {}
    remarks: dict[str, dict[str, None]] = {}
    for key in columns:
        for row in fitting[key]:
            groups.setdefault((row.system, row.dataset, row.source), {})[key] = row
            remarks.setdefault(row.note, {})[row.system] = None
    for (system, dataset, source), found in groups.items():
        cells = [_published_cell(found.get(key)) for key in columns]
        rows.append((system, *cells, f"{dataset or 'dataset not stated'}; {source}; {MARK}"))
    notes = [f"Rows with a source are {MARK}; nothing is tested against them."]
    if any(not row.protocol_known for found in groups.values() for row in found.values()):
        notes.append("?: the protocol is not stated, so the value may have been counted otherwise.")
    if not groups:
        notes = ["No published value has the name and protocol of a score here."]
    notes += [f"{'; '.join(systems)}: {note}" for note, systems in remarks.items()]
    header = ("system", *(f"{name} ({protocol})" for protocol, name in columns), "where")
    return Grid(
        title="Beside published values", header=header, rows=tuple(rows), notes=tuple(notes)
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
    """Scores between 0 and 1; of published systems the best by the first score that has any, as
    many as there are colours."""
    drawn = [key for key in keys if all(0.0 <= found[key].value <= 1.0 for found in scores)]
    if not drawn:
        return ""
    systems: dict[str, list[Score]] = {}
    for name, found in zip(names, scores, strict=True):
        systems[_label(name, "", systems)] = [found[key] for key in drawn]
    leading = next((fitting[key] for key in drawn if fitting[key]), [])
    ranked = dict.fromkeys(row.system for row in sorted(leading, key=lambda row: -row.value))
    for system in list(ranked)[: max(0, DRAWN - len(names))]:
        shown = [_as_score(key, fitting[key], system) for key in drawn]
        systems[_label(system, " (published)", systems)] = shown
    labels = [f"{name} ({protocol})" for protocol, name in drawn]
    return systems_plot("Comparison", labels, systems)


def _label(name: str, after: str, taken: Collection[str]) -> str:
    """Short, for a legend wider than the drawing leaves it no room; numbered if taken."""
    short = name if len(name) <= SHOWN else f"{name[: SHOWN - 3]}..."
    label, number = short + after, 1
    while label in taken:
        number += 1
        label = f"{short} {number}{after}"
    return label


def _as_score(key: Key, rows: Sequence[PublishedRow], system: str) -> Score:
    row = next((row for row in rows if row.system == system), None)
    low, high = row.interval if row and row.interval else (math.nan, math.nan)
    value = row.value if row else math.nan
    return Score(protocol=key[0], name=key[1], value=value, low=low, high=high)
