"""Tables of references and predictions: CSV or JSON lines, whose columns are found or named.

Columns are searched under the names of the catalog, CT-RATE, RadGenome-ChestCT, AbdomenAtlas 3.0,
the published U-VLM code and this package's own `predictions.csv`; options name any other. Cells are
text, stripped of white space around them.

The `results.jsonl` and `results.csv` of a run over many studies are known by their columns. Of
several lines about one study the last counts, a last line that a crash cut off is passed over, and
cells made harmless for spreadsheets are as they were.

Shapes: N studies, C classes.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.preprocessing.table import Table, quoted, restored
from uvlm.preprocessing.table import read_table as read_csv
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS
from uvlm.text.cleaning import clean_report, join_sections

__all__ = [
    "ID_COLUMNS",
    "PATIENT_COLUMNS",
    "PREDICTED_TEXT",
    "REFERENCE_TEXT",
    "Cells",
    "find_column",
    "find_labels",
    "find_text",
    "label_rows",
    "probability_rows",
    "read_table",
    "report_of",
]

log = logging.getLogger(__name__)

Cells = Mapping[str, str]
"""Column to cell of one row."""

ID_COLUMNS: tuple[str, ...] = (
    "series_id",
    "VolumeName",
    "Volumename",
    "volume_name",
    "AccessionNo",
    "study_id",
    "study",
    "case_id",
    "BDMAP ID",
    "id",
)
"""Where the id of a study is looked for, in this order."""

PATIENT_COLUMNS: tuple[str, ...] = ("patient_id", "PatientID", "patient")

REFERENCE_TEXT: tuple[tuple[str, ...], ...] = (
    ("report",),
    ("report_text",),
    ("Findings_EN", "Impressions_EN"),
    ("Findings_EN",),
    ("fusion structured report",),
    ("structured report",),
    ("fusion narrative report",),
    ("narrative report",),
    ("text",),
)
"""Where a reference report is looked for; two columns are its findings and its impression."""

PREDICTED_TEXT: tuple[tuple[str, ...], ...] = (
    ("generated_report",),
    ("predicted_report",),
    ("prediction",),
    ("generated",),
    ("hypothesis",),
    *REFERENCE_TEXT,
)
"""The published code copies the reference into its results, so `report` comes after these."""

NO_LABELS = frozenset(
    (*ID_COLUMNS, *PATIENT_COLUMNS, "split", "blosc2_path", "seg_blosc2_path", "source", "success")
)
"""Columns that two tables may share and that are no labels, whatever they hold."""


PROBABILITIES = "probabilities"
"""Key of JSON lines whose value, if it has names, is one column per name."""

BATCH_COLUMNS = frozenset(
    ("id", "input", "report", "flags", "review", "warnings", "error", "seconds")
)
"""What both files of a run over many studies have; a table with all of them is one of these."""


def read_table(path: Path | str) -> Table:
    """A CSV file (UTF-8 with or without mark; commas, semicolons or tabs) or JSON lines.

    Raises:
        InputError: it is missing, empty, no text, no table, or ends inside a quoted field.
    """
    path = Path(path)
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return _read_json(path)
    table = read_csv(path, delimiter=_delimiter(path))
    return _as_written(table) if BATCH_COLUMNS.issubset(table.columns) else table


def _as_written(table: Table) -> Table:
    rows = ((n, {c: restored(cell).strip() for c, cell in row.items()}) for n, row in table.rows)
    return replace(table, rows=tuple(rows))


def _delimiter(path: Path) -> str:
    """By the header alone: reports are full of commas and semicolons."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            line = file.readline()
    except OSError:
        return ","  # reading says what is wrong
    if line.lower().startswith("sep=") and len(line.rstrip()) == 5:
        return line[4]
    return max(",;\t", key=line.count) if any(mark in line for mark in ";\t") else ","


def _read_json(path: Path) -> Table:
    try:
        content = path.read_bytes()
    except OSError as error:
        found = f"cannot be read ({error.strerror})"
        raise InputError.about(path, found, "Check the path.") from None
    try:
        table = _json_table(path, content)
    except InputError:
        whole = content[: content.rfind(b"\n") + 1]
        if not whole or whole == content:
            raise
        table = _json_table(path, whole)
        if not BATCH_COLUMNS.issubset(table.columns):
            raise
        number = whole.count(b"\n") + 1
        log.warning("%s: row %d, the last, is cut off and passed over", path, number)
    if not BATCH_COLUMNS.issubset(table.columns):
        return table
    last = {cells["id"]: (number, cells) for number, cells in table.rows}
    return replace(table, rows=tuple(last.values()))


def _json_table(path: Path, content: bytes) -> Table:
    try:
        text = re.sub(r"\r\n?", "\n", content.decode("utf-8-sig"))
    except UnicodeError:
        raise InputError.about(path, "cannot be read (not UTF-8 text)", "Check the path.") from None
    if text.lstrip().startswith("["):
        parts: Iterable[tuple[int, str]] = enumerate(map(json.dumps, _parse(path, 1, text)), 1)
    else:
        # Not splitlines: it would also cut at the line separators inside a report.
        parts = ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())
    rows = []
    for number, line in parts:
        value = _parse(path, number, line)
        if not isinstance(value, dict):
            found = f"row {number} is no object with named values"
            raise InputError.about(path, found, 'Write one {"column": value, ...} per line.')
        rows.append((number, _cells(path, number, value)))
    columns = tuple(dict.fromkeys(column for _, cells in rows for column in cells))
    if not rows or not columns:
        raise InputError.about(path, "empty", "Give one JSON object per line.")
    whole = tuple((n, {c: cells.get(c, "") for c in columns}) for n, cells in rows)
    return Table(path, columns, whole)


def _parse(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        # Not the error's own text: it is harmless, but the line it speaks of may hold a report.
        place = getattr(error, "colno", 0)
        raise InputError.about(
            path, f"row {number} is no JSON (column {place})", "Write one JSON object per line."
        ) from None


def _cells(path: Path, number: int, value: Mapping[str, Any]) -> dict[str, str]:
    """The probabilities that `results.jsonl` keeps together, of each label, are columns too."""
    cells = {str(key): _cell(item) for key, item in value.items()}
    nested = value.get(PROBABILITIES)
    if isinstance(nested, dict):
        if twice := cells.keys() & nested.keys():
            found = f"row {number}: {min(twice)!r} both beside and in {PROBABILITIES!r}"
            raise InputError.about(path, found, "Rename one of them.")
        cells |= {str(key): _cell(item) for key, item in nested.items()}
    return cells


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(int(value))
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def find_column(table: Table, named: str | None, known: Sequence[str], what: str) -> str:
    """The column `named`, or the first known one that is there.

    Raises:
        InputError: there is none; `what` says what was looked for and the option that names it.
    """
    if named is not None:
        table.require([named])
        return named
    for column in known:
        if column in table.columns:
            return column
    raise InputError.about(
        table.path,
        f"no column for {what} ({', '.join(known)}); found: {', '.join(table.columns)}",
        "Name the column with the option.",
    )


def find_text(
    table: Table, named: Sequence[str], known: Sequence[tuple[str, ...]], option: str
) -> tuple[str, ...]:
    """The column of the reports, or the two of findings and impression.

    Raises:
        InputError: none of the known ones is there, or a named one is missing.
    """
    if named:
        table.require(named)
        return tuple(named)
    for columns in known:
        if set(columns) <= set(table.columns):
            return columns
    shown = ", ".join(" + ".join(columns) for columns in known)
    raise InputError.about(
        table.path,
        f"no column of reports ({shown}); found: {', '.join(table.columns)}",
        f"Name it with {option}.",
    )


def report_of(cells: Cells, columns: Sequence[str]) -> str:
    """The report of one row, untouched; "" where it says "Not given." or nothing.

    Two columns are joined to `Findings: ... Impression: ...`, as `uvlm prepare` does.
    """
    if len(columns) > 1:
        return join_sections(cells[columns[0]], cells[columns[1]])
    text = cells[columns[0]]
    return text if clean_report(text) else ""


def find_labels(references: Table, predictions: Table, named: Sequence[str]) -> tuple[str, ...]:
    """Label columns: those named; else CT-RATE's 18 or AbdomenAtlas's 3; else the shared ones that
    hold 0, 1 or nothing in the references and numbers in the predictions.

    Raises:
        InputError: none is there, or one has text in it.
    """
    if named:
        references.require(named)
        predictions.require(named)
        return tuple(named)
    for known in (CT_RATE_LABELS, ABDOMEN_LABELS):
        if set(known) <= set(references.columns):
            predictions.require(known)
            return known
    texts = {column for columns in PREDICTED_TEXT for column in columns}
    shared = [
        column
        for column in references.columns
        if column in predictions.columns and column not in NO_LABELS | texts
    ]
    found = [column for column in shared if _mostly_labels(references, column)]
    if not found:
        raise InputError.about(
            references.path,
            "no label columns, 0 or 1, that the predictions have too; columns of both: "
            f"{', '.join(shared) or 'none'}",
            "Name them with --label-columns.",
        )
    return tuple(found)


def _mostly_labels(table: Table, column: str) -> bool:
    """A few wrong cells must lead to an error that names them, not to a column left out."""
    cells = [cells[column] for _, cells in table.rows if cells[column]]
    right = sum(cell in ("0", "1", "0.0", "1.0") for cell in cells)
    return bool(cells) and 2 * right >= len(cells)


def label_rows(
    table: Table, rows: Iterable[tuple[int, Cells]], names: Sequence[str]
) -> NDArray[np.float64]:
    """(N, C) of 0, 1 or nan (an empty cell: unknown).

    Raises:
        InputError: a cell holds anything else; row and column are named.
    """
    values = [[table.label(n, name, cells[name]) for name in names] for n, cells in rows]
    return np.array(values, dtype=np.float64).reshape(len(values), len(names))


def probability_rows(
    table: Table,
    rows: Iterable[tuple[int, Cells]],
    names: Sequence[str],
    *,
    logits: bool = False,
) -> NDArray[np.float64]:
    """(N, C) probabilities; from logits by the logistic function.

    Raises:
        InputError: a cell is empty, no number or, unless `logits`, not from 0 to 1.
    """
    rows = list(rows)
    values = np.array(
        [[_number(table, n, name, cells[name], logits) for name in names] for n, cells in rows]
    )
    values = values.reshape(len(rows), len(names)).astype(np.float64)
    if logits:
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -700.0, 700.0))))
    wrong = (values < 0) | (values > 1)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        few = f"{values[row, column]:g} is no probability; {int(wrong.sum())} of {wrong.size} cells"
        raise table.error(
            rows[row][0],
            names[column],
            f"{few} are below 0 or above 1",
            "Give values from 0 to 1; if these are logits, say so with --logits.",
        )
    return values


def _number(table: Table, row: int, column: str, cell: str, logits: bool) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        found = "empty" if not cell else f"{quoted(cell)} is no number"
        remedy = (
            "Give a logit, a finite number, for every study."
            if logits
            else "Give a probability from 0 to 1 for every study."
        )
        if re.fullmatch(r"[-+]?\d*,\d+", cell):
            remedy = "Write decimals with a point, 0.5 and not 0,5."
        raise table.error(row, column, found, remedy)
    return value
