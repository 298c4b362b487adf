"""AUROC and F1 per label, unknown labels left out.

Protocols `auroc` (area under the ROC curve) and `f1@0.5` (positive from a probability of 0.5).
Both macro means are plain means over the labels with at least one positive and one negative study;
the others are named in `skipped`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError, MissingExtraError

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
        MissingExtraError: scikit-learn is not installed.
        InputError: the shapes do not match, or a probability is not a number from 0 to 1.
    """
    try:
        from sklearn.metrics import f1_score, roc_auc_score
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "metrics") from error
    _check(truth, probabilities, names)
    scores, skipped = [], []
    for column, name in enumerate(names):
        known = ~np.isnan(truth[:, column])
        labels, values = truth[known, column].astype(int), probabilities[known, column]
        if len(np.unique(labels)) < 2:
            skipped.append(name)
            continue
        scores.append(
            LabelScore(
                name=name,
                auroc=float(roc_auc_score(labels, values)),
                f1=float(f1_score(labels, values >= 0.5, zero_division=0)),
                positives=int(labels.sum()),
                known=len(labels),
            )
        )
    return ClassificationScores(labels=tuple(scores), skipped=tuple(skipped))


def _check(truth: NDArray[Any], probabilities: NDArray[Any], names: Sequence[str]) -> None:
    if truth.shape != probabilities.shape or truth.shape[1:] != (len(names),):
        raise InputError(
            f"labels {truth.shape} and probabilities {probabilities.shape} must both be (studies, "
            f"{len(names)}), one column per name."
        )
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise InputError("a probability is not a number from 0 to 1. Give sigmoid outputs.")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
