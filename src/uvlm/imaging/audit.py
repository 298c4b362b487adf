"""Are these values Hounsfield units, and which part of the body is it? Decided from the voxels.

Rules, in order; the first that applies gives the verdict:

1. One value throughout, or a range no 16-bit scanner writes: `unknown`.
2. Padding is an exact value that fills a corner column of the volume, holds at least 0.5 % of the
   voxels, and is either the lowest value with a gap of 50 or more above it (-3024, -2000, ...), or
   stands alone within the range (0 outside the body). It is left out of everything that follows.
3. The central 99 % of the values span less than 60, with fractions (or less than 30 without):
   `scaled` (z-scored, 0 to 1, -1 to 1). Values from exactly 0 to 255: `scaled` (8-bit window).
4. The lowest and highest value, when they hold at least 0.2 % of the voxels and five times their
   neighbours, are where the values were clipped; they too say nothing about materials.
5. The histogram is fitted as a mixture of air, lung, fat, soft tissue, contrast and bone for each
   known offset (`landmarks.misfit`). An explanation counts if its misfit is below 0.45 nats, at
   least 1 % of the voxels are tissue (-180 to 200 HU) and at least 0.5 % lie below -30 HU: every
   patient has fat or air. The best is `hu` (offset 0), `shifted` (positive: stored values whose
   intercept was not applied) or `twice` (negative: intercept applied twice).
6. If none counts, offsets that put a peak of the histogram on a material are tried: `shifted` by
   an unusual amount if its misfit is below 0.3. Otherwise `unknown`.

Only `hu` is usable; `check` refuses the others and says what to do. Warnings never refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError
from uvlm.imaging.landmarks import (
    Histogram,
    Landmark,
    find_landmarks,
    histogram,
    misfit,
    peak_offsets,
)
from uvlm.imaging.region import RegionGuess, likely_region
from uvlm.imaging.volume import Volume

__all__ = ["Audit", "Verdict", "audit", "check"]

Verdict = Literal["hu", "shifted", "twice", "scaled", "unknown"]

OFFSETS: tuple[tuple[float, float], ...] = (
    (0, 0.0), (1024, 0.0), (-1024, 0.0), (8192, 0.0), (-8192, 0.0),
    (1000, 0.1), (-1000, 0.1), (2048, 0.1),
)  # fmt: skip
"""(values minus HU, nats it must be better by): intercepts of real scanners, the rarer ones last."""

ACCEPTED_MISFIT = 0.45
"""Whole volumes and crops of real CT reach 0.31; the same values shifted or halved start at 0.5."""

UNUSUAL_MISFIT = 0.3
MAX_RANGE = 131_072.0
PERCENTILES = (0.5, 5.0, 25.0, 50.0, 75.0, 95.0, 99.5)
SHORT_MM = 30.0
NATURAL_FLOOR_HU = -950.0
NATURAL_CEILING_HU = 1900.0


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What the values of a volume are, with the evidence."""

    verdict: Verdict
    """"hu", "shifted" (intercept not applied), "twice" (applied twice), "scaled" or "unknown"."""

    usable: bool
    """Whether the values are HU."""

    reason: str
    """Why, in a sentence or two, and for an unusable volume what to do."""

    offset: float | None
    """The values are HU + offset; None when no offset explains them."""

    misfit: float | None
    """Divergence from the best CT mixture at that offset, nats; None when none was fitted."""

    landmarks: tuple[Landmark, ...]
    """Materials whose peak was found."""

    value_range: tuple[float, float]
    """Lowest and highest value, as in the file."""

    percentiles: dict[str, float]
    """Percentiles of the values without padding."""

    padding: float | None
    """Exact value outside the scanner's field of view."""

    padding_share: float
    """Share of the voxels that are padding."""

    clipped: tuple[float | None, float | None]
    """Where the values were clipped below and above, if they were."""

    field_of_view_mm: tuple[float, float, float]
    """Extent along the array's own axes (z, y, x)."""

    region: str
    """"chest", "abdomen", "chest+abdomen", "head", "pelvis", "extremity" or "unknown"."""

    region_scores: dict[str, float]
    """Share of the body's length that looks like each part."""

    coverage_mm: dict[str, float]
    """Length of each part, mm along z."""

    warnings: tuple[str, ...]
    """What a user should know; none of it refuses the volume."""


@dataclass(frozen=True)
class _Ruling:
    verdict: Verdict
    reason: str
    offset: float | None = None
    misfit: float | None = None


@dataclass(frozen=True, eq=False)
class _Values:
    """The values seen once: range, histogram, and what is not tissue."""

    low: float
    high: float
    whole: bool
    everything: Histogram
    padding: float | None
    inside: Histogram
    """Without padding."""
    clipped: tuple[float | None, float | None]

    @property
    def core(self) -> Histogram:
        """Without padding and without the values at which it was clipped."""
        return self.inside.without(*self.clipped)


def check(volume: Volume) -> Audit:
    """The audit of a usable volume.

    Raises:
        ImageError: the values are not HU; the message says what they look like and what to do.
    """
    result = audit(volume)
    if not result.usable:
        raise ImageError(f"{volume.provenance.path}: {result.reason}")
    return result


def audit(volume: Volume) -> Audit:
    """Judge the values of `volume` (z, y, x) by the rules at the top of this module."""
    values = _survey(volume.array)
    ruling = _rule(volume.array, values)
    landmarks: tuple[Landmark, ...] = ()
    guess = RegionGuess("unknown", {}, {})
    if ruling.offset is not None and values is not None:
        landmarks = find_landmarks(values.core, ruling.offset)
        guess = likely_region(volume, offset=ruling.offset, padding=values.padding)
    z, y, x = (n * step for n, step in zip(volume.shape, volume.spacing, strict=True))
    low, high = float(volume.array.min()), float(volume.array.max())
    return Audit(
        verdict=ruling.verdict,
        usable=ruling.verdict == "hu",
        reason=ruling.reason,
        offset=ruling.offset,
        misfit=None if ruling.misfit is None else round(ruling.misfit, 3),
        landmarks=landmarks,
        value_range=(low, high),
        percentiles=_percentiles(volume.array, values),
        padding=values.padding if values else None,
        padding_share=round(_padding_share(values), 4),
        clipped=values.clipped if values else (None, None),
        field_of_view_mm=(round(z, 2), round(y, 2), round(x, 2)),
        region=guess.name,
        region_scores=guess.scores,
        coverage_mm=guess.coverage_mm,
        warnings=_warnings(volume, values, ruling),
    )
