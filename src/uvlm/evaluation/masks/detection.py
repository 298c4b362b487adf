"""Is there a lesion in the liver, a kidney, the pancreas? From masks, reports or probabilities.

From a mask, as RadGPT turns its segmentations into answers: what lies outside the organ is removed,
the rest is resampled to 1 mm and eroded by 3x3x3, and a lesion is present if more than a number of
mm^3 is left, chosen for every organ on a validation set. With nothing removed and a threshold of 0
this is the rule that U-VLM's labels follow.

A label map gives each voxel to one class, so no voxel of a lesion is one of the organ: here a
connected piece of a lesion is in its organ if it touches a voxel of it.

Letters: N studies, C labels (organs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.errors import ConfigError, ImageError, InputError
from uvlm.evaluation.labels.arrays import Array, label_array, probability_array
from uvlm.evaluation.masks.reading import Others, check_values, stated_classes
from uvlm.evaluation.workers import each
from uvlm.imaging.geometry import to_lps
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Volume
from uvlm.preprocessing.lesions import eroded_mm3
from uvlm.preprocessing.masks import bounding_box
from uvlm.preprocessing.sources.abdomen_classes import COARSE, KINDS, LESIONS

__all__ = [
    "ABDOMEN_RULES",
    "CANDIDATES_MM3",
    "RADGPT_MM3",
    "LesionRule",
    "best_minimums",
    "lesion_volumes",
    "present_in_masks",
    "present_in_reports",
    "present_with_probability",
    "volumes_in_files",
]

RADGPT_MM3 = 30.0
"""What RadGPT's own command line uses where nothing was chosen on a validation set."""

CANDIDATES_MM3: tuple[float, ...] = (
    *(10.0 * step for step in range(11)),
    *(150.0, 200.0, 250.0, 300.0, 500.0),
)
"""Thresholds that RadGPT tries on a validation set, and 0."""

TOUCHING = np.ones((3, 3, 3), bool)


@dataclass(frozen=True, kw_only=True)
class LesionRule:
    """How one label follows from a mask."""

    label: str
    lesions: tuple[str, ...]
    """Classes that are lesions of it; those that the mask does not know are passed over."""

    organ: tuple[str, ...] = ()
    """Classes one of which a lesion must touch; none: a lesion counts wherever it lies."""


def _rule(label: str, organ: str) -> LesionRule:
    lesion = LESIONS[label]
    parts = tuple(name for name in COARSE[organ] if name != lesion and "adrenal" not in name)
    return LesionRule(label=label, lesions=(lesion, *KINDS[lesion]), organ=(organ, *parts))


ABDOMEN_RULES: tuple[LesionRule, ...] = tuple(
    _rule(label, organ)
    for label, organ in zip(LESIONS, ("liver", "kidney", "pancreas"), strict=True)
)
"""Of the three labels of AbdomenAtlas: fine and coarse classes, and single kinds of lesion."""


def lesion_volumes(
    mask: Volume,
    classes: Mapping[str, int],
    rules: Sequence[LesionRule] = ABDOMEN_RULES,
    *,
    within_organ: bool = False,
) -> Array:
    """(C,) mm^3 left of every label's lesions at 1 mm after an erosion by 3x3x3.

    Args:
        classes: name -> value in the mask
        within_organ: whether pieces that touch no voxel of their organ are removed first

    Raises:
        ConfigError: the mask has no class of a rule's lesions, or none of its organ.
    """
    turned, _ = to_lps(mask)
    return np.array([_volume(turned, classes, rule, within_organ) for rule in rules], np.float64)


def volumes_in_files(
    files: Sequence[Path | None],
    classes: Mapping[str, int] | None = None,
    rules: Sequence[LesionRule] = ABDOMEN_RULES,
    *,
    unnamed: Mapping[str, int] | None = None,
    others: Others = "refuse",
    within_organ: bool = False,
    workers: int = 1,
) -> Array:
    """(N, C) as `lesion_volumes`, of masks in files; 0 where there is no file.

    Args:
        classes: name -> value; None: as every file says, which `.b2nd` stores do
        unnamed: the same, of files only that do not say it

    Raises:
        ImageError: a file is no mask, does not say what its values mean, says otherwise than
            `classes`, or has values that no class has (unless `others` are background).
        ConfigError: a mask has no class of a rule's lesions, or none of its organ.
    """
    read = partial(
        _volumes_in,
        classes=classes,
        unnamed=unnamed,
        others=others,
        rules=tuple(rules),
        within_organ=within_organ,
    )
    rows = each(read, files, workers=workers, what="looking for lesions")
    return np.array(rows, np.float64).reshape(len(files), len(rules))


def _volumes_in(
    path: Path | None,
    classes: Mapping[str, int] | None,
    unnamed: Mapping[str, int] | None,
    others: Others,
    rules: Sequence[LesionRule],
    within_organ: bool,
) -> Array:
    if path is None:
        return np.zeros(len(rules))
    mask = read_volume(path, labels=True)
    names = stated_classes(path, classes) or unnamed
    if names is None:
        raise ImageError.about(
            path,
            "the file does not say what its values mean",
            'Give the classes (--classes: JSON such as {"liver": 1, "liver_lesion": 2}).',
        )
    check_values(mask, names, others)
    return lesion_volumes(mask, names, rules, within_organ=within_organ)


def _volume(mask: Volume, classes: Mapping[str, int], rule: LesionRule, within: bool) -> float:
    values = _values(rule.label, "lesion", rule.lesions, classes)
    organ = _values(rule.label, "organ", rule.organ, classes) if within and rule.organ else []
    chosen = np.zeros(int(np.iinfo(mask.array.dtype).max) + 1, np.uint8)
    chosen[[value for value in values if value < len(chosen)]] = 1
    box = bounding_box(chosen[mask.array])
    if box is None:
        return 0.0
    # One voxel more on every side, to see what the lesion touches.
    box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)  # type: ignore[assignment]
    part = mask.array[box]
    inside = chosen[part].view(bool)
    if organ:
        inside = _touching(inside, np.isin(part, organ))
    start = (box[0].start, box[1].start, box[2].start)
    return float(eroded_mm3(inside, mask.spacing, start, mask.shape))


def _values(label: str, what: str, names: Sequence[str], classes: Mapping[str, int]) -> list[int]:
    values = [classes[name] for name in names if name in classes]
    if not values:
        raise ConfigError(
            f"{label}: the masks have no class of the {what}. Expected one of {', '.join(names)}; "
            f"they have {', '.join(list(classes)[:8]) or 'none'}."
        )
    return values


def _touching(lesion: NDArray[np.bool_], organ: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected pieces of a lesion that touch the organ, at a corner at least."""
    pieces, number = ndimage.label(lesion, structure=TOUCHING)
    near = ndimage.binary_dilation(organ, TOUCHING) & lesion
    kept = np.zeros(number + 1, bool)
    kept[pieces[near]] = True
    return np.asarray(kept[pieces], bool)


def present_in_masks(
    volumes: Any, minimum_mm3: float | Mapping[str, float], names: Sequence[str]
) -> Array:
    """(N, C) 0 or 1: whether more than a minimum is left of the lesions.

    Args:
        volumes: (N, C) as `lesion_volumes` gives for every study
        minimum_mm3: one for all labels, or one for each by name

    Raises:
        InputError: the shape is another, or a volume is no number from 0.
        ConfigError: a minimum is missing, of no label, or below 0.
    """
    found = _volumes(volumes, names)
    return np.asarray(found > _per_label(minimum_mm3, names, "minimum_mm3"), np.float64)


def present_with_probability(
    probabilities: Any, threshold: float | Mapping[str, float], names: Sequence[str]
) -> Array:
    """(N, C) 0 or 1: whether a probability is at least a threshold.

    Raises:
        InputError: the shape is another, or a value is no probability.
        ConfigError: a threshold is missing, of no label, or not from 0 to 1.
    """
    given = probability_array(probabilities, names, len(probabilities))
    return np.asarray(given >= _per_label(threshold, names, "threshold", 1.0), np.float64)


class _Values(Protocol):
    @property
    def values(self) -> Mapping[str, int]: ...


class _Labeller(Protocol):
    """What is asked of a labeller (`text.labelling.protocol.Labeller`)."""

    def label(self, reports: Sequence[str]) -> Sequence[_Values]: ...


def present_in_reports(labeller: _Labeller, reports: Sequence[str], names: Sequence[str]) -> Array:
    """(N, C) 0 or 1, as a labeller reads the reports; an empty report has no lesion.

    Raises:
        InputError: no report, or the labeller has no such label.
    """
    labels = labeller.label(reports)
    known = labels[0].values if labels else {}
    missing = [name for name in names if name not in known]
    if missing:
        there = ", ".join(known) or "none, for there is no report"
        raise InputError(f"the labeller has no label {missing[0]!r}. It has: {there}.")
    return np.array([[each.values[name] for name in names] for each in labels], np.float64)


def best_minimums(
    volumes: Any,
    truth: Any,
    names: Sequence[str],
    candidates: Sequence[float] = CANDIDATES_MM3,
) -> dict[str, float]:
    """Label -> the minimum in mm^3 with the best balance of sensitivity and specificity.

    The largest sum of both (Youden), the smaller minimum on a tie. Choose on a validation set,
    never on the studies that are scored.

    Args:
        volumes: (N, C) as `lesion_volumes` gives
        truth: (N, C) 0, 1 or nan for unknown

    Raises:
        InputError: the shapes differ, or a label lacks positive or negative studies.
    """
    found, true = _volumes(volumes, names), label_array(truth, names, "true labels")
    if found.shape != true.shape:
        raise InputError(f"volumes of {len(found)} studies, labels of {len(true)}. Join them.")
    best = {}
    for column, name in enumerate(names):
        yes, no = (found[true[:, column] == value, column] for value in (1, 0))
        if not len(yes) or not len(no):
            raise InputError(
                f"{name}: {len(yes)} positive and {len(no)} negative studies; both are needed to "
                "choose a threshold. Give one by hand."
            )
        balance = {mm3: (yes > mm3).mean() + (no <= mm3).mean() for mm3 in sorted(candidates)}
        best[name] = float(max(balance, key=lambda mm3: balance[mm3]))
    return best


def _volumes(volumes: Any, names: Sequence[str]) -> Array:
    found = np.asarray(volumes, np.float64)
    if found.ndim != 2 or found.shape[1] != len(names) or not found.size:
        raise InputError(f"volumes of shape {found.shape}; give (studies, {len(names)}).")
    if not (found >= 0).all():
        raise InputError("a lesion's volume is no number from 0. Give mm^3.")
    return found


def _per_label(
    given: float | Mapping[str, float], names: Sequence[str], what: str, most: float = np.inf
) -> Array:
    """(C,) one limit per label."""
    if not isinstance(given, Mapping):
        given = dict.fromkeys(names, given)
    if given.keys() != set(names):
        raise ConfigError(f"{what}: give one for each of {', '.join(names)}; got {list(given)}.")
    limits = np.array([given[name] for name in names], np.float64)
    if not ((limits >= 0) & (limits <= most)).all():
        raise ConfigError(f"{what} must be from 0{f' to {most:g}' if most < np.inf else ''}.")
    return limits
