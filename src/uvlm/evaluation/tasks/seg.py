"""Predicted masks against true ones, study by study, in mm.

References and predictions are folders of masks, matched by name, or tables with a column of paths,
relative to the table. A study without prediction has the empty mask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uvlm.errors import ConfigError, InputError
from uvlm.evaluation.masks.metrics import mask_measures
from uvlm.evaluation.masks.notes import told_together
from uvlm.evaluation.masks.pairs import mask_stem, masks_in, read_classes
from uvlm.evaluation.masks.reading import Others, class_table
from uvlm.evaluation.masks.scores import MaskConfig, MaskScores, score_masks
from uvlm.evaluation.masks.segmentation import plain_name
from uvlm.evaluation.measure import Measure
from uvlm.evaluation.protocols import chosen_protocols
from uvlm.evaluation.results import Result, build_result
from uvlm.evaluation.tables import Cells, find_column, read_table
from uvlm.evaluation.tasks.common import Inputs, about
from uvlm.preprocessing.table import Table

__all__ = [
    "MASK_COLUMNS",
    "MaskInputs",
    "evaluate_masks",
    "mask_table",
    "row_file",
    "table_reader",
]

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
    others: Others = "refuse"
    """Values of masks that no class has: refused, or background."""

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
    named = _plain_names(inputs)
    asked = chosen_protocols(TASK, tuple(named))
    references, predictions = inputs.read(table_reader(inputs))
    joined = inputs.join(references, predictions)
    config = MaskConfig(
        classes=_classes(inputs.classes),
        predicted_classes=_classes(inputs.predicted_classes),
        lesions=inputs.lesions,
        tolerance_mm=inputs.tolerance,
        lesion_iou=inputs.lesion_iou,
        others=inputs.others,
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
    _check_lesions(config, [true for _, true, _ in pairs])
    rows = score_masks(pairs, config, workers=inputs.workers)
    measures = mask_measures(rows, protocols=asked)
    skipped = {named.get(name, name): why for name, why in _skipped(rows, measures, asked).items()}
    return build_result(
        task=TASK,
        ids=joined.ids,
        patients=joined.patients,
        measures=measures,
        about=about(
            inputs,
            joined,
            ("classes", "predicted_classes"),
            {
                "tolerance_mm": inputs.tolerance,
                "lesion_iou": inputs.lesion_iou,
                "others": inputs.others,
                **({"lesions": ", ".join(inputs.lesions)} if inputs.lesions else {}),
            },
        ),
        notes=(*joined.notes, *_study_notes(rows)),
        skipped=skipped,
        columns={"missing": list(joined.missing)},
        resamples=inputs.resamples,
        seed=inputs.seed,
    )


def mask_table(path: Path) -> Table:
    """A table, or a folder of masks or a single one as one with the columns `study_id` and `mask`.

    Raises:
        InputError: as `read_table` and `masks_in`.
    """
    if path.is_dir():
        return _table_of(path, masks_in(path))
    stem = mask_stem(path)
    return read_table(path) if stem is None else _table_of(path, {stem: path})


def table_reader(inputs: Inputs) -> Callable[[Path], Table]:
    """`mask_table`, for which two single masks are of one study, whatever their names."""
    stem = mask_stem(inputs.references)
    sides = (inputs.references, inputs.predictions)
    if stem is None or not all(path.is_file() and mask_stem(path) for path in sides):
        return mask_table
    return lambda path: _table_of(path, {stem: path})


def _table_of(path: Path, masks: Mapping[str, Path]) -> Table:
    rows = [{"study_id": stem, "mask": mask.name} for stem, mask in masks.items()]
    return Table(path, ("study_id", "mask"), tuple(enumerate(rows, 1)))


def _column_in(table: Table, column: str | None) -> str | None:
    return column if column in table.columns else None


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


def _plain_names(inputs: MaskInputs) -> dict[str, str]:
    """Protocol as it is listed -> as it was asked for, which may be the name that its result has:
    `surface_dice@3mm` with a tolerance of 3, `lesions@iou0.1`.

    Raises:
        InputError: the number is another than that of the option.
    """
    names = {}
    for asked in inputs.protocols:
        plain = asked
        for shape, listed, option, value in (
            (r"surface_dice@([\d.]+)mm", "surface_dice@2mm", "--tolerance", inputs.tolerance),
            (r"lesions@iou([\d.]+)", "lesions@any-voxel", "--lesion-iou", inputs.lesion_iou),
        ):
            found = re.fullmatch(shape, asked)
            if found is None or asked == listed:
                continue
            if found[1] != f"{value:g}":
                raise InputError(f"{asked} needs {option} {found[1]}; it is {value:g}.")
            plain = listed
        names[plain] = asked
    return names


def _check_lesions(config: MaskConfig, references: Sequence[Path]) -> None:
    """Refuse a name among the lesions that no class has; where masks name none, "label N" is one.

    Raises:
        ConfigError: there is such a name.
    """
    tables = [config.classes] if config.classes else [class_table(path) for path in references]
    known = {name: None for table in tables if table for name in table}
    plain = {plain_name(name) for name in known}
    wrong = [name for name in config.lesions if plain_name(name) not in plain]
    if wrong and known:
        raise ConfigError(
            f"--lesions {wrong[0]}: no such class. The masks have {', '.join(known)}."
        )
    if bad := [name for name in wrong if not re.fullmatch(r"label[1-9]\d*", plain_name(name))]:
        raise ConfigError(
            f"--lesions {bad[0]}: the masks name no class. Give --classes, or 'label 2' and so on."
        )


def _skipped(
    rows: Sequence[MaskScores], measures: Sequence[Measure], asked: Sequence[str]
) -> dict[str, str]:
    """A protocol's number (tolerance, IoU) may be another than in the name asked for."""
    there = {measure.protocol.partition("@")[0] for measure in measures}
    scores = [score for row in rows for score in row.classes.values()]
    filled = any(score.true_ml or score.predicted_ml for score in scores)
    why = "no class that it scores" if filled else "no mask has a voxel"
    return {name: why for name in asked if name.partition("@")[0] not in there}


def _study_notes(rows: Sequence[MaskScores]) -> list[str]:
    notes = told_together(note for row in rows for note in row.notes)
    more = len(notes) - SHOWN
    return [*notes[:SHOWN], f"{more} further kinds of notes about masks."] if more > 0 else notes
