"""Probabilities of abnormalities against labels.

A study without prediction gets, for every class, the probability 1 where the label is 0 and 0 where
it is 1: it is wrong under every protocol, whatever the threshold, so that leaving studies out never
pays. Thresholds and temperature are chosen on validation studies, never on those scored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.joining import Joined, Keyed
from uvlm.evaluation.labels.calibration import Temperature, fit_temperature, reliability
from uvlm.evaluation.labels.probabilities import probability_measures
from uvlm.evaluation.labels.thresholds import check_apart, choose_thresholds
from uvlm.evaluation.measure import Measure
from uvlm.evaluation.protocols import chosen_protocols
from uvlm.evaluation.results import Chart, Result, build_result
from uvlm.evaluation.tables import find_labels, label_rows, probability_rows
from uvlm.evaluation.tasks.common import Inputs, about, opposite, present

__all__ = ["ClassifierInputs", "evaluate_classifier"]

TASK = "cls"
NEED_VALIDATION = ("f1@validation", "ece@temperature")

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ClassifierInputs(Inputs):
    """Options of this task."""

    label_columns: tuple[str, ...] = ()
    """Empty: found, see `find_labels`."""

    logits: bool = False
    """Whether predictions are logits."""

    validation_references: Path | None = None
    validation_predictions: Path | None = None
    """Both or none; other studies than those scored."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.validation_references is None) != (self.validation_predictions is None):
            raise InputError(
                "validation needs both --validation-references and --validation-predictions."
            )


@dataclass(frozen=True)
class _Chosen:
    """What validation studies decide."""

    thresholds: Array | None = None
    temperature: Temperature | None = None
    patients: tuple[str, ...] = ()
    ids: tuple[str, ...] = field(default=())


def evaluate_classifier(inputs: ClassifierInputs) -> Result:
    """Score probabilities.

    Raises:
        InputError: what is wrong in a table, named by file, row and column.
    """
    references, predictions = inputs.read()
    names = find_labels(references.table, predictions.table, inputs.label_columns)
    joined = inputs.join(references, predictions)
    truth, values = _values(inputs, joined, references, predictions, names)
    chosen = _validated(inputs, names)
    check_apart(chosen.ids, joined.ids)
    check_apart(chosen.patients, joined.patients)
    wanted, skipped = _protocols(inputs)
    measures = probability_measures(
        truth, values, names, wanted, chosen.thresholds, chosen.temperature
    )
    curves = reliability(truth, values, names)
    return build_result(
        task=TASK,
        ids=joined.ids,
        patients=joined.patients,
        measures=measures,
        floors=_floors(truth, names, wanted, chosen),
        about=about(
            inputs,
            joined,
            ("validation_references", "validation_predictions"),
            {"classes": len(names)},
        ),
        notes=(*joined.notes, *_notes(joined)),
        skipped=skipped,
        columns={"missing": list(joined.missing)},
        charts=(_reliability_chart(curves.together()),),
        resamples=inputs.resamples,
        seed=inputs.seed,
    )


def _values(
    inputs: ClassifierInputs,
    joined: Joined,
    references: Keyed,
    predictions: Keyed,
    names: tuple[str, ...],
) -> tuple[Array, Array]:
    """(N, C) labels and probabilities."""
    truth = label_rows(references.table, joined.references, names)
    given = [found for found in joined.predictions if found is not None]
    values = opposite(truth)
    values[present(joined)] = probability_rows(
        predictions.table, given, names, logits=inputs.logits
    )
    return truth, values


def _validated(inputs: ClassifierInputs, names: tuple[str, ...]) -> _Chosen:
    if inputs.validation_references is None or inputs.validation_predictions is None:
        return _Chosen()
    own = ClassifierInputs(
        references=inputs.validation_references,
        predictions=inputs.validation_predictions,
        unit=inputs.unit,
        missing="refuse",
        id_column=inputs.id_column,
        prediction_id_column=inputs.prediction_id_column,
        patient_column=inputs.patient_column,
        logits=inputs.logits,
    )
    references, predictions = own.read()
    references.table.require(names)
    predictions.table.require(names)
    joined = own.join(references, predictions)
    truth, values = _values(own, joined, references, predictions, names)
    return _Chosen(
        choose_thresholds(truth, values, names),
        fit_temperature(truth, values, names),
        joined.patients,
        joined.ids,
    )


def _protocols(inputs: ClassifierInputs) -> tuple[list[str], dict[str, str]]:
    asked = chosen_protocols(TASK, inputs.protocols)
    if inputs.validation_references is not None:
        return list(asked), {}
    why = "needs --validation-references and --validation-predictions"
    skipped = {name: why for name in asked if name in NEED_VALIDATION}
    return [name for name in asked if name not in skipped], skipped


def _floors(
    truth: Array, names: tuple[str, ...], wanted: list[str], chosen: _Chosen
) -> dict[str, list[Measure]]:
    """Two classifiers that look at nothing."""
    known = np.maximum((~np.isnan(truth)).sum(axis=0), 1)
    share = np.nansum(truth, axis=0) / known
    constant: dict[str, Any] = {
        "all present": np.ones_like(truth),
        "share of positives": np.broadcast_to(share, truth.shape),
    }
    # Chosen thresholds and temperature belong to the system's own probabilities.
    usual = [name for name in wanted if name not in NEED_VALIDATION]
    return {
        name: probability_measures(truth, values, names, usual) for name, values in constant.items()
    }


def _notes(joined: Joined) -> list[str]:
    notes = ['"Share of positives" is the constant probability that fits the scored labels best.']
    if any(joined.missing):
        notes.append(
            "A study without prediction counts as the opposite of its labels: probability 1 where "
            "the label is 0, and 0 where it is 1."
        )
    return notes


def _reliability_chart(curve: Any) -> Chart:
    known = curve.counts[0] > 0
    points = (curve.predicted[0][known].tolist(), curve.observed[0][known].tolist())
    return Chart(
        title="Reliability",
        x_label="mean probability of a bin",
        y_label="share of positive labels",
        lines={curve.names[0]: points},
        diagonal=True,
        note="All classes in one set of 15 bins; on the dashed line probabilities are what they "
        "say.",
    )
