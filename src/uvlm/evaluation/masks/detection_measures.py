"""How well lesions are detected, study by study and organ by organ (Table 3 of the paper).

Shapes: N studies, C labels (organs), (..., 4, C) counts as in `label_counts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uvlm.errors import InputError
from uvlm.evaluation.labels.arrays import Array, label_array, listed, names_where
from uvlm.evaluation.labels.counts import confusion, divide, nan_mean
from uvlm.evaluation.measure import Measure, sum_measure
from uvlm.evaluation.protocol_info import ProtocolInfo
from uvlm.evaluation.rates import EMPTY, detection_rates

__all__ = ["PROTOCOLS", "detection_measures"]

SCORES = (
    "Every study and label is one answer, present or not. F1, precision, recall (the same as "
    "sensitivity), specificity per organ over all studies, and the plain mean over organs of each. "
    f"{EMPTY} Specificity does not exist without negative studies. Unknown labels are left out."
)
EROSION = (
    "resampled to 1 mm (nearest voxel) and eroded by 3x3x3, a lesion is present if more than a "
    "minimum is left"
)

PROTOCOLS: tuple[ProtocolInfo, ...] = (
    ProtocolInfo(
        name="detect@masks-uvlm",
        task="detect",
        about=f"From predicted masks by the rule of U-VLM's labels: {EROSION}, here of 0 mm^3; "
        f"wherever it lies. {SCORES}",
        source="U-VLM, preprocess_abdomen_cls_report.py; its Table 3 itself has no public code",
    ),
    ProtocolInfo(
        name="detect@masks-radgpt",
        task="detect",
        about="From predicted masks as RadGPT judges its segmenters: connected pieces of a lesion "
        f"that touch no voxel of its organ are removed; {EROSION}, of 30 mm^3, or of one per organ "
        "that is given, or chosen on a validation file by the best sum of sensitivity and "
        "specificity (30 mm^3 where that file lacks positive or negative studies). RadGPT has "
        "organ masks that contain their lesions and removes single voxels outside of them; in one "
        f"label map the two exclude one another, hence the rule of touch. {SCORES}",
        source="RadGPT (arXiv:2501.04678), image-level evaluation of segmentations, "
        "Segmentation2BinaryLabels.py",
    ),
    ProtocolInfo(
        name="detect@reports",
        task="detect",
        about="From generated reports, read by rules (`uvlm label --region abdomen`) for liver, "
        "kidney and pancreas lesions; the truth is a table of labels, masks, or the true reports, "
        "read likewise. An empty report counts as a missing one, the opposite of the truth; in one "
        "that is not in English, or names none of the organs, the rules find no lesion, and a note "
        "says how many there are. What "
        "another labeller reads can be given as a table of 0 and 1 (detect@probabilities). "
        f"{SCORES}",
        source="U-VLM, which has a language model read the reports of AbdomenAtlas; here rules do",
    ),
    ProtocolInfo(
        name="detect@probabilities",
        task="detect",
        about="From the probability of every label: present from 0.5 on, or from a threshold per "
        "organ that is given, or chosen on a validation file by the best F1 (0.5 where that file "
        f"lacks positive studies). {SCORES}",
        source="U-VLM, metrics/classification.py (with zero_division=0 there)",
    ),
)

KINDS = ("F1", "precision", "recall", "specificity")


def detection_measures(
    truth: Any,
    predicted: Any,
    names: Sequence[str],
    protocol: str = "detect@masks-uvlm",
    *,
    notes: tuple[str, ...] = (),
) -> list[Measure]:
    """Scores of predicted presence, one measure.

    Args:
        truth: (N, C) of 0, 1 or nan for unknown
        predicted: (N, C) of 0 or 1, in the same order
        names: of the labels
        protocol: what the predictions came from
        notes: such as thresholds that were used

    Raises:
        InputError: the shapes differ, a value is no label, or no label is known.
    """
    true = label_array(truth, names, "true labels")
    said = label_array(predicted, names, "predicted labels", unknown=False)
    if true.shape != said.shape:
        raise InputError(
            f"labels of {len(true)} studies and predictions of {len(said)}; both need the same."
        )
    if np.isnan(true).all():
        raise InputError("true labels: none is known. Give 0 or 1 in at least one study.")
    counts = confusion(true, said)
    return [
        sum_measure(
            protocol,
            (*KINDS, *(f"{kind}: {name}" for kind in KINDS for name in names)),
            counts.reshape(len(counts), -1),
            _statistic,
            per_study=False,
            notes=(*notes, *_notes(true, names)),
        )
    ]


def _statistic(sums: Array) -> Array:
    """(..., 4 C) -> (..., 4 + 4 C)"""
    counts = sums.reshape(*sums.shape[:-1], 4, -1)
    tp, fp, fn, tn = (counts[..., i, :] for i in range(4))
    rates = np.moveaxis(detection_rates(tp + fn, tp, tp + fp, tp), -1, -2)
    specificity = divide(tn, tn + fp, float("nan"))
    kinds = np.concatenate([rates, specificity[..., None, :]], axis=-2)
    return np.concatenate([nan_mean(kinds), kinds.reshape(*sums.shape[:-1], -1)], axis=-1)


def _notes(truth: Array, names: Sequence[str]) -> tuple[str, ...]:
    positive = (truth == 1).sum(axis=0)
    counts = ", ".join(f"{n} with {name}" for n, name in zip(positive, names, strict=True))
    notes = [f"{len(truth)} {'study' if len(truth) == 1 else 'studies'}: {counts}."]
    if without := names_where(names, (positive == 0) | ~(truth == 0).any(axis=0)):
        notes.append(f"Without positive or without negative studies: {listed(without)}.")
    if unknown := int(np.isnan(truth).sum()):
        notes.append(f"{unknown} unknown labels are left out.")
    return tuple(notes)
