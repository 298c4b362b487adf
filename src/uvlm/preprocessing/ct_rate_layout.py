"""Where CT-RATE version 2 keeps its files, and what its tables say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.pipeline import Outcome
from uvlm.preprocessing.table import Table, read_table
from uvlm.registry import CT_RATE_LABELS
from uvlm.text.cleaning import join_sections

__all__ = [
    "Found",
    "MaskClasses",
    "Series",
    "Tables",
    "find_root",
    "find_series",
    "read_classes",
    "read_source",
    "read_tables",
]

SPLITS = {"train": "train", "valid": "validation"}
"""Name in folders and label files, and in report files."""

_SERIES = re.compile(r"((train|valid)_(\d+))_([a-z]+)_(\d+)")


@dataclass(frozen=True)
class Series:
    """One volume file and what its name says."""

    series_id: str
    case_id: str
    patient_id: str
    split: str
    image: Path
    order: tuple[object, ...]
    """Sorts series by split, patient number, scan and reconstruction."""


@dataclass
class Found:
    """The series of the dataset, sorted into what can be used and why the rest cannot."""

    series: list[Series] = field(default_factory=list)
    rejected: list[Outcome] = field(default_factory=list)
    excluded: int = 0


@dataclass(frozen=True)
class Tables:
    """What the tables say, by series identifier."""

    reports: dict[str, str]
    """Findings and impression as one text, empty where both are missing."""

    labels: dict[str, tuple[float | None, ...]]
    """The 18 labels, None for unknown."""

    def lack(self, series_id: str) -> str | None:
        """Why they are not enough for a series, or None."""
        if series_id not in self.reports:
            return f"{series_id}: no row in the reports table. Add one, or remove the series."
        if not self.reports[series_id]:
            return f"{series_id}: its report has neither findings nor impression."
        if series_id not in self.labels:
            return f"{series_id}: no row in the labels table. Add one, or remove the series."
        return None


@dataclass(frozen=True)
class MaskClasses:
    """What the values of the source's masks become: 1, 2, 3, ... in order of their value."""

    names: dict[str, int]
    values: dict[int, int]


def find_root(folder: Path) -> Path:
    """The folder with `train_fixed` or `valid_fixed`: `folder` or its `dataset`.

    Raises:
        CatalogError: it has neither, or is version 1, whose values are not HU.
    """
    root = folder / "dataset" if (folder / "dataset").is_dir() else folder
    if any((root / f"{split}_fixed").is_dir() for split in SPLITS):
        return root
    if any((root / split).is_dir() for split in SPLITS):
        raise CatalogError.about(
            root,
            "the layout of CT-RATE version 1 (train, valid): raw values without the slope and "
            "intercept that make them HU",
            "Download version 2 (train_fixed, valid_fixed).",
        )
    raise CatalogError.about(
        folder,
        "neither train_fixed nor valid_fixed in it",
        "Give CT-RATE's folder, the one that holds `dataset`.",
    )


def read_source(root: Path) -> str:
    """What the studies are, for model cards: the line of `source.txt`, or CT-RATE without one.

    Raises:
        CatalogError: it cannot be read, or says nothing.
    """
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


def find_series(root: Path) -> Found:
    """Every `.nii.gz` (or `.nii`) of both splits.

    Raises:
        CatalogError: two files of one series.
    """
    found = Found()
    for split in SPLITS:
        excluded = _no_chest(root, split)
        for path in sorted((root / f"{split}_fixed").rglob("*.nii*")):
            series_id = _stem(path.name)
            named = _SERIES.fullmatch(series_id)
            if named is None or named[2] != split:
                reason = f"{path}: not named like {split}_1_a_1.nii.gz. Rename or remove it."
                found.rejected.append(Outcome(series_id=series_id, source=path, error=reason))
            elif series_id in excluded:
                found.excluded += 1
            else:
                patient, _, number, scan, reconstruction = named.groups()
                order = (split, int(number), len(scan), scan, int(reconstruction))
                found.series.append(
                    Series(series_id, f"{patient}_{scan}", patient, split, path, order)
                )
    found.series.sort(key=lambda series: series.order)
    for first, second in zip(found.series, found.series[1:], strict=False):
        if first.series_id == second.series_id:
            raise CatalogError.about(
                second.image, f"the same series as {first.image}", "Keep one of the two."
            )
    return found


def _stem(name: str) -> str:
    return name.strip().rsplit("/", 1)[-1].removesuffix(".gz").removesuffix(".nii")


def _no_chest(root: Path, split: str) -> set[str]:
    path = root / "metadata" / f"no_chest_{split}.txt"
    if not path.is_file():
        return set()
    return {_stem(line) for line in path.read_text("utf-8").splitlines() if line.strip()}


def read_tables(root: Path) -> Tables:
    """The reports and labels of every split that has volumes.

    Raises:
        CatalogError: a table is missing, damaged, lacks a column, or names a series twice; or a
            label is not 0, 1 or empty.
    """
    sections = ("Findings_EN", "Impressions_EN")
    names = {short: f"{long}_reports.csv" for short, long in SPLITS.items()}
    reports = {
        key: join_sections(*(cells[section] for section in sections))
        for key, _, _, cells in _rows(root, "radiology_text_reports", names, sections)
    }
    names = {short: f"{short}_predicted_labels.csv" for short in SPLITS}
    folder = "multi_abnormality_labels"
    labels = {
        key: tuple(table.label(number, name, cells[name]) for name in CT_RATE_LABELS)
        for key, table, number, cells in _rows(root, folder, names, CT_RATE_LABELS)
    }
    return Tables(reports, labels)


def _rows(
    root: Path, folder: str, names: dict[str, str], columns: tuple[str, ...]
) -> Iterator[tuple[str, Table, int, dict[str, str]]]:
    """(series identifier, table, row number, cells) of every split that has volumes."""
    seen: set[str] = set()
    for split, name in names.items():
        if not (root / f"{split}_fixed").is_dir():
            continue
        table = read_table(root / folder / name)
        table.require(("VolumeName", *columns))
        for number, cells in table.rows:
            key = _stem(cells["VolumeName"])
            if key in seen:
                raise table.error(number, "VolumeName", f"{key!r} twice", "Remove one of the rows.")
            seen.add(key)
            yield key, table, number, cells


def read_classes(root: Path) -> MaskClasses | None:
    """The classes of the masks; None where there are no masks.

    Raises:
        CatalogError: there are masks, but no usable labels.json.
    """
    folder = root / "ts_seg"
    if not any((folder / f"{split}_fixed").is_dir() for split in SPLITS):
        return None
    path = folder / "labels.json"
    try:
        named = {
            int(value): str(name) for value, name in json.loads(path.read_text("utf-8")).items()
        }
    except (OSError, ValueError, AttributeError) as error:
        raise CatalogError.about(
            path,
            f"unreadable ({error})",
            'Write value to name: {"1": "lung_upper_lobe_left", ...}.',
        ) from None
    named.pop(0, None)
    if len(set(named.values())) != len(named):
        raise CatalogError.about(path, "a name is given to two values", "Use different names.")
    values = {value: index for index, value in enumerate(sorted(named), 1)}
    return MaskClasses({named[value]: index for value, index in values.items()}, values)
