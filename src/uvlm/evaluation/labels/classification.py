"""AUROC and F1 per label, unknown labels left out.

Protocols `auroc` (area under the ROC curve) and `f1@0.5` (positive from a probability of 0.5).
Both macro means are plain means over the labels with at least one positive and one negative study;
the others are named in `skipped`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.evaluation.labels.probabilities import probability_measures

__all__ = ["ClassificationScores", "LabelScore", "classification_scores"]


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """One label over the studies where it is known."""

    name: str
    auroc: float
    f1: float
    positives: int
    known: int


@dataclass(frozen=True, kw_only=True)
class ClassificationScores:
    """Per label and macro."""

    labels: tuple[LabelScore, ...]
    skipped: tuple[str, ...]
    """Labels whose known studies are all positive or all negative, or that no study knows."""

    @property
    def macro_auroc(self) -> float:
        return _mean([label.auroc for label in self.labels])

    @property
    def macro_f1(self) -> float:
        return _mean([label.f1 for label in self.labels])


def classification_scores(
    truth: NDArray[Any], probabilities: NDArray[Any], names: Sequence[str]
) -> ClassificationScores:
    """Score (N, C) probabilities against (N, C) labels of 0, 1 or nan (unknown).

    Raises:
        InputError: the shapes do not match, a label is none, or a probability is not a number from
            0 to 1.
    """
    measures = probability_measures(truth, probabilities, names, ("auroc", "f1@0.5"))
    values = [dict(zip(m.names, m.values(len(truth)), strict=True)) for m in measures]
    scores, skipped = [], []
    for column, name in enumerate(names):
        auroc, f1 = values[0][f"AUROC: {name}"], values[1][f"F1: {name}"]
        if math.isnan(auroc):
            skipped.append(name)
            continue
        scores.append(
            LabelScore(
                name=name,
                auroc=float(auroc),
                f1=float(f1),
                positives=int((truth[:, column] == 1).sum()),
                known=int((~np.isnan(truth[:, column])).sum()),
            )
        )
    return ClassificationScores(labels=tuple(scores), skipped=tuple(skipped))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
