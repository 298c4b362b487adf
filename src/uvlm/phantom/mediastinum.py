"""Abnormalities of heart, vessels, nodes, oesophagus, and what surgeons leave behind."""

from __future__ import annotations

import numpy as np

from uvlm.phantom.anatomy import heart_shell
from uvlm.phantom.canvas import Floats, Patch, Triple, coverage
from uvlm.phantom.classes import CHEST_CLASSES, Finding, label_class
from uvlm.phantom.measures import graded
from uvlm.phantom.parenchyma import Size
from uvlm.phantom.scene import Scene
from uvlm.phantom.tubes import polyline, tube_points
from uvlm.phantom.vessels import aorta_field

__all__ = [
    "arterial_calcification",
    "coronary_calcification",
    "hiatal_hernia",
    "lymphadenopathy",
    "make_room_for_fluid",
    "medical_material",
    "pericardial_effusion",
]


PLAQUE_WORDS = {"arch": "the aortic arch", "descending": "the descending aorta"}


def _class(label: str) -> int:
    return CHEST_CLASSES[label_class(label)]


def _fluid_depth(scene: Scene, size: Size) -> float:
    return float(scene.rng("pericardium").uniform(min(size[0] + 1, size[1]), size[1]))


def _sac(scene: Scene, size: Size) -> Patch:
    """The pericardium; fluid gathers behind and below the heart of a lying patient."""
    depth = _fluid_depth(scene, size)
    return heart_shell(scene, 5.0 + 0.65 * depth, (-0.2 * depth, 0.25 * depth, 0.13 * depth))


def make_room_for_fluid(scene: Scene, size: Size) -> None:
    """A fluid-filled pericardium displaces the lung; called before the lungs are painted."""
    sac = _sac(scene, size)
    scene.lung[sac.box] *= 1 - sac.filled


def pericardial_effusion(scene: Scene, size: Size) -> Finding:
    """Fluid between the epicardial fat and the pericardium; painted before the heart."""
    depth = _fluid_depth(scene, size)
    z, _, _ = scene.canvas.grid.axes
    sac = _sac(scene, size)
    above = coverage(np.broadcast_to(z - scene.body.heart_centre[0] - 44, scene.canvas.grid.shape))
    bare = np.isin(scene.canvas.mask[sac.box], (CHEST_CLASSES["liver"],))
    patch = Patch(sac.box, sac.filled * above[sac.box] * ~bare)
    scene.canvas.paint(patch, 8.0, _class("Pericardial effusion"))
    return Finding(label="Pericardial effusion", size_mm=depth, severity=graded(depth, 10, 20))


def coronary_calcification(scene: Scene, size: Size) -> Finding:
    """Plaques along the left anterior descending, circumflex and right coronary arteries."""
    rng = scene.rng("coronary")
    body, canvas = scene.body, scene.canvas
    turn, centre, radii = (
        body.heart_turn,
        np.asarray(body.heart_centre),
        np.asarray(body.heart_radii),
    )
    # Unit-sphere courses on the heart's surface: (up, back, towards the apex).
    courses = {
        "left anterior descending": [(0.75, -0.45, -0.15), (0.55, -0.75, 0.25), (0.2, -0.75, 0.62)],
        "left circumflex": [(0.75, 0.25, 0.10), (0.50, 0.75, 0.30), (0.0, 0.9, 0.4)],
        "right": [(0.60, -0.60, -0.50), (0.15, -0.75, -0.62), (-0.40, -0.65, -0.60)],
    }
    n = int(rng.choice([1, 2, 3], p=[0.15, 0.4, 0.45]))
    names = ["left anterior descending", *rng.permutation(["left circumflex", "right"])][:n]
    diameter = rng.uniform(max(size[0], 0.8 * size[1]), size[1])
    step = 0.3 * min(canvas.grid.spacing)
    for name in names:
        course = np.asarray(courses[str(name)])
        course /= np.linalg.norm(course, axis=1, keepdims=True)
        world = centre + (course * (radii + 2.5)) @ turn
        line = polyline(world, step)
        length = len(line) * step
        for start in rng.uniform(0, 0.6, 3):
            part = line[
                int(start * len(line)) : int((start + rng.uniform(14, 28) / length) * len(line)) + 3
            ]
            patch = canvas.splat(*tube_points(part, 0.0, diameter / 2, step))
            limit = patch.most(0.4)
            canvas.paint(
                patch, rng.uniform(900, 1300), _class("Coronary artery wall calcification"), limit
            )
    return Finding(
        label="Coronary artery wall calcification", place=", ".join(map(str, names)), count=n
    )


def arterial_calcification(scene: Scene, size: Size) -> Finding:
    """Plaques in the wall of arch, descending and ascending aorta."""
    rng = scene.rng("plaques")
    body, canvas = scene.body, scene.canvas
    thick = rng.uniform(max(size[0], 0.6 * size[1]), size[1])
    y1, x1 = body.desc_aorta
    low = (-1e3, -0.26 * body.half_depth - 24, -40.0)
    high = (body.arch + 60, y1 + 24, x1 + 24)
    box = canvas.grid.box(low, high)
    z, y, x = canvas.grid.local(box)
    field = aorta_field(scene, z, y, x)
    wall = coverage(np.abs(field + thick / 2 - 1.0) - np.float32(thick / 2))
    plaques: Floats = np.zeros_like(wall)
    places = {"arch": (body.arch + 26, 12.0, 8.0), "descending": (0.5 * body.height, y1, x1)}
    chosen = [["arch"], ["arch", "descending"], ["descending"]][
        int(rng.choice(3, p=[0.35, 0.45, 0.2]))
    ]
    for name in chosen:
        z0, y0, x0 = places[name]
        for _ in range(3 if name == "arch" else 4):
            spread = (9.0, 24.0, 20.0) if name == "arch" else (60.0, 13.0, 13.0)
            at = np.array([z0, y0, x0]) + rng.uniform(-1, 1, 3) * spread
            r = rng.uniform(11, 17)
            near = coverage(
                np.sqrt((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2).astype(np.float32)
                - np.float32(r)
            )
            np.maximum(plaques, near, out=plaques)
    filled = wall * plaques
    limit = Patch(box, filled).most(0.45)
    canvas.paint(
        Patch(box, filled), rng.uniform(750, 1000), _class("Arterial wall calcification"), limit
    )
    return Finding(
        label="Arterial wall calcification",
        place=", ".join(PLAQUE_WORDS[name] for name in chosen),
        count=len(chosen),
    )


def lymphadenopathy(scene: Scene, size: Size) -> Finding:
    """Three to five enlarged nodes at the stations where radiologists look."""
    rng = scene.rng("nodes")
    body, canvas = scene.body, scene.canvas
    c, d = body.carina, body.half_depth
    stations: dict[str, Triple] = {
        "right lower paratracheal": (c + 18, 2.0, -20.0),
        "prevascular": (c + 22, -0.48 * d, 4.0),
        "subcarinal": (c - 20, 14.0, 0.0),
        "aortopulmonary": (c + 10, -0.05 * d, 30.0),
        "right hilar": (c - 22, 0.0, -42.0),
        "left hilar": (c - 22, 2.0, 44.0),
    }
    n = int(rng.integers(3, 6))
    names = [str(name) for name in rng.permutation(list(stations))[:n]]
    largest = round(float(rng.uniform(0.5 * sum(size), size[1])))
    for k, name in enumerate(names):
        short = largest if k == 0 else rng.uniform(size[0], largest)
        z, y, x = stations[name]
        r = short / 2
        place = (z + rng.normal(0, 2), y + rng.normal(0, 2), x + np.sign(x) * max(0.0, r - 8))
        node = canvas.ellipsoid(place, (r * 1.3, r, r * 1.05))
        canvas.paint(node, 42.0 + 0.15 * max(0.0, body.blood_hu - 50), _class("Lymphadenopathy"))
    return Finding(label="Lymphadenopathy", place=", ".join(names), count=n, size_mm=largest)


def hiatal_hernia(scene: Scene, size: Size) -> Finding:
    """Stomach behind the heart, above the diaphragm, with an air-fluid level."""
    rng = scene.rng("hernia")
    canvas, body = scene.canvas, scene.body
    diameter = round(float(rng.uniform(size[0] + 5, size[1])))
    r = diameter / 2
    y = body.heart_centre[1] + body.heart_radii[1] + r - 4
    y = min(y, float(body.spine_y(np.array([60.0], dtype=np.float32))[0]) - 16 - 0.6 * r)
    centre = (max(body.domes) - 6 + 0.7 * r, y, 4.0)
    sac = canvas.ellipsoid(centre, (r * 0.95, 0.8 * r, r))
    canvas.paint(sac, 40.0, _class("Hiatal hernia"))
    inner = canvas.ellipsoid(centre, (r * 0.95 - 5, 0.8 * r - 5, r - 5))
    canvas.paint(inner, 14.0)
    _, yy, _ = canvas.grid.local(inner.box)
    air = coverage(np.broadcast_to(yy - (y - rng.uniform(-0.15, 0.1) * r), inner.filled.shape))
    canvas.paint(Patch(inner.box, inner.filled * air), -940.0)
    return Finding(label="Hiatal hernia", size_mm=diameter)


def medical_material(scene: Scene, size: Size) -> Finding:
    """A pacemaker with its lead, a port with its catheter, or sternal wires."""
    rng = scene.rng("device")
    kind = str(rng.choice(["pacemaker", "port", "sternotomy"], p=[0.4, 0.3, 0.3]))
    if kind == "sternotomy":
        _wires(scene)
        return Finding(label="Medical material", kind=kind)
    body, canvas = scene.body, scene.canvas
    side = 1 if kind == "pacemaker" else -1
    thick = rng.uniform(*size)
    x0 = side * 0.52 * body.half_width
    z0 = 0.82 * body.height
    y0 = _skin(scene, z0, x0)
    radii = (21.0, thick / 2, 24.0) if kind == "pacemaker" else (13.0, thick / 2, 13.0)
    low = (z0 - radii[0], y0 - 8, x0 - radii[2])
    high = (z0 + radii[0], y0 + 8, x0 + radii[2])

    def field(z: Floats, y: Floats, x: Floats) -> Floats:
        disc = np.sqrt(((z - z0) / radii[0]) ** 2 + ((x - x0) / radii[2]) ** 2) - 1
        return np.asarray(np.maximum(disc * radii[2], np.abs(y - y0) - radii[1]))

    label = _class("Medical material")
    box = canvas.fine(low, high, field, 2.0)
    canvas.paint(box, 2900.0, label, at_least=0.4)
    end = body.heart_centre if kind == "pacemaker" else (body.carina - 20, -8.0, -23.0)
    corners = np.array(
        [
            (z0 + 8, y0 + 3, x0),
            (0.90 * body.height, -0.2 * body.half_depth, side * 34.0),
            (0.86 * body.height, -8.0, -18.0),
            (body.carina - 10, -8.0, -23.0),
            end,
        ]
    )
    step = 0.3 * min(canvas.grid.spacing)
    lead = canvas.splat(*tube_points(polyline(corners, step), 0.0, 1.6, step))
    limit = lead.most(0.4)
    canvas.paint(lead, 6000.0, label, at_least=limit)
    return Finding(label="Medical material", kind=kind, side="left" if side > 0 else "right")


def _skin(scene: Scene, z0: float, x0: float) -> float:
    """Depth (y) of the pectoral muscle's front at a height and distance from the midline."""
    grid = scene.canvas.grid
    k = int(np.clip(round((z0 - grid.origin[0]) / grid.spacing[0]), 0, grid.shape[0] - 1))
    i = int(np.clip(round((x0 - grid.origin[2]) / grid.spacing[2]), 0, grid.shape[2] - 1))
    column = scene.canvas.hu[k, :, i]
    first = int(np.argmax(column > -25))
    return grid.origin[1] + first * grid.spacing[1] - 3.0


def _wires(scene: Scene) -> None:
    """Six wire loops around the sternum."""
    body, canvas = scene.body, scene.canvas
    step = 0.3 * min(canvas.grid.spacing)
    angle = np.linspace(0, 2 * np.pi, 60)
    for t in np.linspace(0.42, 0.82, 6):
        z = np.array([t * body.height], dtype=np.float32)
        y = float((-body.half_depth * body.taper(z) + body.lean(z))[0]) - 9
        loop = np.stack(
            [np.full(60, float(z[0])), y + 9 * np.sin(angle), 14 * np.cos(angle)], axis=1
        )
        patch = canvas.splat(*tube_points(polyline(loop, step), 0.0, 1.1, step))
        canvas.paint(patch, 9000.0, _class("Medical material"), patch.most(0.3))
