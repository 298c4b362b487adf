"""The steps of a CT-RATE catalog one at a time, each from CSV to CSV.

    reports          reports table + folder of stores  ->  series, store, report
    classification   labels table                      ->  series, labels
    merge            the two                           ->  a catalog

Columns are those of the catalog. A file that another program wrote is never replaced.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.imaging.store import read_meta
from uvlm.preprocessing.catalog import Catalog, read_catalog, read_spec, write_catalog, write_text
from uvlm.preprocessing.sources.ct_rate_files import (
    TableColumns,
    named_series,
    read_labels,
    read_reports,
)
from uvlm.preprocessing.table import Table, read_table

__all__ = ["Step", "classification_step", "merge_step", "reports_step"]

IDS = ("series_id", "case_id", "patient_id", "split")
PATHS = ("blosc2_path", "seg_blosc2_path")


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step wrote."""

    path: Path
    rows: int
    left_out: tuple[str, ...]
    """Why a series that should be in it is not, one sentence each."""


def reports_step(source: Path, out: Path, stores: Path, columns: TableColumns) -> Step:
    """Reports of the series that have a `.b2nd` in `stores`; paths relative to `out`.

    Raises:
        CatalogError: the table cannot be used, there are no stores, or `out` is another's file.
    """
    reports = read_reports([source], columns)
    files = {path.stem: path for path in sorted(stores.glob("*.b2nd")) if path.name[0] != "."}
    if not files:
        raise CatalogError.about(stores, "no .b2nd file in it", "Give the folder of the images.")
    rows, left_out = [], []
    for series_id, path in files.items():
        ids = _ids(series_id)
        if ids is None:
            left_out.append(f"{path}: not named like train_1_a_1.b2nd.")
        elif series_id not in reports:
            left_out.append(f"{series_id}: no row in {source.name}.")
        elif not reports[series_id]:
            left_out.append(f"{series_id}: its report has neither findings nor impression.")
        else:
            rows.append([*ids, _relative(path, out), "", reports[series_id]])
    _write(out, (*IDS, *PATHS, "report"), rows)
    return Step(path=out, rows=len(rows), left_out=tuple(left_out))


def classification_step(source: Path, out: Path, columns: TableColumns) -> Step:
    """The labels of every series of a table.

    Raises:
        CatalogError: the table cannot be used, or `out` is another's file.
    """
    rows, left_out = [], []
    for series_id, labels in read_labels([source], columns).items():
        ids = _ids(series_id)
        if ids is None:
            left_out.append(f"{source.name}: a row is not named like train_1_a_1.nii.gz.")
        else:
            cells = ("" if value is None else str(int(value)) for value in labels.values())
            rows.append([*ids, *cells])
    _write(out, (*IDS, *columns.labels), rows)
    return Step(path=out, rows=len(rows), left_out=tuple(left_out))


def merge_step(reports: Path, labels: Path, out: Path, name: str = "") -> Step:
    """What the other two steps wrote, as a catalog; `dataset.json` is written where there is none.

    Args:
        name: of the dataset; empty for that of the volumes' own catalog, or CT-RATE.

    Raises:
        CatalogError: an input is not of those steps, stores were prepared in different ways or in
            another than `dataset.json` says, or `out` is another's file.
    """
    said, labelled = read_table(reports), read_table(labels)
    said.require((*IDS, *PATHS, "report"))
    labelled.require(IDS)
    names = tuple(column for column in labelled.columns if column not in IDS)
    values = dict(_labels_of(labelled, names))
    rows, left_out = [], []
    for _, cells in said.rows:
        series_id = cells["series_id"]
        if series_id not in values:
            left_out.append(f"{series_id}: no row in {labels.name}.")
            continue
        files = [_moved(cells[column], reports, out) for column in PATHS]
        ids = (cells[column] for column in IDS)
        rows.append([*ids, *files, *values[series_id], cells["report"]])
    _write(out, (*IDS, *PATHS, *names, "report"), rows, name)
    return Step(path=out, rows=len(rows), left_out=tuple(left_out))


def _labels_of(table: Table, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    seen = set()
    for number, cells in table.rows:
        key = cells["series_id"]
        if key in seen:
            raise table.error(number, "series_id", f"{key!r} twice", "Remove one of the rows.")
        seen.add(key)
        for name in names:
            table.label(number, name, cells[name])
        yield key, [cells[name] for name in names]


def _ids(series_id: str) -> tuple[str, str, str, str] | None:
    named = named_series(series_id)
    if named is None:
        return None
    patient, scan, split = named
    return series_id, scan, patient, split


def _relative(path: Path, out: Path) -> str:
    return Path(os.path.relpath(path, out.parent)).as_posix()


def _moved(cell: str, source: Path, out: Path) -> str:
    """A path relative to `source` as one relative to `out`."""
    return _relative(source.parent / cell, out) if cell else ""


def _write(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], catalog: str | None = None
) -> None:
    """Write a CSV whole or not at all; with the name of a `catalog`, checked as one.

    Raises:
        CatalogError: there is a file of other columns, it cannot be written, or it is no catalog.
    """
    if path.exists() and (not path.is_file() or read_table(path).columns != tuple(header)):
        raise CatalogError.about(
            path, "it exists and this step did not write it", "Choose another output."
        )
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.tmp.csv")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(beside, text.getvalue())
        if catalog is not None:
            _describe(beside, catalog)
        os.replace(beside, path)
    except OSError as error:
        found = f"cannot be written ({error.strerror})"
        raise CatalogError.about(path, found, "Choose another output.") from None
    finally:
        beside.unlink(missing_ok=True)


def _describe(path: Path, name: str) -> None:
    """Check a catalog as training will, and say beside it how its stores were made."""
    catalog = read_catalog(path)
    metas = (read_meta(row.image) for row in catalog.rows)
    specs = {meta.spec_hash: meta.grid.spec for meta in metas if meta is not None}
    known = read_spec(path.parent)
    if len(specs) > 1 or (known is not None and set(specs) - {known.hash}):
        raise CatalogError.about(
            path.parent,
            "the volumes were prepared in different ways, or in another than dataset.json says",
            "Prepare them in one way, and merge into a folder of their own.",
        )
    if not (path.parent / "dataset.json").exists():
        spec = next(iter(specs.values()), None)
        name = name or _name_of(catalog)
        write_catalog(replace(catalog, name=name, region="chest", spec=spec))


def _name_of(catalog: Catalog) -> str:
    """What the studies are, by the catalog that was written with the volumes."""
    for row in catalog.rows[:1]:
        path = row.image.parents[1] / "catalog.csv"
        if path.is_file():
            return read_catalog(path).name
    return "CT-RATE"
