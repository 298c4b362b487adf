"""Clinical efficacy: do the labels of generated reports agree with those of the true ones?

Five protocols over the same counts. They differ in the classes, in the average, and in what a class
without a positive study is worth; `PROTOCOLS` says how. All are functions of counts summed over
studies, so a resample costs one matrix product.

Shapes: N studies, C classes, (..., 4, C) counts as in `label_counts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from uvlm.errors import InputError
from uvlm.evaluation.labels.arrays import Array, check_protocols, label_array, listed, names_where
from uvlm.evaluation.labels.counts import confusion, crg, divide, precision_recall_f1
from uvlm.evaluation.measure import Measure, sum_measure
from uvlm.evaluation.protocol_info import ProtocolInfo
from uvlm.registry import CT_RATE_LABELS

__all__ = ["NO_FINDING", "PROTOCOLS", "label_measures"]

NO_FINDING = "No finding"

PROTOCOLS: tuple[ProtocolInfo, ...] = (
    ProtocolInfo(
        name="ce_f1@vlm3d-macro18",
        task="report",
        about="Both reports of a study are labelled with the 18 classes of CT-RATE. F1, precision, "
        "recall and accuracy of each class, and the plain mean of the 18 values of each: the mean "
        "F1 is not the F1 of mean precision and recall. A ratio without cases (no positive study, "
        "or none predicted) is 0 and counts in the mean, as scikit-learn's zero_division=0; so a "
        "class without positive studies lowers the score. A missing report has every label 0. "
        "Published values take the labels from CT-CLIP's RadBERT classifier; a result says whose "
        "its own are.",
        source="VLM3D-Dockers, ct_challenges/reportgen_evaluation/src/calc_scores.py; the same in "
        "BTB3D, U-VLM and EXACT",
    ),
    ProtocolInfo(
        name="ce_f1@radeval-macro19",
        task="report",
        about='The 18 classes and a 19th, "No finding", which is 1 where all others are 0. Macro '
        "(plain mean of 19), micro (counts summed) and weighted (by positive studies) F1, "
        "precision and recall; accuracy is the share of studies whose 19 labels are all right. A "
        "ratio without cases is 0 and counts. RadEval calls a class present above a probability of "
        "0.5, CT-CLIP from 0.5; labels given here are taken as they are. A study with unknown "
        "labels is compared on the known ones.",
        source="RadEval, metrics/f1Radbert_ct/f1Radbert_ct.py (classification_report of "
        "scikit-learn, zero_division=0)",
    ),
    ProtocolInfo(
        name="ce_f1@ctclip-weighted",
        task="report",
        about="F1, precision and recall of each class, averaged with its number of positive "
        "studies as weight. A class without positive studies has weight 0: what is falsely "
        "predicted for it does not show. Without any positive study the score does not exist.",
        source="CT-CLIP, text_classifier/eval.py",
    ),
    ProtocolInfo(
        name="ce_f1@micro",
        task="report",
        about="F1, precision, recall and accuracy of the counts summed over all classes and "
        "studies; frequent classes decide. A ratio without cases is 0. The score of a single study "
        "is over its classes, and does not exist where nothing is there and nothing predicted.",
        source="micro average as in scikit-learn's f1_score",
    ),
    ProtocolInfo(
        name="crg@vlm3d",
        task="report",
        about="CRG = U / (2U - s) with X labels in all, A of them positive, r = (X - A) / 2A, "
        "U = (X - A) / 2 and s = r TP - r FN - FP, counts summed over classes and studies. It is "
        "1 / (3 - 2J) with J = TP / A - FP / (X - A), Youden's index of the summed counts: it "
        "orders systems as J does. Labels all 0 and labels all 1 both give 1/3, perfect ones 1, "
        "reversed ones 1/5. Without a positive label it does not exist; with positive ones only "
        "it is 0, as in the challenge's code.",
        source="VLM3D-Dockers, ct_challenges/reportgen_evaluation/src/crg_score.py",
    ),
)


def label_measures(
    truth: Any, predicted: Any, names: Sequence[str], protocols: Sequence[str] | None = None
) -> list[Measure]:
    """Scores of predicted labels.

    Args:
        truth: (N, C) of 0, 1 or nan for unknown
        predicted: (N, C) of 0 or 1, studies and classes in the same order
        names: of the classes
        protocols: names from `PROTOCOLS`; None for all

    Raises:
        InputError: the shapes differ, a value is no label, no label is known, or a protocol is
            unknown.
    """
    known = [info.name for info in PROTOCOLS]
    asked = known if protocols is None else list(protocols)
    check_protocols(asked, known)
    true = label_array(truth, names, "true labels")
    said = label_array(predicted, names, "predicted labels", unknown=False)
    if true.shape != said.shape:
        raise InputError(
            f"labels of {len(true)} studies and predictions of {len(said)}; both need the same."
        )
    answered = ~np.isnan(true).all(axis=0)
    if not answered.any():
        raise InputError("true labels: none is known. Give 0 or 1 in at least one class.")
    kept = names_where(names, answered)
    notes = _notes(true, names)
    true, said = true[:, answered], said[:, answered]
    return [
        _MAKERS[name](_Labels(protocol=name, truth=true, predicted=said, names=kept, notes=notes))
        for name in asked
    ]


@dataclass(frozen=True, kw_only=True)
class _Labels:
    """What a protocol is computed from."""

    protocol: str
    truth: Array
    predicted: Array
    names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def counts(self) -> Array:
        """(N, 4C)"""
        counts = confusion(self.truth, self.predicted)
        return counts.reshape(len(counts), -1)

    def empty(self, consequence: str) -> tuple[str, ...]:
        """A note about the classes without positive studies, if there are any."""
        none = names_where(self.names, ~(self.truth == 1).any(axis=0))
        return (f"No positive study, {consequence}: {listed(none)}.",) if none else ()

    def eighteen(self) -> tuple[str, ...]:
        """A note if the classes are others than the protocol's."""
        if set(self.names) == set(CT_RATE_LABELS):
            return ()
        return (
            f"Over {len(self.names)} classes ({listed(self.names)}), not the 18 of CT-RATE: not to "
            "be compared with values published over those.",
        )


def _split(sums: Array) -> Array:
    """(..., 4C) -> (..., 4, C)"""
    return sums.reshape(*sums.shape[:-1], 4, -1)


def _vlm3d(labels: _Labels) -> Measure:
    def statistic(sums: Array) -> Array:
        counts = _split(sums)
        precision, recall, f1 = precision_recall_f1(counts)
        accuracy = divide(counts[..., 0, :] + counts[..., 3, :], counts.sum(axis=-2))
        kinds = (f1, precision, recall, accuracy)
        means = np.stack([kind.mean(axis=-1) for kind in kinds], axis=-1)
        return np.concatenate([means, *kinds], axis=-1)

    kinds = ("F1", "precision", "recall", "accuracy")
    rows = tuple(f"{kind}: {name}" for kind in kinds for name in labels.names)
    notes = (*labels.notes, *labels.eighteen(), *labels.empty("an F1 of 0 that counts in the mean"))
    return sum_measure(
        labels.protocol, (*kinds, *rows), labels.counts, statistic, per_study=False, notes=notes
    )


def _radeval(labels: _Labels) -> Measure:
    notes = (*labels.notes, *labels.eighteen())
    if NO_FINDING not in labels.names:
        labels = replace(
            labels,
            truth=_with_no_finding(labels.truth),
            predicted=_with_no_finding(labels.predicted),
            names=(*labels.names, NO_FINDING),
        )
    exact = ((labels.truth == labels.predicted) | np.isnan(labels.truth)).all(axis=1)
    table = np.column_stack([labels.counts, exact, np.ones(len(exact))])
    column = labels.names.index(NO_FINDING)

    def statistic(sums: Array) -> Array:
        counts = _split(sums[..., :-2])
        per_class = precision_recall_f1(counts)
        weight = counts[..., 0, :] + counts[..., 2, :]
        macro = [values.mean(axis=-1) for values in per_class]
        micro = [v[..., 0] for v in precision_recall_f1(counts.sum(axis=-1, keepdims=True))]
        weighted = [_weighted(values, weight) for values in per_class]
        accuracy = divide(sums[..., -2], sums[..., -1], float("nan"))
        no_finding = [values[..., column] for values in per_class]
        return np.stack([*macro, *micro, *weighted, accuracy, *no_finding], axis=-1)

    kinds = ("precision", "recall", "F1")
    averages = tuple(f"{mean} {kind}" for mean in ("macro", "micro", "weighted") for kind in kinds)
    rows = tuple(f"{kind}: {NO_FINDING}" for kind in kinds)
    return sum_measure(
        labels.protocol,
        (*averages, "accuracy", *rows),
        table,
        statistic,
        per_study=False,
        notes=(*notes, *labels.empty("an F1 of 0 that counts in the macro mean")),
    )


def _with_no_finding(labels: Array) -> Array:
    """Labels and a last column: 1 where all are 0, unknown where an unknown one could be the 1."""
    found, unknown = (labels == 1).any(axis=1), np.isnan(labels).any(axis=1)
    none = np.where(found, 0.0, np.where(unknown, np.nan, 1.0))
    return np.column_stack([labels, none])


def _weighted(values: Array, weight: Array, empty: float = 0.0) -> Array:
    return divide((values * weight).sum(axis=-1), weight.sum(axis=-1), empty)


def _ctclip(labels: _Labels) -> Measure:
    def statistic(sums: Array) -> Array:
        counts = _split(sums)
        precision, recall, f1 = precision_recall_f1(counts)
        weight = counts[..., 0, :] + counts[..., 2, :]
        nan = float("nan")
        return np.stack([_weighted(v, weight, nan) for v in (f1, precision, recall)], axis=-1)

    notes = (*labels.notes, *labels.empty("left out by its weight of 0"))
    names = ("F1", "precision", "recall")
    return sum_measure(
        labels.protocol, names, labels.counts, statistic, per_study=False, notes=notes
    )


def _micro(labels: _Labels) -> Measure:
    def statistic(sums: Array, empty: float = 0.0) -> Array:
        counts = _split(sums).sum(axis=-1, keepdims=True)
        precision, recall, f1 = precision_recall_f1(counts, empty)
        accuracy = divide(counts[..., 0, :] + counts[..., 3, :], counts.sum(axis=-2), empty)
        return np.concatenate([f1, precision, recall, accuracy], axis=-1)

    names = ("F1", "precision", "recall", "accuracy")
    measure = sum_measure(
        labels.protocol, names, labels.counts, statistic, per_study=False, notes=labels.notes
    )
    return replace(measure, per_study=statistic(labels.counts, float("nan")))


def _crg(labels: _Labels) -> Measure:
    def statistic(sums: Array) -> Array:
        counts = _split(sums).sum(axis=-1)
        tp, fp, fn, tn = (counts[..., i] for i in range(4))
        sensitivity = divide(tp, tp + fn, float("nan"))
        specificity = divide(tn, tn + fp, float("nan"))
        youden = sensitivity + specificity - 1
        return np.stack([crg(counts), youden, sensitivity, specificity], axis=-1)

    notes = (*labels.notes, *labels.eighteen())
    if not (labels.truth == 1).any():
        notes = (*notes, "No positive label: CRG does not exist.")
    names = ("CRG", "Youden J", "sensitivity", "specificity")
    return sum_measure(
        labels.protocol, names, labels.counts, statistic, per_study=False, notes=notes
    )


_MAKERS: dict[str, Callable[[_Labels], Measure]] = {
    "ce_f1@vlm3d-macro18": _vlm3d,
    "ce_f1@radeval-macro19": _radeval,
    "ce_f1@ctclip-weighted": _ctclip,
    "ce_f1@micro": _micro,
    "crg@vlm3d": _crg,
}


def _notes(truth: Array, names: Sequence[str]) -> tuple[str, ...]:
    """About labels that are not known."""
    unknown = np.isnan(truth)
    never = names_where(names, unknown.all(axis=0))
    notes = []
    if never:
        notes.append(f"Left out, known in no study: {listed(never)}.")
    if rest := int(unknown.sum()) - len(never) * len(truth):
        notes.append(f"{rest} unknown labels are left out of the counts.")
    return tuple(notes)
