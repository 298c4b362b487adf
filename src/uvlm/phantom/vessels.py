"""Paint trachea, oesophagus, great vessels, and the vessels and bronchi inside the lungs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from uvlm.phantom.canvas import Canvas, Floats, Triple
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.phantom.scene import Scene
from uvlm.phantom.tubes import Points, bend, tube_points

__all__ = [
    "Bronchi",
    "aorta_field",
    "draw_airways",
    "draw_bronchi",
    "draw_great_vessels",
    "draw_lung_vessels",
    "hilum",
    "plan_bronchi",
]

WALL_HU = 35.0


def hilum(scene: Scene, side: int) -> Points:
    """Root of one lung (z, y, x); `side` is -1 right, +1 left."""
    body = scene.body
    return np.array([body.carina - 25 + 6 * (side > 0), 6.0, 2.0 + side * 30.0])


def aorta_field(scene: Scene, z: Floats, y: Floats, x: Floats) -> Floats:
    """Signed distance to the aorta's wall, mm: ascending part, arch, descending part."""
    body = scene.body
    r = np.float32(_aorta_radius(scene))
    y1, x1 = body.desc_aorta
    y0, x0 = -0.26 * body.half_depth, -16.0
    down = np.sqrt((y - y1) ** 2 + (x - x1) ** 2) - r * 0.88
    down = np.maximum(down, z - body.arch - 8)
    up = np.sqrt((y - y0) ** 2 + (x - x0) ** 2) - r * 1.06
    up = np.maximum(np.maximum(up, z - body.arch - 8), body.heart_centre[0] + 18 - z)
    ahead = np.array([y1 - y0, x1 - x0])
    bow = float(np.linalg.norm(ahead)) / 2
    ahead = ahead / (2 * bow)
    along = (y - (y0 + y1) / 2) * ahead[0] + (x - (x0 + x1) / 2) * ahead[1]
    beside = (x - (x0 + x1) / 2) * ahead[0] - (y - (y0 + y1) / 2) * ahead[1]
    rise = (z - body.arch) * 1.25
    ring = np.sqrt(along**2 + rise**2) - bow
    arch = np.maximum(np.sqrt(ring**2 + beside**2) - r * 0.95, body.arch - z)
    return np.asarray(np.minimum(np.minimum(up, down), arch), dtype=np.float32)


def _aorta_radius(scene: Scene) -> float:
    return float(scene.rng("aorta").uniform(13.0, 16.5))


def draw_great_vessels(scene: Scene) -> None:
    """Pulmonary trunk and its two branches, superior and inferior vena cava."""
    canvas, body = scene.canvas, scene.body
    blood = body.blood_hu * (1.0 if not body.contrast else 0.9)
    right, left = hilum(scene, -1), hilum(scene, 1)
    root = (body.heart_centre[0] + 22, -0.34 * body.half_depth, 14.0)
    fork = (float(right[0]) + 8, -0.10 * body.half_depth, 12.0)
    bars = [
        (root, fork, 13.0),
        (fork, (float(left[0]) + 4, 6.0, 32.0), 10.0),
        (fork, (float(right[0]) + 2, -2.0, -26.0), 9.5),
        ((body.height, -8.0, -20.0), (body.heart_centre[0], -8.0, -27.0), 8.5),
        ((body.heart_centre[0], 2.0, -27.0), (-20.0, 16.0, -22.0), 10.0),
    ]
    for start, end, radius in bars:
        canvas.paint(canvas.capsule(start, end, radius), blood)


def draw_airways(scene: Scene) -> None:
    """Trachea with both main bronchi, and the oesophagus behind it."""
    canvas, body = scene.canvas, scene.body
    rng = scene.rng("airways")
    top: Triple = (1.1 * body.height, 4.0, 0.0)
    split: Triple = (body.carina, 6.0, 1.0)
    y1 = float(body.spine_y(np.array([body.carina], dtype=np.float32))[0]) - 28
    gullet = [
        (1.1 * body.height, 18.0, 4.0),
        (body.carina, min(26.0, y1), 6.0),
        (40.0, min(34.0, y1), 12.0),
        (-20.0, 10.0, 22.0),
    ]
    radius = rng.uniform(7.0, 9.0)
    for start, end in itertools.pairwise(gullet):
        canvas.paint(canvas.capsule(start, end, radius), 38.0, CHEST_CLASSES["esophagus"])
    caliber = rng.uniform(8.0, 9.5) + (1.0 if body.sex == "M" else 0.0)
    arms = [_triple(hilum(scene, side)) for side in (-1, 1)]
    bars = [(top, split, caliber), (split, arms[0], 7.2), (split, arms[1], 6.6)]
    for start, end, r in bars:
        canvas.paint(canvas.capsule(start, end, r + 1.5), WALL_HU)
    for start, end, r in bars:
        canvas.paint(canvas.capsule(start, end, r), -985.0, CHEST_CLASSES["trachea"])


def draw_lung_vessels(scene: Scene) -> None:
    """Arteries and veins from each hilum to the periphery, thinning and branching."""
    canvas = scene.canvas
    rng = scene.rng("vessels")
    step = 0.4 * min(canvas.grid.spacing)
    points, mm3 = [], []
    for lobe, n in ((1, 16), (2, 16), (3, 12), (4, 7), (5, 16)):
        start = np.repeat(hilum(scene, 1 if lobe < 3 else -1)[None], n, axis=0)
        start += rng.normal(0, 6, start.shape)
        end = np.array([scene.point_in_lobe(rng, lobe, (0.28, 0.88)) for _ in range(n)])
        middle = 0.5 * (start + end) + rng.normal(0, 9, start.shape)
        trunk = bend(start, middle, end, 2 * step)
        t = np.linspace(0, 1, trunk.shape[1])
        radius = 0.9 + 3.4 * (1 - t) ** 1.3 * rng.uniform(0.7, 1.2, (n, 1))
        for paths, radii in ((trunk, radius), _twigs(rng, trunk, radius, step)):
            p, v = tube_points(paths, 0.0, radii, max(2 * step, 1.5))
            points.append(p.reshape(-1, 3))
            mm3.append(v.reshape(-1))
    blood = scene.body.blood_hu
    scene.fill(canvas.splat(np.concatenate(points), np.concatenate(mm3)), blood)


def _twigs(
    rng: np.random.Generator, trunk: Points, radius: Points, step: float
) -> tuple[Points, Points]:
    """Two side branches of each trunk."""
    n, k = trunk.shape[:2]
    at = rng.integers(int(0.35 * k), int(0.8 * k), (2, n))
    rows = np.arange(n)
    start = trunk[rows, at].reshape(-1, 3)
    ahead = (trunk[:, -1] - trunk[:, 0])[None].repeat(2, axis=0).reshape(-1, 3)
    ahead = 0.30 * ahead + rng.normal(0, 14, ahead.shape)
    paths = bend(start, start + 0.5 * ahead, start + ahead, 2 * step)
    t = np.linspace(0, 1, paths.shape[1])
    return paths, 0.7 * radius[rows, at].reshape(-1, 1) * (1 - 0.6 * t)


@dataclass(frozen=True, eq=False)
class Bronchi:
    """The segmental bronchi of one lobe."""

    paths: Points
    """(P, K, 3), from the hilum outwards."""

    lumen: Floats
    """(P, K) inner radius, mm."""

    wall: float
    """Wall thickness, mm; 1 is normal."""


def plan_bronchi(scene: Scene, lobe: int, *, lumen: float = 2.6, wall: float = 1.0) -> Bronchi:
    """Three segmental bronchi of a lobe with the given radius at the hilum and wall, mm."""
    rng = scene.rng(f"bronchi {lobe}")
    step = 0.4 * min(scene.canvas.grid.spacing)
    end = np.array([scene.point_in_lobe(rng, lobe, (0.16, 0.60)) for _ in range(3)])
    start = np.repeat(hilum(scene, 1 if lobe < 3 else -1)[None], 3, axis=0)
    paths = bend(start, 0.55 * start + 0.45 * end + rng.normal(0, 6, end.shape), end, step)
    t = np.linspace(0, 1, paths.shape[1])
    radii = np.repeat((lumen * (1 - 0.5 * t))[None], 3, axis=0)
    return Bronchi(paths, radii.astype(np.float32), wall)


def draw_bronchi(scene: Scene, bronchi: Bronchi, label: int | None = None) -> None:
    """Paint walls, of the given class, and air."""
    canvas: Canvas = scene.canvas
    step = 0.45 * min(canvas.grid.spacing)
    inner, outer = bronchi.lumen, bronchi.lumen + bronchi.wall
    wall = canvas.splat(*tube_points(bronchi.paths, inner, outer, step))
    air = canvas.splat(*tube_points(bronchi.paths, 0.0, inner, step))
    scene.fill(wall, WALL_HU, label, 0.4)
    scene.fill(air, -985.0)


def _triple(point: Points) -> Triple:
    return float(point[0]), float(point[1]), float(point[2])
