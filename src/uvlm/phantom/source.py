"""What the writers of other layouts need of the chest studies `make_chest` wrote."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SourceStudy", "class_names", "read_source_folder"]

LONG = {"train": "train", "valid": "validation"}


@dataclass(frozen=True, kw_only=True)
class SourceStudy:
    """One study and what the tables say of it."""

    series_id: str
    """`train_1_a_1`."""

    split: str
    """ "train" or "valid"."""

    image: Path
    mask: Path | None
    findings: str
    impression: str
    labels: Mapping[str, str]
    """Label to "0", "1" or "" where it is unknown."""

    @property
    def case_id(self) -> str:
        return self.series_id.rsplit("_", 1)[0]

    @property
    def patient_id(self) -> str:
        return self.series_id.rsplit("_", 2)[0]


def read_source_folder(source: Path) -> tuple[SourceStudy, ...]:
    """All studies, those for training first, by number."""
    root = source / "dataset"
    studies = []
    for split, long in LONG.items():
        reports = _table(root / "radiology_text_reports" / f"{long}_reports.csv")
        labels = _table(root / "multi_abnormality_labels" / f"{split}_predicted_labels.csv")
        for image in sorted((root / f"{split}_fixed").rglob("*.nii.gz"), key=_number):
            mask = root / "ts_seg" / image.relative_to(root)
            report = reports[image.name]
            studies.append(
                SourceStudy(
                    series_id=image.name.removesuffix(".nii.gz"),
                    split=split,
                    image=image,
                    mask=mask if mask.is_file() else None,
                    findings=report["Findings_EN"],
                    impression=report["Impressions_EN"],
                    labels=labels[image.name],
                )
            )
    return tuple(studies)


def class_names(source: Path) -> dict[str, int]:
    """Name to value of the masks."""
    path = source / "dataset" / "ts_seg" / "labels.json"
    return {name: int(value) for value, name in json.loads(path.read_text("utf-8")).items()}


def _number(path: Path) -> int:
    return int(path.name.split("_")[1])


def _table(path: Path) -> dict[str, dict[str, str]]:
    return {row["VolumeName"]: row for row in _rows(path)}


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)
