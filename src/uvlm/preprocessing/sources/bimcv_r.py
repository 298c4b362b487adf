"""BIMCV-R: chest CTs of the Valencia region with Spanish reports and their English translation.

    INPUT/**/sub-S03047_ses-E07985_run-1_bp-chest_ct.nii.gz     volumes in HU, at any depth
    INPUT/**/*.csv                                              one row per volume

The table names the volume (`ct_path`, of which only the file's name counts), the patient
(`PatientID`), the session (`ReportID`), the report in Spanish (`Report`) and in English
(`Report_en`), and lists of findings (`Labels`) and places (`Localizations`). Copies of the release
differ in their names, so columns are found by their values and names, said, and can be set.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.sources.bimcv_r_table import (
    BimcvColumns,
    english_column,
    find_table,
    name_of,
    named_column,
    volume_column,
    words_of,
)
from uvlm.preprocessing.sources.ct_rate_files import read_source
from uvlm.preprocessing.sources.folder_files import find_files, stem_of
from uvlm.preprocessing.sources.folder_table import parse_split
from uvlm.preprocessing.study import Exclusion, Listing, Rejection, Study, VolumeFile
from uvlm.preprocessing.table import Table
from uvlm.text.cleaning import clean_report

__all__ = [
    "DESCRIPTION",
    "NNUNET",
    "add_arguments",
    "ids_in",
    "list_bimcv_r",
    "list_studies",
]

DESCRIPTION = (
    "INPUT holds the volumes (.nii.gz) at any depth and a table with a row per volume. The column "
    "that names the volumes is found by its values, that of the English reports by its name; the "
    "choice is shown. Patients and sessions are read from names like sub-S1_ses-E1_....nii.gz."
)
NNUNET: NnunetName | None = None

LISTS = ("labels", "localizations")
"""Columns with lists of words, which become columns of the catalog as JSON lists."""

_BIDS = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT", help="the folder with volumes and table")
    add("--table", type=Path, metavar="FILE", help=".csv or .xlsx (default: found below INPUT)")
    add("--id-column", metavar="COL", help="names the volume (default: found by its values)")
    add("--report-column", metavar="COL", help="English report (default: found by its name)")
    add("--patient-column", metavar="COL", help="patient, where file names do not say")
    add("--split-column", metavar="COL", help="train, valid or test (default: none)")


def list_studies(args: argparse.Namespace) -> Listing:
    return list_bimcv_r(
        args.input,
        args.table,
        id_column=args.id_column,
        report_column=args.report_column,
        patient_column=args.patient_column,
        split_column=args.split_column,
    )


def list_bimcv_r(
    folder: Path | str,
    table: Path | None = None,
    *,
    id_column: str | None = None,
    report_column: str | None = None,
    patient_column: str | None = None,
    split_column: str | None = None,
) -> Listing:
    """What a copy of BIMCV-R holds; a row without its volume is rejected, never replaced.

    Raises:
        CatalogError: no volume, no table or several, a column that cannot be found, or a volume
            twice, in the table or below `folder`.
    """
    folder = Path(folder)
    volumes = _volumes(folder)
    loaded, notes = find_table(folder, table, volumes)
    columns = BimcvColumns(
        volume=id_column or volume_column(loaded, volumes) or "",
        report=report_column or english_column(loaded),
        patient=patient_column or named_column(loaded, "patientid"),
        split=split_column,
        lists=tuple(column for column in loaded.columns if column.lower() in LISTS),
    )
    loaded.require(
        name for name in (columns.volume, columns.report, columns.patient, split_column) if name
    )
    studies, rejected, odd = _studies(loaded, columns, volumes)
    named = {study.series_id for study in studies} | {each.series_id for each in rejected}
    alone = [name for name in volumes if name not in named]
    synthetic = (folder / "source.txt").exists()
    return Listing(
        name=read_source(folder) if synthetic else "BIMCV-R",
        region="chest",
        labels=(),
        studies=tuple(studies),
        extra_columns=tuple(column.lower() for column in columns.lists),
        rejected=tuple(rejected),
        excluded=tuple(Exclusion(series_id=n, reason="no row in the table") for n in alone),
        warnings=(*notes, _said(loaded, columns), *_doubts(studies, odd)),
    )


def _volumes(folder: Path) -> dict[str, Path]:
    """Name without `.nii.gz` to file."""
    found: dict[str, Path] = {}
    for path in find_files(folder).volumes:
        if not path.name.lower().endswith((".nii.gz", ".nii")):
            continue
        first = found.setdefault(stem_of(path.name), path)
        if first != path:
            raise CatalogError.about(path, f"the same volume as {first}", "Keep one of the two.")
    if not found:
        raise CatalogError.about(folder, "no .nii.gz below it", "Give the folder of BIMCV-R.")
    return found


def _studies(
    table: Table, columns: BimcvColumns, volumes: Mapping[str, Path]
) -> tuple[list[Study], list[Rejection], int]:
    """(studies, rows that cannot be used, list cells that are no lists)"""
    studies: list[Study] = []
    rejected: list[Rejection] = []
    seen: dict[str, int] = {}
    odd = 0
    for number, cells in table.rows:
        name = name_of(cells[columns.volume])
        first = seen.setdefault(name, number)
        if name and first != number:
            found = f"{name!r} twice (first in row {first})"
            raise table.error(number, columns.volume, found, "Remove one of the rows.")
        report = clean_report(cells[columns.report])
        if name not in volumes or not report:
            lack = f"no volume {name}.nii.gz below INPUT" if name else "no volume named"
            lack = "no report text" if name in volumes else lack
            error = f"{table.path}: row {number}: {lack}. Add it, or remove the row."
            rejected.append(Rejection(series_id=name, source=table.path, error=error))
            continue
        lists = {column.lower(): words_of(cells[column]) for column in columns.lists}
        odd += sum(value is None for value in lists.values())
        patient, case = _ids(name, cells, columns)
        split = columns.split
        studies.append(
            Study(
                series_id=name,
                case_id=case,
                patient_id=patient,
                image=VolumeFile(volumes[name]),
                split=None if split is None else parse_split(table, number, split, cells[split]),
                report=report,
                extra={key: value or "[]" for key, value in lists.items()},
            )
        )
    return studies, rejected, odd


def _ids(name: str, cells: Mapping[str, str], columns: BimcvColumns) -> tuple[str, str]:
    """(patient, case), from a BIDS-like name before the table."""
    return ids_in(name) or ((columns.patient and cells[columns.patient]) or name, name)


def ids_in(name: str) -> tuple[str, str] | None:
    """(patient, case) of a BIDS-like name, such as sub-S1 and sub-S1_ses-E1; else None."""
    bids = _BIDS.match(name)
    return bids and (bids[1], "_".join(part for part in bids.groups() if part))


def _said(table: Table, columns: BimcvColumns) -> str:
    lists = f", lists from {', '.join(columns.lists)}" if columns.lists else ""
    return (
        f"{table.path}: volumes by column {columns.volume!r}, reports from {columns.report!r}"
        f"{lists}. Name others by options if that is wrong."
    )


def _doubts(studies: Sequence[Study], odd: int) -> tuple[str, ...]:
    alone = sum(study.patient_id == study.series_id for study in studies)
    doubts = []
    if alone:
        doubts.append(
            f"The patient of {alone} volumes is unknown: each counts as a patient of its own, and "
            "scans of one patient may end up on both sides of the split (--patient-column)."
        )
    if odd:
        doubts.append(f"{odd} cells of list columns are no lists; they were left empty.")
    return tuple(doubts)
