"""Where a stack of findings lies in its CT, decided from the anatomy.

The released masks say nothing about it: their affine is the identity, or the CT's although two
axes were flipped. Trusting it can turn every lesion by 180 degrees about the body's axis, which no
comparison of shapes or affines notices. So both positions are tried, and four witnesses heard:

- sides: findings whose text names one side must lie on it (three quarters of their voxels)
- lung: findings of the lungs border on air inside the body, within 15 mm
- tissue: ground glass lies between lung and soft tissue, a pneumothorax is air
- edges: across its border a nodule is brighter than what is around it, emphysema darker

A witness must find one position clearly better. The text of a single finding is not enough: what
is seen must lean the same way, for a mask turned after a wrong sentence would hide the error for
good. If nobody is clear, or another witness leans the other way, the study is refused: a mask is
never turned, or left, on a guess.

Arrays are (z, y, x) in LPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError
from uvlm.imaging.geometry import to_lps
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.masks import Box, align, bounding_box
from uvlm.preprocessing.sources.rexgrounding_findings import Finding
from uvlm.text.sides import sides_in

if TYPE_CHECKING:
    from uvlm.imaging.nifti_stack import MaskStack

__all__ = ["Flip", "left_shares", "place"]

Flip = Literal["auto", "none", "xy"]
Points = NDArray[np.int64]

SAMPLE = 20_000
"""Voxels of a finding that are looked at."""

COARSE_MM = 4.0
NEAR_MM = 15.0
AIR_HU = -400

IN_PLANE = np.zeros((3, 3, 3), bool)
IN_PLANE[1] = [[False, True, False], [True, True, True], [False, True, False]]
"""Neighbours of a voxel within its slice."""

TYPICAL: dict[str, tuple[float, float]] = {"2c": (-600.0, 200.0), "2g": (-980.0, 60.0)}
"""HU of a category and how far it usually strays. Only of those that are like neither lung nor soft
tissue: by tissue alone a consolidation would fit the heart better than its own, aerated edge."""

EDGES: dict[str, int] = {
    "1a": 1, "1c": -1, "1d": 1, "1e": 1, "2a": 1, "2b": 1, "2c": 1, "2d": 1, "2g": -1,
}  # fmt: skip
"""Whether a category is brighter (1) or darker (-1) than the lung around it."""

EDGE_MM, EDGE_HU = 2.0, 50.0
"""Across a border, what is so far apart and differs by so much counts."""

AIRLESS = ("2b", "2e")
"""Categories that may reach far from air."""

ON_SIDE = 0.75
CLEAR: dict[str, tuple[float, float]] = {
    "lung": (0.7, 0.2), "tissue": (0.5, 0.2), "edges": (0.5, 0.4),
}  # fmt: skip
"""A witness is clear where the better position has the first, and is better by the second."""

LEANS = 0.5
"""At so much of `CLEAR` a witness leans to a position: that backs another or contradicts it. One
sentence alone may be wrong about its side, which a mask turned after it would hide for good."""

SENTENCES = 2
"""Findings that must name their side for the texts to decide alone."""


@dataclass(frozen=True)
class _Fit:
    """How well a position fits, by witness; None where it has nothing to say."""

    on_side: int
    off_side: int
    shares: dict[str, float]
    """Mean over the findings by the other witnesses, at most 1."""


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
        why = f"contradict each other ({_spoken(votes)})" if votes else "do not differ clearly"
        raise ImageError.about(
            path,
            "whether the masks are turned by 180 degrees about z cannot be told, for sides, lung, "
            f"tissue and edges {why} ({said})",
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
    from uvlm.preprocessing.facts import midline_of

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
    from uvlm.preprocessing.facts import midline_of

    box = bounding_box(lps)
    assert box is not None
    near, step = _near_lung(hu, spacing)
    midline = midline_of(hu)
    reach = np.maximum(1, np.rint(EDGE_MM / spacing[1:]).astype(np.int64))
    here: dict[Finding, tuple[Points, Points]] = {}
    for finding in findings:
        if finding.index < stack.count and (points := _points(lps, finding.index, box)).size:
            here[finding] = points, _across(lps, finding.index, points, reach)
    ends = np.array([0, lps.shape[1] - 1, lps.shape[2] - 1])
    there = {
        finding: (np.abs(ends - points), np.abs(ends - across))
        for finding, (points, across) in here.items()
    }
    none, xy = (_fit(places, hu, near, step, midline) for places in (here, there))
    return none, xy


def _points(bits: NDArray[Any], index: int, box: Box) -> Points:
    """(n, 3) voxels of a mask within `box`, at most twice `SAMPLE`, evenly chosen."""
    part = bits[box]
    flat = np.flatnonzero(part & part.dtype.type(1 << index))
    flat = flat[:: max(1, flat.size // SAMPLE)]
    start = np.array([each.start for each in box], np.int64)
    return np.stack(np.unravel_index(flat, part.shape), axis=1).astype(np.int64) + start


def _across(bits: NDArray[Any], index: int, points: Points, reach: NDArray[np.int64]) -> Points:
    """(n, 2, 3) pairs of a voxel inside the mask and one beyond its border, in plane."""
    weight = bits.dtype.type(1 << index)
    pairs = []
    for axis in (1, 2):
        for sign in (-1, 1):
            beyond = points.copy()
            beyond[:, axis] += sign * reach[axis - 1]
            kept = (beyond[:, axis] >= 0) & (beyond[:, axis] < bits.shape[axis])
            kept[kept] = (bits[tuple(beyond[kept].T)] & weight) == 0
            pairs.append(np.stack([points[kept], beyond[kept]], axis=1))
    return np.concatenate(pairs)


def _near_lung(
    hu: NDArray[Any], spacing: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Where air inside the body is near, on a coarse grid, and that grid's steps (z, y, x)."""
    # SciPy takes longer to load than the list of all sources may.
    from scipy import ndimage

    step = np.maximum(1, np.rint(COARSE_MM / spacing).astype(np.int64))
    coarse = hu[:: step[0], :: step[1], :: step[2]]
    # Slice by slice: air around the patient reaches the sides of the field of view, the lungs do
    # not; from slice to slice both may be joined, through the trachea.
    air, _ = ndimage.label(coarse < AIR_HU, IN_PLANE)
    sides = np.concatenate([air[:, [0, -1]].ravel(), air[:, :, [0, -1]].ravel()])
    inside = ~np.isin(air, np.append(np.unique(sides), 0))
    if not inside.any():
        return np.zeros(coarse.shape, bool), step
    away = ndimage.distance_transform_edt(~inside, sampling=spacing * step)
    return np.asarray(away <= NEAR_MM), step


def _fit(
    places: dict[Finding, tuple[Points, Points]],
    hu: NDArray[Any],
    near: NDArray[np.bool_],
    step: NDArray[np.int64],
    midline: float,
) -> _Fit:
    on_side = off_side = 0
    heard: dict[str, list[float]] = {name: [] for name in CLEAR}
    last = np.array(near.shape) - 1
    for finding, (points, across) in places.items():
        code = finding.code or ""
        sides = sides_in(finding.text)
        if len(sides) == 1:
            left = float(np.mean(points[:, 2] > midline))
            named = left if "left" in sides else 1 - left
            on_side += named >= ON_SIDE
            off_side += named <= 1 - ON_SIDE
        if code not in AIRLESS and len(across):
            # At the border: the core of a large mass is far from air, too.
            border = np.minimum(across[:, 0] // step, last)
            heard["lung"].append(float(near[tuple(border.T)].mean()))
        if code in TYPICAL:
            middle, width = TYPICAL[code]
            away = (hu[tuple(points.T)].astype(np.float64) - middle) / width
            heard["tissue"].append(float(np.exp(-(away**2) / 2).mean()))
        if code in EDGES and len(across):
            inside, beyond = (hu[tuple(across[:, k].T)].astype(np.float64) for k in (0, 1))
            rise = (inside - beyond) * EDGES[code]
            heard["edges"].append(float((rise > EDGE_HU).mean() - (rise < -EDGE_HU).mean()))
    return _Fit(
        on_side, off_side, {name: float(np.mean(each)) for name, each in heard.items() if each}
    )


def _votes(none: _Fit, xy: _Fit) -> dict[str, Flip]:
    """Witness to the position it leans to; none at all where nobody is clear."""
    votes: dict[str, Flip] = {}
    said = (none.on_side - none.off_side, xy.on_side - xy.off_side)
    if max(said) > 0 and min(said) < 0:
        votes["sides"] = "none" if said[0] > said[1] else "xy"
    sided = bool(votes)
    clear = sided and max(said) >= SENTENCES
    for name in [each for each in CLEAR if each in none.shares and each in xy.shares]:
        first, second = none.shares[name], xy.shares[name]
        better, gain = max(first, second), abs(first - second)
        enough, more = CLEAR[name]
        if better >= LEANS * enough and gain >= LEANS * more:
            votes[name] = "none" if first > second else "xy"
            clear |= sided or (better >= enough and gain >= more)
    return votes if clear else {}


def _spoken(votes: dict[str, Flip]) -> str:
    return ", ".join(f"{name} {flip}" for name, flip in votes.items())


def _describe(none: _Fit, xy: _Fit) -> str:
    """Numbers of both positions, without any text of the report."""
    parts = []
    for name, fit in (("none", none), ("xy", xy)):
        shares = [f"{witness} {share:.2f}" for witness, share in fit.shares.items()]
        sides = f"{fit.on_side} findings on the side they name and {fit.off_side} opposite"
        parts.append(f"{name}: {', '.join([sides, *shares])}")
    return "; ".join(parts)
