"""CSV files read strictly: whole rows, unique columns, errors that name row and column."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from uvlm.errors import CatalogError

__all__ = ["DELIMITERS", "Table", "defused", "find_delimiter", "quoted", "read_table", "restored"]

LONGEST_CELL = 1 << 24
"""Characters; a quote that is never closed swallows the rest of a file up to here."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""Those found out by themselves, likeliest first, and what a message calls them."""


@dataclass(frozen=True)
class Table:
    """A CSV file in memory; cells are stripped of surrounding white space."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    """(row number with the header as row 1, column to cell)"""

    def require(self, columns: Iterable[str]) -> None:
        """
        Raises:
            CatalogError: naming the first column that is missing and the one most like it.
        """
        for column in columns:
            if column not in self.columns:
                near = difflib.get_close_matches(column, self.columns, n=1)
                hint = f"; did you mean {near[0]!r}" if near else ""
                raise CatalogError.about(
                    self.path,
                    f"row 1: no column {column!r}{hint}",
                    f"Add or rename it. Columns found: {', '.join(self.columns)}.",
                )

    def error(self, row: int, column: str, found: str, remedy: str) -> CatalogError:
        """`path: row 7, column 'report': found. remedy`"""
        return CatalogError(f"{self.path}: row {row}, column {column!r}: {found}. {remedy}")

    def label(self, row: int, column: str, value: str) -> float | None:
        """A label's cell: 0.0, 1.0, or None for an empty one, which means unknown.

        Raises:
            CatalogError: anything else.
        """
        if value in ("", "0", "1", "0.0", "1.0"):
            return float(value) if value else None
        remedy = "Use 0, 1, or empty for unknown."
        raise self.error(row, column, f"the label {quoted(value)}", remedy)


def quoted(text: str) -> str:
    """A cell for a message; not words, which may be part of a report that no message repeats."""
    return repr(text) if len(text) <= 40 and " " not in text else f"of {len(text)} characters"


def defused(cell: str) -> str:
    """A cell that spreadsheets take for words: those that would be a formula begin with an
    apostrophe, and with one more where they had some, so that `restored` finds the cell again."""
    if not re.match(r"'*[=+\-@\t\r\n]", cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def restored(cell: str) -> str:
    """What `defused` was given."""
    return cell[1:] if re.match(r"'+[=+\-@\t\r\n]", cell) else cell


def read_table(path: Path, *, encoding: str = "utf-8-sig", delimiter: str = ",") -> Table:
    """Read a CSV file with double quotes and a header row; Excel's line `sep=;` may stand above it.

    Raises:
        CatalogError: it is missing, empty, not text, has a column twice, has a row of another
            length than its header, or ends inside a quoted field.
    """
    try:
        with path.open(encoding=encoding, newline="") as file:
            text = file.read()
    except UnicodeError:
        name = "UTF-8" if encoding == "utf-8-sig" else encoding
        raise CatalogError.about(
            path, f"not {name} text", "Give a CSV file in UTF-8, or its encoding."
        ) from None
    except OSError as error:
        raise CatalogError.about(
            path, f"cannot be read ({error.strerror})", "Check the path."
        ) from None
    lines = _records(path, text, delimiter)
    if lines and lines[0][1][0].lower().startswith("sep="):
        del lines[0]
    if not lines:
        raise CatalogError.about(path, "empty", "Give a CSV file with a header row.")
    first, header = lines[0]
    columns = tuple(cell.strip() for cell in header)
    for column in columns:
        if columns.count(column) > 1:
            raise CatalogError.about(
                path, f"row {first}: column {column!r} twice", "Rename one of them."
            )
    rows = []
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            raise CatalogError.about(
                path,
                f"row {number} has {len(cells)} fields, the header {len(columns)}",
                "Repair or remove the row: cut off, quotes missing, or not separated by "
                f"{DELIMITERS.get(delimiter, repr(delimiter))}.",
            )
        stripped = [cell.strip() for cell in cells]
        # Excel leaves such rows behind where cells were cleared.
        if any(stripped):
            rows.append((number, dict(zip(columns, stripped, strict=True))))
    return Table(path, columns, tuple(rows))


def find_delimiter(text: str) -> str:
    """Comma, semicolon or tab: what Excel's `sep=` line says, else what fits all rows best.

    Best is the one under which all rows are as long as the header; else the longest header.
    """
    line, _, rest = text.partition("\n")
    if line.lower().startswith("sep="):
        said = line[4:5].rstrip("\r")
        return said or find_delimiter(rest)
    best, most = ",", (False, 1)
    for delimiter in DELIMITERS:
        header, even = 0, True
        try:
            for cells in _reader(text, delimiter, strict=True):
                header = header or len(cells)
                even = even and len(cells) in (0, header)
        except csv.Error:
            even = False
        if header > 1 and (even, header) > most:
            best, most = delimiter, (even, header)
    return best


def _records(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Non-empty rows with their numbers."""
    records: list[tuple[int, list[str]]] = []
    number = 0
    try:
        for number, cells in enumerate(_reader(text, delimiter, strict=True), 1):
            if cells:
                records.append((number, cells))
    except csv.Error as error:
        # Read leniently, the faulty row ends with the field that is not closed.
        cells = next(islice(_reader(text, delimiter, strict=False), number, None), [])
        header = records[0][1] if records else []
        column = header[len(cells) - 1] if 0 < len(cells) <= len(header) else "?"
        raise CatalogError.about(
            path,
            f"row {number + 1}, column {column!r}: a quoted field is not properly closed ({error})",
            "Copy or export the file again; it looks cut off.",
        ) from None
    return records


def _reader(text: str, delimiter: str, *, strict: bool) -> Iterator[list[str]]:
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    finally:
        csv.field_size_limit(limit)
