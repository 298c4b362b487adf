"""The table of a copy of BIMCV-R: which file it is, and what its columns hold."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.disk import LOCK
from uvlm.preprocessing.sources.folder_files import stem_of
from uvlm.preprocessing.sources.folder_table import read_any
from uvlm.preprocessing.table import Table

__all__ = [
    "BimcvColumns",
    "english_column",
    "find_table",
    "name_of",
    "named_column",
    "volume_column",
    "words_of",
]

ENGLISH = re.compile(r"report_?en$|english|translat", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class BimcvColumns:
    """Which column holds what."""

    volume: str
    report: str
    patient: str | None
    split: str | None
    lists: tuple[str, ...]


def name_of(cell: str) -> str:
    """Of a volume, from a cell that may hold a path of another machine."""
    return stem_of(cell.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])


def volume_column(table: Table, volumes: Mapping[str, Path]) -> str | None:
    """The column most of whose cells name volumes; None where no cell of any does."""
    matches = {
        column: len({name_of(cells[column]) for _, cells in table.rows} & volumes.keys())
        for column in table.columns
    }
    best = max(matches, key=lambda column: matches[column], default=None)
    return best if best is not None and matches[best] else None


def find_table(
    folder: Path, given: Path | None, volumes: Mapping[str, Path]
) -> tuple[Table, tuple[str, ...]]:
    """The table given, or the only one below `folder` that names volumes; and notes on it.

    Raises:
        CatalogError: it names none of them, or there is not exactly one.
    """
    if given is not None:
        table, notes = read_any(given)
        if volume_column(table, volumes) is None:
            raise CatalogError.about(
                given, f"no column names the volumes below {folder}", "Give another table."
            )
        return table, notes
    usable, unread = [], []
    for path in _tables_below(folder):
        try:
            pair = read_any(path)
        except CatalogError as error:
            unread.append(f"{error}")
            continue
        if volume_column(pair[0], volumes) is not None:
            usable.append(pair)
    if len(usable) != 1:
        names = "; ".join([*(str(table.path) for table, _ in usable), *unread])
        found = (
            f"{len(usable)} tables that name its volumes"
            if usable
            else "no table that names its volumes"
        )
        raise CatalogError.about(
            folder, f"{found}: {names}" if names else found, "Give it: --table."
        )
    table, notes = usable[0]
    return table, (*notes, *(f"Not looked into: {error}" for error in unread))


def _tables_below(folder: Path) -> list[Path]:
    """Also without the catalogs that an earlier run wrote there."""
    found = sorted(folder.rglob("*"))
    prepared = {path.parent for path in found if path.name == LOCK}
    return [
        path
        for path in found
        if path.suffix.lower() in (".csv", ".xlsx")
        and not path.name.startswith((".", "~"))
        and prepared.isdisjoint(path.parents)
    ]


def english_column(table: Table) -> str:
    """The column of the English report; never the Spanish one.

    Raises:
        CatalogError: no column, or several, are named like it.
    """
    found = [column for column in table.columns if ENGLISH.search(column)]
    if len(found) != 1:
        what = f"the columns {', '.join(found)} may all be" if found else "no column is named like"
        raise CatalogError.about(
            table.path,
            f"{what} the English report",
            f"Name it with --report-column. Columns found: {', '.join(table.columns)}.",
        )
    return found[0]


def named_column(table: Table, plain: str) -> str | None:
    """The column of this name, in lower case and without underscores."""
    return next((c for c in table.columns if c.lower().replace("_", "") == plain), None)


def words_of(cell: str) -> str | None:
    """The words of "['nodule', ' mass', '']" as a JSON list; None for anything else."""
    try:
        value = ast.literal_eval(cell) if cell else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(value, list):
        return None
    words: Iterable[str] = (str(each).strip() for each in value)
    return json.dumps([word for word in dict.fromkeys(words) if word], ensure_ascii=False)
