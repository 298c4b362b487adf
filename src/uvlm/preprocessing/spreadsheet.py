"""Excel workbooks (`.xlsx`) read as strictly as a CSV file: whole rows, unique columns, plain text.

A cell becomes the text a person sees in it: whole numbers without ".0", leading zeros that its
format adds, ISO dates, 1 and 0 for TRUE and FALSE. What cannot be known from the file is refused:
the result of a formula that was never computed, and long numbers whose last digits Excel dropped.
"""

from __future__ import annotations

import datetime
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from uvlm.errors import CatalogError
from uvlm.preprocessing.table import Table

__all__ = ["read_spreadsheet"]

DIGITS_KEPT = 10**15
"""Excel keeps 15 digits of a number; longer identifiers must be text."""

Row = list[tuple[Any, Any]]
"""(cell with its value, the same cell with its formula)"""


def read_spreadsheet(path: Path, sheet: str | None = None) -> Table:
    """One sheet of an `.xlsx` workbook, its first non-empty row as the header.

    Args:
        sheet: its name; without it the workbook must have only one sheet that is not empty.

    Returns:
        A table whose row numbers are those Excel shows; empty rows and columns are left out.

    Raises:
        CatalogError: no readable workbook, no such sheet, several sheets to choose from; a column
            without a name (also from merged cells) or named twice; an error value, a formula
            without a computed value, or a number too long to be exact.
    """
    sheets = _load(path)
    title, rows = _choose(path, sheets, sheet)
    if not rows:
        raise CatalogError.about(path, f"sheet {title!r} is empty", "Name another with --sheet.")
    first = min(rows)
    texts = {
        number: [_text(path, number, column, *pair) for column, pair in enumerate(cells)]
        for number, cells in rows.items()
    }
    used = [k for k in range(len(texts[first])) if any(cells[k] for cells in texts.values())]
    columns = tuple(texts[first][k] for k in used)
    for k, name in zip(used, columns, strict=True):
        if not name:
            raise CatalogError.about(
                path,
                f"row {first}: column {_letter(k)} has cells but no name",
                "Give every column one name in the first row; undo merged cells and titles above.",
            )
        if columns.count(name) > 1:
            raise CatalogError.about(
                path, f"row {first}: column {name!r} twice", "Rename one of them."
            )
    body = (
        (number, dict(zip(columns, (cells[k] for k in used), strict=True)))
        for number, cells in texts.items()
        if number != first and any(cells)
    )
    return Table(path, columns, tuple(body))


def _load(path: Path) -> dict[str, dict[int, Row]]:
    """Sheet name to its non-empty rows by number."""
    import openpyxl

    if path.suffix.lower() == ".xls":
        raise CatalogError.about(
            path, "the old Excel format", "Save it as .xlsx, or as CSV (UTF-8)."
        )
    try:
        # openpyxl warns about drawings and validations, which nobody needs here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = openpyxl.load_workbook(path, read_only=True, data_only=True)
            formulas = openpyxl.load_workbook(path, read_only=True, data_only=False)
            try:
                return {
                    sheet.title: dict(_rows(sheet, formulas[sheet.title]))
                    for sheet in values.worksheets
                }
            finally:
                values.close()
                formulas.close()
    except OSError as error:
        raise CatalogError.about(
            path, f"cannot be read ({error.strerror or 'damaged'})", "Check the path."
        ) from None
    # A damaged workbook makes openpyxl raise nearly anything.
    except (BadZipFile, KeyError, ValueError, TypeError, SyntaxError, AttributeError) as error:
        raise CatalogError.about(
            path,
            f"no readable Excel workbook ({type(error).__name__})",
            "Save it again as .xlsx, or as CSV (UTF-8).",
        ) from None


def _rows(values: Any, formulas: Any) -> Iterator[tuple[int, Row]]:
    """Rows that are not empty, all of one length."""
    for sheet in (values, formulas):
        # Some programs write a wrong extent, and rows beyond it would be lost.
        sheet.reset_dimensions()
    found = {
        number: list(zip(*pair, strict=True))
        for number, pair in enumerate(zip(values.rows, formulas.rows, strict=True), 1)
        if any(cell.value is not None for cell in pair[1])
    }
    width = max(map(len, found.values()), default=0)
    for number, row in found.items():
        yield number, row + [(None, None)] * (width - len(row))


def _choose(
    path: Path, sheets: dict[str, dict[int, Row]], sheet: str | None
) -> tuple[str, dict[int, Row]]:
    names = ", ".join(repr(name) for name in sheets)
    if sheet is not None:
        if sheet not in sheets:
            raise CatalogError.about(path, f"no sheet {sheet!r}", f"Sheets found: {names}.")
        return sheet, sheets[sheet]
    filled = {name: rows for name, rows in sheets.items() if rows}
    if len(filled) > 1:
        raise CatalogError.about(
            path, f"{len(filled)} sheets with cells: {names}", "Name one with --sheet."
        )
    return next(iter((filled or sheets).items()))


def _text(path: Path, row: int, column: int, cell: Any, formula: Any) -> str:
    """What a person sees in the cell."""
    value = None if cell is None else cell.value
    problem = None
    if value is None:
        if formula is None or formula.value is None:
            return ""
        problem = "a formula without a computed value", "Open and save the file in Excel."
    elif cell.data_type == "e":
        problem = f"the error value {value}", "Correct or clear the cell."
    elif isinstance(value, (int, float)) and abs(value) >= DIGITS_KEPT:
        problem = "a number of more digits than Excel keeps", "Store it as text and fill it again."
    if problem:
        where = f"{path}: row {row}, column {_letter(column)}"
        raise CatalogError(f"{where}: {problem[0]}. {problem[1]}")
    return _shown(value, cell.number_format)


def _shown(value: Any, number_format: str | None) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (int, float)):
        if value != int(value):
            return repr(value)
        # The format 00000 shows 42 as 00042, and that is how the file is named.
        zeros = number_format if re.fullmatch(r"0+", number_format or "") else ""
        return str(int(value)).zfill(len(zeros or ""))
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value).strip()


def _letter(column: int) -> str:
    """0 -> A, 26 -> AA."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
