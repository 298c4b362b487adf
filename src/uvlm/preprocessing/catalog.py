"""The catalog: a CSV with one row per series, and `dataset.json` beside it that says what it means.

Columns: `series_id, case_id, patient_id, split, blosc2_path, seg_blosc2_path`, one column per
label, `report`, and any further ones that `dataset.json` names. Only `series_id` and `blosc2_path`
are required. Paths may be relative to the CSV. A label is 0, 1 or empty, which means unknown.
`split` is empty, "train", "valid" or "test".

`dataset.json` names the labels, the classes of the masks and the preprocessing. Without it the
labels are the 18 of CT-RATE or the 3 of AbdomenAtlas if all their columns are there, otherwise the
columns between the paths and `report`.

Reading checks every row. Row numbers in messages count as a spreadsheet does: the header is row 1.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from uvlm.config import from_dict, to_dict
from uvlm.errors import CatalogError, ConfigError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.preprocessing.table import Table, read_table
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS

__all__ = [
    "Catalog",
    "Row",
    "check_id",
    "read_catalog",
    "read_region",
    "read_spec",
    "write_catalog",
]

Need = Literal["labels", "mask", "report"]

IDS = ("series_id", "case_id", "patient_id", "split")
PATHS = ("blosc2_path", "seg_blosc2_path")
SPLITS = ("train", "valid", "test")
DATASET = "dataset.json"

MOST_BYTES = 200
"""Of an identifier: file systems take 255, and names of files written aside are longer."""

_CT_RATE_ID = re.compile(r"((?:train|valid)_\d+)_[a-z]+(?:_\d+)*")
_BAD_IN_ID = re.compile(r'[\x00-\x1f/\\:*?"<>|]')


@dataclass(frozen=True, kw_only=True)
class Row:
    """One series."""

    series_id: str
    case_id: str
    """The examination; its reconstructions share it."""

    patient_id: str
    split: str | None
    """ "train", "valid", "test" or None."""

    image: Path
    mask: Path | None
    labels: tuple[float | None, ...]
    """0.0, 1.0 or None for unknown, in the order of `Catalog.labels`."""

    report: str | None
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Further columns, in the order of `Catalog.extra_columns`."""


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All series of a dataset and what their columns mean."""

    path: Path
    """Of the CSV."""

    name: str
    region: str
    labels: tuple[str, ...]
    segmentation: dict[str, int] | None
    """Class name to value in the masks."""

    spec: PreprocessSpec | None
    """How the volumes were prepared; None without `dataset.json`."""

    rows: tuple[Row, ...]
    extra_columns: tuple[str, ...] = ()
    """Columns after `report`, whose cells are kept as text."""


@dataclass(frozen=True, kw_only=True)
class _Dataset:
    """`dataset.json`."""

    name: str
    region: str
    labels: tuple[str, ...]
    segmentation: dict[str, int] | None = None
    spec: PreprocessSpec | None = None
    spec_hash: str | None = None
    extra_columns: tuple[str, ...] = ()


def check_id(value: str) -> str | None:
    """What makes `value` unfit to be part of a file name, or None."""
    if not value:
        return "is empty"
    if value.startswith(".") or _BAD_IN_ID.search(value) or value != value.strip():
        return "could not be a file name"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "holds bytes that are no text (UTF-8)"
    return f"is longer than {MOST_BYTES} bytes" if size > MOST_BYTES else None


def read_catalog(path: Path | str, need: Collection[Need] = ()) -> Catalog:
    """Read and check a catalog.

    Args:
        need: what every row must have: "mask", "report"; "labels": that there are label columns.

    Raises:
        CatalogError: naming the file, the row and the column: a missing or unknown column, a row
            cut short, an identifier that is empty, used twice or unfit for a file name, a label
            that is not 0, 1 or empty, a missing file, and what `need` asks for.
    """
    path = Path(path)
    table = read_table(path)
    dataset = _read_dataset(path.parent)
    table.require(["series_id", "blosc2_path"])
    labels = _label_columns(table) if dataset is None else dataset.labels
    extra = () if dataset is None else dataset.extra_columns
    table.require((*labels, *extra))
    if "labels" in need and not labels:
        raise CatalogError.about(
            path,
            "no label columns",
            "Put one column per abnormality between the paths and `report`, or name them in "
            "dataset.json.",
        )
    table.require([column for key, column in _COLUMN_OF.items() if key in need])
    return Catalog(
        path=path,
        name=path.parent.name if dataset is None else dataset.name,
        region="unknown" if dataset is None else dataset.region,
        labels=labels,
        segmentation=None if dataset is None else dataset.segmentation,
        spec=None if dataset is None else dataset.spec,
        rows=tuple(_rows(table, labels, extra, need)),
        extra_columns=extra,
    )


_COLUMN_OF = {"mask": "seg_blosc2_path", "report": "report"}


def _label_columns(table: Table) -> tuple[str, ...]:
    columns = table.columns
    for known in (CT_RATE_LABELS, ABDOMEN_LABELS):
        if set(known) <= set(columns):
            return known
    first = 1 + max(columns.index(name) for name in PATHS if name in columns)
    last = columns.index("report") if "report" in columns else len(columns)
    return tuple(columns[first:last])


def _rows(
    table: Table, labels: Sequence[str], extra: Sequence[str], need: Collection[Need]
) -> Iterator[Row]:
    """Content first, files last: a disk is slow, and a missing file is often a moved folder."""
    seen: dict[str, int] = {}
    rows = []
    for number, cells in table.rows:
        row = _row(table, number, cells, labels, extra)
        if row.series_id in seen:
            raise table.error(
                number,
                "series_id",
                f"{row.series_id!r} is also in row {seen[row.series_id]}",
                "Give every series an identifier of its own.",
            )
        seen[row.series_id] = number
        if "report" in need and not row.report:
            raise table.error(number, "report", "no text", "Fill it in, or remove the row.")
        if "mask" in need and row.mask is None:
            raise table.error(
                number, "seg_blosc2_path", "no path", "Fill it in, or remove the row."
            )
        rows.append((number, row))
    for number, row in rows:
        for column, file in zip(PATHS, (row.image, row.mask), strict=True):
            if file is not None and not file.is_file():
                raise table.error(
                    number,
                    column,
                    f"there is no file {file}",
                    "Correct the path, or prepare the dataset again.",
                )
        yield row


def _row(
    table: Table,
    number: int,
    cells: dict[str, str],
    labels: Sequence[str],
    extra: Sequence[str],
) -> Row:
    series_id = cells["series_id"]
    case_id = cells.get("case_id") or series_id
    for column in IDS[:3]:
        value = cells.get(column, series_id)
        problem = check_id(value) if value or column == "series_id" else None
        if problem:
            raise table.error(
                number, column, f"{value!r} {problem}", "Use letters, digits, - and _."
            )
    split = cells.get("split") or None
    if split is not None and split not in SPLITS:
        raise table.error(
            number, "split", f"{split!r}", f"Use one of {', '.join(SPLITS)}, or leave it empty."
        )
    image, mask = (cells.get(column, "") for column in PATHS)
    if not image:
        raise table.error(number, "blosc2_path", "no path", "Fill it in, or remove the row.")
    return Row(
        series_id=series_id,
        case_id=case_id,
        patient_id=cells.get("patient_id") or _patient_of(series_id, case_id),
        split=split,
        image=table.path.parent / image,
        mask=table.path.parent / mask if mask else None,
        labels=tuple(table.label(number, name, cells[name]) for name in labels),
        report=cells.get("report") or None,
        extra={name: cells[name] for name in extra},
    )


def _patient_of(series_id: str, case_id: str) -> str:
    # In CT-RATE's names the case (train_1_a) is one scan; the patient is train_1.
    named = _CT_RATE_ID.fullmatch(series_id)
    return named[1] if named else case_id


def read_spec(folder: Path) -> PreprocessSpec | None:
    """How the volumes of the dataset in `folder` were prepared, if its `dataset.json` says so.

    Raises:
        CatalogError: the file is damaged.
    """
    dataset = _read_dataset(folder)
    return None if dataset is None else dataset.spec


def read_region(folder: Path) -> str:
    """Body region of the dataset in `folder`, "unknown" if no `dataset.json` says it.

    Raises:
        CatalogError: the file is damaged.
    """
    dataset = _read_dataset(folder)
    return "unknown" if dataset is None else dataset.region


def _read_dataset(folder: Path) -> _Dataset | None:
    """`dataset.json`, unless it is nnU-Net's file of the same name."""
    path = folder / DATASET
    if not path.is_file():
        return None
    try:
        values: Any = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise CatalogError.about(path, f"unreadable ({error})", "Write it again.") from None
    if isinstance(values, dict) and "channel_names" in values:
        return None
    try:
        dataset = from_dict(_Dataset, values, DATASET)
    except ConfigError as error:
        raise CatalogError.about(path, str(error), "Correct it, or prepare again.") from None
    if dataset.spec is not None and dataset.spec_hash not in (None, dataset.spec.hash):
        raise CatalogError.about(
            path,
            f"spec_hash is {dataset.spec_hash}, but that of its spec is {dataset.spec.hash}",
            "Prepare the dataset again; the specification was changed by hand.",
        )
    return dataset


def write_catalog(catalog: Catalog) -> None:
    """Write `catalog.path` and `dataset.json` beside it, each whole or not at all.

    Paths are written relative to the CSV's folder.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*IDS, *PATHS, *catalog.labels, "report", *catalog.extra_columns])
    base = catalog.path.parent
    for row in catalog.rows:
        labels = ["" if value is None else str(int(value)) for value in row.labels]
        mask = _relative(row.mask, base) if row.mask else ""
        ids = (row.series_id, row.case_id, row.patient_id, row.split or "")
        extra = [row.extra.get(name, "") for name in catalog.extra_columns]
        image = _relative(row.image, base)
        writer.writerow([*ids, image, mask, *labels, row.report or "", *extra])
    dataset = _Dataset(
        name=catalog.name,
        region=catalog.region,
        labels=catalog.labels,
        segmentation=catalog.segmentation,
        spec=catalog.spec,
        spec_hash=None if catalog.spec is None else catalog.spec.hash,
        extra_columns=catalog.extra_columns,
    )
    base.mkdir(parents=True, exist_ok=True)
    # The description first: a CSV without one would be read by its column order.
    write_text(base / DATASET, json.dumps(to_dict(dataset), indent=2) + "\n")
    write_text(catalog.path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; what is no text in a file's name is escaped."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, "utf-8", "backslashreplace", newline="")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _relative(path: Path, base: Path) -> str:
    # Absolute first: a path relative to the working directory would be read relative to the CSV.
    absolute = os.path.abspath(path)
    try:
        return Path(os.path.relpath(absolute, os.path.abspath(base))).as_posix()
    except ValueError:  # another drive
        return absolute
