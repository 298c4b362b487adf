"""Whether liver, kidneys and pancreas have lesions: truth and prediction from masks, from reports,
or as labels and probabilities.

A study without prediction counts as the opposite of its truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ConfigError, InputError
from uvlm.evaluation.joining import Joined, Keyed
from uvlm.evaluation.labels.thresholds import check_apart, choose_thresholds
from uvlm.evaluation.masks.detection import (
    ABDOMEN_RULES,
    RADGPT_MM3,
    best_minimums,
    present_in_masks,
    present_in_reports,
    present_with_probability,
    volumes_in_files,
)
from uvlm.evaluation.masks.detection_measures import detection_measures
from uvlm.evaluation.masks.pairs import read_classes
from uvlm.evaluation.measure import Measure
from uvlm.evaluation.protocols import chosen_protocols
from uvlm.evaluation.results import Result, build_result
from uvlm.evaluation.tables import (
    PREDICTED_TEXT,
    REFERENCE_TEXT,
    Cells,
    find_text,
    label_rows,
    probability_rows,
    report_of,
)
from uvlm.evaluation.tasks.common import Inputs, about, opposite, present
from uvlm.evaluation.tasks.seg import MASK_COLUMNS, mask_table, row_file
from uvlm.preprocessing.table import Table

__all__ = ["DetectionInputs", "evaluate_detection"]

TASK = "detect"
NAMES = tuple(rule.label for rule in ABDOMEN_RULES)
PROTOCOLS_OF = {
    "masks": ("detect@masks-uvlm", "detect@masks-radgpt"),
    "reports": ("detect@reports",),
    "labels": ("detect@probabilities",),
}
"""What predictions come from -> what can be computed."""

Origin = Literal["masks", "reports", "labels"]
Array = NDArray[np.float64]
Rows = Sequence[tuple[int, Cells]]


@dataclass(frozen=True, kw_only=True)
class DetectionInputs(Inputs):
    """Options of this task; `references` and `predictions` may be folders of masks."""

    truth_from: Origin | None = None
    """None: masks of a folder or a column of paths, else the three labels, else reports."""

    predictions_from: Origin | None = None
    """The same; "labels" are probabilities."""

    text_column: tuple[str, ...] = ()
    prediction_text_column: tuple[str, ...] = ()
    mask_column: str | None = None
    classes: Path | None = None
    """JSON of class name -> value in the masks."""

    logits: bool = False
    minimum: float = RADGPT_MM3
    """Of `detect@masks-radgpt`, in mm^3, unless validation studies choose it."""

    validation_references: Path | None = None
    validation_predictions: Path | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.validation_references is None) != (self.validation_predictions is None):
            raise InputError(
                "validation needs both --validation-references and --validation-predictions."
            )

    @property
    def validation(self) -> DetectionInputs | None:
        """The same options for the validation studies."""
        if self.validation_references is None or self.validation_predictions is None:
            return None
        return replace(
            self,
            references=self.validation_references,
            predictions=self.validation_predictions,
            validation_references=None,
            validation_predictions=None,
            missing="refuse",
            split=None,
        )


def evaluate_detection(inputs: DetectionInputs) -> Result:
    """Score which organs are said to have a lesion.

    Raises:
        InputError: what is wrong in a table, folder or mask, by its name.
    """
    asked = chosen_protocols(TASK, inputs.protocols)
    sides = _read(inputs)
    joined, truth = sides.joined, sides.truth
    possible = PROTOCOLS_OF[sides.origin]
    why = f"predictions are {sides.origin if sides.origin != 'labels' else 'probabilities'}"
    skipped = {name: why for name in inputs.protocols if name not in possible}
    measures: list[Measure] = []
    floors: list[Measure] = []
    columns = {f"true {name}": truth[:, i].tolist() for i, name in enumerate(NAMES)}
    for protocol in (name for name in asked if name in possible):
        try:
            said, note = _predicted(inputs, sides, protocol)
        except ConfigError as error:
            # Masks without organs have no lesion inside one; the other protocol still stands.
            skipped[protocol] = str(error)
            continue
        measures += detection_measures(truth, said, NAMES, protocol, notes=note)
        floors += detection_measures(truth, np.ones_like(truth), NAMES, protocol)
        columns |= {f"{protocol} {name}": said[:, i].tolist() for i, name in enumerate(NAMES)}
    return build_result(
        task=TASK,
        ids=joined.ids,
        patients=joined.patients,
        measures=measures,
        floors={"all present": floors},
        about=about(
            inputs,
            joined,
            ("validation_references", "validation_predictions"),
            {"truth_from": sides.truth_origin, "predictions_from": sides.origin},
        ),
        notes=joined.notes,
        skipped=skipped,
        columns={"missing": list(joined.missing), **columns},
        resamples=inputs.resamples,
        seed=inputs.seed,
    )


@dataclass(frozen=True)
class _Sides:
    """Joined studies with their truth."""

    joined: Joined
    truth: Array
    truth_origin: Origin
    predictions: Table
    origin: Origin


def _read(inputs: DetectionInputs) -> _Sides:
    references, predictions = inputs.read(mask_table)
    true_from = inputs.truth_from or _origin(references, inputs.text_column, inputs.mask_column)
    said_from = inputs.predictions_from or _origin(
        predictions, inputs.prediction_text_column, inputs.mask_column
    )
    joined = inputs.join(references, predictions)
    if true_from == "reports":
        columns = find_text(references.table, inputs.text_column, REFERENCE_TEXT, "--text-column")
        there = [bool(report_of(cells, columns)) for _, cells in joined.references]
        joined = joined.keep(there, "no reference report")
    truth = _truth(inputs, references.table, joined, true_from)
    return _Sides(joined, truth, true_from, predictions.table, said_from)


def _origin(side: Keyed, text_column: Sequence[str], mask_column: str | None) -> Origin:
    columns = side.table.columns
    if text_column:
        return "reports"
    if side.table.path.is_dir() or (mask_column in columns):
        return "masks"
    if set(NAMES) <= set(columns):
        return "labels"
    if any(set(known) <= set(columns) for known in PREDICTED_TEXT):
        return "reports"
    if any(name in columns for name in MASK_COLUMNS):
        return "masks"
    raise InputError.about(
        side.table.path,
        f"neither masks nor labels ({', '.join(NAMES)}) nor reports; found: {', '.join(columns)}",
        "Say what it holds with --truth-from or --predictions-from.",
    )


def _truth(inputs: DetectionInputs, table: Table, joined: Joined, origin: Origin) -> Array:
    if origin == "labels":
        table.require(NAMES)
        return label_rows(table, joined.references, NAMES)
    if origin == "reports":
        columns = find_text(table, inputs.text_column, REFERENCE_TEXT, "--text-column")
        return _from_reports([report_of(cells, columns) for _, cells in joined.references])
    return present_in_masks(_volumes(inputs, table, joined.references, False), 0.0, NAMES)


def _from_reports(reports: Sequence[str]) -> Array:
    from uvlm.text.labelling.abdomen import ABDOMEN

    return present_in_reports(ABDOMEN, reports, NAMES)


def _volumes(inputs: DetectionInputs, table: Table, rows: Rows, within: bool) -> Array:
    """(N, 3) mm^3"""
    files = [row_file(table, row, inputs.mask_column) for row in rows]
    classes = None if inputs.classes is None else read_classes(inputs.classes)
    return volumes_in_files(files, classes, within_organ=within, workers=inputs.workers)


def _predicted(
    inputs: DetectionInputs, sides: _Sides, protocol: str
) -> tuple[Array, tuple[str, ...]]:
    """(N, 3) of 0 and 1, and what to know about them."""
    joined, table = sides.joined, sides.predictions
    rows = [row for row in joined.predictions if row is not None]
    notes: list[str] = []
    if protocol == "detect@masks-uvlm":
        found = present_in_masks(_volumes(inputs, table, rows, False), 0.0, NAMES)
    elif protocol == "detect@masks-radgpt":
        minimums, note = _minimums(inputs, joined)
        found = present_in_masks(_volumes(inputs, table, rows, True), minimums, NAMES)
        notes.append(note)
    elif protocol == "detect@reports":
        known, option = PREDICTED_TEXT, "--prediction-text-column"
        columns = find_text(table, inputs.prediction_text_column, known, option)
        found = _from_reports([report_of(cells, columns) for _, cells in rows])
    else:
        table.require(NAMES)
        values = probability_rows(table, rows, NAMES, logits=inputs.logits)
        limits, note = _limits(inputs, joined)
        found = present_with_probability(values, limits, NAMES)
        notes.append(note)
    said = opposite(sides.truth)
    said[present(joined)] = found
    if any(joined.missing):
        notes.append("A study without prediction counts as the opposite of its truth.")
    return said, tuple(notes)


def _minimums(inputs: DetectionInputs, scored: Joined) -> tuple[dict[str, float], str]:
    validation = inputs.validation
    if validation is None:
        return dict.fromkeys(NAMES, inputs.minimum), f"Minimum {inputs.minimum:g} mm^3."
    sides = _validated(validation, scored)
    rows = [row for row in sides.joined.predictions if row is not None]
    volumes = _volumes(validation, sides.predictions, rows, True)
    best = best_minimums(volumes, sides.truth, NAMES)
    return best, f"Minimum in mm^3, chosen on validation studies: {_said(best)}."


def _limits(inputs: DetectionInputs, scored: Joined) -> tuple[dict[str, float], str]:
    validation = inputs.validation
    if validation is None:
        return dict.fromkeys(NAMES, 0.5), "Present from a probability of 0.5."
    sides = _validated(validation, scored)
    rows = [row for row in sides.joined.predictions if row is not None]
    values = probability_rows(sides.predictions, rows, NAMES, logits=inputs.logits)
    chosen = np.nan_to_num(choose_thresholds(sides.truth, values, NAMES), nan=0.5)
    best = dict(zip(NAMES, chosen.tolist(), strict=True))
    return best, f"Thresholds of highest F1 on validation studies: {_said(best)}."


def _validated(validation: DetectionInputs, scored: Joined) -> _Sides:
    sides = _read(validation)
    check_apart(sides.joined.ids, scored.ids)
    check_apart(sides.joined.patients, scored.patients)
    return sides


def _said(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
