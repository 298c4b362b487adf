"""CSV files read strictly: whole rows, unique columns, errors that name row and column."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from uvlm.errors import CatalogError

__all__ = ["Table", "read_table"]

LONGEST_CELL = 1 << 24
"""Characters; a quote that is never closed swallows the rest of a file up to here."""


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
        shown = value if len(value) <= 40 else value[:37] + "..."
        raise self.error(row, column, f"the label {shown!r}", "Use 0, 1, or empty for unknown.")


def read_table(path: Path) -> Table:
    """Read a CSV file (UTF-8, comma, double quotes) with a header row.

    Raises:
        CatalogError: it is missing, empty, not text, has a column twice, has a row of another
            length than its header, or ends inside a quoted field.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError:
        raise CatalogError.about(path, "not UTF-8 text", "Give a CSV file in UTF-8.") from None
    except OSError as error:
        raise CatalogError.about(
            path, f"cannot be read ({error.strerror})", "Check the path."
        ) from None
    lines = _records(path, text)
    if not lines:
        raise CatalogError.about(path, "empty", "Give a CSV file with a header row.")
    columns = tuple(cell.strip() for cell in lines[0][1])
    for column in columns:
        if columns.count(column) > 1:
            raise CatalogError.about(path, f"row 1: column {column!r} twice", "Rename one of them.")
    rows = []
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            raise CatalogError.about(
                path,
                f"row {number} has {len(cells)} fields, the header {len(columns)}",
                "Repair or remove the row; the file may have been cut off, or lack quotes.",
            )
        stripped = (cell.strip() for cell in cells)
        rows.append((number, dict(zip(columns, stripped, strict=True))))
    return Table(path, columns, tuple(rows))


def _records(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Non-empty rows with their numbers."""
    limit = csv.field_size_limit(LONGEST_CELL)
    records: list[tuple[int, list[str]]] = []
    number = 0
    try:
        for number, cells in enumerate(_reader(text, strict=True), 1):
            if cells:
                records.append((number, cells))
    except csv.Error as error:
        # Read leniently, the faulty row ends with the field that is not closed.
        cells = next(islice(_reader(text, strict=False), number, None), [])
        header = records[0][1] if records else []
        column = header[len(cells) - 1] if 0 < len(cells) <= len(header) else "?"
        raise CatalogError.about(
            path,
            f"row {number + 1}, column {column!r}: a quoted field is not properly closed ({error})",
            "Copy or export the file again; it looks cut off.",
        ) from None
    finally:
        csv.field_size_limit(limit)
    return records


def _reader(text: str, *, strict: bool) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), strict=strict)
