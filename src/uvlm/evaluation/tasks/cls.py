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
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS

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
    there = present(joined)
    chosen = _validated(inputs, names)
    check_apart(chosen.ids, joined.ids)
    check_apart(chosen.patients, joined.patients, "patients")
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
            {
                "missing": inputs.missing,
                "logits": inputs.logits,
                "classes": len(names),
                "class_names": ", ".join(names),
            },
        ),
        notes=(
            *joined.notes,
            *_notes(joined),
            *([] if inputs.label_columns else _classes_left_out(names)),
            *_suspicious(inputs, truth[there], values[there]),
        ),
        skipped=skipped,
        columns=_study_columns(joined, truth, values, names),
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
        id_column=inputs.id_column,
        prediction_id_column=inputs.prediction_id_column,
        patient_column=inputs.patient_column,
        logits=inputs.logits,
    )
    references, predictions = own.read()
    references.table.require(names)
    predictions.table.require(names)
    joined = own.join(references, predictions)
    if lacking := [key for key, no in zip(joined.ids, joined.missing, strict=True) if no]:
        raise InputError.about(
            inputs.validation_predictions,
            f"no prediction of {len(lacking)} of {len(joined)} validation studies, such as "
            f"{lacking[0]!r}",
            "Predict them, or leave them out of --validation-references.",
        )
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
    # Chosen thresholds and temperature belong to the system's own probabilities; the calibration
    # error of a constant is another kind of number, see `probability_scores.NO_INTERVAL`.
    without = (*NEED_VALIDATION, "ece@15")
    usual = [name for name in wanted if name not in without]
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


def _classes_left_out(names: tuple[str, ...]) -> list[str]:
    """A class of a known set that most of whose others were found is missed by name."""
    notes = []
    for what, known in (("CT-RATE", CT_RATE_LABELS), ("AbdomenAtlas", ABDOMEN_LABELS)):
        lacking = [name for name in known if name not in names]
        if lacking and 2 * len(lacking) <= len(known):
            notes.append(
                f"{len(known) - len(lacking)} of {what}'s {len(known)} classes are scored; not in "
                f"both tables: {', '.join(lacking)}. Means are of the scored ones."
            )
    return notes


def _suspicious(inputs: ClassifierInputs, truth: Array, values: Array) -> list[str]:
    """(N, C) of the studies with a prediction: what looks like another table than was meant."""
    one = 1 / (1 + np.exp(-1.0))  # the logit 1
    if inputs.logits and ((values >= 0.5) & (values <= one)).all():
        return [
            "Every logit is from 0 to 1: check that the predictions are not probabilities, which "
            "are read without --logits."
        ]
    same = int((np.isnan(truth) | (values == truth)).all(axis=1).sum())
    if same and 10 * same >= 9 * len(truth):
        return [
            f"{same} of {len(truth)} predictions are their own reference, 0 or 1 as the labels: "
            "check that the predictions are not the references."
        ]
    return []


def _study_columns(
    joined: Joined, truth: Array, values: Array, names: tuple[str, ...]
) -> dict[str, Any]:
    """Labels and probabilities; none where there is no prediction."""
    given = np.where(present(joined)[:, None], values, np.nan)
    columns: dict[str, Any] = {"missing": list(joined.missing)}
    for i, name in enumerate(names):
        columns[f"true {name}"] = truth[:, i].tolist()
        columns[f"probability {name}"] = given[:, i].tolist()
    return columns


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
