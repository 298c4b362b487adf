"""Chest studies in the layout of RadGenome-ChestCT.

    dataset/train_preprocessed/train_1/train_1a/train_1_a_1.nii.gz      also valid_preprocessed
    dataset/train_region_mask/seg_train_1_a_1/<region>.nii.gz           also valid_region_mask
    dataset/radgenome_files/{train,validation}_<table>.csv              six tables each
    dataset/source.txt                                                  says they are synthetic

Sentences are those of the study's report, tied to regions by the words in them; answers come from
the labels and masks that were drawn.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.readers import read_volume
from uvlm.phantom.radgenome_truth import HOME, REGION_MASKS, Drawn, region_of_sentence
from uvlm.phantom.source import SourceStudy, class_names, read_source_folder
from uvlm.text.cleaning import split_sentences

__all__ = ["write"]

TABLES: dict[str, tuple[str, ...]] = {
    "case_disorders": ("Volumename", "Disorders"),
    "region_report": ("Volumename", "Anatomy", "Sentence"),
    "vqa_abnormality": ("Volumename", "Anatomy", "Abnormality"),
    "vqa_location": ("Volumename", "Anatomy", "Abnormality"),
    "vqa_presence": ("Volumename", "Anatomy", "Finding", "Presence"),
    "vqa_size": ("Volumename", "Anatomy", "Abnormality", "Size"),
}
"""Table -> its columns."""

LONG = {"train": "train", "valid": "validation"}


def write(source: Path, out: Path, seed: int) -> None:
    """Write the studies of `source` (CT-RATE v2's layout) to `out`. Nothing is drawn by `seed`."""
    del seed
    root = out / "dataset"
    classes = class_names(source)
    rows: dict[tuple[str, str], list[Sequence[str]]] = {
        (split, table): [] for split in LONG for table in TABLES
    }
    for study in read_source_folder(source):
        _copy_image(study, root)
        drawn = None
        if study.mask is not None:
            drawn = Drawn(read_volume(study.mask, labels=True), classes)
            _write_masks(study, drawn, root)
        for table, lines in _rows(study, drawn).items():
            rows[study.split, table] += lines
    (root / "radgenome_files").mkdir(parents=True)
    for (split, table), lines in rows.items():
        path = root / "radgenome_files" / f"{LONG[split]}_{table}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(TABLES[table])
            writer.writerows(lines)
    shutil.copyfile(source / "dataset" / "source.txt", root / "source.txt")


def _copy_image(study: SourceStudy, root: Path) -> None:
    # The release writes the scan's folder without the last underscore: train_1a.
    scan = "".join(study.case_id.rsplit("_", 1))
    folder = root / f"{study.split}_preprocessed" / study.patient_id / scan
    folder.mkdir(parents=True)
    shutil.copyfile(study.image, folder / study.image.name)


def _write_masks(study: SourceStudy, drawn: Drawn, root: Path) -> None:
    folder = root / f"{study.split}_region_mask" / f"seg_{study.series_id}"
    folder.mkdir(parents=True)
    for region in REGION_MASKS:
        inside = drawn.region(region)
        if inside.any():
            path = folder / f"{region}.nii.gz"
            write_nifti(path, inside.astype(np.uint8), drawn.mask.affine)


def _rows(study: SourceStudy, drawn: Drawn | None) -> dict[str, list[Sequence[str]]]:
    """Table to the rows of one study."""
    name = study.image.name
    present = [label for label in HOME if study.labels[label] == "1"]
    places = {label: _places(label, drawn) for label in present}
    sizes = {label: drawn.size(label) if drawn else "" for label in present}
    pairs = [(place, label) for label in present for place in places[label]]
    sentences = split_sentences(study.findings)
    known = [(label, value) for label, value in study.labels.items() if label in HOME and value]
    return {
        "case_disorders": [(name, ", ".join(label.lower() for label in present))],
        "region_report": [(name, region_of_sentence(text), text) for text in sentences],
        "vqa_abnormality": [(name, place, label.lower()) for place, label in sorted(pairs)],
        "vqa_location": [(name, place, label.lower()) for place, label in pairs],
        "vqa_presence": [
            (name, _places(label, None)[0], label.lower(), "Yes." if value == "1" else "No.")
            for label, value in known
        ],
        "vqa_size": [
            (name, places[label][0], label.lower(), sizes[label])
            for label in present
            if sizes[label]
        ],
    }


def _places(label: str, drawn: Drawn | None) -> list[str]:
    found: Iterable[str] = drawn.places(label) if drawn else ()
    return list(found) or [HOME[label]]
