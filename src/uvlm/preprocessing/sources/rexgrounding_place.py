"""Where a stack of findings lies in its CT, decided from the anatomy.

The released masks say nothing about it: their affine is the identity, or the CT's although two
axes were flipped. Trusting it can turn every lesion by 180 degrees about the body's axis, which no
comparison of shapes or affines notices. So both positions are tried, and three witnesses heard:

- sides: findings whose text names one side must lie on it (three quarters of their voxels)
- lung: findings of the lungs lie within 15 mm of air inside the body
- tissue: voxels of emphysema are darker than lung, of effusion like water, of ground glass between

A witness speaks only where one position fits clearly better. If none speaks, or they contradict
each other, the study is refused: a mask is never turned, or left, on a guess.

Arrays are (z, y, x) in LPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.errors import ImageError
from uvlm.imaging.geometry import to_lps
from uvlm.imaging.nifti_stack import MaskStack
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.facts import midline_of
from uvlm.preprocessing.masks import align
from uvlm.preprocessing.sources.rexgrounding_findings import Finding
from uvlm.text.sides import sides_in

__all__ = ["Flip", "left_shares", "place"]

Flip = Literal["auto", "none", "xy"]
Points = NDArray[np.int64]

SAMPLE = 20_000
"""Voxels of a finding that are looked at."""

COARSE_MM = 4.0
NEAR_MM = 15.0
AIR_HU = -400

TYPICAL: dict[str, tuple[float, float]] = {
    "1c": (-900.0, 100.0),
    "2b": (-100.0, 300.0),
    "2c": (-550.0, 200.0),
    "2e": (10.0, 80.0),
    "2f": (-600.0, 250.0),
    "2g": (-980.0, 60.0),
}
"""HU of a category and how far it usually strays; the others look like what is around them."""

ON_SIDE = 0.75
CLEAR_LUNG = (0.7, 0.2)
CLEAR_TISSUE = (0.5, 0.2)
"""A witness speaks where the better position has the first, and is better by the second."""


@dataclass(frozen=True)
class _Fit:
    """How well a position fits, by witness; None where it has nothing to say."""

    on_side: int
    off_side: int
    lung: float
    tissue: float | None


def place(
    stack: MaskStack, image: Volume, findings: Sequence[Finding], flip: Flip, path: str
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The stack's bits on the grid of `image` (z, y, x, its own axis order), and what was found.

    Args:
        flip: "none" takes voxels where the affine puts them, or where it says nothing at the same
            place in the array; "xy" turns them from there by 180 degrees about the body's axis;
            "auto" decides between the two.

    Raises:
        ImageError: another grid, or with "auto" no clear decision.
    """
    bits, how = _as_stored(stack, image, path)
    if flip != "auto":
        notes = (f"{how} Mask flip {flip!r}, as asked.",)
        return (bits if flip == "none" else _turned(bits, image)), notes
    if not bits.any():
        return bits, (how,)
    turn = to_lps(image)[1]
    hu, lps = turn.apply(image.array), turn.apply(bits)
    spacing = np.array([np.linalg.norm(image.affine[:3, 2 - axis]) for axis in turn.order])
    none, xy = _evidence(stack, lps, hu, spacing, findings)
    votes = _votes(none, xy)
    said = _describe(none, xy)
    if len(set(votes.values())) != 1:
        why = f"contradict each other ({_spoken(votes)})" if votes else "show no clear difference"
        raise ImageError.about(
            path,
            f"whether the masks are turned by 180 degrees about z cannot be told: the findings' "
            f"sides, the lungs and the tissue {why}: {said}",
            "Look at the study and give --mask-flip none or xy, or leave it out.",
        )
    (found,) = set(votes.values())
    notes = (f"{how} Mask flip {found!r} by {', '.join(votes)}: {said}.",)
    return (bits if found == "none" else _turned(bits, image)), notes


def left_shares(bits: NDArray[Any], count: int, image: Volume) -> list[float | None]:
    """Of each mask the share of its voxels left of the body's midline; None for an empty one.

    Args:
        bits: (z, y, x) on the grid of `image`
    """
    turn = to_lps(image)[1]
    midline = midline_of(turn.apply(image.array))
    columns = [np.zeros(turn.apply(bits).shape[2], np.int64) for _ in range(count)]
    for plane in turn.apply(bits):
        if plane.any():
            for n, column in enumerate(columns):
                column += np.count_nonzero(plane & plane.dtype.type(1 << n), axis=0)
    # A voxel from x - 0.5 to x + 0.5 may lie on both sides.
    weight = np.clip(np.arange(len(columns[0])) + 0.5 - midline, 0, 1) if columns else 0
    return [float(c @ weight / c.sum()) if c.any() else None for c in columns]


def _as_stored(stack: MaskStack, image: Volume, path: str) -> tuple[NDArray[Any], str]:
    """The bits where the affine puts them, or else by place in the array; and a sentence."""
    source = Provenance(path=path, format="nifti", checksum=stack.checksum)
    mask = Volume(array=stack.bits, affine=stack.affine, provenance=source)
    if stack.placed:
        try:
            aligned, notes = align(mask, image)
            return aligned.array, " ".join(notes) or "The mask's affine is the image's."
        except ImageError:
            if stack.bits.shape != image.shape:
                raise
    if stack.bits.shape != image.shape:
        align(replace(mask, affine=image.affine), image)
    said = "is not the image's" if stack.placed else "says nothing"
    return stack.bits, f"The mask's affine {said}; voxels were matched by place in the array."


def _turned(bits: NDArray[Any], image: Volume) -> NDArray[Any]:
    turn = to_lps(image)[1]
    return turn.undo(turn.apply(bits)[:, ::-1, ::-1])


def _evidence(
    stack: MaskStack,
    lps: NDArray[Any],
    hu: NDArray[Any],
    spacing: NDArray[np.float64],
    findings: Sequence[Finding],
) -> tuple[_Fit, _Fit]:
    """Of the position as stored, and of the one turned."""
    near, step = _near_lung(hu, spacing)
    midline = midline_of(hu)
    here: dict[Finding, Points] = {}
    for finding in findings:
        if finding.index < stack.count and (points := _points(lps, finding.index)).size:
            here[finding] = points
    ends = np.array([0, lps.shape[1] - 1, lps.shape[2] - 1])
    there = {finding: np.abs(ends - points) for finding, points in here.items()}
    none, xy = (_fit(points, hu, near, step, midline) for points in (here, there))
    return none, xy


def _points(bits: NDArray[Any], index: int) -> Points:
    """(n, 3) voxels of a mask, at most `SAMPLE`, evenly chosen."""
    flat = np.flatnonzero(bits & bits.dtype.type(1 << index))
    flat = flat[:: max(1, flat.size // SAMPLE)]
    return np.stack(np.unravel_index(flat, bits.shape), axis=1)


def _near_lung(
    hu: NDArray[Any], spacing: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Where air inside the body is near, on a coarse grid, and that grid's steps (z, y, x)."""
    step = np.maximum(1, np.rint(COARSE_MM / spacing).astype(np.int64))
    coarse = hu[:: step[0], :: step[1], :: step[2]]
    air, _ = ndimage.label(coarse < AIR_HU)
    # Air around the patient reaches the sides of the field of view; the lungs only its ends.
    sides = np.concatenate([air[:, [0, -1]].ravel(), air[:, :, [0, -1]].ravel()])
    inside = ~np.isin(air, np.append(np.unique(sides), 0))
    if not inside.any():
        return np.zeros(coarse.shape, bool), step
    away = ndimage.distance_transform_edt(~inside, sampling=spacing * step)
    return np.asarray(away <= NEAR_MM), step


def _fit(
    places: dict[Finding, Points],
    hu: NDArray[Any],
    near: NDArray[np.bool_],
    step: NDArray[np.int64],
    midline: float,
) -> _Fit:
    on_side = off_side = 0
    lung, tissue = [], []
    last = np.array(near.shape) - 1
    for finding, points in places.items():
        sides = sides_in(finding.text)
        if len(sides) == 1:
            left = float(np.mean(points[:, 2] > midline))
            named = left if "left" in sides else 1 - left
            on_side += named >= ON_SIDE
            off_side += named <= 1 - ON_SIDE
        lung.append(float(near[tuple(np.minimum(points // step, last).T)].mean()))
        typical = TYPICAL.get(finding.code or "")
        if typical is not None:
            away = (hu[tuple(points.T)].astype(np.float64) - typical[0]) / typical[1]
            tissue.append(float(np.exp(-(away**2) / 2).mean()))
    return _Fit(on_side, off_side, float(np.mean(lung)), float(np.mean(tissue)) if tissue else None)


def _votes(none: _Fit, xy: _Fit) -> dict[str, Flip]:
    """Witness to the position it speaks for."""
    votes: dict[str, Flip] = {}
    said = (none.on_side - none.off_side, xy.on_side - xy.off_side)
    if max(said) > 0 and min(said) < 0:
        votes["the sides named in the texts"] = "none" if said[0] > said[1] else "xy"
    for name, pair, (enough, more) in (
        ("the distance to the lungs", (none.lung, xy.lung), CLEAR_LUNG),
        ("the tissue", (none.tissue, xy.tissue), CLEAR_TISSUE),
    ):
        first, second = pair
        if first is None or second is None:
            continue
        if max(first, second) >= enough and abs(first - second) >= more:
            votes[name] = "none" if first > second else "xy"
    return votes


def _spoken(votes: dict[str, Flip]) -> str:
    return "; ".join(f"{name}: {flip}" for name, flip in votes.items())


def _describe(none: _Fit, xy: _Fit) -> str:
    """Numbers of both positions, without any text of the report."""
    parts = []
    for name, fit in (("none", none), ("xy", xy)):
        tissue = "unknown" if fit.tissue is None else f"{fit.tissue:.2f}"
        parts.append(
            f"{name}: {fit.on_side} findings on the named side and {fit.off_side} opposite, "
            f"{fit.lung:.2f} near the lungs, tissue {tissue}"
        )
    return "; ".join(parts)
