"""Abnormalities spread through the lungs: emphysema, mosaic attenuation, septal lines, patches."""

from __future__ import annotations

import numpy as np

from uvlm.phantom.canvas import Floats, Patch, around, coverage
from uvlm.phantom.classes import CHEST_CLASSES, Finding, label_class
from uvlm.phantom.measures import graded, widest
from uvlm.phantom.scene import Scene
from uvlm.phantom.texture import smooth_field

__all__ = ["consolidation", "emphysema", "lung_opacity", "mosaic", "septal_lines"]

Size = tuple[float, float]
FULL = (slice(None), slice(None), slice(None))


def _class(label: str) -> int:
    return CHEST_CLASSES[label_class(label)]


def mosaic(scene: Scene, size: Size) -> Finding:
    """Patches of trapped air beside denser lung, in both lungs."""
    rng = scene.rng("mosaic")
    field = smooth_field(rng, scene.canvas.grid, rng.uniform(*size))
    dark = np.clip((field - 0.25) * 2.5 + 0.5, 0, 1)
    gap = rng.uniform(130, 170)
    scene.tissue += 0.42 * gap - gap * dark
    region = scene.lung * dark
    scene.canvas.mask[region >= 0.5] = _class("Mosaic attenuation pattern")
    return Finding(
        label="Mosaic attenuation pattern", side="bilateral", severity=graded(gap, 142, 158)
    )


def emphysema(scene: Scene, size: Size) -> Finding:
    """Low-density foci and bullae, densest in the upper lobes and under the pleura."""
    rng = scene.rng("emphysema")
    grid, body = scene.canvas.grid, scene.body
    grade = rng.uniform(0.0, 1.0)
    n = int(26 + 34 * grade)
    foci = np.zeros(grid.shape, dtype=np.float32)
    z, _, _ = grid.axes
    height = np.clip((z / body.height - 0.25) / 0.5, 0.05, 1) ** 2
    weight = ((scene.lobes > 0) * height * (0.3 + scene.rim) * scene.lung).ravel()
    total = np.cumsum(weight, dtype=np.float64)
    cells = np.searchsorted(total, rng.random(n) * total[-1])
    for index in np.stack(np.unravel_index(cells, grid.shape), axis=1):
        z0, y0, x0 = (
            o + s * float(i) for o, s, i in zip(grid.origin, grid.spacing, index, strict=True)
        )
        r = 0.5 * (size[0] + (size[1] * (0.7 + 0.5 * grade) - size[0]) * rng.random() ** 1.5)
        focus = scene.canvas.ellipsoid((z0, y0, x0), (r * 1.2, r, r))
        region = foci[focus.box]
        np.maximum(region, focus.filled, out=region)
    upper = np.isin(scene.lobes, (1, 3)) * np.float32(0.35 + 0.25 * grade)
    scene.fill(Patch(FULL, np.maximum(foci, upper)), -985.0)
    scene.canvas.mask[foci * scene.lung >= 0.5] = _class("Emphysema")
    kind = "bullous" if grade > 0.6 else "centriacinar"
    return Finding(
        label="Emphysema",
        kind=kind,
        side="bilateral",
        lobes=(3, 1),
        severity=graded(grade, 0.35, 0.75),
    )


def septal_lines(scene: Scene, size: Size) -> Finding:
    """Thickened septa outlining lobules, in the outer and lower lung of both sides."""
    rng = scene.rng("septa")
    grid = scene.canvas.grid
    period = rng.uniform(max(size[0], 0.75 * size[1]), size[1])
    zone_low = grid.box((-1e3, -1e3, -1e3), (0.54 * scene.body.height, 1e3, 1e3))
    z, y, x = grid.local(zone_low)
    bend = [0.30 * period * smooth_field(rng, grid, 1.5 * period, zone_low) for _ in range(3)]
    thick = np.float32(rng.uniform(2.4, 3.2))
    filled = np.zeros_like(bend[0])
    # Three families of warped planes meet as the walls of lobules do.
    # Most stand upright, as the septa that reach the pleura do in axial slices.
    for normal, warp in zip(
        ((0.10, 0.60, 0.79), (0.10, -0.86, 0.50), (0.97, 0.17, -0.17)), bend, strict=True
    ):
        depth = normal[0] * z + normal[1] * y + normal[2] * x + warp
        lines = np.abs(np.mod(depth, period) - period / 2)
        span = np.float32(sum(abs(n) * s for n, s in zip(normal, grid.spacing, strict=True)))
        wall = np.clip(0.5 + (thick / 2 - lines) / span, 0, thick / span)
        np.maximum(filled, wall, out=filled)
    outer = np.clip((scene.rim[zone_low] - 0.28) / 0.12, 0, 1)
    outer *= np.clip((0.52 * scene.body.height - z) / 14, 0, 1)
    filled *= outer
    scene.fill(Patch(zone_low, outer * 0.10), -300.0)
    limit = 0.6 * float(filled.max(initial=0.0)) + 1e-6
    scene.fill(Patch(zone_low, filled), 20.0, _class("Interlobular septal thickening"), limit)
    return Finding(
        label="Interlobular septal thickening", side="bilateral", lobes=(5, 2), size_mm=0.0
    )


def _blob(
    scene: Scene, rng: np.random.Generator, lobe: int, diameter: float, rim: tuple[float, float]
) -> Patch:
    """An irregular patch of about `diameter` mm inside one lobe."""
    canvas = scene.canvas
    centre = scene.point_in_lobe(rng, lobe, rim)
    r = diameter / 2
    radii = (r * rng.uniform(0.8, 1.1), r * rng.uniform(0.8, 1.0), r)
    box = canvas.grid.box(*around(centre, r * 1.35))
    z, y, x = canvas.grid.local(box)
    away: Floats = np.sqrt(
        ((z - centre[0]) / radii[0]) ** 2
        + ((y - centre[1]) / radii[1]) ** 2
        + ((x - centre[2]) / radii[2]) ** 2
    ).astype(np.float32)
    ragged = 0.16 * smooth_field(rng, canvas.grid, 14.0, box)
    return scene.inside_lobe(Patch(box, coverage(away - 1 - ragged)), (lobe,))


def lung_opacity(scene: Scene, size: Size) -> Finding:
    """Ground-glass patches, mostly under the pleura."""
    rng = scene.rng("opacity")
    free = [lobe for lobe in range(1, 6) if lobe not in scene.busy]
    n = min(len(free), int(rng.choice([1, 1, 2, 3, 4])))
    lobes = [int(lobe) for lobe in rng.permutation(free)[:n]]
    largest = 0.0
    hu = rng.uniform(-600, -480)
    value = hu + 45 * smooth_field(rng, scene.canvas.grid, 11.0)
    for lobe in lobes:
        patch = _blob(scene, rng, lobe, rng.uniform(size[0] + 8, size[1]), (0.2, 0.85))
        scene.fill(patch, value[patch.box], _class("Lung opacity"))
        largest = max(largest, widest(patch, scene.canvas.grid))
    scene.busy.update(lobes)
    return Finding(
        label="Lung opacity", side=side_of(lobes), lobes=tuple(lobes), count=n, size_mm=largest
    )


def consolidation(scene: Scene, size: Size) -> Finding:
    """Airless lung in one lobe; the bronchi drawn afterwards stay open."""
    rng = scene.rng("consolidation")
    lobe = int(rng.choice([5, 2, 4, 3, 1], p=[0.3, 0.3, 0.15, 0.15, 0.1]))
    patch = _blob(scene, rng, lobe, rng.uniform(size[0] + 10, size[1]), (0.16, 0.6))
    texture = smooth_field(rng, scene.canvas.grid, 10.0, patch.box)
    scene.fill(patch, 38.0 + 12 * texture, _class("Consolidation"))
    scene.busy.add(lobe)
    return Finding(
        label="Consolidation",
        side=side_of([lobe]),
        lobes=(lobe,),
        size_mm=widest(patch, scene.canvas.grid),
    )


def side_of(lobes: list[int]) -> str:
    """ "left", "right" or "bilateral" of mask values of lobes."""
    sides = {"left" if lobe < 3 else "right" for lobe in lobes}
    return "bilateral" if len(sides) == 2 else sides.pop()
