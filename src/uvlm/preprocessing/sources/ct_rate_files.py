"""Where CT-RATE keeps its files, how they are named, and what its tables say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.sources.ct_rate_metadata import SeriesMetadata, parse_metadata
from uvlm.preprocessing.sources.structures import read_class_names
from uvlm.preprocessing.study import Rejection, Scope
from uvlm.preprocessing.table import Table, read_table
from uvlm.registry import CT_RATE_LABELS
from uvlm.text.cleaning import join_sections

__all__ = [
    "Places",
    "Series",
    "TableColumns",
    "find_series",
    "places_of",
    "read_labels",
    "read_metadata",
    "read_names",
    "read_reports",
    "read_scope",
    "read_source",
    "series_of",
]

SPLITS = {"train": "train", "valid": "validation"}
"""The two words for a split; the archive uses both in the names of tables."""

_SERIES = re.compile(r"((train|valid)_(\d+))_([a-z]+)_(\d+)")
_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """What the columns of the tables are called."""

    volume: str = "VolumeName"
    """`AccessionNo` is taken in its place where it is missing."""

    findings: str = "Findings_EN"
    impression: str = "Impressions_EN"
    labels: tuple[str, ...] = CT_RATE_LABELS


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where everything is."""

    images: tuple[tuple[str | None, Path], ...]
    """(split that the names in it must have, folder); None for any split."""

    reports: tuple[Path, ...] = ()
    """Tables; without any, series need no report."""

    labels: tuple[Path, ...] = ()
    metadata: tuple[Path, ...] = ()
    no_chest: tuple[Path, ...] = ()
    masks: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """One volume file and what its name says."""

    series_id: str
    case_id: str
    patient_id: str
    split: str
    reconstruction: int
    path: Path
    below: Path
    """`path` from the folder that was searched."""

    folder: str
    """The folder that tells the version; "" if none does."""

    order: tuple[object, ...]
    """Sorts series by split, patient number, scan and reconstruction."""


def places_of(folder: Path) -> Places:
    """The archive's own layout, below `folder` or its `dataset`.

    Raises:
        CatalogError: it is another layout.
    """
    root = folder / "dataset" if (folder / "dataset").is_dir() else folder
    names = [(split, f"{split}{end}") for end in ("_fixed", "") for split in SPLITS]
    images = tuple((split, root / name) for split, name in names if (root / name).is_dir())
    if not images:
        raise CatalogError.about(
            folder,
            "none of train_fixed, valid_fixed, train and valid in it",
            "Give CT-RATE's folder, the one that holds `dataset`.",
        )
    splits = sorted({split for split, _ in images})

    def tables(below: str, end: str, *, long: bool) -> Iterator[Path]:
        for split in splits:
            words = (SPLITS[split], split) if long else (split, SPLITS[split])
            both = [root / below / f"{word}_{end}.csv" for word in words]
            yield next((path for path in both if path.is_file()), both[0])

    metadata = tables("metadata", "metadata", long=True)
    no_chest = (root / "metadata" / f"no_chest_{split}.txt" for split in splits)
    return Places(
        images=images,
        reports=tuple(tables("radiology_text_reports", "reports", long=True)),
        labels=tuple(tables("multi_abnormality_labels", "predicted_labels", long=False)),
        metadata=tuple(path for path in metadata if path.is_file()),
        no_chest=tuple(path for path in no_chest if path.is_file()),
        masks=_masks_of(root),
    )


def _masks_of(root: Path) -> Path | None:
    folder = root / "ts_seg"
    names = (f"{split}{end}" for split in SPLITS for end in ("_fixed", ""))
    return folder if any((folder / name).is_dir() for name in names) else None


def series_of(name: str) -> str:
    """`train_1_a_1` from a table's cell or a file's name, with or without suffix and folders."""
    stem = name.strip().replace("\\", "/").rsplit("/", 1)[-1]
    return stem.removesuffix(".gz").removesuffix(".nii").removesuffix(".b2nd")


def named_series(name: str) -> tuple[str, str, str] | None:
    """(patient, scan, split) of a series name, None if it is not one."""
    named = _SERIES.fullmatch(name)
    return None if named is None else (named[1], f"{named[1]}_{named[4]}", named[2])


def find_series(places: Places) -> tuple[list[Series], list[Rejection]]:
    """Every `.nii.gz` (or `.nii`), in order, and the files whose name says no series.

    Raises:
        CatalogError: a folder cannot be read.
    """
    found: list[Series] = []
    rejected = []
    for split, searched in places.images:
        for path, version in _volumes(searched):
            series_id = series_of(path.name)
            named = _SERIES.fullmatch(series_id)
            if named is None or split not in (None, named[2]):
                reason = f"{path}: not named like {split or 'train'}_1_a_1.nii.gz. Rename it."
                rejected.append(Rejection(series_id=series_id, source=path, error=reason))
                continue
            found.append(_series(named, path, searched, version))
    found.sort(key=lambda series: series.order)
    return found, rejected


def _volumes(searched: Path) -> Iterator[tuple[Path, str]]:
    """(file, the folder that tells its version) of every volume at any depth."""
    for name, below, files in os.walk(searched, onerror=_unreadable):
        below.sort()
        folder = Path(name)
        version = _version_folder(folder, searched)
        for file in sorted(files):
            if file.endswith(_SUFFIXES) and not file.startswith("."):
                yield folder / file, version


def _unreadable(error: OSError) -> None:
    # Passed over, its series would be missing without a word.
    found = f"cannot be read ({error.strerror})"
    raise CatalogError.about(error.filename, found, "Check its permissions.") from None


def _series(named: re.Match[str], path: Path, searched: Path, version: str) -> Series:
    patient, split, number, scan, reconstruction = named.groups()
    return Series(
        series_id=named[0],
        case_id=f"{patient}_{scan}",
        patient_id=patient,
        split=split,
        reconstruction=int(reconstruction),
        path=path,
        below=path.relative_to(searched),
        folder=version,
        order=(split, int(number), len(scan), scan, int(reconstruction)),
    )


def _version_folder(folder: Path, searched: Path) -> str:
    """The nearest, from `folder` up to `searched`, that is `*_fixed`, or a bare split in `dataset`.

    "" if there is none.
    """
    depth = len(folder.relative_to(searched).parts)
    for above in (folder, *folder.parents[:depth]):
        bare = above.name in SPLITS and above.parent.name == "dataset"
        if above.name.endswith("_fixed") or bare:
            return above.name
    return ""


def read_source(folder: Path) -> str:
    """What the studies are, for model cards: the line of `source.txt`, or CT-RATE without one.

    Raises:
        CatalogError: it cannot be read, or says nothing.
    """
    root = folder / "dataset" if (folder / "dataset").is_dir() else folder
    file = root / "source.txt"
    if not file.exists():
        return "CT-RATE"
    try:
        name = " ".join(file.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        name = ""
    if not name:
        raise CatalogError.about(
            file, "it holds no text", "Write one line that says what the studies are."
        )
    return name


def read_names(path: Path) -> tuple[str, ...]:
    """Names of series, scans or patients, one a line; empty lines and `#` comments left out.

    Raises:
        CatalogError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError.about(
            path, f"cannot be read ({type(error).__name__})", "Give a text file, one name a line."
        ) from None
    names = (series_of(line.split("#", 1)[0]) for line in lines)
    return tuple(name for name in names if name)


def read_reports(paths: Iterable[Path], columns: TableColumns) -> dict[str, str]:
    """Series to findings and impression as one text, empty where both are missing.

    Raises:
        CatalogError: a table is missing, damaged, lacks a column, or names a series twice.
    """
    sections = (columns.findings, columns.impression)
    return {
        key: join_sections(*(cells[section] for section in sections))
        for key, _, _, cells in _rows(paths, columns.volume, sections)
    }


def read_labels(paths: Iterable[Path], columns: TableColumns) -> dict[str, dict[str, float | None]]:
    """Series to label to 0.0, 1.0 or None for unknown.

    Raises:
        CatalogError: as `read_reports`, or a label is not 0, 1 or empty.
    """
    return {
        key: {name: table.label(number, name, cells[name]) for name in columns.labels}
        for key, table, number, cells in _rows(paths, columns.volume, columns.labels)
    }


def read_metadata(
    paths: Iterable[Path], columns: TableColumns | None = None
) -> dict[str, SeriesMetadata | str]:
    """Series to its metadata, or to what is wrong with its row.

    Raises:
        CatalogError: a table is damaged, or names a series twice.
    """
    volume = (columns or TableColumns()).volume
    return {key: parse_metadata(cells) for key, _, _, cells in _rows(paths, volume, ())}


def _rows(
    paths: Iterable[Path], volume: str, columns: tuple[str, ...]
) -> Iterator[tuple[str, Table, int, Mapping[str, str]]]:
    """(series identifier, table, row number, cells) of all tables."""
    seen: set[str] = set()
    for path in paths:
        table = read_table(path)
        accession = volume not in table.columns and "AccessionNo" in table.columns
        name = "AccessionNo" if accession else volume
        table.require((name, *columns))
        for number, cells in table.rows:
            key = series_of(cells[name])
            if key in seen:
                raise table.error(number, name, f"{key!r} twice", "Remove one of the rows.")
            seen.add(key)
            yield key, table, number, cells


def read_scope(masks: Path) -> Scope:
    """The classes of the masks, numbered 1, 2, 3, ... in the order of their values.

    Raises:
        CatalogError: no usable labels.json.
    """
    path = masks / "labels.json"
    named = read_class_names(path, " Or leave the masks out: --no-masks.")
    table = {value: index for index, value in enumerate(sorted(named), 1)}
    classes = {named[value]: index for value, index in table.items()}
    return Scope(name="all", classes=classes, table=table)
