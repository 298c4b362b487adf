"""Which part of the body a CT shows, from tissue fractions along z.

The volume is turned to LPS and averaged to blocks of about 4 mm. In each axial slice the body is
the largest piece of tissue with everything inside it, and five numbers decide what the slice is:

    lung     share of the body that is lung-dense air (-980 to -450 HU), thin rims opened away
    bone     share above 280 HU;  lateral: the same, farther than 0.18 body widths from the middle,
             where a tenth of it exceeds 500 HU: contrast medium in kidneys and bowel seldom does
    ring     share enclosed by bone: a skull encloses most of its slice, a spine next to nothing
    width    of the body in mm;  pieces: bodies of similar size (two thighs, two feet)

A slice is `head` when ring is at least 0.4; `extremity` with two pieces, or narrower than 200 mm
with at least 5 % bone; `pelvis` with at least 1.5 % lateral bone and under 4 % lung, unless 40 mm
of abdomen lie below it (then it is kidneys or bowel full of contrast medium); otherwise `abdomen`.
A run of slices with at least 8 % lung is `chest` if it reaches 25 % somewhere or is
80 mm long: lungs full of fluid still run on, while the lung bases over the liver are short. Slices
above the highest chest slice belong to the chest too (apices, shoulders).

Lengths in mm are then summed. The region is chest, abdomen or both: each that covers half of the
study, or 100 mm of chest, or 150 mm of abdomen (a chest CT ends within the upper abdomen).
Otherwise it is the longest part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.imaging.geometry import to_lps
from uvlm.imaging.volume import Volume

__all__ = ["RegionGuess", "likely_region"]

BLOCK_MM = 4.0
PARTS = ("head", "chest", "abdomen", "pelvis", "extremity")
LONG_ENOUGH_MM = {"chest": 100.0, "abdomen": 150.0}
SOME_LUNG, MUCH_LUNG, LONG_LUNG_MM = 0.08, 0.25, 80.0
COMPACT_HU, COMPACT_SHARE = 500.0, 0.1
ABDOMEN_BELOW_MM = 40.0
MIN_BODY_CM2 = 20.0
MIN_BONE = 0.001
LOWEST, HIGHEST, PADDED = -1100, 2000, -3000
"""HU that block means are clipped to, and what stands for padding in them."""

OUTSIDE_AIR_HU = -930.0
"""Air open to the border of the picture is outside the body below this, lung cut by it above."""


@dataclass(frozen=True)
class RegionGuess:
    """The likely region, and how it was reached."""

    name: str
    """"chest", "abdomen", "chest+abdomen", "head", "pelvis", "extremity" or "unknown"."""

    scores: dict[str, float]
    """Share of the body's length along z that looks like each part."""

    coverage_mm: dict[str, float]
    """The same in millimetres, parts that do not occur left out."""


@dataclass(frozen=True)
class _Slice:
    area_cm2: float
    width_mm: float
    pieces: int
    lung: float
    bone: float
    lateral: float
    ring: float


def likely_region(
    volume: Volume, *, offset: float = 0.0, padding: float | None = None
) -> RegionGuess:
    """Guess the region of `volume`, whose values are HU + `offset` except where `padding`."""
    turned, _ = to_lps(volume)
    steps = tuple(
        min(n, max(1, int(BLOCK_MM // step)))
        for n, step in zip(turned.shape, turned.spacing, strict=True)
    )
    dz, dy, dx = (step * k for step, k in zip(turned.spacing, steps, strict=True))
    slabs = _blocks(turned.array, (steps[0], steps[1], steps[2]), offset, padding)
    slices = [_measure(slab, dy, dx) for slab in slabs]
    found = [s for s in slices if s is not None]
    if not found or _bare(found):
        return RegionGuess("unknown", {}, {})
    parts = _parts(found, dz)
    length = {part: parts.count(part) * dz for part in PARTS if part in parts}
    total = sum(length.values())
    scores = {part: round(mm / total, 3) for part, mm in length.items()}
    covered = {part: round(mm, 1) for part, mm in length.items()}
    return RegionGuess(_name(length, total), scores, covered)


def _bare(slices: list[_Slice]) -> bool:
    """Neither bone nor lung anywhere: a test object, or a crop of one organ."""
    return all(s.bone < MIN_BONE and s.lung < 0.04 for s in slices)


def _blocks(
    array: NDArray[Any], steps: tuple[int, int, int], offset: float, padding: float | None
) -> NDArray[np.float32]:
    """Means over blocks of `steps` voxels in HU; far below -1000 where padding prevails.

    Sums of whole numbers are taken as such: faster than in floating point, and exact.
    """
    kz, ky, kx = steps
    nz, ny, nx = (n // k for n, k in zip(array.shape, steps, strict=True))
    whole = array.dtype.kind in "iu" and offset == round(offset)
    kind: type[np.int32] | type[np.float32] = np.int32 if whole else np.float32
    wide = np.int64 if whole else np.float64  # a block may be as large as the volume
    shift = kind(offset)
    result = np.empty((nz, ny, nx), np.float32)
    for z in range(nz):
        rows = np.zeros((ny, nx * kx), kind)
        for plane in array[z * kz : (z + 1) * kz, : ny * ky, : nx * kx]:
            hu = plane.astype(kind)
            hu -= shift
            np.clip(hu, LOWEST, HIGHEST, out=hu)
            if padding is not None:
                hu[plane == padding] = PADDED
            rows += hu.reshape(ny, ky, -1).sum(axis=1, dtype=kind)
        # One column of every block at a time: a sum over a short last axis takes ten times as long.
        total = sum((rows[:, k::kx] for k in range(kx)), np.zeros((ny, nx), wide))
        result[z] = total / np.float32(kz * ky * kx)
    return result


def _measure(hu: NDArray[np.float32], dy: float, dx: float) -> _Slice | None:
    """The numbers of one slice (y, x), or None where there is no body."""
    fine = max(dy, dx) <= 5.0  # opening coarser pixels would remove limbs, not rims
    tissue = hu > -300
    if fine:
        tissue = _dilated(_eroded(tissue))
    pieces, count = ndimage.label(tissue)
    if count == 0:
        return None
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    body = _fill(hu, (sizes >= 0.2 * sizes.max())[pieces])
    area = int(body.sum())
    if area * dy * dx / 100 < MIN_BODY_CM2:
        return None
    calm = ndimage.uniform_filter(hu, 3) if fine else hu
    lung = body & (calm > -980) & (calm < -450)
    if fine:
        lung = _dilated(_eroded(lung, corners=True), corners=True)
    bone = body & (hu > 280)
    columns = np.flatnonzero(body.any(axis=0))
    width = len(columns) * dx
    aside = np.abs(np.arange(hu.shape[1]) - columns.mean()) * dx > 0.18 * width
    lateral = hu[bone & aside]
    if (lateral > COMPACT_HU).sum() < COMPACT_SHARE * lateral.size:
        lateral = lateral[:0]
    enclosed = _enclosed(_eroded(_dilated(bone)))
    return _Slice(
        area_cm2=area * dy * dx / 100,
        width_mm=width,
        pieces=int((sizes >= 0.5 * sizes.max()).sum()),
        lung=float(lung.sum()) / area,
        bone=float(bone.sum()) / area,
        lateral=lateral.size / area,
        ring=float(enclosed.sum()) / area,
    )


def _eroded(picture: NDArray[np.bool_], corners: bool = False) -> NDArray[np.bool_]:
    """Pixels all of whose four neighbours are set, or eight with `corners`; beyond the border
    nothing is. As `scipy.ndimage.binary_erosion`, which takes ten times as long."""
    return _with_neighbours(picture, np.logical_and, corners)


def _dilated(picture: NDArray[np.bool_], corners: bool = False) -> NDArray[np.bool_]:
    """Pixels that are set or have such a neighbour. As `scipy.ndimage.binary_dilation`."""
    return _with_neighbours(picture, np.logical_or, corners)


def _with_neighbours(
    picture: NDArray[np.bool_], join: Callable[..., Any], corners: bool
) -> NDArray[np.bool_]:
    high, wide = picture.shape
    framed = np.zeros((high + 2, wide + 2), np.bool_)
    framed[1:-1, 1:-1] = picture
    result = join(join(framed[:-2], framed[1:-1]), framed[2:])
    beside = result if corners else framed[1:-1]
    return np.asarray(join(join(result[:, 1:-1], beside[:, :-2]), beside[:, 2:]))


def _fill(hu: NDArray[np.float32], tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tissue and the air it encloses, lungs cut by the border of the picture included."""
    padded = hu <= -1150
    air, count = ndimage.label(~tissue & ~padded)
    # The circle of a scanner's field of view is a border too.
    beside_padding = _dilated(padded) if padded.any() else padded
    open_air = np.zeros(count + 1, bool)
    open_air[air[beside_padding]] = True
    open_air[_around(air)] = True
    outside = open_air & _half_below(hu, air, count, OUTSIDE_AIR_HU)
    outside[0] = True  # tissue and padding
    filled: NDArray[np.bool_] = tissue | ~outside[air]
    return filled


def _around(picture: NDArray[Any]) -> NDArray[Any]:
    """The values along the border."""
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def _half_below(
    hu: NDArray[np.float32], pieces: NDArray[Any], count: int, limit: float
) -> NDArray[np.bool_]:
    """(count + 1,) whether the median of each piece is below `limit`; counting is fast, sorting is
    needed where exactly half of the values are."""
    size = np.bincount(pieces.ravel(), minlength=count + 1)
    below = np.bincount(pieces[hu < limit], minlength=count + 1)
    result: NDArray[np.bool_] = 2 * below > size
    for piece in np.flatnonzero((2 * below == size) & (size > 0)):
        result[piece] = np.median(hu[pieces == piece]) < limit
    return result


def _enclosed(bone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`bone` and all that it cuts off from the border of the picture."""
    free, count = ndimage.label(~bone)
    reached = np.zeros(count + 1, bool)
    reached[_around(free)] = True
    reached[0] = False
    return np.asarray(~reached[free])


def _parts(slices: list[_Slice], dz: float) -> list[str]:
    """The part each slice belongs to; slices run from the feet to the head."""
    parts = [_part(s) for s in slices]
    below = np.cumsum([part == "abdomen" for part in parts]) * dz
    for place in np.flatnonzero(below >= ABDOMEN_BELOW_MM):
        parts[place] = "abdomen" if parts[place] == "pelvis" else parts[place]
    runs, _ = ndimage.label([s.lung >= SOME_LUNG for s in slices])
    for (run,) in ndimage.find_objects(runs):
        much = any(s.lung >= MUCH_LUNG for s in slices[run])
        if much or (run.stop - run.start) * dz >= LONG_LUNG_MM:
            parts[run] = ["chest"] * (run.stop - run.start)
    if "chest" in parts:
        top = len(parts) - 1 - parts[::-1].index("chest")
        above = ["chest" if part in ("abdomen", "pelvis") else part for part in parts[top:]]
        parts[top:] = above
    return parts


def _part(s: _Slice) -> str:
    """What a slice is, lungs apart."""
    if s.ring >= 0.4:
        return "head"
    if s.lung < SOME_LUNG and (s.pieces >= 2 or (s.width_mm < 200 and s.bone >= 0.05)):
        return "extremity"
    return "pelvis" if s.lateral >= 0.015 and s.lung < 0.04 else "abdomen"


def _name(length: dict[str, float], total: float) -> str:
    trunk = [
        part
        for part, enough in LONG_ENOUGH_MM.items()
        if length.get(part, 0.0) >= min(enough, total / 2)
    ]
    return "+".join(trunk) or max(length, key=lambda part: length[part])
