"""The user's own table: a CSV in any usual encoding and delimiter, or an Excel sheet.

Read as strictly as the tables of the public datasets; what had to be decided is said.
"""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.spreadsheet import read_spreadsheet
from uvlm.preprocessing.table import Table

__all__ = ["label_value", "parse_split", "read_any", "value_of_word"]

LONGEST_CELL = 1 << 24
"""Characters; a quote that is never closed swallows the rest of a file up to here."""

DELIMITERS = (",", ";", "\t")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}

WORDS: dict[str, float] = {
    "0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "0,0": 0.0, "1,0": 1.0,
    "no": 0.0, "yes": 1.0, "false": 0.0, "true": 1.0, "absent": 0.0, "present": 1.0,
}  # fmt: skip
"""What a label's cell may say, in lower case."""

SPLITS = {
    "train": "train", "training": "train", "valid": "valid", "val": "valid",
    "validation": "valid", "test": "test", "testing": "test",
}  # fmt: skip


def read_any(
    path: Path, sheet: str | None = None, encoding: str | None = None, delimiter: str | None = None
) -> tuple[Table, tuple[str, ...]]:
    """A CSV file or one sheet of an `.xlsx` workbook, and what had to be decided to read it.

    Args:
        encoding: of a CSV; without it UTF-8, UTF-16 with a mark, then cp1252.
        delimiter: of a CSV; without it the one of comma, semicolon and tab that fits all rows.

    Raises:
        CatalogError: as `read_table` and `read_spreadsheet`; or an option that does not apply.
    """
    if path.suffix.lower() in (".xlsx", ".xlsm", ".xls"):
        if encoding or delimiter:
            raise CatalogError.about(
                path, "an Excel file has no encoding or delimiter", "Leave the option out."
            )
        return read_spreadsheet(path, sheet), ()
    if sheet is not None:
        raise CatalogError.about(path, "no Excel file, so no sheets", "Leave --sheet out.")
    text, notes = _decode(path, encoding)
    lines = text.splitlines(keepends=True)
    skipped = 0
    if lines and lines[0].strip().lower()[:4] == "sep=":
        # Excel's own way to say the delimiter.
        delimiter = delimiter or lines[0].strip()[4:5] or None
        skipped = 1
    body = "".join(lines[skipped:])
    chosen = delimiter or _sniff(body)
    if chosen != ",":
        notes += (f"{path.name}: fields are separated by {NAMES.get(chosen, repr(chosen))}.",)
    return _parse(path, body, chosen, skipped), notes


def _decode(path: Path, encoding: str | None) -> tuple[str, tuple[str, ...]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CatalogError.about(
            path, f"cannot be read ({error.strerror})", "Check the path."
        ) from None
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    chosen = encoding or ("utf-16" if marked else "utf-8-sig")
    note = ""
    try:
        text = data.decode(chosen)
    except LookupError:
        raise CatalogError.about(
            path, f"unknown encoding {encoding!r}", "Use utf-8, utf-16 or cp1252."
        ) from None
    except UnicodeDecodeError:
        if encoding or marked:
            raise CatalogError.about(
                path, f"not text in {chosen}", "Save it as CSV (UTF-8), or give --encoding."
            ) from None
        note = f"{path.name}: not UTF-8, read as cp1252 (Western European Windows)."
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            raise CatalogError.about(
                path, "neither UTF-8 nor cp1252 text", "Save it as CSV (UTF-8), or give --encoding."
            ) from None
    if "\0" in text:
        raise CatalogError.about(
            path,
            f"no text in {'cp1252' if note else chosen}: it holds zero bytes",
            "Give --encoding utf-16, or save it as CSV (UTF-8).",
        )
    return text, (note,) if note else ()


def _sniff(text: str) -> str:
    """The delimiter under which all rows are as long as the header; else the header's longest."""
    best, most = ",", (False, 1)
    for delimiter in DELIMITERS:
        try:
            lengths = [len(cells) for cells in _reader(text, delimiter) if cells]
        except csv.Error:
            lengths = [len(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)))]
            lengths.append(-1)
        if not lengths or lengths[0] < 2:
            continue
        score = (len(set(lengths)) == 1, lengths[0])
        if score > most:
            best, most = delimiter, score
    return best


def _reader(text: str, delimiter: str) -> list[list[str]]:
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    finally:
        csv.field_size_limit(limit)


def _parse(path: Path, text: str, delimiter: str, skipped: int) -> Table:
    if len(delimiter) != 1:
        raise CatalogError.about(path, f"delimiter {delimiter!r}", "Give one character.")
    try:
        records = [
            (number, [cell.strip() for cell in cells])
            for number, cells in enumerate(_reader(text, delimiter), 1 + skipped)
            if cells
        ]
    except csv.Error as error:
        raise CatalogError.about(
            path,
            f"a quoted field is not properly closed ({error})",
            "Copy or export the file again; it looks cut off.",
        ) from None
    if not records:
        raise CatalogError.about(path, "empty", "Give a table with a header row.")
    columns = tuple(records[0][1])
    for column in columns:
        if columns.count(column) > 1:
            raise CatalogError.about(
                path, f"row {records[0][0]}: column {column!r} twice", "Rename one of them."
            )
    for number, cells in records[1:]:
        if len(cells) != len(columns):
            raise CatalogError.about(
                path,
                f"row {number} has {len(cells)} fields, the header {len(columns)}",
                "Repair the row: cut off, quotes missing, or another delimiter (--delimiter).",
            )
    rows = tuple((number, dict(zip(columns, cells, strict=True))) for number, cells in records[1:])
    return Table(path, columns, tuple(row for row in rows if any(row[1].values())))


def value_of_word(text: str) -> float | None:
    """1.0 or 0.0 for what a label's cell says; None for anything else."""
    return WORDS.get(text.lower())


def label_value(table: Table, row: int, column: str, text: str) -> float | None:
    """A label's cell: 0.0, 1.0, or None for an empty one, which means unknown.

    Raises:
        CatalogError: anything but 0, 1, yes, no, true, false, present, absent; names the cell.
    """
    if not text:
        return None
    value = value_of_word(text)
    if value is None:
        # A sentence may be part of a report, which no error quotes.
        short = len(text) <= 40 and len(text.split()) <= 2
        shown = repr(text) if short else f"a text of {len(text)} characters"
        remedy = "Use 0, 1 (or yes, no, true, false, present, absent), or empty for unknown."
        raise table.error(row, column, f"the label {shown}", remedy)
    return value


def parse_split(table: Table, row: int, column: str, text: str) -> str | None:
    """ "train", "valid", "test", or None for an empty cell.

    Raises:
        CatalogError: another word.
    """
    if not text:
        return None
    try:
        return SPLITS[text.lower()]
    except KeyError:
        raise table.error(
            row, column, f"the split {text[:40]!r}", f"Use one of {', '.join(SPLITS)}, or empty."
        ) from None
