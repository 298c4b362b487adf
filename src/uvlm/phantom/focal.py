"""Focal abnormalities of lung, airways and pleura."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uvlm.phantom.anatomy import barrel
from uvlm.phantom.canvas import Patch, Triple, around, coverage, sheet
from uvlm.phantom.classes import CHEST_CLASSES, Finding, label_class
from uvlm.phantom.measures import graded, thickest
from uvlm.phantom.parenchyma import FULL, Size, side_of
from uvlm.phantom.scene import Scene
from uvlm.phantom.texture import smooth_field
from uvlm.phantom.vessels import Bronchi, draw_bronchi, plan_bronchi

__all__ = [
    "atelectasis",
    "bronchiectasis",
    "fibrotic_sequela",
    "lung_nodules",
    "peribronchial_thickening",
    "pleural_effusion",
]


def _class(label: str) -> int:
    return CHEST_CLASSES[label_class(label)]


def _free(scene: Scene, rng: np.random.Generator, lobes: tuple[int, ...], n: int = 1) -> list[int]:
    """`n` of these lobes, those without an extensive lesion first."""
    order = [int(lobe) for lobe in rng.permutation(lobes)]
    return sorted(order, key=lambda lobe: lobe in scene.busy)[:n]


def _band(
    scene: Scene,
    centre: Triple,
    normal: NDArray[np.float64],
    reach: float,
    thick: float,
    lobe: int,
) -> Patch:
    """A flat disc of lung collapsed to `thick` mm, across one lobe."""
    grid = scene.canvas.grid
    box = grid.box(*around(centre, reach))
    z, y, x = (a - np.float32(c) for a, c in zip(grid.local(box), centre, strict=True))
    n = (normal / np.linalg.norm(normal)).astype(np.float32)
    depth = n[0] * z + n[1] * y + n[2] * x
    bow = depth + 0.0025 * (z * z + y * y + x * x)
    away = np.sqrt(z * z + y * y + x * x) - np.float32(reach)
    filled = sheet(bow.astype(np.float32), thick) * coverage(away.astype(np.float32))
    return scene.inside_lobe(Patch(box, filled), (lobe,))


def atelectasis(scene: Scene, size: Size) -> Finding:
    """Plates of collapsed lung in the lower parts of one or both lungs."""
    rng = scene.rng("atelectasis")
    if scene.fluid and rng.random() < 0.6:
        return _passive_atelectasis(scene)
    n = int(rng.choice([1, 1, 2]))
    lobes = _free(scene, rng, (2, 5, 4, 1), n)
    thick = rng.uniform(min(size[0] + 1.5, size[1]), size[1])
    for lobe in lobes:
        for _ in range(2):
            centre = scene.point_in_lobe(rng, lobe, (0.16, 0.7))
            normal = np.array([1.0, rng.normal(0, 0.35), rng.normal(0, 0.35)])
            patch = _band(scene, centre, normal, rng.uniform(26, 40), thick, lobe)
            limit = patch.most(0.5)
            scene.fill(patch, 35.0, _class("Atelectasis"), at_least=limit)
    return Finding(
        label="Atelectasis",
        kind="linear",
        side=side_of(lobes),
        lobes=tuple(lobes),
        size_mm=thick,
        count=n,
    )


def _passive_atelectasis(scene: Scene) -> Finding:
    """Lung compressed by the fluid behind it."""
    for field in scene.fluid.values():
        scene.fill(Patch(FULL, coverage(field)), 62.0, _class("Atelectasis"))
    side = "bilateral" if len(scene.fluid) == 2 else next(iter(scene.fluid))
    return Finding(label="Atelectasis", kind="passive", side=side)


def fibrotic_sequela(scene: Scene, size: Size) -> Finding:
    """Strands from a thickened pleura at the apex of one or both lungs."""
    rng = scene.rng("sequela")
    lobes = [[3], [1], [3, 1]][int(rng.choice(3, p=[0.35, 0.25, 0.4]))]
    thick = rng.uniform(*size)
    grid, body = scene.canvas.grid, scene.body
    label = _class("Pulmonary fibrotic sequela")
    for lobe in lobes:
        side = 1 if lobe < 3 else -1
        z, _, _ = grid.axes
        ragged = 3.0 * smooth_field(rng, grid, 12.0)
        cap = coverage((0.90 * body.height - z + 0 * ragged + 2.0 * ragged).astype(np.float32))
        patch = scene.inside_lobe(Patch(FULL, cap), (lobe,))
        scene.fill(patch, 30.0, label)
        for _ in range(3):
            centre = (
                0.82 * body.height,
                rng.uniform(0, 26),
                side * rng.uniform(0.30, 0.42) * body.half_width,
            )
            normal = np.array([rng.normal(0, 0.25), rng.normal(), rng.normal()])
            strand = _band(scene, centre, normal, rng.uniform(20, 32), thick, lobe)
            limit = strand.most(0.5)
            scene.fill(strand, 25.0, label, at_least=limit)
    return Finding(
        label="Pulmonary fibrotic sequela", side=side_of(lobes), lobes=tuple(lobes), size_mm=thick
    )


def peribronchial_thickening(scene: Scene, size: Size) -> Finding:
    """Thick walls around the central bronchi of several lobes."""
    rng = scene.rng("peribronchial")
    lobes = [[5, 2, 4], [5, 2, 3], [2, 1, 5], [5, 4, 3], [2, 5, 1, 4]][int(rng.integers(5))]
    period = rng.uniform(0.5 * sum(size), size[1])
    for lobe in lobes:
        plan = plan_bronchi(scene, lobe, lumen=0.32 * period, wall=0.40 * period)
        keep = slice(0, int(0.8 * plan.paths.shape[1]))
        central = Bronchi(plan.paths[:, keep], plan.lumen[:, keep], plan.wall)
        draw_bronchi(scene, central, _class("Peribronchial thickening"))
    return Finding(
        label="Peribronchial thickening",
        side=side_of(lobes),
        lobes=tuple(lobes),
        size_mm=0.40 * period,
    )


def bronchiectasis(scene: Scene, size: Size) -> Finding:
    """Dilated bronchi and clusters of thin-walled cysts in one or two lobes."""
    rng = scene.rng("bronchiectasis")
    lobes = _free(scene, rng, (2, 5, 4), int(rng.choice([1, 2])))
    label = _class("Bronchiectasis")
    canvas, largest = scene.canvas, 0.0
    for lobe in lobes:
        plan = plan_bronchi(scene, lobe)
        pick = rng.uniform(0.4, 1.0, 18)
        for k, t in enumerate(pick):
            path = plan.paths[k % len(plan.paths)]
            z, y, x = path[int(t * (len(path) - 1))] + rng.normal(0, 7, 3)
            period = rng.uniform(0.5 * sum(size), size[1])
            outer = period * 0.58
            largest = max(largest, 2 * (outer - 2.8))
            shell = scene.inside_lobe(canvas.ellipsoid((z, y, x), (outer, outer, outer)), (lobe,))
            scene.fill(shell, 30.0, label)
            inner = outer - 2.8
            scene.fill(canvas.ellipsoid((z, y, x), (inner,) * 3), -990.0)
    return Finding(label="Bronchiectasis", side=side_of(lobes), lobes=tuple(lobes), size_mm=largest)


def lung_nodules(scene: Scene, size: Size) -> Finding:
    """One to four solid nodules, the largest stated."""
    rng = scene.rng("nodules")
    n = int(rng.choice([1, 1, 2, 3, 4]))
    lobes = _free(scene, rng, (1, 2, 3, 4, 5), n)
    largest = round(float(rng.uniform(size[0] + 0.35 * (size[1] - size[0]), size[1])))
    for k, lobe in enumerate(lobes):
        diameter = largest if k == 0 else rng.uniform(max(size[0], 0.5 * largest), largest)
        centre = scene.point_in_lobe(rng, lobe, (0.1, 0.75), clear=diameter / 2)
        patch = scene.canvas.small_ellipsoid(centre, (diameter / 2,) * 3)
        limit = patch.most(0.4)
        calcified = rng.random() < 0.1
        scene.canvas.paint(
            patch, 420.0 if calcified else 40.0, _class("Lung nodule"), at_least=limit
        )
    return Finding(
        label="Lung nodule",
        side=side_of(lobes),
        lobes=tuple(lobes),
        size_mm=largest,
        count=len(lobes),
    )


def pleural_effusion(scene: Scene, size: Size) -> Finding:
    """Free fluid behind one or both lungs of the lying patient, deepest at the base."""
    rng = scene.rng("effusion")
    side = str(rng.choice(["left", "right", "bilateral"], p=[0.3, 0.35, 0.35]))
    canvas, body = scene.canvas, scene.body
    z, y, x = canvas.grid.axes
    largest = 0.0
    fade = np.clip((0.85 - z / body.height) / 0.7, 0, 1) ** 0.5
    for sign, name in ((-1, "right"), (1, "left")):
        if side not in (name, "bilateral"):
            continue
        deep = rng.uniform(size[0] + 8, 0.80 * size[1])
        # A crescent between the chest wall and the same wall moved forward.
        behind = (sign * x > 0) & (y > 0.1 * body.half_depth) & (fade > 0)
        lung = 1 - coverage(-barrel(scene, 0.0, deep * fade))
        scene.fluid[name] = np.where(behind, -barrel(scene, 0.0, (deep + 11) * fade), 1).astype(
            np.float32
        )
        filled = (1 - lung) * behind
        largest = max(largest, thickest(filled * scene.lung, canvas.grid))
        scene.fill(Patch(FULL, filled), rng.uniform(4, 16), _class("Pleural effusion"))
        scene.lung *= 1 - filled
    scene.lobes[scene.lung < 0.5] = 0
    return Finding(
        label="Pleural effusion", side=side, size_mm=largest, severity=graded(largest, 25, 42)
    )
