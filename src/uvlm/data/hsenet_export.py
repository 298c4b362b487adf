"""A catalog written as the files that HSENet's own scripts read.

    OUT/<split>/<series>_3D_features.npy                      volumes, (1, Z, X, Y) float32, 0 to 1
    OUT/<split>/<series>_biomedclip_features.npy              slice features, with a bank
    OUT/ct_rate_dataset_ordered.json                          stage 1: volumes and reports
    OUT/ct_rate_dataset_ordered_with_biomedclip.json          stage 2 and reports, with a bank
    OUT/dataset.json                                          the same, as for BIMCV-R
    OUT/radgenome_vqa_location.json                           with a bank and questions

<split> is train, validation or test, which those scripts do not read. `uvlm prepare hsenet` reads
all of it back.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from uvlm.data.questions import VQA, QuestionRow, read_questions
from uvlm.errors import CatalogError, InputError
from uvlm.imaging.store import read_store
from uvlm.preprocessing.catalog import Catalog, Row, read_catalog
from uvlm.preprocessing.hsenet_lists import (
    FEATURES,
    WINDOW,
    WORD_OF,
    from_hu,
    write_array,
    write_list,
)

__all__ = ["Exported", "SliceFeatures", "export_lists"]

SHAPE = (32, 256, 256)
STAGE1 = "ct_rate_dataset_ordered.json"
STAGE2 = "ct_rate_dataset_ordered_with_biomedclip.json"
BIMCV = "dataset.json"
QUESTIONS = "radgenome_vqa_location.json"

Axes = Literal["zxy", "zyx"]
Entry = dict[str, str]


class SliceFeatures(Protocol):
    """What a slice bank gives."""

    def read(self, series_id: str) -> Tensor:
        """(S, F), slices along z."""
        ...


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    volumes: int
    lists: tuple[Path, ...]
    notes: tuple[str, ...]
    """What could not be said in these files."""


def export_lists(
    catalog: Path | str,
    out: Path | str,
    *,
    bank: SliceFeatures | None = None,
    axes: Axes = "zxy",
    shape: tuple[int, int, int] = SHAPE,
) -> Exported:
    """Write the studies of a catalog, all or nothing.

    Args:
        catalog: prepared to `shape`, in HU
        out: new or empty folder
        bank: features of the slices of every study
        axes: of the volumes' files; HSENet's scripts have x before y
        shape: voxels (z, y, x)

    Raises:
        CatalogError: the catalog or its questions are damaged, its volumes have another shape or
            lack what the window needs, or it has neither report nor question.
        ImageError: a stored volume is damaged.
        InputError: `out` holds something, or the bank lacks a study.
    """
    read = read_catalog(catalog)
    _check(read, shape)
    beside = read.path.with_name(VQA)
    series = {row.series_id for row in read.rows}
    questions = read_questions(beside, series) if beside.is_file() else ()
    if not questions and not any(row.report for row in read.rows):
        raise CatalogError.about(
            read.path, "neither reports nor questions", "HSENet's lists need one of them."
        )
    # Written where they will be: the lists name them by their full path.
    out = Path(os.path.abspath(out))
    with _aside(out) as folder:
        entries = {row.series_id: _write(row, folder, out, bank, axes) for row in read.rows}
        lists = _lists(read.rows, entries, questions, bank is not None)
        for name, groups in lists.items():
            write_list(folder / name, groups)
    return Exported(
        volumes=len(entries),
        lists=tuple(out / name for name in lists),
        notes=_notes(read.rows, questions, bank is not None),
    )


def _check(catalog: Catalog, shape: tuple[int, int, int]) -> None:
    spec = catalog.spec
    remedy = "Prepare the dataset with --preset hsenet."
    if spec is None:
        found = "no dataset.json says how its volumes were prepared"
        raise CatalogError.about(catalog.path, found, remedy)
    if spec.shape != shape:
        found = f"its volumes are {spec.shape}, not {shape}"
        raise CatalogError.about(catalog.path, found, remedy)
    if spec.clip is not None and (spec.clip[0] > WINDOW[0] or spec.clip[1] < WINDOW[1]):
        found = f"its volumes are clipped to {spec.clip} HU, narrower than {WINDOW}"
        raise CatalogError.about(catalog.path, found, remedy)


def _write(
    row: Row, folder: Path, out: Path, bank: SliceFeatures | None, axes: Axes
) -> tuple[str, Entry]:
    """(key of the split, what every list says of the study)"""
    word = WORD_OF[row.split or "train"]
    volume = from_hu(read_store(row.image))
    if axes == "zxy":
        volume = volume.transpose(0, 2, 1)
    name = f"{row.series_id}_3D_features.npy"
    write_array(folder / word / name, volume[None])
    entry = {"image": str(out / word / name)}
    if bank is not None:
        features = bank.read(row.series_id).float().numpy()
        name = f"{row.series_id}_{FEATURES}.npy"
        write_array(folder / word / name, features.astype(np.float32))
        entry[FEATURES] = str(out / word / name)
    return word, entry


def _lists(
    rows: Sequence[Row],
    entries: Mapping[str, tuple[str, Entry]],
    questions: Sequence[QuestionRow],
    featured: bool,
) -> dict[str, dict[str, list[Entry]]]:
    """Name of the file -> key of the split -> entries."""
    lists: dict[str, dict[str, list[Entry]]] = {}

    def add(name: str, series_id: str, **more: str) -> None:
        word, entry = entries[series_id]
        lists.setdefault(name, {}).setdefault(word, []).append(entry | more)

    for row in rows:
        if row.report:
            for name in (STAGE2, BIMCV) if featured else ():
                add(name, row.series_id, text=row.report)
            word, entry = entries[row.series_id]
            alone = {"image": entry["image"], "text": row.report}
            lists.setdefault(STAGE1, {}).setdefault(word, []).append(alone)
    for each in questions:
        if each.type == "location" and featured:
            for answer in each.answers:
                add(QUESTIONS, each.series_id, anatomy=answer, abnormality=each.finding)
    return lists


def _notes(
    rows: Sequence[Row], questions: Sequence[QuestionRow], featured: bool
) -> tuple[str, ...]:
    others = sum(each.type != "location" for each in questions)
    counts = (
        (sum(row.split is None for row in rows), "studies without a split are in train."),
        (sum(not row.report for row in rows), "studies have no report."),
        (others, "questions are not of where something is, which no list of HSENet's asks."),
        (0 if featured else len(questions) - others, "questions need slice features (a bank)."),
    )
    return tuple(f"{count} {text}" for count, text in counts if count)


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes it when all went well, and vanishes otherwise."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError.about(out, "it exists and is not an empty folder", "Choose a new folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)
        os.replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
