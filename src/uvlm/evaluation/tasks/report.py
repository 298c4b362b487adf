"""Generated reports against true ones: words, and the abnormalities that the words name.

Labels of both reports come from one labeller, unless tables of labels are given. A study without
prediction has the empty report: it shares no word with its reference and names no abnormality. A
study without reference report has nothing to be compared with and is left out, which is said.

Beside every score stands what reports score that look at no image, made from training reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.joining import Joined
from uvlm.evaluation.labels.agreement import label_matrix
from uvlm.evaluation.labels.clinical import PROTOCOLS as LABEL_PROTOCOLS
from uvlm.evaluation.labels.clinical import label_measures
from uvlm.evaluation.protocols import chosen_protocols
from uvlm.evaluation.results import Result, build_result
from uvlm.evaluation.tables import (
    PREDICTED_TEXT,
    REFERENCE_TEXT,
    find_text,
    read_table,
    report_of,
)
from uvlm.evaluation.tasks.common import Inputs, about, labels_of, present
from uvlm.evaluation.tasks.training_rows import training_rows
from uvlm.evaluation.words.floors import floor_reports
from uvlm.evaluation.words.metrics import text_measures_beside
from uvlm.text.labelling.language import is_english
from uvlm.text.labelling.protocol import Labeller

__all__ = ["ReportInputs", "evaluate_reports"]

TASK = "report"
RETRIEVED = (
    '"Retrieved" is the report of other patients whose labels are nearest to those of the '
    "prediction: all it knows of a study."
)

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ReportInputs(Inputs):
    """Options of this task."""

    text_column: tuple[str, ...] = ()
    """Of the references; two are findings and impression."""

    prediction_text_column: tuple[str, ...] = ()

    training: Path | None = None
    """Reports of training studies, for the floors."""

    labeller: Literal["rules", "radbert"] = "rules"
    region: Literal["chest", "abdomen"] = "chest"
    """Of the body; the labeller's classes go with it."""

    labeller_weights: Path | None = None
    """Folder of radbert's weights."""

    labels: Path | None = None
    """Table of the true labels, in place of labelling the references."""

    predicted_labels: Path | None = None
    """Table of the labels of the generated reports, by another labeller."""

    label_columns: tuple[str, ...] = ()
    """Classes to score; empty: the labeller's."""

    weights: Mapping[str, Path] = field(default_factory=dict)
    """Protocols' local weights, see `text_measures`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labeller == "radbert" and (self.region != "chest" or not self.labeller_weights):
            raise InputError(
                "radbert knows the chest only, and needs its weights: give --labeller-weights."
            )


@dataclass(frozen=True)
class _Reports:
    """Studies that have a reference report."""

    joined: Joined
    references: list[str]
    predictions: list[str]
    columns: dict[str, str]
    """Where they were read: table -> columns."""


def evaluate_reports(inputs: ReportInputs) -> Result:
    """Score generated reports.

    Raises:
        InputError: what is wrong in a table; a protocol or labeller that does not exist.
    """
    asked = chosen_protocols(TASK, inputs.protocols)
    of_labels = [info.name for info in LABEL_PROTOCOLS if info.name in asked]
    of_text = [name for name in asked if name not in of_labels]
    reports = _read(inputs)
    joined = reports.joined
    labeller = _labeller(inputs)
    label = _Labelling(labeller, inputs.label_columns or tuple(labeller.classes))
    floors, floor_note = _floor_texts(inputs, reports, label)
    true, said = reports.references, reports.predictions
    measures, beside, skipped = text_measures_beside(true, said, floors, of_text, inputs.weights)
    columns: dict[str, Sequence[Any]] = {"missing": list(joined.missing)}
    if of_labels:
        truth, predicted = _labels(inputs, reports, label)
        measures += label_measures(truth, predicted, label.names, of_labels)
        for name, texts in floors.items():
            beside[name] += label_measures(truth, label(texts), label.names, of_labels)
        columns |= _label_columns(truth, predicted, label.names)
    return build_result(
        task=TASK,
        ids=joined.ids,
        patients=joined.patients,
        measures=measures,
        floors=beside,
        about=about(
            inputs,
            joined,
            ("training", "labels", "predicted_labels"),
            {
                "missing": inputs.missing,
                "report_columns": reports.columns,
                "region": inputs.region,
                **(_of_labels(inputs, labeller, label) if of_labels else {}),
            },
        ),
        notes=(
            *joined.notes,
            floor_note,
            *_notes(reports),
            *_labels_by(inputs, labeller, of_labels),
        ),
        skipped=skipped,
        columns=columns,
        resamples=inputs.resamples,
        seed=inputs.seed,
    )


def _of_labels(inputs: ReportInputs, labeller: Labeller, label: _Labelling) -> dict[str, str]:
    """What makes a clinical score: two are comparable only where all of this is the same."""
    tables = inputs.labels is not None and inputs.predicted_labels is not None
    return {
        "labeller": "tables" if tables else labeller.name,
        "class_names": ", ".join(label.names),
        "truth_from": "reports" if inputs.labels is None else "labels",
        "predictions_from": "reports" if inputs.predicted_labels is None else "labels",
    }


def _read(inputs: ReportInputs) -> _Reports:
    references, predictions = inputs.read()
    true = find_text(references.table, inputs.text_column, REFERENCE_TEXT, "--text-column")
    said = find_text(
        predictions.table,
        inputs.prediction_text_column,
        PREDICTED_TEXT,
        "--prediction-text-column",
    )
    joined = inputs.join(references, predictions)
    texts = [report_of(cells, true) for _, cells in joined.references]
    if not any(map(str.isalnum, "".join(texts))):
        raise InputError.about(
            inputs.references,
            f"no report in column {' + '.join(true)} of any study",
            "Name the column with --text-column.",
        )
    there = [any(map(str.isalnum, text)) for text in texts]
    joined = joined.keep(there, "no reference report")
    generated = ["" if found is None else report_of(found[1], said) for found in joined.predictions]
    kept = [text for text, yes in zip(texts, there, strict=True) if yes]
    columns = {"references": " + ".join(true), "predictions": " + ".join(said)}
    return _Reports(joined, kept, generated, columns)


def _floor_texts(
    inputs: ReportInputs, reports: _Reports, label: _Labelling
) -> tuple[dict[str, list[str]], str]:
    """Name -> one report per study, and where they come from."""
    if inputs.training is None:
        return _floors_of_others(inputs, reports, label)
    table = read_table(inputs.training)
    named = inputs.text_column if set(inputs.text_column) <= set(table.columns) else ()
    columns = find_text(table, named, REFERENCE_TEXT, "--text-column")
    rows, left_out = training_rows(table, reports.joined, inputs.id_column, inputs.patient_column)
    training = [text for cells in rows if (text := report_of(cells, columns))]
    if not training:
        raise InputError.about(inputs.training, "no report in it", "Give training reports.")
    found = floor_reports(training, reports.predictions, seed=inputs.seed, label=label)
    number = _number(len(training), "training report")
    return found, " ".join(filter(None, (f"Floors are made from {number}.", left_out, RETRIEVED)))


def _floors_of_others(
    inputs: ReportInputs, reports: _Reports, label: _Labelling
) -> tuple[dict[str, list[str]], str]:
    """Each half of the patients has floors made from the references of the other."""
    halves = [sha256(patient.encode()).digest()[0] % 2 for patient in reports.joined.patients]
    if len(set(halves)) < 2:
        return {}, "No floors: give --training, a table of training reports."
    floors: dict[str, list[str]] = {}
    for half in (0, 1):
        own = [i for i, other in enumerate(halves) if other == half]
        training = [reports.references[i] for i, other in enumerate(halves) if other != half]
        said = [reports.predictions[i] for i in own]
        found = floor_reports(training, said, seed=inputs.seed, label=label)
        for name, texts in found.items():
            rows = floors.setdefault(name, [""] * len(halves))
            for i, text in zip(own, texts, strict=True):
                rows[i] = text
    return floors, (
        "Floors are made from the references of other patients, half by half, for no --training "
        f"was given. {RETRIEVED}"
    )


def _labels(inputs: ReportInputs, reports: _Reports, label: _Labelling) -> tuple[Array, Array]:
    """(N, C) true and predicted labels."""
    ids = reports.joined.ids
    if inputs.labels is None:
        truth = label(reports.references)
    else:
        truth = labels_of(
            inputs.labels,
            ids,
            label.names,
            "labels",
            id_column=inputs.id_column,
            unit=reports.joined.unit,
        )
    if inputs.predicted_labels is None:
        return truth, label(reports.predictions)
    there = present(reports.joined)
    predicted = np.zeros_like(truth)
    chosen = [key for key, yes in zip(ids, there, strict=True) if yes]
    table = read_table(inputs.predicted_labels)
    own = inputs.prediction_id_column
    predicted[there] = labels_of(
        inputs.predicted_labels,
        chosen,
        label.names,
        "predicted labels",
        id_column=own if own in table.columns else inputs.id_column,
        unit=reports.joined.unit,
    )
    return truth, predicted


def _label_columns(truth: Array, predicted: Array, names: Sequence[str]) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for i, name in enumerate(names):
        columns[f"true {name}"] = truth[:, i].tolist()
        columns[f"predicted {name}"] = predicted[:, i].tolist()
    return columns


class _Labelling:
    """Labels each different text once: generated reports repeat themselves, floors even more."""

    def __init__(self, labeller: Labeller, names: Sequence[str]) -> None:
        self._labeller = labeller
        self.names = tuple(names)
        self._known: dict[str, Array] = {}

    def __call__(self, texts: Sequence[str]) -> Array:
        """(N, C) of 0 and 1."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            rows = label_matrix(self._labeller.label(new), self.names)
            self._known |= dict(zip(new, rows, strict=True))
        return np.array([self._known[text] for text in texts])


def _labeller(inputs: ReportInputs) -> Labeller:
    if inputs.labeller_weights is not None and inputs.labeller == "radbert":
        from uvlm.text.labelling.radbert import RadBert

        return RadBert(inputs.labeller_weights)
    if inputs.region == "abdomen":
        from uvlm.text.labelling.abdomen import ABDOMEN

        return ABDOMEN
    from uvlm.text.labelling.chest import CHEST

    return CHEST


def _number(count: int, one: str) -> str:
    return f"{count} {one}{'' if count == 1 else 's'}"


def _labels_by(inputs: ReportInputs, labeller: Labeller, asked: Sequence[str]) -> list[str]:
    if not asked or inputs.region != "chest" or inputs.labeller == "radbert":
        return []
    said = labeller.name if inputs.predicted_labels is None else inputs.predicted_labels.name
    return [
        f"Labels of the predictions are by {said}; published values rest on CT-CLIP's RadBERT "
        "classifier, so a difference may be the labeller's."
    ]


def _notes(reports: _Reports) -> list[str]:
    joined, notes = reports.joined, []
    missing = sum(joined.missing)
    if missing:
        notes.append("A study without prediction counts as the empty report.")
    empty = sum(not text for text in reports.predictions) - missing
    if empty:
        notes.append(
            f"{_number(empty, 'predicted report')} without text: it counts, and shares no word."
        )
    for what, texts in (("reference", reports.references), ("predicted", reports.predictions)):
        if foreign := sum(bool(text) and not is_english(text) for text in texts):
            number = _number(foreign, f"{what} report")
            notes.append(f"{number} not in English; rules find no label there.")
    same = sum(map(str.__eq__, reports.references, reports.predictions))
    if 2 * same > len(joined):
        notes.append(
            f"{same} of {len(joined)} predictions are their own reference, word for word: check "
            "that the predictions are not the references."
        )
    return notes
