"""The tables of a prepared dataset: catalogs, errors.csv, and what else its source gives."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.preprocessing.catalog import DATASET, Catalog, Row, check_id, write_text
from uvlm.preprocessing.manifest import RUN
from uvlm.preprocessing.records import RECORDS, Record
from uvlm.preprocessing.study import Listing, Rejection, Scope, Study
from uvlm.preprocessing.work import image_path, mask_path, scope_folder

__all__ = [
    "ERRORS",
    "QUALITY",
    "catalogs_of",
    "names_of",
    "tables_of",
    "write_errors",
    "write_tables",
]

CATALOG = "catalog.csv"
ERRORS = "errors.csv"
ERRORS_HEADER = ("series_id", "path", "error")
QUALITY = "quality.html"


def names_of(listing: Listing) -> tuple[str, ...]:
    """The files that describe the dataset, as paths below the output folder.

    Raises:
        CatalogError: a table of the source cannot be a file beside the catalog.
    """
    folder = Path()
    folders = [scope_folder(folder, listing.scopes, scope) for scope in listing.scopes] or [folder]
    own = [(each / name).as_posix() for each in folders for name in (CATALOG, DATASET)]
    own += [ERRORS, RECORDS, RUN, QUALITY]
    tables = (*listing.tables, *listing.study_tables)
    for name in tables:
        if check_id(name) or name in own or not name.endswith(".csv"):
            raise CatalogError.about(
                listing.name, f"a table named {name!r}", "Give it another name that ends in .csv."
            )
    return (*own, *tables)


def catalogs_of(
    listing: Listing,
    studies: Iterable[Study],
    records: Iterable[Record],
    out: Path,
    spec: PreprocessSpec,
) -> list[Catalog]:
    """One catalog per scope, or the one without masks; a row for every one of `records`."""
    made = {record.series_id: record for record in records}
    pairs = [(study, made[study.series_id]) for study in studies if study.series_id in made]
    scopes: tuple[Scope | None, ...] = listing.scopes or (None,)
    return [
        Catalog(
            path=scope_folder(out, listing.scopes, scope) / CATALOG,
            name=listing.name,
            region=listing.region,
            labels=listing.labels,
            segmentation=None if scope is None else dict(scope.classes),
            spec=spec,
            rows=tuple(_row(listing, scope, out, *pair) for pair in pairs),
            extra_columns=listing.extra_columns,
        )
        for scope in scopes
    ]


def _row(listing: Listing, scope: Scope | None, out: Path, study: Study, record: Record) -> Row:
    masked = scope is not None and study.mask is not None
    labels = {**record.labels, **study.labels}
    extra = {**record.columns, **study.extra}
    return Row(
        series_id=study.series_id,
        case_id=study.case_id,
        patient_id=study.patient_id,
        split=study.split,
        image=image_path(out, study.series_id),
        mask=mask_path(out, listing.scopes, scope, study.series_id) if masked and scope else None,
        labels=tuple(_label(study, name, labels.get(name)) for name in listing.labels),
        report=study.report or None,
        extra={name: extra.get(name, "") for name in listing.extra_columns},
    )


def _label(study: Study, name: str, value: float | None) -> float | None:
    if value is None or value in (0, 1):
        return value
    raise CatalogError.about(
        study.series_id, f"the label {name!r} is {value!r}", "A label is 0, 1 or unknown."
    )


def write_errors(out: Path, rejected: Sequence[Rejection]) -> None:
    """Write `errors.csv`, also when there are none: an older one would say what is no longer so."""
    rows = [(each.series_id, str(each.source), each.error) for each in rejected]
    write_tables(out, {ERRORS: [ERRORS_HEADER, *rows]})


def tables_of(listing: Listing, records: Iterable[Record]) -> dict[str, Sequence[Sequence[str]]]:
    """The tables of a source, those about studies without what `records` does not hold."""
    made = {record.series_id for record in records}
    about = {
        name: [header, *(row for row in rows if row[0] in made)]
        for name, (header, *rows) in listing.study_tables.items()
    }
    return {**listing.tables, **about}


def write_tables(out: Path, tables: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Write CSV files into `out`, each whole or not at all."""
    for name, rows in tables.items():
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(out / name, text.getvalue())
