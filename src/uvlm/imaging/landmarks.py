"""How well a histogram of voxel values is explained as CT in Hounsfield units, shifted or not.

A CT histogram is a mixture of few materials at known places: outside air, lung, fat, soft tissue,
contrast and bone. `misfit` fits the shares of these materials (never their places) by expectation
maximisation and returns the Kullback-Leibler divergence of the histogram from the best mixture, in
nats: up to 0.3 when the values are HU, above 1 when they lie elsewhere. Because shares are free,
a crop without air or an abdomen without lung fits as well as a whole chest. The histogram is
blurred by 20 HU first, so that neither noise nor its absence matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

__all__ = [
    "Histogram",
    "Landmark",
    "find_landmarks",
    "has_tissue_peak",
    "histogram",
    "misfit",
    "peak_offsets",
]

BIN = 8
FIT_BLUR_HU = 20.0
PEAK_BLUR_HU = 8.0
ROUNDS = 60

LANDMARKS: tuple[tuple[str, float, float, float], ...] = (
    ("outside air", -1000, -1070, -935),
    ("lung", -850, -935, -600),
    ("fat", -100, -150, -50),
    ("soft tissue", 40, -5, 90),
    ("contrast", 150, 95, 300),
)
"""(name, usual HU, lowest and highest HU at which its peak may stand)."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of whole values: `counts[i]` voxels have the value `low + i`, rounded."""

    low: int
    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def share(self, low: float, high: float) -> float:
        """Share of voxels with low <= value <= high."""
        first = max(0, int(np.ceil(low)) - self.low)
        last = max(first, int(np.floor(high)) - self.low + 1)
        return float(self.counts[first:last].sum()) / max(1, self.total)

    def percentile(self, percent: float) -> float:
        """Value below which `percent` % of the voxels lie."""
        place = np.searchsorted(np.cumsum(self.counts), self.total * percent / 100)
        return float(self.low + min(int(place), len(self.counts) - 1))

    @property
    def first(self) -> int:
        """Lowest value that occurs."""
        return self.low + int(np.flatnonzero(self.counts)[0])

    @property
    def last(self) -> int:
        """Highest value that occurs."""
        return self.low + int(np.flatnonzero(self.counts)[-1])

    def count(self, value: float) -> int:
        """Voxels of this exact value."""
        place = round(value) - self.low
        return int(self.counts[place]) if 0 <= place < len(self.counts) else 0

    def spikes(self, share: float) -> list[int]:
        """Values that hold at least `share` of the voxels and twenty times their neighbours'."""
        often = (np.flatnonzero(self.counts >= max(1.0, share * self.total)) + self.low).tolist()
        around = (-3, -2, -1, 1, 2, 3)
        return [
            value
            for value in often
            if self.count(value) > 20 * np.mean([self.count(value + step) for step in around])
        ]

    def above(self, low: float) -> Histogram:
        """The same without the values below `low`."""
        counts = self.counts.copy()
        counts[: max(0, int(np.ceil(low)) - self.low)] = 0
        return Histogram(self.low, counts)

    def without(self, *values: float | None) -> Histogram:
        """The same without the voxels of these exact values."""
        counts = self.counts.copy()
        for value in values:
            if value is not None and 0 <= round(value) - self.low < len(counts):
                counts[round(value) - self.low] = 0
        return Histogram(self.low, counts)


@dataclass(frozen=True)
class Landmark:
    """A peak of the histogram that stands where a material of the body should."""

    name: str
    expected: float
    """Usual value of this material, HU."""
    found: float
    """Where the peak stands, in the file's values."""
    share: float
    """Share of the voxels within the material's range."""


def histogram(array: NDArray[Any], widest: float) -> tuple[float, float, Histogram | None]:
    """The lowest and the highest value of `array` (z, y, x), and how often each value occurs, slab
    by slab; None instead where the two are farther apart than `widest`."""
    if array.dtype == np.int16:
        found = _count_int16(array)
        low, high = float(found.first), float(found.last)
        return low, high, found if high - low <= widest else None
    low, high = float(array.min()), float(array.max())
    if high - low > widest:
        return low, high, None
    start = int(np.rint(low))
    counts = np.zeros(int(np.rint(high)) - start + 1, np.int64)
    for slab in array:
        whole = np.rint(slab).astype(np.int64).ravel() - start
        counts += np.bincount(whole, minlength=len(counts))
    return low, high, Histogram(start, counts)


def _count_int16(array: NDArray[np.int16]) -> Histogram:
    """From the lowest to the highest value; neither need be known beforehand.

    Read as unsigned the values are their own bins, negative ones last: nothing need be computed.
    """
    counts = np.zeros(2**16, np.int64)
    for slab in array:
        counts += np.bincount(slab.ravel().view(np.uint16), minlength=2**16)
    counts = np.roll(counts, 2**15)
    seen = np.flatnonzero(counts)
    return Histogram(int(seen[0]) - 2**15, counts[seen[0] : seen[-1] + 1].copy())


def misfit(hist: Histogram, offset: float) -> float:
    """Divergence, in nats, of the histogram from the best CT mixture if values are HU + offset."""
    hu, density = _binned(hist, offset, FIT_BLUR_HU)
    if not density.any():
        return float("inf")
    materials = _materials(hu)
    shares = np.full(len(materials), 1 / len(materials))
    for _ in range(ROUNDS):
        weighted = shares[:, None] * materials
        shares = (weighted / weighted.sum(0) * density).sum(1)
    model = (shares[:, None] * materials).sum(0) * BIN
    seen = density > 0
    return float((density[seen] * np.log(density[seen] / model[seen])).sum())


def _binned(hist: Histogram, offset: float, blur_hu: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """(HU at bin centres, share per bin), blurred, with room for the blur at both ends."""
    pad = 10
    first = int(np.floor((hist.low - offset) / BIN))
    values = hist.low - offset + np.arange(len(hist.counts))
    place = np.floor(values / BIN).astype(np.int64) - first + pad
    counts = np.bincount(place, weights=hist.counts, minlength=place[-1] + 1 + pad)
    density = gaussian_filter1d(counts, blur_hu / BIN, mode="constant")
    hu = (first - pad + np.arange(len(density)) + 0.5) * BIN
    return hu, density / max(1e-12, density.sum())


def _materials(hu: NDArray[Any]) -> NDArray[Any]:
    """(materials, bins): density per HU of each. Each peak comes sharp and broad, for any noise."""

    def peak(mean: float, width: float) -> NDArray[Any]:
        scaled = np.exp(-0.5 * ((hu - mean) / width) ** 2)
        return np.asarray(scaled / (width * np.sqrt(2 * np.pi)))

    bone = np.where((hu > 150) & (hu < 3100), np.exp(-(hu - 150) / 350) / 350, 0)
    mixed = ((hu > -950) & (hu < -150)) / 800.0
    anything = np.full_like(hu, 1 / 5400) * ((hu > -1400) & (hu < 4000)) + 1e-12
    places = [(-1000, 25), (-990, 50), (-850, 70), (-105, 28), (-100, 50), (40, 28), (45, 50)]
    peaks = [peak(mean, width) for mean, width in [*places, (130, 65)]]
    return np.stack([*peaks, mixed, bone, anything])


def find_landmarks(hist: Histogram, offset: float) -> tuple[Landmark, ...]:
    """The materials whose peak is seen, given that values are HU + offset."""
    hu, density = _binned(hist, offset, PEAK_BLUR_HU)
    peaks = _peaks(density)
    found = []
    for name, expected, low, high in LANDMARKS:
        inside = [p for p in peaks if low <= hu[p] <= high]
        share = hist.share(low + offset, high + offset)
        if inside and share >= 0.01:
            best = min(inside, key=lambda p: abs(float(hu[p]) - expected))
            found.append(Landmark(name, expected, float(hu[best]) + offset, round(share, 4)))
    return tuple(found)


def has_tissue_peak(hist: Histogram, offset: float) -> bool:
    """Whether a peak stands at fat, soft tissue or contrast, if values are HU + offset."""
    hu, density = _binned(hist, offset, FIT_BLUR_HU)
    return any(-150 <= hu[p] <= 200 for p in _peaks(density))


def _peaks(density: NDArray[Any]) -> NDArray[np.intp]:
    """Bins of the peaks that rise 2 % of the highest above their surroundings.

    As `scipy.signal.find_peaks(density, prominence=...)`, whose import takes half a second of every
    process that reads a CT.
    """
    least = 0.02 * density.max(initial=0.0)
    # A flat top counts once, at its middle.
    starts = np.flatnonzero(np.diff(density, prepend=np.nan) != 0)
    ends = np.append(starts[1:], len(density)) - 1
    heights = np.concatenate([[np.inf], density[starts], [np.inf]])
    tops = (heights[1:-1] > heights[:-2]) & (heights[1:-1] > heights[2:])
    middles = (starts + ends)[tops & (density[starts] >= least)] // 2
    found = [peak for peak in middles if _prominence(density, peak) >= least]
    return np.array(found, np.intp)


def _prominence(density: NDArray[Any], peak: int) -> float:
    """How far one must go down from a peak before one can climb higher, or to the end."""
    height = density[peak]
    higher = np.flatnonzero(density > height)
    place = int(np.searchsorted(higher, peak))
    first = higher[place - 1] + 1 if place > 0 else 0
    last = higher[place] if place < len(higher) else len(density)
    return float(height - max(density[first : peak + 1].min(), density[peak:last].min()))


def peak_offsets(hist: Histogram) -> list[float]:
    """Offsets that put one of the four highest peaks on air, fat or soft tissue."""
    values, density = _binned(hist, 0.0, FIT_BLUR_HU)
    peaks = _peaks(density)
    highest = sorted(peaks, key=lambda p: -float(density[p]))[:4]
    return [float(values[p]) - hu for p in highest for hu in (-1000.0, -100.0, 40.0)]
