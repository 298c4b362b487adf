"""Are these values Hounsfield units, and which part of the body is it? Decided from the voxels.

Rules, in order; the first that applies gives the verdict:

1. One value throughout, or a range no 16-bit scanner writes: `unknown`.
2. Padding is an exact value found at a corner of the volume that holds at least 0.5 % of the voxels
   and is either the lowest with next to nothing in the 50 above it (-3024, -2000, ...) or twenty
   times as frequent as its neighbours (0 outside the body). It is left out of everything that
   follows, unless the verdict shows that it is air or above: then it was clipped there. Resampling
   smears padding over the values between it and air: where such an exact value lies below -1100 HU
   and at most 25 % of the other voxels do, none of these says anything about materials.
3. The central 99 % of the values span less than 60, with fractions (or less than 30 without):
   `scaled` (z-scored, 0 to 1, -1 to 1). Values from exactly 0 to 255: `scaled` (8-bit window).
4. The lowest and highest value, when they hold at least 0.2 % of the voxels and five times their
   neighbours, are where the values were clipped; they too say nothing about materials.
5. The histogram is fitted as a mixture of air, lung, fat, soft tissue, contrast and bone for each
   known offset (`landmarks.misfit`). An explanation counts if its misfit is below 0.6 nats, a peak
   stands between -150 and 200 HU, at least 1 % of the voxels are tissue (-180 to 200 HU) and at
   least 0.5 % lie below -30 HU, since every patient has fat or air (where an intercept applied
   twice was clipped they may be cut off). The best is `hu` (offset 0), `shifted` (positive: stored
   values whose intercept was not applied) or `twice` (negative: intercept applied twice).
6. If none counts, values within one organ are `hu`, with a warning: some negative, at least 95 %
   between -180 and 300 HU, a peak among them, misfit at offset 0 below 0.6.
7. Then offsets that put a peak of the histogram on a material are tried: `shifted` by an unusual
   amount if its misfit is below 0.3. Otherwise `unknown`.

Only `hu` is usable; `check` refuses the others and says what to do. Warnings never refuse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError
from uvlm.imaging.landmarks import (
    Histogram,
    Landmark,
    find_landmarks,
    has_tissue_peak,
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
"""(values minus HU, nats it must be better by): intercepts in use, the rarer ones last."""

ACCEPTED_MISFIT = 0.6
"""200 volumes and random crops of real CT reach 0.28; under a wrong offset they start at 1.09."""

UNUSUAL_MISFIT = 0.3
MAX_RANGE = 131_072.0
PERCENTILES = (0.5, 5.0, 25.0, 50.0, 75.0, 95.0, 99.5)
PADDING_GAP = 50
GAP_SHARE = 0.02
"""Of the padding's own count, what resampling may have smeared into the gap."""
SMEAR_HU = -1100.0
"""Nothing in a scanner is darker but padding, exact or smeared."""
MOST_SMEARED = 0.25
"""Of the voxels inside; more is a material under a wrong offset."""
SHORT_MM = 30.0
COARSE_MM = 7.5
LUNG_LOST_HU = -500.0
NATURAL_FLOOR_HU = -950.0
NATURAL_CEILING_HU = 1900.0

NOT_CT = "Give a CT in Hounsfield units; MR, PET and masks cannot be used."
NORMALISED = (
    "they look normalised (z-score, 0 to 1), not like HU. Give the CT before normalisation."
)
ONE_ORGAN = "Neither fat nor air is in view, so that the values are HU is likely but not certain."
WINDOWED = "they look like an 8-bit window, not like HU. Give the CT before windowing."


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
    warning: str | None = None


@dataclass(frozen=True, eq=False)
class _Values:
    """What the histogram shows before any material is looked for."""

    everything: Histogram
    padding: float | None
    clipped: tuple[float | None, float | None]

    @property
    def inside(self) -> Histogram:
        """Without padding."""
        return self.everything.without(self.padding)

    @property
    def core(self) -> Histogram:
        """Without padding and without the values at which it was clipped."""
        return self.everything.without(self.padding, *self.clipped)

    def core_at(self, offset: float) -> Histogram:
        """The same, and without smeared padding if values are HU + offset."""
        floor = offset + SMEAR_HU
        exact = [value for value in self.everything.spikes(0.005) if value < floor]
        rest = self.core.without(*exact)
        smeared = bool(exact) and rest.share(rest.low, floor) <= MOST_SMEARED
        return rest.above(floor) if smeared else self.core

    @property
    def padding_share(self) -> float:
        count = 0 if self.padding is None else self.everything.count(self.padding)
        return count / self.everything.total


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
    array = volume.array
    low, high, everything = histogram(array, MAX_RANGE)
    values = None if everything is None else _survey(array, everything)
    ruling = _rule(array, low, high, values)
    if values and ruling.offset is not None:
        values = _floor_is_no_padding(values, ruling.offset)
    landmarks, guess = _look(volume, values, ruling)
    z, y, x = (n * step for n, step in zip(volume.shape, volume.spacing, strict=True))
    return Audit(
        verdict=ruling.verdict,
        usable=ruling.verdict == "hu",
        reason=_with_landmarks(ruling, landmarks),
        offset=ruling.offset,
        misfit=None if ruling.misfit is None else round(ruling.misfit, 3),
        landmarks=landmarks,
        value_range=(low, high),
        percentiles=_percentiles(array, values),
        padding=values.padding if values else None,
        padding_share=round(values.padding_share, 4) if values else 0.0,
        clipped=values.clipped if values else (None, None),
        field_of_view_mm=(round(z, 2), round(y, 2), round(x, 2)),
        region=guess.name,
        region_scores=guess.scores,
        coverage_mm=guess.coverage_mm,
        warnings=_warnings(volume, values, ruling, guess.name),
    )


def _survey(array: NDArray[Any], everything: Histogram) -> _Values:
    padding = _find_padding(array, everything)
    inside = everything.without(padding)
    return _Values(everything, padding, _find_clipping(inside) if inside.total else (None, None))


def _find_padding(array: NDArray[Any], hist: Histogram) -> float | None:
    candidates = []
    for corner in np.unique(array[:: len(array) - 1 or 1, [0, 0, -1, -1], [0, -1, 0, -1]]):
        value, count = float(np.rint(corner)), hist.count(float(corner))
        gap = hist.share(value + 1, value + PADDING_GAP) * hist.total
        lowest = value == hist.first and gap < GAP_SHARE * count
        beside = [hist.count(value + step) for step in (-3, -2, -1, 1, 2, 3)]
        alone = value != hist.first and count > 20 * float(np.mean(beside))
        if count >= 0.005 * hist.total and (lowest or alone):
            candidates.append((count, value))
    return max(candidates)[1] if candidates else None


def _find_clipping(hist: Histogram) -> tuple[float | None, float | None]:
    def piled_up(value: int, inwards: int) -> bool:
        beside = [hist.count(value + inwards * step) for step in range(1, 6)]
        count = hist.count(value)
        return count >= 0.002 * hist.total and count > 5 * float(np.mean(beside))

    below = float(hist.first) if piled_up(hist.first, 1) else None
    above = float(hist.last) if piled_up(hist.last, -1) else None
    return below, above


def _floor_is_no_padding(values: _Values, offset: float) -> _Values:
    """The lowest value is padding only below air: noise-free air and clipping are floors too."""
    padding = values.padding
    if padding is None or padding != values.everything.first or padding - offset < -1030:
        return values
    below = padding if padding - offset > NATURAL_FLOOR_HU else None
    return replace(values, padding=None, clipped=(below, values.clipped[1]))


def _rule(array: NDArray[Any], low: float, high: float, values: _Values | None) -> _Ruling:
    if values is None:
        return _Ruling("unknown", f"The values run from {low:g} to {high:g}. {NOT_CT}")
    inside = values.inside
    if low == high or not inside.total:
        return _Ruling("unknown", f"Every voxel has the value {low:g}. {NOT_CT}")
    span = inside.percentile(99.5) - inside.percentile(0.5)
    middle = array[len(array) // 2]
    if span < (30 if np.array_equal(middle, np.rint(middle)) else 60):
        return _Ruling("scaled", f"The values run from {low:.4g} to {high:.4g}: {NORMALISED}")
    if low == 0 and 254.5 <= high <= 255:
        return _Ruling("scaled", f"The values run from 0 to 255: {WINDOWED}")
    return _fit(values)


def _fit(values: _Values) -> _Ruling:
    """Rules 5 to 7."""
    core = values.core
    fits = [(misfit(values.core_at(o), o), handicap, o) for o, handicap in OFFSETS]
    likely = [
        (found + handicap, found, offset)
        for found, handicap, offset in fits
        if found < ACCEPTED_MISFIT and _has_body(values, values.core_at(offset), offset)
    ]
    if likely:
        _, found, offset = min(likely)
        return _explain(offset, found)
    if fits[0][0] < ACCEPTED_MISFIT and _within_one_organ(core):
        return replace(_explain(0.0, fits[0][0]), warning=ONE_ORGAN)
    unusual = [(misfit(core, o), o) for o in peak_offsets(core) if _has_body(values, core, o)]
    if unusual and min(unusual)[0] < UNUSUAL_MISFIT:
        found, offset = min(unusual)
        return _explain(float(round(offset)), found)
    best = min(found for found, _, _ in fits)
    return _Ruling(
        "unknown",
        f"No offset puts air, fat and soft tissue where CT has them (misfit {best:.2f}, accepted "
        f"below {ACCEPTED_MISFIT}). {NOT_CT}",
        misfit=best,
    )


def _has_body(values: _Values, core: Histogram, offset: float) -> bool:
    tissue = core.share(offset - 180, offset + 200)
    fat_or_air = values.inside.share(values.inside.low, offset - 30)
    cut_off = offset < 0 and core.first > values.everything.first
    return tissue >= 0.01 and (fat_or_air >= 0.005 or cut_off) and has_tissue_peak(core, offset)


def _within_one_organ(core: Histogram) -> bool:
    """Negative values tell it from MR and PET."""
    return core.first < 0 and core.share(-180, 300) >= 0.95 and has_tissue_peak(core, 0.0)


def _explain(offset: float, found: float) -> _Ruling:
    if offset == 0:
        return _Ruling("hu", "The values are Hounsfield units", 0.0, found)
    if offset > 0:
        return _Ruling(
            "shifted",
            f"The values look like stored values without the intercept, about {offset:g} above "
            f"HU. Subtract {offset:g}, or export again with rescale slope and intercept applied",
            offset,
            found,
        )
    return _Ruling(
        "twice",
        f"The intercept looks applied twice: the values lie about {-offset:g} below "
        f"HU. Add {-offset:g}, or export again with the intercept applied once",
        offset,
        found,
    )


def _with_landmarks(ruling: _Ruling, landmarks: tuple[Landmark, ...]) -> str:
    if ruling.offset is None:
        return ruling.reason
    seen = ", ".join(f"{mark.name} at {mark.found:.0f}" for mark in landmarks)
    return f"{ruling.reason} (peaks: {seen or 'none, but the histogram fits'})."


def _look(
    volume: Volume, values: _Values | None, ruling: _Ruling
) -> tuple[tuple[Landmark, ...], RegionGuess]:
    if values is None or ruling.offset is None:
        return (), RegionGuess("unknown", {}, {})
    landmarks = find_landmarks(values.core_at(ruling.offset), ruling.offset)
    floor = values.clipped[0]
    if floor is not None and floor - ruling.offset > LUNG_LOST_HU:
        return landmarks, RegionGuess("unknown", {}, {})
    return landmarks, likely_region(volume, offset=ruling.offset, padding=values.padding)


def _percentiles(array: NDArray[Any], values: _Values | None) -> dict[str, float]:
    """Without padding. Of fractions, those of every n-th voxel, at most a million."""
    if values is not None and array.dtype.kind in "iu":
        counted = values.inside if values.inside.total else values.everything
        return {f"{p:g}": counted.percentile(p) for p in PERCENTILES}
    padding = values.padding if values else None
    # Of a turned view, flattening would copy the whole.
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    sample = flat[:: max(1, array.size // 1_000_000)].astype(np.float64)
    kept = sample[sample != padding] if padding is not None else sample
    found = np.percentile(kept if kept.size else sample, PERCENTILES, overwrite_input=True)
    return {f"{p:g}": round(float(v), 3) for p, v in zip(PERCENTILES, found, strict=True)}


def _warnings(
    volume: Volume, values: _Values | None, ruling: _Ruling, region: str
) -> tuple[str, ...]:
    found = []
    length = volume.shape[0] * volume.spacing[0]
    if ruling.warning:
        found.append(ruling.warning)
    if values is not None and ruling.offset is not None:
        found += _value_warnings(values, ruling.offset)
        if region == "unknown":
            found.append("The body region was not recognised.")
    if length < SHORT_MM:
        found.append(f"The study covers only {length:.1f} mm in {volume.shape[0]} slices.")
    if max(volume.spacing) > COARSE_MM:
        found.append(f"Voxels are {max(volume.spacing):.1f} mm apart; small findings are lost.")
    return tuple(found)


def _value_warnings(values: _Values, offset: float) -> list[str]:
    found = []
    below, above = (None if v is None else v - offset for v in values.clipped)
    if below is not None and below > NATURAL_FLOOR_HU:
        found.append(f"Clipped at {below:g} HU: everything darker, such as air or fat, is lost.")
    if above is not None and above < NATURAL_CEILING_HU:
        found.append(f"Clipped at {above:g} HU: everything brighter, such as bone, is lost.")
    if values.padding is not None and values.padding - offset > NATURAL_FLOOR_HU:
        found.append(
            f"{values.padding_share:.0%} of the voxels are exactly {values.padding - offset:g} HU: "
            "filler that looks like tissue."
        )
    return found
