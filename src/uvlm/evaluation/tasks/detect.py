"""Whether liver, kidneys and pancreas have lesions: truth and prediction from masks, from reports,
or as labels and probabilities.

A study without prediction, or with an empty report as one, counts as the opposite of its truth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ConfigError, InputError
from uvlm.evaluation.joining import Joined, Keyed
from uvlm.evaluation.labels.thresholds import check_apart, choose_thresholds
from uvlm.evaluation.masks.detection import (
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
from uvlm.evaluation.tasks.common import about, opposite, present
from uvlm.evaluation.tasks.detect_inputs import HALF, NAMES, DetectionInputs, Origin
from uvlm.evaluation.tasks.organ_limits import said_limits
from uvlm.evaluation.tasks.seg import MASK_COLUMNS, row_file, table_reader
from uvlm.preprocessing.table import Table
from uvlm.text.labelling.language import is_english

__all__ = ["DetectionInputs", "evaluate_detection"]

TASK = "detect"
ORGANS = re.compile(r"\b(?:liver|hepat|kidney|renal|nephr|pancrea)", re.IGNORECASE)
"""How words of the three organs begin in English."""

PROTOCOLS_OF = {
    "masks": ("detect@masks-uvlm", "detect@masks-radgpt"),
    "reports": ("detect@reports",),
    "labels": ("detect@probabilities",),
}
"""What predictions come from -> what can be computed."""

Array = NDArray[np.float64]
Rows = Sequence[tuple[int, Cells]]


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
            ("classes", "predicted_classes", "validation_references", "validation_predictions"),
            _settings(inputs, sides),
        ),
        notes=(*joined.notes, *sides.notes),
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
    notes: tuple[str, ...] = ()


def _settings(inputs: DetectionInputs, sides: _Sides) -> dict[str, Any]:
    """What beside the files decides about the scores."""
    settings: dict[str, Any] = {"truth_from": sides.truth_origin, "predictions_from": sides.origin}
    chosen = "chosen on validation studies" if inputs.validation is not None else ""
    if "masks" in (sides.origin, sides.truth_origin):
        settings["others"] = inputs.others
    if sides.origin == "masks":
        settings["minimum_mm3"] = chosen or said_limits(inputs.minimums)
    if sides.origin == "labels":
        settings["threshold"] = chosen or said_limits(inputs.thresholds)
        settings["logits"] = inputs.logits
    for name in ("text_column", "prediction_text_column"):
        if getattr(inputs, name):
            settings[name] = " + ".join(getattr(inputs, name))
    return settings


def _read(inputs: DetectionInputs) -> _Sides:
    references, predictions = inputs.read(table_reader(inputs))
    true_from = inputs.truth_from or _origin(references, inputs.text_column, inputs.mask_column)
    said_from = inputs.predictions_from or _origin(
        predictions, inputs.prediction_text_column, inputs.mask_column
    )
    joined = inputs.join(references, predictions)
    notes: tuple[str, ...] = ()
    if true_from == "reports":
        columns = find_text(references.table, inputs.text_column, REFERENCE_TEXT, "--text-column")
        texts = [report_of(cells, columns) for _, cells in joined.references]
        joined = joined.keep([_is_text(text) for text in texts], "no reference report")
        notes = _unread(texts, "reference")
    truth = _truth(inputs, references.table, joined, true_from)
    return _Sides(joined, truth, true_from, predictions.table, said_from, notes)


def _is_text(report: str) -> bool:
    return any(map(str.isalnum, report))


def _unread(reports: Sequence[str], what: str) -> tuple[str, ...]:
    """A note on reports that the rules cannot read; a terse one shows its language by little."""
    number = sum(
        _is_text(report) and not (is_english(report) and ORGANS.search(report))
        for report in reports
    )
    if not number:
        return ()
    shown = f"1 {what} report is" if number == 1 else f"{number} {what} reports are"
    return (
        f"{shown} not in English, or without a word for liver, kidney or pancreas; the rules find "
        "no lesion there.",
    )


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
    files = [row_file(table, row, inputs.mask_column) for row in joined.references]
    classes = _classes(inputs.classes)
    volumes = volumes_in_files(files, classes, others=inputs.others, workers=inputs.workers)
    return present_in_masks(volumes, 0.0, NAMES)


def _classes(path: Path | None) -> dict[str, int] | None:
    return None if path is None else read_classes(path)


def _from_reports(reports: Sequence[str]) -> Array:
    from uvlm.text.labelling.abdomen import ABDOMEN

    return present_in_reports(ABDOMEN, reports, NAMES)


def _volumes(inputs: DetectionInputs, sides: _Sides, *, within: bool) -> Array:
    """(P, 3) mm^3 in the predictions that are there"""
    classes, unnamed = _classes(inputs.predicted_classes or inputs.classes), None
    if inputs.predicted_classes is None and sides.truth_origin == "masks":
        # Given for the references; a prediction may have its own numbers.
        classes, unnamed = None, classes
    return volumes_in_files(
        [row_file(sides.predictions, row, inputs.mask_column) for row in _rows(sides)],
        classes,
        unnamed=unnamed,
        others=inputs.others,
        within_organ=within,
        workers=inputs.workers,
    )


def _rows(sides: _Sides) -> Rows:
    """The P predictions that are there."""
    return [row for row in sides.joined.predictions if row is not None]


def _predicted(
    inputs: DetectionInputs, sides: _Sides, protocol: str
) -> tuple[Array, tuple[str, ...]]:
    """(N, 3) of 0 and 1, and what to know about them."""
    there = present(sides.joined)
    notes: tuple[str, ...] = ()
    if protocol == "detect@masks-uvlm":
        found = present_in_masks(_volumes(inputs, sides, within=False), 0.0, NAMES)
    elif protocol == "detect@masks-radgpt":
        minimums, notes = _minimums(inputs, sides.joined)
        found = present_in_masks(_volumes(inputs, sides, within=True), minimums, NAMES)
    elif protocol == "detect@reports":
        found, filled, notes = _read_reports(inputs, sides)
        there[there] = filled
    else:
        limits, notes = _limits(inputs, sides.joined)
        found = present_with_probability(_probabilities(inputs, sides), limits, NAMES)
    said = opposite(sides.truth)
    said[there] = found
    if any(sides.joined.missing):
        notes = (*notes, "A study without prediction counts as the opposite of its truth.")
    return said, notes


def _read_reports(
    inputs: DetectionInputs, sides: _Sides
) -> tuple[Array, list[bool], tuple[str, ...]]:
    """(F, 3) of the reports with text in them, which of the P have, and notes."""
    table, option = sides.predictions, "--prediction-text-column"
    columns = find_text(table, inputs.prediction_text_column, PREDICTED_TEXT, option)
    reports = [report_of(cells, columns) for _, cells in _rows(sides)]
    filled = [_is_text(report) for report in reports]
    written = [report for report, text in zip(reports, filled, strict=True) if text]
    found = _from_reports(written) if written else np.zeros((0, len(NAMES)))
    notes = _unread(written, "predicted")
    if empty := len(reports) - len(written):
        shown = "1 predicted report is" if empty == 1 else f"{empty} predicted reports are"
        notes = (f"{shown} empty; each counts as the opposite of its truth.", *notes)
    return found, filled, notes


def _probabilities(inputs: DetectionInputs, sides: _Sides) -> Array:
    """(P, 3)"""
    sides.predictions.require(NAMES)
    return probability_rows(sides.predictions, _rows(sides), NAMES, logits=inputs.logits)


Limits = tuple[dict[str, float], tuple[str, ...]]
"""Label -> limit, and where they come from."""


def _minimums(inputs: DetectionInputs, scored: Joined) -> Limits:
    validation = inputs.validation
    if validation is None:
        return inputs.minimums, (f"Minimum in mm^3: {said_limits(inputs.minimums)}.",)
    sides = _validated(validation, scored)
    volumes = _volumes(validation, sides, within=True)

    def best(i: int) -> float:
        if not {0.0, 1.0} <= set(sides.truth[:, i]):
            return np.nan
        return best_minimums(volumes[:, [i]], sides.truth[:, [i]], NAMES[i : i + 1])[NAMES[i]]

    what = "Minimum in mm^3 of the best sum of sensitivity and specificity"
    return _chosen(best, RADGPT_MM3, what, "both positive and negative studies")


def _limits(inputs: DetectionInputs, scored: Joined) -> Limits:
    validation = inputs.validation
    if validation is None:
        shown = said_limits(inputs.thresholds)
        return inputs.thresholds, (f"Present from a probability of {shown}.",)
    sides = _validated(validation, scored)
    chosen = choose_thresholds(sides.truth, _probabilities(validation, sides), NAMES)
    return _chosen(lambda i: float(chosen[i]), HALF, "Thresholds of highest F1", "positive studies")


def _chosen(best: Callable[[int], float], otherwise: float, what: str, needs: str) -> Limits:
    """What validation studies say, else what holds without them; said for which labels.

    Args:
        best: the number for a label, or nan where the studies are not enough
        needs: what studies must be there for a number
    """
    found = {name: best(i) for i, name in enumerate(NAMES)}
    lacking = [name for name, value in found.items() if np.isnan(value)]
    limits = {name: otherwise if name in lacking else value for name, value in found.items()}
    chosen = [f"{name} {limits[name]:g}" for name in NAMES if name not in lacking]
    notes = [f"{what}, on validation studies: {', '.join(chosen)}."] if chosen else []
    if lacking:
        why = f"choosing needs {needs}, which the validation studies do not have"
        notes.append(f"{otherwise:g} for {', '.join(lacking)}: {why}.")
    return limits, tuple(notes)


def _validated(validation: DetectionInputs, scored: Joined) -> _Sides:
    sides = _read(validation)
    check_apart(sides.joined.ids, scored.ids)
    check_apart(sides.joined.patients, scored.patients)
    return sides
