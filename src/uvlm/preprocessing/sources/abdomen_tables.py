"""The tables of AbdomenAtlas 3.0: what is known of every case, and the lists of training and test.

AbdomenAtlas3.0MiniWithMeta.csv           `BDMAP ID`, sex, age, contrast, lesion volumes and
                                          four reports, one row per case
TrainTestIDS/{IID,OOD}_{train,test}.csv   a column `BDMAP ID`; IID holds out a tenth at random,
                                          OOD hospitals
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from uvlm.errors import CatalogError
from uvlm.preprocessing.table import Table, read_table
from uvlm.text.cleaning import clean_report

__all__ = [
    "METADATA",
    "REPORTS",
    "SPLIT_FOLDER",
    "TABLE_COLUMNS",
    "Case",
    "Report",
    "Split",
    "read_metadata",
    "read_split",
]

Report = Literal["structured", "narrative", "fusion_structured", "fusion_narrative"]
Split = Literal["IID", "OOD"]

METADATA = "AbdomenAtlas3.0MiniWithMeta.csv"
SPLIT_FOLDER = "TrainTestIDS"
ID = "BDMAP ID"

REPORTS: dict[Report, str] = {
    "structured": "structured report",
    "narrative": "narrative report",
    "fusion_structured": "fusion structured report",
    "fusion_narrative": "fusion narrative report",
}
"""Kind of report -> its column."""

ABOUT = ("sex", "age", "contrast")
"""Columns that are handed on as they are."""

TABLE_COLUMNS: tuple[str, ...] = (*ABOUT, *(f"report_{kind}" for kind in REPORTS))
"""Columns of the catalog that come from the metadata, texts as they stand there."""

VOLUMES: dict[str, tuple[str, ...]] = {
    "Liver lesion": ("total liver lesion volume (cm^3)",),
    "Kidney lesion": ("total kidney lesion volume (cm^3)",),
    "Pancreas lesion": (
        "total pancreatic lesion volume (cm^3)",
        "total pancreas lesion volume (cm^3)",
    ),
}
"""Label -> the column with the volume of its lesions; both spellings are in use."""

UNKNOWN = ("nan", "none", "n/a", "u/k", "unknown")
"""Ways to write that a volume is not known, besides an empty cell."""

_ID = re.compile(r"BDMAP_\w+")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the metadata."""

    about: Mapping[str, str]
    """`ABOUT`, empty where unknown."""

    reports: Mapping[Report, str]
    """As they stand in the table, line breaks included; empty where missing."""

    lesion_ml: Mapping[str, float]
    """Label -> volume of all its lesions, ml; unknown ones are missing."""

    def report(self, kind: Report) -> str:
        """One line of text, for training; empty where there is none."""
        return clean_report(self.reports[kind])

    @property
    def columns(self) -> dict[str, str]:
        """What goes into the catalog's `TABLE_COLUMNS`."""
        return {**self.about, **{f"report_{kind}": text for kind, text in self.reports.items()}}


def read_metadata(path: Path) -> dict[str, Case]:
    """Case identifier -> what the metadata say.

    Raises:
        CatalogError: the table is missing or damaged, lacks `BDMAP ID`, names a case twice, or has
            a volume that is no number.
    """
    table = read_table(path)
    table.require([ID])
    cases: dict[str, Case] = {}
    for number, cells in table.rows:
        name = cells[ID]
        if name in cases:
            raise table.error(number, ID, f"{name!r} twice", "Remove one of the rows.")
        cases[name] = Case(
            about={column: cells.get(column, "") for column in ABOUT},
            reports={kind: cells.get(column, "") for kind, column in REPORTS.items()},
            lesion_ml=_volumes(table, number, cells),
        )
    return cases


def _volumes(table: Table, number: int, cells: Mapping[str, str]) -> dict[str, float]:
    found = {}
    for label, columns in VOLUMES.items():
        column = next((each for each in columns if cells.get(each)), None)
        if column is None or cells[column].lower() in UNKNOWN:
            continue
        try:
            found[label] = float(cells[column])
        except ValueError:
            found[label] = math.nan
        if not 0 <= found[label] < math.inf:
            raise table.error(number, column, "not a volume in cm^3", "Correct or empty the cell.")
    return found


def read_split(folder: Path, split: Split) -> dict[str, str]:
    """Case identifier -> "train" or "test", by the lists of that name.

    Raises:
        CatalogError: a list is missing or damaged, or a case is in both.
    """
    parts: dict[str, str] = {}
    for part in ("train", "test"):
        path = folder / f"{split}_{part}.csv"
        for name in _names(read_table(path)):
            if parts.setdefault(name, part) != part:
                raise CatalogError.about(
                    path,
                    f"{name} is also in {split}_train.csv",
                    "Remove it from one of the two lists.",
                )
    return parts


def _names(table: Table) -> list[str]:
    """The cases of a list, which may have no header."""
    header = [column for column in table.columns if _ID.fullmatch(column)]
    column = header[0] if header else ID
    if not header:
        table.require([ID])
    return [*header[:1], *(cells[column] for _, cells in table.rows if cells[column])]
