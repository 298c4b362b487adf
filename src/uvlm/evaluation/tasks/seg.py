"""Predicted masks against true ones, study by study, in mm.

References and predictions are folders of masks, matched by name, or tables with a column of paths,
relative to the table. A study without prediction has the empty mask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uvlm.errors import InputError
from uvlm.evaluation.masks.metrics import mask_measures
from uvlm.evaluation.masks.pairs import SUFFIXES, read_classes
from uvlm.evaluation.masks.scores import MaskConfig, MaskScores, score_masks
from uvlm.evaluation.measure import Measure
from uvlm.evaluation.protocols import chosen_protocols
from uvlm.evaluation.results import Result, build_result
from uvlm.evaluation.tables import Cells, find_column, read_table
from uvlm.evaluation.tasks.common import Inputs, about
from uvlm.preprocessing.table import Table

__all__ = ["MASK_COLUMNS", "MaskInputs", "evaluate_masks", "mask_table", "row_file"]

TASK = "seg"
MASK_COLUMNS = ("mask", "mask_path", "seg_blosc2_path", "segmentation", "path")
SHOWN = 8
"""Different notes about studies that are repeated."""


@dataclass(frozen=True, kw_only=True)
class MaskInputs(Inputs):
    """Options of this task; `references` and `predictions` may be folders."""

    mask_column: str | None = None
    classes: Path | None = None
    """JSON of class name -> value in the references, and in the predictions unless they have
    their own."""

    predicted_classes: Path | None = None
    lesions: tuple[str, ...] = ()
    """Classes that are lesions, beside those whose names say so."""

    tolerance: float = 2.0
    """Of surface Dice, in mm."""

    lesion_iou: float = 0.0
    """Least IoU of a found lesion; 0: any shared voxel."""

    workers: int = 1


def evaluate_masks(inputs: MaskInputs) -> Result:
    """Score masks.

    Raises:
        InputError: what is wrong in a table, folder or mask, by its name.
    """
    asked = chosen_protocols(TASK, inputs.protocols)
    references, predictions = inputs.read(mask_table)
    joined = inputs.join(references, predictions)
    config = MaskConfig(
        classes=_classes(inputs.classes),
        predicted_classes=_classes(inputs.predicted_classes),
        lesions=inputs.lesions,
        tolerance_mm=inputs.tolerance,
        lesion_iou=inputs.lesion_iou,
        surfaces=any(name.startswith(("hd95@", "surface_dice@")) for name in asked),
    )
    pairs = [
        (
            key,
            row_file(references.table, true, inputs.mask_column),
            None if said is None else row_file(predictions.table, said, inputs.mask_column),
        )
        for key, true, said in zip(joined.ids, joined.references, joined.predictions, strict=True)
    ]
    rows = score_masks(pairs, config, workers=inputs.workers)
    measures = mask_measures(rows, protocols=asked)
    skipped = _skipped(measures, asked)
    return build_result(
        task=TASK,
        ids=joined.ids,
        patients=joined.patients,
        measures=measures,
        about=about(
            inputs,
            joined,
            ("classes", "predicted_classes"),
            {"tolerance_mm": inputs.tolerance, "lesion_iou": inputs.lesion_iou},
        ),
        notes=(*joined.notes, *_study_notes(rows)),
        skipped=skipped,
        columns={"missing": list(joined.missing)},
        resamples=inputs.resamples,
        seed=inputs.seed,
    )


def mask_table(path: Path) -> Table:
    """A table, or a folder of masks as one with the columns `study_id` and `mask`.

    Raises:
        InputError: as `read_table`; a folder without masks.
    """
    return _folder(path) if path.is_dir() else read_table(path)


def _column_in(table: Table, column: str | None) -> str | None:
    return column if column in table.columns else None


def _folder(folder: Path) -> Table:
    rows: list[tuple[int, dict[str, str]]] = []
    for path in sorted(folder.iterdir()):
        suffix = next((each for each in SUFFIXES if path.name.lower().endswith(each)), None)
        if suffix is not None and not path.name.startswith("."):
            stem = path.name[: -len(suffix)]
            rows.append((len(rows) + 1, {"study_id": stem, "mask": path.name}))
    if not rows:
        shown = ", ".join(SUFFIXES)
        raise InputError.about(folder, "no mask in it", f"Give files that end in {shown}.")
    return Table(folder, ("study_id", "mask"), tuple(rows))


def row_file(table: Table, row: tuple[int, Cells], column: str | None = None) -> Path:
    """The mask that a row names, relative to its table or in its folder.

    Raises:
        InputError: the cell is empty, or there is no such file.
    """
    number, cells = row
    name = find_column(table, _column_in(table, column), MASK_COLUMNS, "masks, --mask-column")
    base = table.path if table.path.is_dir() else table.path.parent
    path = base / cells[name]
    if not cells[name] or not path.exists():
        found = "empty" if not cells[name] else f"there is no file {path}"
        raise table.error(number, name, found, "Give the path of a mask, relative to the table.")
    return path


def _classes(path: Path | None) -> dict[str, int] | None:
    return None if path is None else read_classes(path)


def _skipped(measures: Sequence[Measure], asked: Sequence[str]) -> dict[str, str]:
    """A protocol's number (tolerance, IoU) may be another than in the name asked for."""
    there = {measure.protocol.partition("@")[0] for measure in measures}
    return {
        name: "no class that it scores" for name in asked if name.partition("@")[0] not in there
    }


def _study_notes(rows: Sequence[MaskScores]) -> list[str]:
    counts = Counter(note for row in rows for note in row.notes)
    notes = [f"{number} studies: {note}" for note, number in counts.most_common(SHOWN)]
    more = len(counts) - SHOWN
    return [*notes, f"{more} further kinds of notes about masks."] if more > 0 else notes
