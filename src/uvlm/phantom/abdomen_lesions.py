"""Cysts and tumours of liver, kidneys and pancreas."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uvlm.phantom.canvas import Box, Canvas, Triple, around
from uvlm.registry import ABDOMEN_LABELS

__all__ = ["ORGANS", "Lesion", "draw_lesions"]

ORGANS: dict[str, tuple[str, str, str]] = {
    label: organ
    for label, organ in zip(
        ABDOMEN_LABELS,
        (
            ("liver", "liver_segment_", "liver_lesion"),
            ("kidney", "kidney_", "kidney_lesion"),
            ("pancreas", "pancreas_", "pancreatic_lesion"),
        ),
        strict=True,
    )
}
"""Label -> (organ, prefix of its structures, class of its lesions)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesion:
    """One lesion as drawn."""

    organ: str
    """"liver", "kidney" or "pancreas"."""
    kind: str
    """"cyst", "tumor", "PDAC" or "PNET"."""
    diameters_mm: tuple[float, float]
    """Largest axial diameter and the one perpendicular to it."""
    centre: Triple
    location: str
    """Structure in which its centre lies, such as "liver_segment_4"."""
    box: Box
    inside: NDArray[np.bool_]
    """Its voxels inside `box`."""


def draw_lesions(
    canvas: Canvas,
    classes: Mapping[str, int],
    hu: Mapping[str, float],
    rng_of: Callable[[str], np.random.Generator],
    labels: Collection[str],
    sizes: Mapping[str, tuple[float, float]],
) -> tuple[Lesion, ...]:
    """Paint the lesions that `labels` ask for; largest first within an organ."""
    drawn: list[Lesion] = []
    for label, (organ, prefix, target) in ORGANS.items():
        if label not in labels:
            continue
        rng = rng_of(label)
        values = {
            value: name
            for name, value in classes.items()
            if name.startswith(prefix) and name != target
        }
        count = int(rng.choice([1, 1, 2, 3])) if organ != "pancreas" else 1
        low, high = sizes[label]
        widths = np.sort(rng.uniform(low, high, count))[::-1]
        widths[1:] = np.maximum(low, 0.6 * widths[1:])
        for width in widths:
            lesion = _lesion(canvas, organ, values, float(width), hu[organ], classes[target], rng)
            drawn.append(lesion)
    return tuple(drawn)


def _lesion(
    canvas: Canvas,
    organ: str,
    values: Mapping[int, str],
    width: float,
    parenchyma: float,
    target: int,
    rng: np.random.Generator,
) -> Lesion:
    kinds = ["cyst", "PDAC", "PDAC", "PNET"] if organ == "pancreas" else ["cyst", "tumor"]
    kind = str(rng.choice(kinds))
    radii = (0.5 * width * rng.uniform(0.85, 1.1), 0.5 * width * rng.uniform(0.75, 0.95), width / 2)
    if rng.random() < 0.5:
        radii = (radii[0], radii[2], radii[1])
    centre, location = _place(canvas, values, max(radii), rng)
    patch = canvas.small_ellipsoid(centre, radii)
    if kind == "cyst":
        value = rng.uniform(2, 14)
    elif kind == "PNET":
        value = parenchyma + rng.uniform(65, 90)
    else:
        value = parenchyma - rng.uniform(58, 68)
    limit = patch.most(0.4)
    canvas.paint(patch, value, target, at_least=limit)
    axial = sorted((2 * radii[1], 2 * radii[2]), reverse=True)
    return Lesion(
        organ=organ,
        kind=kind,
        diameters_mm=(axial[0], axial[1]),
        centre=centre,
        location=location,
        box=patch.box,
        inside=patch.filled >= limit,
    )


def _place(
    canvas: Canvas, values: Mapping[int, str], reach: float, rng: np.random.Generator
) -> tuple[Triple, str]:
    """Of 60 random places in the organ, the one with most of it around."""
    grid = canvas.grid
    organ = np.isin(canvas.mask, list(values))
    cells = np.flatnonzero(organ)
    tried: list[tuple[float, Triple, str]] = []
    for cell in cells[(rng.random(60) * len(cells)).astype(np.int64)]:
        index = np.unravel_index(cell, grid.shape)
        z, y, x = (o + s * int(i) for o, s, i in zip(grid.origin, grid.spacing, index, strict=True))
        box = grid.box(*around((z, y, x), reach))
        # Random among places where the lesion fits, so that all of an organ is used.
        fit = min(0.8, float(organ[box].mean())) + 0.05 * float(rng.random())
        tried.append((fit, (z, y, x), values[int(canvas.mask[index])]))
    _, place, name = max(tried)
    return place, name
