"""Scores of a classifier's probabilities: ranks, labels at a threshold, calibration.

Means over classes are plain means of the classes that have both a positive and a negative study;
the others are named in the notes. In a resample without one of the two a class is left out too.

Shapes: N studies, C classes, R weightings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uvlm.errors import InputError
from uvlm.evaluation.labels.arrays import Array, check_protocols, label_array, probability_array
from uvlm.evaluation.labels.calibration import Temperature
from uvlm.evaluation.labels.probability_scores import MAKERS, ProbabilityData
from uvlm.evaluation.measure import Measure
from uvlm.evaluation.protocol_info import ProtocolInfo

__all__ = ["PROTOCOLS", "probability_measures"]

_BOTH = (
    "Mean over the classes with both positive and negative studies; the others are named. Unknown "
    "labels are left out per class."
)

PROTOCOLS: tuple[ProtocolInfo, ...] = (
    ProtocolInfo(
        name="auroc",
        task="cls",
        about="Area under the ROC curve of each class: the share of pairs of a positive and a "
        f"negative study that the probabilities put in order, ties half. {_BOTH}",
        source="Hanley and McNeil 1982; scikit-learn's roc_auc_score",
    ),
    ProtocolInfo(
        name="average_precision",
        task="cls",
        about="Mean precision at the probability of each positive study, without interpolation. "
        f"Its floor is the share of positive studies, not one half. {_BOTH}",
        source="scikit-learn's average_precision_score",
    ),
    ProtocolInfo(
        name="f1@0.5",
        task="cls",
        about=f"F1, precision and recall with a class present from p >= 0.5. {_BOTH} A class of "
        "which nothing is rightly predicted has F1 0.",
        source="this project; the threshold of CT-CLIP's report classifier",
    ),
    ProtocolInfo(
        name="f1@validation",
        task="cls",
        about="F1, precision and recall with a class present from the threshold that has the "
        "highest F1 for it on validation studies (the highest of several; 0.5 where the "
        "validation studies have no positive one). Studies that are scored may not be among them. "
        + _BOTH,
        source="Lipton et al. 2014, Thresholding classifiers to maximize F1 score",
        needs="other studies: --validation-references and --validation-predictions",
    ),
    ProtocolInfo(
        name="f1@ctclip-legacy",
        task="cls",
        about="Only to repeat published numbers: too high, because the threshold of each class is "
        "chosen on the very studies that are scored (of 100 thresholds that nearest to the ROC "
        "curve's corner), and because its F1 is the mean of the F1 of present and of absent, "
        "weighted by their studies, so that a class that is never predicted scores high if it is "
        "rare. Accuracy and precision at the same thresholds. Resamples keep the thresholds. "
        + _BOTH,
        source="CT-CLIP, scripts/bootstrap_values.py; fvlm, calc_metrics.py",
        default=False,
    ),
    ProtocolInfo(
        name="ece@15",
        task="cls",
        about="Expected calibration error, lower is better: studies in 15 bins of equal width of "
        "their probability, mean distance between the mean probability and the share of positive "
        "studies of a bin, weighted by its studies. Of each class, their mean, and of all classes "
        "in one set of bins. Few studies make it too high, resamples even more: it has no "
        "interval and no floor.",
        source="Guo et al. 2017, On calibration of modern neural networks, Eq. 5",
    ),
    ProtocolInfo(
        name="ece@temperature",
        task="cls",
        about="ece@15 after the logits are divided by one temperature for all classes that was "
        "fitted on validation studies (least negative log-likelihood), beside that before. Ranks, "
        "and so AUROC, do not change.",
        source="Guo et al. 2017, section 4.2",
        needs="other studies: --validation-references and --validation-predictions",
    ),
    ProtocolInfo(
        name="brier",
        task="cls",
        about="Mean squared distance between probability and label, lower is better, of each "
        "class and their mean. Always saying 0.5 gives 0.25; always saying the share q of "
        "positive studies gives q (1 - q).",
        source="Brier 1950",
    ),
)


def probability_measures(
    truth: Any,
    probabilities: Any,
    names: Sequence[str],
    protocols: Sequence[str] | None = None,
    thresholds: Any = None,
    temperature: Temperature | None = None,
) -> list[Measure]:
    """Scores of a classifier.

    Args:
        truth: (N, C) of 0, 1 or nan for unknown
        probabilities: (N, C), studies and classes in the same order
        names: of the classes
        protocols: names from `PROTOCOLS`; None for the default ones for which all is given
        thresholds: (C,) from `choose_thresholds` on validation studies; nan stands for 0.5
        temperature: from `fit_temperature` on validation studies

    Raises:
        InputError: the shapes differ, a value is no label or probability, a protocol is unknown or
            lacks what it needs.
    """
    true = label_array(truth, names)
    given = {
        "f1@validation": thresholds is not None,
        "ece@temperature": temperature is not None,
    }
    asked = (
        [info.name for info in PROTOCOLS if info.default and given.get(info.name, True)]
        if protocols is None
        else list(protocols)
    )
    check_protocols(asked, [info.name for info in PROTOCOLS])
    for name in asked:
        if not given.get(name, True):
            raise InputError(
                f"protocol {name} needs validation studies: give their labels and probabilities."
            )
    data = ProbabilityData(
        truth=true,
        probabilities=probability_array(probabilities, names, len(true)),
        names=tuple(names),
        thresholds=None if thresholds is None else _threshold_array(thresholds, names),
        temperature=temperature,
    )
    return [MAKERS[name](name, data) for name in asked]


def _threshold_array(thresholds: Any, names: Sequence[str]) -> Array:
    found = np.asarray(thresholds, dtype=np.float64)
    if found.shape != (len(names),) or ((found < 0) | (found > 1)).any():
        raise InputError(
            f"thresholds of shape {found.shape}; give one from 0 to 1 for each of {len(names)} "
            "classes."
        )
    return found
