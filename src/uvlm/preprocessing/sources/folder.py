"""The user's own studies: a folder of DICOM or volume files, and a table of what is known of them.

    INPUT/...                 DICOM folders or zips, NIfTI, NRRD, MetaImage, at any depth
    --table reports.xlsx      or .csv: one row per CT, a column that names its file or folder
    --masks DIR               masks of the same names, or one folder of structure files per study

Columns are found from their names and values, or named by options; `describe` says what was
understood before anything is prepared.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.sources.ct_rate_files import read_source
from uvlm.preprocessing.sources.folder_columns import Columns, Roles, map_columns
from uvlm.preprocessing.sources.folder_files import Files, find_files
from uvlm.preprocessing.sources.folder_rows import Rows, from_files, from_table, inside, with_masks
from uvlm.preprocessing.sources.folder_table import read_any, value_of_word
from uvlm.preprocessing.study import Listing, Study
from uvlm.preprocessing.table import Table
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS, REGIONS

__all__ = [
    "DESCRIPTION",
    "NNUNET",
    "Columns",
    "FolderListing",
    "add_arguments",
    "describe",
    "list_folder",
    "list_studies",
]

DESCRIPTION = (
    "INPUT holds DICOM folders or zips, or volume files (NIfTI, NRRD, MetaImage), at any depth. "
    "The table has one row per CT; its columns are found from their names and values, or named "
    "by options ('-' for none). --dry-run shows what was understood, and prepares nothing."
)
NNUNET: NnunetName | None = NnunetName(600, "Folder")
REGION_OF = {CT_RATE_LABELS: "chest", ABDOMEN_LABELS: "abdomen"}

WANTED = {
    "patient": "--patient-column",
    "report": "--report-column",
    "labels": "--label-columns",
}
"""Roles whose lack is worth a line, and what names them."""

SHOWN = 3
"""Examples of each kind that `describe` gives."""


@dataclass(frozen=True, kw_only=True)
class Understood:
    """How a listing came about."""

    files: Files
    table: Table | None
    roles: Roles
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FolderListing(Listing):
    """A listing that can say how it was understood."""

    understood: Understood


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT", help="the folder with the CTs")
    add("--table", type=Path, metavar="FILE", help=".csv or .xlsx, one row per CT")
    add("--sheet", metavar="NAME", help="of an .xlsx with several sheets")
    add("--encoding", metavar="E", help="of a CSV: utf-8, utf-16, cp1252 (found out without it)")
    add("--delimiter", metavar="D", help="of a CSV (found out without it)")
    for role, what in (
        ("id", "names the file, folder or study"),
        ("path", "path of the file or folder below INPUT"),
        ("case", "examination; its reconstructions share it"),
        ("patient", "patient; decides the split"),
        ("split", "train, valid or test"),
        ("series", "SeriesInstanceUID to read from a DICOM folder"),
        ("mask", "path of the mask below --masks, or below INPUT"),
    ):
        add(f"--{role}-column", metavar="COL", help=what)
    add("--report-column", nargs="+", default=(), metavar="COL", help="one or several")
    add("--label-columns", nargs="+", default=(), metavar="COL", help="0, 1 or empty")
    add("--masks", type=Path, metavar="DIR", help="masks named as their CTs")
    add("--mask-labels", type=Path, metavar="JSON", help="names of the values in mask files")
    add("--name", help="what the studies are, for model cards (default: INPUT's name)")
    add("--region", choices=(*REGIONS, "unknown"), help="default: as the labels say")
    add("--dry-run", action="store_true", help="show what was understood, prepare nothing")


def list_studies(args: argparse.Namespace) -> FolderListing:
    single = ("id", "path", "case", "patient", "split", "series", "mask")
    columns = Columns(
        **{role: getattr(args, f"{role}_column") for role in single},
        report=tuple(args.report_column),
        labels=tuple(args.label_columns),
    )
    return list_folder(
        args.input,
        args.table,
        columns=columns,
        sheet=args.sheet,
        encoding=args.encoding,
        delimiter=args.delimiter,
        masks=args.masks,
        mask_labels=args.mask_labels,
        name=args.name,
        region=args.region,
    )


def list_folder(
    folder: Path,
    table: Path | None = None,
    *,
    columns: Columns | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    masks: Path | None = None,
    mask_labels: Path | None = None,
    name: str | None = None,
    region: str | None = None,
) -> FolderListing:
    """The studies of a folder; no volume is opened.

    Without a table every CT is a study of its own, with neither report nor labels.

    Args:
        table: `.csv` or `.xlsx`; a row without its file is rejected, a file without its row is
            excluded.
        masks: files named as their CTs, whose values have names, or folders of structure files.

    Raises:
        CatalogError: no CT at all, an unusable table, a column that cannot be found, an id twice,
            a cell that is no label or split, a patient in two splits, or unusable masks.
    """
    files = find_files(folder, skip=() if masks is None else (masks,))
    if not files.units:
        raise CatalogError.about(
            folder, "no CT below it", "Give the folder with DICOM, NIfTI, NRRD or MetaImage files."
        )
    columns = columns or Columns()
    loaded, notes = (None, ()) if table is None else read_any(table, sheet, encoding, delimiter)
    files, rows = _rows(files, loaded, columns, masks or folder)
    studies, scopes, rejected = with_masks(rows.drafts, files.root, masks, mask_labels)
    missing = sum(study.mask is None for study in studies) if scopes else 0
    lack = (f"{missing} of {len(studies)} studies have no mask.",) if missing else ()
    return FolderListing(
        name=name or _name_of(folder),
        region=region or REGION_OF.get(rows.roles.labels, "unknown"),
        labels=rows.roles.labels,
        studies=studies,
        scopes=scopes,
        rejected=(*rows.rejected, *rejected),
        excluded=rows.excluded,
        warnings=(*rows.roles.warnings, *rows.warnings, *lack),
        understood=Understood(files=files, table=loaded, roles=rows.roles, notes=notes),
    )


def _rows(files: Files, table: Table | None, columns: Columns, masks: Path) -> tuple[Files, Rows]:
    """The CTs without the masks that a column names, and what became of rows and files."""
    if table is None:
        if columns != Columns():
            raise CatalogError("columns were named, but no table given. Give it with --table.")
        return files, from_files(files)
    if not table.rows:
        raise CatalogError.about(table.path, "a header and no rows", "Add one row per CT.")
    if columns.mask in table.columns:
        masked = {inside(masks, cells[columns.mask]) for _, cells in table.rows}
        files = replace(files, volumes=tuple(v for v in files.volumes if v not in masked))
    roles = map_columns(table, columns, files.index())
    return files, from_table(table, roles, files)


def _name_of(folder: Path) -> str:
    """The line of `source.txt`, as synthetic studies have one; otherwise the folder's name."""
    known = (folder / "source.txt").exists()
    return read_source(folder) if known else folder.resolve().name


def describe(listing: FolderListing) -> str:
    """Counts, columns, the first studies, labels, what is unmatched, warnings.

    Of reports only the length is shown.
    """
    parts = [_counts(listing), _columns(listing.understood)]
    parts.append(
        _section(
            "first studies",
            [_study(each, listing.understood.files) for each in listing.studies[:SHOWN]],
        )
    )
    parts.append(_section("labels", _labels(listing)))
    parts.append(_section("masks", _masks(listing)))
    rejected = [each.error for each in listing.rejected]
    excluded = [f"{each.series_id}: {each.reason}" for each in listing.excluded]
    parts.append(_section(f"cannot be used: {len(rejected)}", _some(rejected)))
    parts.append(_section(f"left out: {len(excluded)}", _some(excluded)))
    parts.append(_section("warnings", list(listing.warnings)))
    return "\n".join(part for part in parts if part)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)]) if lines else ""


def _some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _counts(listing: FolderListing) -> str:
    seen, patients = listing.understood, {study.patient_id for study in listing.studies}
    lines = [f"{listing.name}: {len(listing.studies)} studies, region {listing.region}"]
    lines.append(f"  {len(patients)} patients")
    lines.append(
        f"  {seen.files.root}: {len(seen.files.volumes)} volume files or archives, "
        f"{len(seen.files.dicom)} DICOM folders"
    )
    if seen.table is not None:
        lines.append(f"  {seen.table.path}: {len(seen.table.rows)} rows")
    return "\n".join([*lines, *(f"  {note}" for note in seen.notes)])


def _columns(seen: Understood) -> str:
    if seen.table is None:
        return ""
    roles = seen.roles
    named: dict[str, tuple[str, ...]] = {role: (name,) for role, name in roles.single.items()}
    named |= {"report": roles.report, "labels": roles.labels}
    lines = [
        f"{role:<8} {', '.join(columns)}  ({roles.how.get(role, '')})"
        for role, columns in named.items()
        if columns
    ]
    lines += [
        f"{role:<8} none  ({option})" for role, option in WANTED.items() if not named.get(role)
    ]
    used = {column for columns in named.values() for column in columns}
    unused = [column for column in seen.table.columns if column not in used]
    lines += [f"not used {', '.join(unused)}"] if unused else []
    return _section("columns", lines + _words(seen.table, roles.labels))


def _words(table: Table, labels: Sequence[str]) -> list[str]:
    """How words in label cells were read, where they are not plain 0 and 1."""
    found = {cells[column] for _, cells in table.rows for column in labels}
    words = sorted(word for word in found if word not in ("", "0", "1"))
    shown = ", ".join(f"{word!r} = {int(value_of_word(word) or 0)}" for word in words)
    return [f"words    {shown}"] if words else []


def _study(study: Study, files: Files) -> str:
    parts = [study.series_id, *(files.relative(path) for path in study.image.files)]
    parts.append(f"report {len(study.report)} characters" if study.report else "no report")
    if study.mask is not None:
        parts += [f"mask {path}" for path in study.mask.files]
    return ", ".join([*parts, *([f"split {study.split}"] if study.split else [])])


def _labels(listing: FolderListing) -> list[str]:
    lines = []
    for name in listing.labels:
        values = [study.labels.get(name) for study in listing.studies]
        known = [value for value in values if value is not None]
        share = f" ({sum(known) / len(known):.1%})" if known else ""
        unknown = f", {len(values) - len(known)} unknown" if len(known) < len(values) else ""
        lines.append(f"{name:<36} {sum(known):.0f} of {len(known)}{share}{unknown}")
    return lines


def _masks(listing: FolderListing) -> list[str]:
    if not listing.scopes:
        return []
    names = list(listing.scopes[0].classes)
    count = sum(study.mask is not None for study in listing.studies)
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return [f"{count} of {len(listing.studies)} studies, {len(names)} classes: {shown}"]
