"""Several systems side by side: one table, one figure, and tests where they are possible.

Two results can be tested against each other if they are of the same studies and patients, drawn
with the same seed; `resample_key` tells. Their resamples are then the same, and the difference of a
score has an interval and a p-value over them, if it is of one kind in both: over the same classes,
by the same labeller (`comparable`). Otherwise no test is made, and that is said.
Published values stand in a table of their own; nothing can be tested against them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from uvlm.errors import InputError
from uvlm.evaluation.beside import by_protocol, cell, figure, fitting_rows, published_grid
from uvlm.evaluation.comparable import Key, beside_all, differing, shown, told
from uvlm.evaluation.intervals import Difference, paired_difference
from uvlm.evaluation.published import PublishedRow
from uvlm.evaluation.rendering.page import WIDE, grid_html, picture
from uvlm.evaluation.rendering.words import Grid
from uvlm.evaluation.result_files import Stored
from uvlm.evaluation.results import Score
from uvlm.preprocessing.quality_page import Html, page

__all__ = ["NO_TEST", "Comparison", "PairedScore", "comparison"]

NO_TEST = "different studies, no test"
OTHER_DRAWS = "other seed or number of resamples, no test"
NO_INTERVAL = "no interval, no test"


@dataclass(frozen=True, kw_only=True)
class PairedScore:
    """One score of a system against that of the first."""

    protocol: str
    name: str
    system: str
    against: str
    difference: Difference | None
    """System minus the first; None where no test is possible."""

    reason: str = ""
    """Why there is no test."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `uvlm compare` writes."""

    task: str
    systems: tuple[str, ...]
    table: Grid
    paired: tuple[PairedScore, ...]
    figure: str
    """SVG; "" if no score lies between 0 and 1."""

    scores: tuple[tuple[Score, ...], ...]
    """Of each system, in the order of the table's rows."""

    published: Grid | None = None
    beside: tuple[PublishedRow, ...] = ()
    """The rows of `published`."""

    @property
    def grids(self) -> tuple[Grid, ...]:
        return (self.table,) if self.published is None else (self.table, self.published)

    def text(self) -> str:
        """For a terminal."""
        beside = [] if self.published is None else by_protocol(self.published)
        return "\n\n".join(grid.text() for grid in (self.table, *beside))

    def markdown(self) -> str:
        return "\n\n".join(grid.markdown() for grid in self.grids) + "\n"

    def html(self) -> str:
        """One page, the figure in it."""
        parts = [(f"g{i}", grid.title, grid_html(grid)) for i, grid in enumerate(self.grids)]
        if self.figure:
            parts.insert(1, ("figure", "Figure", picture(self.figure, "95 % intervals as lines")))
        return page(f"Comparison: {self.task}", parts, Html(WIDE))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; a number that does not exist is null."""
        return {
            "task": self.task,
            "systems": list(self.systems),
            "scores": [
                {"system": name, **{key: _known(getattr(score, key)) for key in _SCORE_KEYS}}
                for name, scores in zip(self.systems, self.scores, strict=True)
                for score in scores
            ],
            "differences": [_pair_dict(pair) for pair in self.paired],
            "published": [asdict(row) for row in self.beside],
            "notes": [note for grid in self.grids for note in grid.notes],
        }


_SCORE_KEYS = ("protocol", "name", "value", "low", "high", "higher_is_better")


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _pair_dict(pair: PairedScore) -> dict[str, Any]:
    found = asdict(pair)
    numbers = found.pop("difference") or {"difference": None}
    return {**found, **{key: _known(value) for key, value in numbers.items()}}


def comparison(
    results: Sequence[Stored],
    names: Sequence[str],
    published: Sequence[PublishedRow] = (),
    *,
    by_class: bool = False,
) -> Comparison:
    """Compare each result with the first.

    Args:
        names: of the systems, one per result
        published: rows to show beside them; those without a score of the same name are left out
        by_class: whether scores of single classes have rows too

    Raises:
        InputError: no result, or one only and nothing published; names that do not fit; results
            of different tasks, or without a score in common.
    """
    _check(results, names, published)
    keys = _shared_keys(results, by_class)
    scores = [{(s.protocol, s.name): s for s in result.scores} for result in results]
    paired = tuple(
        _pair(results[0], result, key, names[0], name)
        for key in keys
        for result, name in zip(results[1:], names[1:], strict=True)
    )
    named = fitting_rows(published, keys)
    fitting = {
        key: [row for row in rows if beside_all(results, key, row)] for key, rows in named.items()
    }
    apart = [key for key in keys if len(fitting[key]) < len(named[key])]
    return Comparison(
        task=results[0].task,
        systems=tuple(names),
        table=_table(keys, scores, names, paired, _notes(results, names, keys, paired)),
        paired=paired,
        figure=figure(keys, scores, names, fitting),
        scores=tuple(tuple(found[key] for key in keys) for found in scores),
        published=published_grid(fitting, scores, names, apart) if published else None,
        beside=tuple(dict.fromkeys(row for rows in fitting.values() for row in rows)),
    )


def _check(
    results: Sequence[Stored], names: Sequence[str], published: Sequence[PublishedRow]
) -> None:
    if len(results) + bool(published) < 2 or not results:
        raise InputError(
            f"{len(results)} results to compare; give at least two folders, or one and published "
            "values."
        )
    if len(names) != len(results) or len(set(names)) != len(names):
        raise InputError(
            f"{len(results)} results need as many different names, got: {', '.join(names)}."
        )
    for result in results[1:]:
        if result.task != results[0].task:
            raise InputError.about(
                result.path,
                f"is of task {result.task}, {results[0].path} of {results[0].task}",
                "Compare results of one task.",
            )


def _shared_keys(results: Sequence[Stored], by_class: bool) -> list[Key]:
    """Scores of all results, in the order of the first."""
    sets = [{(score.protocol, score.name) for score in result.scores} for result in results]
    keys = [
        (score.protocol, score.name)
        for score in results[0].scores
        if by_class or not score.per_class
        if all((score.protocol, score.name) in found for found in sets)
    ]
    if not keys:
        raise InputError(
            "the results have no score in common. Evaluate them with the same --protocol."
        )
    return keys


def _reason(first: Stored, other: Stored) -> str:
    """Why no test is possible of any score; "" if one is."""
    if first.resample_key == other.resample_key:
        return "" if len(first.draws) else "no resamples, no test"
    same = all(first.about.get(name) == other.about.get(name) for name in ("seed", "resamples"))
    return NO_TEST if same else OTHER_DRAWS


def _pair(first: Stored, other: Stored, key: Key, against: str, name: str) -> PairedScore:
    reason = _reason(first, other)
    if not reason and (what := differing(first, other, key)):
        reason = f"other {told(what)}, no test"
    difference = None
    columns = [_column(result, key) for result in (other, first)]
    own = other.scores[columns[0]], first.scores[columns[1]]
    # Where resampling says nothing of a score, as of a calibration error, it has no interval.
    if not reason and any(math.isnan(s.low) and math.isfinite(s.value) for s in own):
        reason = NO_INTERVAL
    if not reason:
        values = own[0].value, own[1].value
        draws = other.draws[:, columns[0]], first.draws[:, columns[1]]
        difference = paired_difference(values, draws)
    return PairedScore(
        protocol=key[0],
        name=key[1],
        system=name,
        against=against,
        difference=difference,
        reason=reason,
    )


def _column(result: Stored, key: Key) -> int:
    return [(score.protocol, score.name) for score in result.scores].index(key)


def _table(
    keys: Sequence[Key],
    scores: Sequence[dict[Key, Score]],
    names: Sequence[str],
    paired: Sequence[PairedScore],
    notes: tuple[str, ...],
) -> Grid:
    header = ["protocol", "score", *names]
    for name in names[1:]:
        header += [f"{name} minus {names[0]}", "p"]
    rows = []
    for row, key in enumerate(keys):
        cells = [*key, *(cell(found[key]) for found in scores)]
        others = len(names) - 1
        for pair in paired[row * others : (row + 1) * others]:
            cells += _difference(pair)
        rows.append(tuple(cells))
    return Grid(title="Comparison", header=tuple(header), rows=tuple(rows), notes=notes)


def _difference(pair: PairedScore) -> list[str]:
    found = pair.difference
    if found is None:
        return [pair.reason, "-"]
    if not math.isfinite(found.difference):
        return ["-", "-"]
    limits = f" [{found.low:+.3f}, {found.high:+.3f}]" if math.isfinite(found.low) else ""
    p_value = f"{found.p_value:.3f}" if math.isfinite(found.p_value) else "-"
    return [f"{found.difference:+.3f}{limits}", p_value]


def _notes(
    results: Sequence[Stored],
    names: Sequence[str],
    keys: Sequence[Key],
    paired: Sequence[PairedScore],
) -> tuple[str, ...]:
    notes = []
    if any(pair.difference is not None for pair in paired):
        notes.append(
            "Brackets are 95 % intervals of a bootstrap over patients. Differences and p-values "
            "(two-sided) are paired: every resample scores both systems on the same patients. They "
            "are not corrected for the number of comparisons."
        )
    for result, name in zip(results[1:], names[1:], strict=True):
        own, first = (found.about.get("references") for found in (result, results[0]))
        if reason := _reason(results[0], result):
            notes.append(f"{name} and {names[0]}: {reason}.")
        notes += _differing_notes(results[0], result, keys, (names[0], name))
        if own != first and None not in (own, first):
            notes.append(
                f"{name} and {names[0]} were scored with different files of references: {own} and "
                f"{first}; a difference may be theirs."
            )
    lower = sorted({s.name for s in results[0].scores if not (s.higher_is_better or s.per_class)})
    if lower:
        notes.append(f"Lower is better: {', '.join(lower)}.")
    return (*notes, *_protocol_notes(results, names, keys))


def _differing_notes(
    first: Stored, other: Stored, keys: Sequence[Key], names: tuple[str, str]
) -> list[str]:
    """What makes scores incomparable, each with the protocols that it concerns."""
    found: dict[str, dict[str, None]] = {}
    for key in keys:
        if what := differing(first, other, key):
            found.setdefault(what, {})[key[0]] = None
    return [
        f"{names[1]} and {names[0]} are not comparable in {', '.join(protocols)}, other "
        f"{told(what)}: {shown(other, what)} against {shown(first, what)}."
        for what, protocols in found.items()
    ]


def _protocol_notes(
    results: Sequence[Stored], names: Sequence[str], keys: Sequence[Key]
) -> list[str]:
    """What the results say of the protocols shown; what several say stands once."""
    said: dict[tuple[str, str], list[str]] = {}
    for protocol in dict.fromkeys(protocol for protocol, _ in keys):
        for result, name in zip(results, names, strict=True):
            for note in result.notes.get(protocol, ()):
                said.setdefault((protocol, note), []).append(name)
    return [
        f"{protocol} ({', '.join(systems)}): {note}" for (protocol, note), systems in said.items()
    ]
