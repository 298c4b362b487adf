"""What a class head's probabilities mean, found on the validation studies at the end of a run.

One temperature makes them agree with how often a finding is there; three operating points per class
say from where on the head is to be believed when it contradicts a report. A temperature changes
neither the order of studies nor who is above 0.5.

Shapes: N studies, C classes.
"""

from __future__ import annotations

import logging
from math import isnan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uvlm.data.batching import validation_batches
from uvlm.data.dataset import StudyDataset
from uvlm.evaluation.labels.calibration import fit_temperature
from uvlm.evaluation.labels.thresholds import choose_thresholds
from uvlm.models.bundle_files import Calibration, OperatingPoint
from uvlm.models.joint import JointModel
from uvlm.models.uvlm import ClassificationModel
from uvlm.training.session import Session

__all__ = ["calibrate", "fit_calibration", "operating_point"]

log = logging.getLogger(__name__)

FEWEST = 10
"""Positive, and negative, validation labels that a temperature and a class's operating points need:
a bound that none of ten positive studies passes is passed by a quarter of all at the most."""

MISSED = 0.05
"""Share of the positive studies that may lie where the head denies."""

RULED_OUT = 0.25
"""Share of the negative studies that must lie there, or the head tells nothing by denying."""

PRECISION = 0.9
"""Share of positives among the studies of which the head is confident."""

SURE = 5
"""Positive studies that must be among them."""


def calibrate(session: Session, model: nn.Module) -> Calibration | None:
    """One pass of `model`, which is in eval mode afterwards, over all validation studies.

    Returns:
        None, with a warning, where they are too few; None for a model without a class head.
    """
    model.eval()
    if isinstance(model, JointModel):
        model = model.parts()["classification"]
    if not isinstance(model, ClassificationModel):
        return None
    truth, probabilities = _predictions(session, model)
    return fit_calibration(truth, probabilities, model.config.classes)


@torch.no_grad()
def _predictions(
    session: Session, model: ClassificationModel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, C) labels, nan for unknown, and probabilities."""
    # In full precision, as studies are classified later.
    device = session.accelerator.device
    model.to(device)
    rows, spec = session.studies.val, session.studies.spec
    studies = StudyDataset(rows, session.config.data, spec, need=("labels",))
    truth: list[Tensor] = []
    probabilities: list[Tensor] = []
    for batch in validation_batches(studies, len(rows)):
        logits_BC = model(batch["image"].to(device)).double()
        probabilities.append(logits_BC.sigmoid().cpu())
        truth.append(batch["labels"].double())
    return torch.cat(truth).numpy(), torch.cat(probabilities).numpy()


def fit_calibration(truth: Any, probabilities: Any, names: tuple[str, ...]) -> Calibration | None:
    """Temperature and operating points; None, with a warning, where too few labels are known.

    Args:
        truth: (N, C) of 0, 1 or nan for unknown
        probabilities: (N, C), uncalibrated
    """
    fewest = min(int((truth == value).sum()) for value in (0, 1))
    if fewest < FEWEST:
        log.warning(
            "probabilities stay uncalibrated: validation has only %d labels of one kind, %d are "
            "needed",
            fewest,
            FEWEST,
        )
        return None
    temperature = fit_temperature(truth, probabilities, names)
    if temperature.at_limit:
        log.warning(
            "probabilities stay uncalibrated: they agree, or disagree, completely with the labels "
            "of %d validation studies",
            len(truth),
        )
        return None
    values = temperature.apply(probabilities)
    thresholds = choose_thresholds(truth, values, names)
    columns = zip(names, truth.T, values.T, thresholds.tolist(), strict=True)
    points = tuple(operating_point(*column) for column in columns)
    log.info(
        "calibrated on %d studies: temperature %.3f, calibration error %.3f -> %.3f, %d of %d "
        "classes can contradict a report",
        len(truth),
        temperature.value,
        temperature.ece_before,
        temperature.ece_after,
        sum(point.low is not None or point.high is not None for point in points),
        len(points),
    )
    return Calibration(temperature=temperature.value, studies=len(truth), points=points)


def operating_point(
    label: str,
    truth: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    threshold: float,
) -> OperatingPoint:
    """Where a head denies and where it is confident; low < threshold <= high, and a half lies
    between them too: nobody would call 0.4 confident, whatever few validation studies say.

    Args:
        truth, probabilities: (N,)
        threshold: the class's best one, nan where there is none
    """
    positive, negative = probabilities[truth == 1], probabilities[truth == 0]
    low = high = None
    if min(len(positive), len(negative)) >= FEWEST:
        low = _low(positive, negative[negative < min(threshold, 0.5)], len(negative))
        high = _high(positive, negative, max(threshold, 0.5))
    return OperatingPoint(
        label=label,
        threshold=None if isnan(threshold) else threshold,
        low=low,
        high=high,
        positives=len(positive),
        studies=len(positive) + len(negative),
    )


def _low(
    positive: NDArray[np.float64], candidates: NDArray[np.float64], negatives: int
) -> float | None:
    """The highest candidate with few positives at or below it, if many negatives are there."""
    ordered, values = np.sort(positive), np.sort(candidates)
    missed = np.searchsorted(ordered, values, side="right") / len(positive)
    count = int((missed <= MISSED).sum())
    return float(values[count - 1]) if count and count >= RULED_OUT * negatives else None


def _high(
    positive: NDArray[np.float64], negative: NDArray[np.float64], least: float
) -> float | None:
    """The lowest positive, `least` or more, from which on nearly all are positive."""
    values = np.sort(positive[positive >= least])
    hits = np.arange(len(values), 0, -1)
    false = len(negative) - np.searchsorted(np.sort(negative), values, side="left")
    sure = (hits / (hits + false) >= PRECISION) & (hits >= SURE)
    return float(values[sure.argmax()]) if sure.any() else None
