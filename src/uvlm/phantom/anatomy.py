"""Paint the normal chest: table, body, bones, abdomen, lungs, heart, vessels, airways."""

from __future__ import annotations

import numpy as np

from uvlm.phantom.canvas import Floats, Patch, Triple, coverage, sheet
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.phantom.scene import Scene
from uvlm.phantom.texture import smooth_field
from uvlm.phantom.vessels import aorta_field

__all__ = [
    "aorta",
    "barrel",
    "draw_abdomen",
    "draw_bones",
    "draw_heart",
    "draw_lungs",
    "draw_mediastinum",
    "draw_wall",
]

FULL = (slice(None), slice(None), slice(None))


def barrel(scene: Scene, grow: float, forward: Floats | float = 0.0) -> Floats:
    """Field of the rib cage's inside, widened by `grow` mm, moved `forward` mm."""
    body = scene.body
    z, y, x = scene.canvas.grid.axes
    taper = body.taper(z)
    across = (np.abs(x) / (body.half_width * taper + grow)) ** 2.3
    deep = np.abs(y - body.lean(z) + forward) / (body.half_depth * taper + grow)
    return np.asarray(across + deep**2.3 - 1, dtype=np.float32)


def draw_wall(scene: Scene) -> None:
    """Table, skin, fat, muscle; the inside of the cage starts as mediastinal fat."""
    canvas, body = scene.canvas, scene.body
    z, y, x = canvas.grid.axes
    rng = scene.rng("wall")
    thickness = 9 + rng.uniform(10, 16)
    w, d = body.half_width, body.half_depth
    back = d + thickness + 22 + body.fat
    box = canvas.grid.box((-1e3, 0.5 * back, -1e3), (1e3, 1e3, 1e3))
    z, y, x = canvas.grid.local(box)
    plate = np.broadcast_to(y - (back + 14) + 0.0011 * x * x, canvas.hu[box].shape)
    canvas.paint(Patch(box, sheet(plate, 24.0)), rng.uniform(-880, -750))
    canvas.paint(Patch(box, sheet(plate + 12, 2.5)), -150.0)
    z, y, x = canvas.grid.axes
    # The trunk does not close above the lungs as the cage does: shoulders carry on.
    flare = np.clip((z / body.height - 0.75) / 0.3, 0, 1)
    taper = np.maximum(body.taper(z), 0.80 + 0.10 * flare)

    def trunk(grow: float, behind: float) -> Floats:
        across = (np.abs(x) / (w * taper + grow)) ** 2.5
        deep = (np.abs(y - behind / 2 - 2) / (d * taper + grow + behind / 2)) ** 2.5
        return np.asarray(across + deep - 1, dtype=np.float32)

    skin = coverage(trunk(thickness + body.fat, 22))
    if body.sex == "F":
        for side in (-1, 1):
            breast = canvas.ellipsoid(
                (0.47 * body.height, -(d + thickness + body.fat) + 6, side * 0.55 * w),
                (52, 24 + rng.uniform(0, 12), 56),
            )
            skin[breast.box] = np.maximum(skin[breast.box], breast.filled)
    canvas.paint(Patch(FULL, skin), -100.0 + 6 * smooth_field(rng, canvas.grid, 18))
    muscle = coverage(trunk(thickness, 22))
    canvas.paint(Patch(FULL, muscle), 48.0 + 14 * smooth_field(rng, canvas.grid, 14))
    cavity = barrel(scene, 0.0)
    scene.rim = cavity + 1
    scene.lung = coverage(cavity)
    canvas.paint(Patch(FULL, scene.lung), -88.0 + 16 * smooth_field(rng, canvas.grid, 16))


def draw_bones(scene: Scene) -> None:
    """Spine with discs, ribs sloping forward and down, sternum, scapulae, clavicles."""
    canvas, body = scene.canvas, scene.body
    z, y, x = canvas.grid.axes
    rng = scene.rng("bones")
    pitch = body.height / rng.uniform(9.6, 10.6)
    ribs, spine = CHEST_CLASSES["ribs"], CHEST_CLASSES["spine"]
    shell = coverage(barrel(scene, 9.5)) - scene.lung
    level = np.mod(z - 0.42 * (y - body.half_depth) - 3.0, pitch) - pitch / 2
    band = np.clip(0.5 + (6.0 - np.abs(level)) / (canvas.grid.spacing[0] + 2.0), 0, 1)
    bony = np.where(y < -0.55 * body.half_depth, 110.0, rng.uniform(420, 620)).astype(np.float32)
    away = np.abs(x) > np.where(y > 0, 20.0, 34.0)
    filled = (shell * band * (away & (z < 1.01 * body.height))).astype(np.float32)
    canvas.paint(Patch(FULL, filled), bony)
    canvas.mask[(filled >= 0.45) & (bony > 200)] = ribs
    centre = body.spine_y(z)
    marrow = rng.uniform(150, 260)
    disc = np.abs(np.mod(z, pitch * 0.93) - pitch * 0.465)
    tissue = np.where(disc < 2.5, 85.0, marrow).astype(np.float32)
    _column(scene, centre, (17.0, 21.0), tissue, spine)
    _column(scene, centre + 26, (9.0, 10.0), np.float32(30.0), None)
    _column(scene, centre + 40, (12.0, 5.0), np.float32(marrow + 120), spine)
    for side in (-1, 1):
        _column(scene, centre + 27, (7.0, 4.0), np.float32(marrow + 150), spine, side * 14.0)
        _scapula(scene, side)
    front = -body.half_depth * body.taper(z) + body.lean(z) - 9
    plate = ((x / 17) ** 2 + ((y - front) / 6.5) ** 2 - 1) + 0 * z
    height = (z > 0.36 * body.height) & (z < 0.86 * body.height)
    canvas.paint(Patch(FULL, coverage(plate.astype(np.float32)) * height), 210.0)


def _column(
    scene: Scene,
    centre: Floats,
    radii: tuple[float, float],
    hu: Floats | np.float32,
    label: int | None,
    x0: float = 0.0,
) -> None:
    """An upright elliptic pillar whose centre moves in y with height."""
    body, grid = scene.body, scene.canvas.grid
    low, high = float(centre.min()) - radii[0], float(centre.max()) + radii[0]
    box = grid.box((-1e3, low, x0 - radii[1]), (1.1 * body.height, high, x0 + radii[1]))
    _, y, x = grid.local(box)
    middle = centre[box[0]]
    away = np.sqrt(((x - x0) / radii[1]) ** 2 + ((y - middle) / radii[0]) ** 2) - 1
    if 0 in away.shape:
        return
    value = hu[box[0]] if isinstance(hu, np.ndarray) else float(hu)
    scene.canvas.paint(Patch(box, coverage(away.astype(np.float32))), value, label)


def _scapula(scene: Scene, side: int) -> None:
    body = scene.body
    turn = np.array([[1.0, 0, 0], [0, 0.85, side * 0.53], [0, -side * 0.53, 0.85]])
    patch = scene.canvas.ellipsoid(
        (0.80 * body.height, body.half_depth * 0.98 + 12, side * 0.62 * body.half_width),
        (50.0, 5.0, 40.0),
        turn,
    )
    outside = scene.rim[patch.box] > 1.3
    scene.canvas.paint(Patch(patch.box, patch.filled * outside), 330.0)


def _domes(scene: Scene) -> Floats:
    """Height of the diaphragm above each (y, x)."""
    body = scene.body
    _, y, x = scene.canvas.grid.axes
    w, d = body.half_width, body.half_depth
    tops = []
    for top, side in ((body.domes[0], -1), (body.domes[1], 1)):
        fall = ((x - side * 0.46 * w) / (0.66 * w)) ** 2 + ((y + 0.18 * d) / (1.10 * d)) ** 2
        tops.append(top * (1 - fall))
    middle = body.domes[1] * 0.9 - 0.004 * (x * x + (y + 10) ** 2)
    return np.asarray(np.maximum(np.maximum(tops[0], tops[1]), middle), dtype=np.float32)


def draw_abdomen(scene: Scene) -> None:
    """Diaphragm, liver, stomach with its bubble, spleen; fat between them."""
    canvas, body = scene.canvas, scene.body
    rng = scene.rng("abdomen")
    dome = _domes(scene)
    box = canvas.grid.box((-1e3, -1e3, -1e3), (float(dome.max()) + 12, 1e3, 1e3))
    z, y, x = canvas.grid.local(box)
    below = coverage(z - dome)
    inside = scene.lung[box].copy()
    scene.lung[box] *= 1 - below
    canvas.paint(Patch(box, below * inside), 45.0)
    deep = coverage(z - dome + 4) * inside
    canvas.paint(Patch(box, deep), -95.0 + 12 * smooth_field(rng, canvas.grid, 20, box))
    w = body.half_width
    left_edge = x - (0.34 * w - 0.30 * (y + 30) - 0.25 * (body.domes[0] - z))
    behind = y - (0.62 * body.half_depth + 0.12 * x + 0.2 * z)
    liver = (
        deep * coverage(left_edge.astype(np.float32)) * coverage(behind.astype(np.float32) + 0 * z)
    )
    gain = 0.30 * max(0.0, body.blood_hu - 50)
    spleen = canvas.ellipsoid(
        (body.domes[1] - 46, 0.42 * body.half_depth, 0.68 * w), (40.0, 36.0, 22.0)
    )
    stomach = canvas.ellipsoid(
        (body.domes[1] - 42, -0.15 * body.half_depth, 0.42 * w), (36.0, 34.0, 36.0)
    )
    gas = coverage(
        (y + 0.15 * body.half_depth + rng.uniform(0, 22)).astype(np.float32) + 0 * z + 0 * x
    )
    whole = np.zeros(canvas.grid.shape, dtype=np.float32)
    whole[box] = deep
    canvas.paint(Patch(spleen.box, spleen.filled * whole[spleen.box]), 48.0 + 1.2 * gain)
    filled = stomach.filled * whole[stomach.box]
    canvas.paint(Patch(stomach.box, filled), 32.0)
    bubble = np.zeros_like(whole)
    bubble[box] = gas
    canvas.paint(Patch(stomach.box, filled**3 * bubble[stomach.box]), -960.0)
    canvas.paint(Patch(box, liver), rng.uniform(50, 62) + gain, CHEST_CLASSES["liver"])


def draw_mediastinum(scene: Scene) -> None:
    """Take the space between the lungs away from them."""
    canvas, body = scene.canvas, scene.body
    z, y, x = canvas.grid.axes
    t = z / body.height
    hilum = np.exp(-(((t - 0.62) / 0.10) ** 2) - (((y - 5) / 30) ** 2))
    front = np.clip((-y - 0.35 * body.half_depth) / (0.5 * body.half_depth), 0, 1)
    half = 26.0 + 9 * hilum - 17 * front * np.exp(-(((t - 0.70) / 0.22) ** 2))
    block = np.abs(x - 2.0) - half
    scene.lung *= 1 - coverage(block.astype(np.float32))
    box = canvas.grid.box((-1e3, 0, -40), (1e3, 1e3, 40))
    z, y, x = canvas.grid.local(box)
    spine = np.sqrt((x / 27) ** 2 + ((y - body.spine_y(z)) / 24) ** 2) - 1
    filled = coverage(spine.astype(np.float32))
    inside = scene.lung[box].copy()
    scene.lung[box] *= 1 - filled
    canvas.paint(Patch(box, filled * inside), 40.0)
    for patch in (heart_shell(scene, 5.0), aorta(scene)):
        scene.lung[patch.box] *= 1 - patch.filled


def heart_shell(scene: Scene, grow: float, move: Triple = (0.0, 0.0, 0.0)) -> Patch:
    """The heart's ellipsoid widened by `grow` mm on all sides and moved."""
    body = scene.body
    a, b, c = body.heart_radii
    z, y, x = (p + m for p, m in zip(body.heart_centre, move, strict=True))
    return scene.canvas.ellipsoid((z, y, x), (a + grow, b + grow, c + grow), body.heart_turn)


def draw_lungs(scene: Scene) -> None:
    """Parenchyma, denser to the back where a lying patient's blood settles; lobes."""
    canvas, body = scene.canvas, scene.body
    z, y, x = canvas.grid.axes
    rng = scene.rng("lungs")
    slope = rng.uniform(25, 60) / body.half_depth
    value = body.lung_hu + slope * y + 9 * smooth_field(rng, canvas.grid, 25)
    scene.tissue = np.asarray(value, dtype=np.float32)
    height, depth = body.height, body.half_depth
    left_fissure = height * rng.uniform(0.34, 0.40) + 0.40 * height * y / depth
    right_fissure = height * rng.uniform(0.32, 0.38) + 0.38 * height * y / depth
    across = height * rng.uniform(0.47, 0.53)
    left = np.where(z > left_fissure, 1, 2)
    right = np.where(z > right_fissure, np.where(z > across, 3, 4), 5)
    scene.lobes = np.where(x > 0, left, right).astype(np.uint8) * (scene.lung > 0.5)
    np.copyto(canvas.mask, scene.lobes, where=scene.lobes > 0)


def aorta(scene: Scene) -> Patch:
    """The aorta from the heart to the bottom of the scan."""
    body = scene.body
    y1, x1 = body.desc_aorta
    return scene.canvas.shape(
        (-1e3, -0.26 * body.half_depth - 20, -36),
        (body.arch + 60, y1 + 20, x1 + 20),
        lambda z, y, x: aorta_field(scene, z, y, x),
    )


def draw_heart(scene: Scene) -> None:
    """Epicardial fat, myocardium, chambers."""
    canvas, body = scene.canvas, scene.body
    canvas.paint(heart_shell(scene, 5.0), -85.0, 0)
    heart = heart_shell(scene, 0.0)
    canvas.paint(heart, 45.0 if not body.contrast else 95.0, CHEST_CLASSES["heart"])
    if body.contrast:
        turn, centre = body.heart_turn, np.asarray(body.heart_centre)
        s = body.heart_radii[2] / 60.0
        for long, side, radii in (
            (0.28, 12, (25, 22, 32)),
            (-0.45, 6, (27, 28, 24)),
            (0.1, -16, (26, 14, 34)),
        ):
            z, y, x = centre + turn[2] * long * 60 * s + turn[1] * side * s
            up, back, along = (r * s for r in radii)
            centre_mm = (float(z), float(y), float(x))
            canvas.paint(canvas.ellipsoid(centre_mm, (up, back, along), turn), body.blood_hu)
