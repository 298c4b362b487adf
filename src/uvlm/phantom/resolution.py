"""Which abnormalities a voxel size can show, and how large each must be to be seen.

For each class the table states the smallest feature that makes it recognisable, the range of
sizes in which patients have it, and its contrast. Averaging over a voxel leaves

    sheet     min(1, size / v)               v: cube root of the voxel's volume
    tube      min(1, (size / v)^2)
    ball      min(1, pi / 6 (size / v)^3)
    pattern   sinc(p / size), and nothing when size < 2 p (Nyquist); size is the period,
              p the in-plane pixel

of the contrast. A class is drawn when what is left is at least ROSE times the spread of noise and
normal anatomy around it: the Rose criterion, by which a signal of five standard deviations is
seen with certainty (A. Rose, J. Opt. Soc. Am. 38, 196, 1948). Sizes are drawn no smaller than
the criterion allows; a class whose largest plausible size fails is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot, pi, prod

import numpy as np

from uvlm.phantom.abdomen import nominal_abdomen_spacing
from uvlm.phantom.body import nominal_chest_spacing
from uvlm.phantom.canvas import Triple

__all__ = ["FEATURES", "Feature", "TooFine", "size_ranges", "too_fine"]

Shape = tuple[int, int, int]

ROSE = 5.0


@dataclass(frozen=True)
class Feature:
    """What must be seen for a class to be recognised."""

    what: str
    kind: str
    smallest: float
    largest: float
    contrast: float
    clutter: float
    """Spread of the normal surroundings at the feature's scale, HU."""
    noise: float = 16.0
    """Typical noise of the studies made, HU."""

    def kept(self, size: float, spacing: Triple) -> float:
        """HU of contrast left at this size and voxel spacing (z, y, x)."""
        v = prod(spacing) ** (1 / 3)
        if self.kind == "pattern":
            pixel = max(spacing[1], spacing[2])
            share = float(np.sinc(pixel / size)) if size >= 2 * pixel else 0.0
        elif self.kind == "ball":
            share = pi / 6 * (size / v) ** 3
        else:
            share = (size / v) ** (1 if self.kind == "sheet" else 2)
        return self.contrast * min(1.0, share)

    @property
    def needed(self) -> float:
        """HU of contrast that can be told from noise and surroundings."""
        return ROSE * hypot(self.noise, self.clutter)

    def range_at(self, spacing: Triple) -> tuple[float, float] | None:
        """Sizes to draw at this spacing, or None where even the largest is too fine."""
        sizes = np.linspace(self.smallest, self.largest, 41)
        seen = [float(s) for s in sizes if self.kept(float(s), spacing) >= self.needed]
        return (seen[0], self.largest) if seen else None


# What, kind, smallest and largest size in mm, contrast and clutter in HU.
FEATURES: dict[str, Feature] = {
    "Medical material": Feature("generator thickness", "sheet", 8, 11, 2400, 60),
    "Arterial wall calcification": Feature("plaque thickness", "sheet", 3, 6, 650, 40),
    "Cardiomegaly": Feature("widening of the heart", "sheet", 15, 30, 850, 60),
    "Pericardial effusion": Feature("fluid layer", "sheet", 8, 22, 110, 10),
    "Coronary artery wall calcification": Feature("plaque diameter", "tube", 3, 5.5, 900, 40),
    "Hiatal hernia": Feature("hernia diameter", "ball", 40, 70, 130, 15),
    "Lymphadenopathy": Feature("short axis of a node", "ball", 14, 28, 130, 18),
    "Emphysema": Feature("low-density focus", "ball", 8, 24, 115, 15),
    "Atelectasis": Feature("band thickness", "sheet", 4, 9, 870, 60),
    "Lung nodule": Feature("nodule diameter", "ball", 5, 28, 880, 60),
    "Lung opacity": Feature("patch diameter", "ball", 35, 80, 260, 30),
    "Pulmonary fibrotic sequela": Feature("strand thickness", "sheet", 3.5, 7, 870, 60),
    "Pleural effusion": Feature("fluid layer", "sheet", 12, 60, 860, 60),
    "Mosaic attenuation pattern": Feature("patch diameter", "ball", 28, 45, 140, 15),
    "Peribronchial thickening": Feature("lumen and wall of a bronchus", "pattern", 8, 13, 500, 60),
    "Consolidation": Feature("patch diameter", "ball", 35, 90, 880, 60),
    "Bronchiectasis": Feature("lumen and wall of a bronchus", "pattern", 11, 19, 600, 60),
    "Interlobular septal thickening": Feature("distance of septa", "pattern", 11, 20, 320, 25),
}

ABDOMEN_FEATURES: dict[str, Feature] = {
    "Liver lesion": Feature("lesion diameter", "ball", 10, 55, 58, 3, noise=11),
    "Kidney lesion": Feature("lesion diameter", "ball", 10, 40, 58, 3, noise=11),
    "Pancreas lesion": Feature("lesion diameter", "ball", 10, 30, 58, 3, noise=11),
}

REGIONS: dict[str, tuple[dict[str, Feature], Callable[[Shape], Triple]]] = {
    "chest": (FEATURES, nominal_chest_spacing),
    "abdomen": (ABDOMEN_FEATURES, nominal_abdomen_spacing),
}
"""Region -> what its classes need, and the voxel of its largest patient."""


@dataclass(frozen=True)
class TooFine:
    """Why a class is left out at a shape, and the smallest shape that would show it."""

    label: str
    why: str
    shape: Shape


def size_ranges(shape: Shape, region: str = "chest") -> dict[str, tuple[float, float]]:
    """Drawable classes of a study of `shape` (z, y, x), with the sizes in mm to draw."""
    features, spacing_of = REGIONS[region]
    spacing = spacing_of(shape)
    ranges = {label: feature.range_at(spacing) for label, feature in features.items()}
    return {label: sizes for label, sizes in ranges.items() if sizes is not None}


def too_fine(shape: Shape, region: str = "chest") -> tuple[TooFine, ...]:
    """Classes that `shape` cannot show, with the reason."""
    features, spacing_of = REGIONS[region]
    spacing, shown = spacing_of(shape), size_ranges(shape, region)
    found = []
    for label, feature in features.items():
        if label not in shown:
            kept = feature.kept(feature.largest, spacing)
            why = (
                f"{feature.what} of at most {feature.largest:g} mm keeps {kept:.0f} HU of contrast "
                f"in voxels of {spacing[0]:.1f} x {spacing[1]:.1f} x {spacing[2]:.1f} mm; "
                f"{feature.needed:.0f} HU are needed"
            )
            found.append(TooFine(label, why, _smallest_shape(feature, shape, spacing_of)))
    return tuple(found)


def _smallest_shape(feature: Feature, shape: Shape, spacing_of: Callable[[Shape], Triple]) -> Shape:
    """`shape` enlarged in the smallest common step that shows the feature, multiples of 8."""
    for percent in range(105, 1605, 5):
        z, y, x = (-(-n * percent // 800) * 8 for n in shape)
        if feature.range_at(spacing_of((z, y, x))) is not None:
            return z, y, x
    raise AssertionError(f"no shape shows a {feature.what}")
