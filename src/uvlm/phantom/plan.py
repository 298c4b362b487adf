"""Who has what: labels of every study of a set, and which studies are held out.

Prevalence is near CT-RATE's. Abnormalities that share a cause come together: a Gaussian copula
with five causes (vascular age, heart failure, smoking, infection, airway disease) keeps every
class at its own prevalence while the causes couple them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import NormalDist

import numpy as np

from uvlm.phantom.classes import stream
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS

__all__ = ["ChestPlan", "is_valid", "plan_abdomen", "plan_chest"]

NORMAL_SHARE = 0.07
"""Share of studies kept free of abnormalities; with those that draw none, about 15 % are normal."""

# Prevalence, then loadings on vascular age, heart failure, smoking, infection, airway disease.
PREVALENCE: dict[str, tuple[float, tuple[float, ...]]] = {
    "Medical material": (0.14, (0.4, 0.4, 0, 0, 0)),
    "Arterial wall calcification": (0.28, (0.8, 0, 0.2, 0, 0)),
    "Cardiomegaly": (0.12, (0.3, 0.7, 0, 0, 0)),
    "Pericardial effusion": (0.08, (0, 0.7, 0, 0.2, 0)),
    "Coronary artery wall calcification": (0.24, (0.8, 0.1, 0.2, 0, 0)),
    "Hiatal hernia": (0.15, (0.4, 0, 0, 0, 0)),
    "Lymphadenopathy": (0.25, (0, 0.1, 0.1, 0.4, 0)),
    "Emphysema": (0.20, (0.3, 0, 0.7, 0, 0.2)),
    "Atelectasis": (0.26, (0.2, 0.5, 0, 0.2, 0)),
    "Lung nodule": (0.43, (0.2, 0, 0.4, 0, 0)),
    "Lung opacity": (0.33, (0, 0.2, 0, 0.7, 0)),
    "Pulmonary fibrotic sequela": (0.26, (0.3, 0, 0.3, 0, 0.2)),
    "Pleural effusion": (0.13, (0.1, 0.8, 0, 0.2, 0)),
    "Mosaic attenuation pattern": (0.08, (0, 0.1, 0, 0, 0.6)),
    "Peribronchial thickening": (0.10, (0, 0, 0.3, 0.2, 0.7)),
    "Consolidation": (0.17, (0, 0.1, 0, 0.8, 0)),
    "Bronchiectasis": (0.10, (0, 0, 0.2, 0.2, 0.7)),
    "Interlobular septal thickening": (0.08, (0, 0.7, 0, 0.2, 0)),
}

ABDOMEN_PREVALENCE = {"Liver lesion": 0.40, "Kidney lesion": 0.35, "Pancreas lesion": 0.20}


@dataclass(frozen=True)
class ChestPlan:
    """What one study is to show."""

    labels: frozenset[str]
    vascular: float
    """Strength of vascular disease, standard normal; age follows it."""


def is_valid(study: int) -> bool:
    """Whether a study is held out: exactly 15 % of every 20, spread evenly."""
    return study % 20 in (3, 10, 17)


def plan_chest(
    studies: int, seed: int, drawable: frozenset[str], min_prevalence: float = 0.0
) -> list[ChestPlan]:
    """Plans of `studies` chest studies.

    Without `min_prevalence` a plan depends on (seed, study) alone. With it, drawable classes that
    are rarer are added to abnormal studies until each is in at least that share of the training
    and of the held-out studies, those with the fewest abnormalities first.
    """
    draws = [_draw(seed, study) for study in range(studies)]
    labels = [set(plan.labels & drawable) for plan in draws]
    names = [name for name in CT_RATE_LABELS if name in drawable]
    for held_out in (False, True):
        group = [i for i in range(studies) if is_valid(i) == held_out]
        _raise_to(min_prevalence, group, labels, seed, names)
    return [ChestPlan(frozenset(s), p.vascular) for s, p in zip(labels, draws, strict=True)]


def _draw(seed: int, study: int) -> ChestPlan:
    rng = stream(seed, study, "plan")
    normal = rng.random() < NORMAL_SHARE
    causes = rng.standard_normal(5)
    own = rng.standard_normal(len(CT_RATE_LABELS))
    found = set()
    for name, noise in zip(CT_RATE_LABELS, own, strict=True):
        prevalence, loadings = PREVALENCE[name]
        weights = np.asarray(loadings)
        value = float(weights @ causes) + float(np.sqrt(1 - weights @ weights)) * noise
        if value > NormalDist().inv_cdf(1 - prevalence / (1 - NORMAL_SHARE)):
            found.add(name)
    vascular = float(causes[0])
    return ChestPlan(
        frozenset() if normal else frozenset(found), min(vascular, 0.0) if normal else vascular
    )


def plan_abdomen(
    studies: int, seed: int, drawable: frozenset[str], min_prevalence: float = 0.0
) -> list[frozenset[str]]:
    """Labels of `studies` abdominal studies; see `plan_chest`."""
    labels = []
    for study in range(studies):
        rng = stream(seed, study, "abdomen plan")
        share = np.asarray([ABDOMEN_PREVALENCE[name] for name in ABDOMEN_LABELS])
        here = rng.random(len(share)) < share
        labels.append({n for n, hit in zip(ABDOMEN_LABELS, here, strict=True) if hit} & drawable)
    names = [name for name in ABDOMEN_LABELS if name in drawable]
    for held_out in (False, True):
        group = [i for i in range(studies) if is_valid(i) == held_out]
        _raise_to(min_prevalence, group, labels, seed, names)
    return [frozenset(found) for found in labels]


def _raise_to(
    share: float, group: list[int], labels: list[set[str]], seed: int, names: Sequence[str]
) -> None:
    """Add each rare class to studies of `group` until it is in ceil(share * len(group))."""
    needed = ceil(share * len(group))
    normal = {i for i in group if not labels[i]}
    for name in names:
        lucky = {i: stream(seed, i, f"raise {name}").random() for i in group}
        missing = needed - sum(name in labels[i] for i in group)
        candidates = sorted(
            (i for i in group if name not in labels[i]),
            key=lambda i: (i in normal, len(labels[i]) + 2 * lucky[i]),
        )
        for i in candidates[: max(0, missing)]:
            labels[i].add(name)
