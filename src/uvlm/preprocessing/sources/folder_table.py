"""The user's own table: a CSV in any usual encoding and delimiter, or an Excel sheet.

Read as strictly as the tables of the public datasets; what had to be decided is said.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.spreadsheet import read_spreadsheet
from uvlm.preprocessing.table import DELIMITERS, Table, find_delimiter, quoted, read_table

__all__ = ["label_value", "parse_split", "read_any", "value_of_word"]

TURKISH = frozenset("ĞİŞğış".encode("cp1254"))
"""The only bytes that cp1252 reads otherwise than cp1254: as Icelandic letters."""

MOST_LETTERS = 20

WORDS: dict[str, float] = {
    "0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "0,0": 0.0, "1,0": 1.0,
    "no": 0.0, "yes": 1.0, "false": 0.0, "true": 1.0, "absent": 0.0, "present": 1.0,
    "nein": 0.0, "ja": 1.0, "falsch": 0.0, "wahr": 1.0,
    "non": 0.0, "oui": 1.0, "faux": 0.0, "vrai": 1.0,
    "hayır": 0.0, "hayir": 0.0, "evet": 1.0, "yanlış": 0.0, "yanliş": 0.0, "doğru": 1.0,
}  # fmt: skip
"""What a label's cell may say, in lower case; Excel writes TRUE in the language it speaks."""

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
        CatalogError: as `read_table` and `read_spreadsheet`; an option that does not apply; or an
            encoding that cannot be found out.
    """
    if path.suffix.lower() in (".xlsx", ".xlsm", ".xls"):
        if encoding or delimiter:
            raise CatalogError.about(
                path, "an Excel file has no encoding or delimiter", "Leave the option out."
            )
        return read_spreadsheet(path, sheet), ()
    if sheet is not None:
        raise CatalogError.about(path, "no Excel file, so no sheets", "Leave --sheet out.")
    if delimiter is not None and len(delimiter) != 1:
        raise CatalogError.about(path, f"delimiter {delimiter!r}", "Give one character.")
    try:
        data = path.read_bytes()
        encoding = encoding or _encoding_of(path, data)
        text = data.decode(encoding)
    except OSError as error:
        raise CatalogError.about(
            path, f"cannot be read ({error.strerror})", "Check the path."
        ) from None
    except LookupError:
        raise CatalogError.about(
            path, f"unknown encoding {encoding!r}", "Use utf-8, utf-16 or cp1252."
        ) from None
    except UnicodeError:
        raise CatalogError.about(
            path, f"not text in {encoding}", "Save it as CSV (UTF-8), or give --encoding."
        ) from None
    if "\0" in text:
        raise CatalogError.about(
            path,
            f"no text in {encoding}: it holds zero bytes",
            "Give --encoding utf-16, or save it as CSV (UTF-8).",
        )
    chosen = delimiter or find_delimiter(text)
    return read_table(path, encoding=encoding, delimiter=chosen), _notes(text, encoding, chosen)


def _encoding_of(path: Path, data: bytes) -> str:
    """UTF-16 with a mark, UTF-8, else cp1252 where no other Windows encoding is as likely."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in data or not TURKISH & set(data):
            return "cp1252"
        raise CatalogError.about(
            path,
            "not UTF-8, and either Turkish (cp1254) or Western European (cp1252)",
            "Say which with --encoding, or save it as CSV (UTF-8).",
        ) from None
    return "utf-8-sig"


def _notes(text: str, encoding: str, delimiter: str) -> tuple[str, ...]:
    """What was decided; letters show a wrong encoding, and give away no text."""
    notes = []
    if encoding == "cp1252":
        letters = " ".join(sorted({letter for letter in text if letter > "\x7f"})[:MOST_LETTERS])
        notes.append(f"not UTF-8, read as cp1252; if {letters} look wrong, give --encoding.")
    if delimiter != ",":
        notes.append(f"fields are separated by {DELIMITERS.get(delimiter, repr(delimiter))}.")
    return tuple(notes)


def value_of_word(text: str) -> float | None:
    """1.0 or 0.0 for what a label's cell says; None for anything else."""
    return WORDS.get(text.lower())


def label_value(table: Table, row: int, column: str, text: str) -> float | None:
    """A label's cell: 0.0, 1.0, or None for an empty one, which means unknown.

    Raises:
        CatalogError: anything but 0, 1, yes, no, true, false, present, absent; names the cell.
    """
    value = value_of_word(text)
    return table.label(row, column, text) if value is None else value


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
            row, column, f"the split {quoted(text)}", f"Use one of {', '.join(SPLITS)}, or empty."
        ) from None
