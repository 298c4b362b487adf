"""One chest study: patient, abnormalities, image and mask, from a seed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uvlm.phantom import anatomy, focal, mediastinum, parenchyma, vessels
from uvlm.phantom.body import ChestBody, chest_grid, sample_body
from uvlm.phantom.canvas import Canvas, Grid, Patch
from uvlm.phantom.classes import CHEST_CLASSES, Finding, stream
from uvlm.phantom.measures import graded
from uvlm.phantom.scene import Scene
from uvlm.phantom.texture import scanner_noise

__all__ = ["ChestStudy", "draw_chest"]

Size = tuple[float, float]
Draw = Callable[[Scene, Size], Finding]

BEFORE_VESSELS: dict[str, Draw] = {
    "Pleural effusion": focal.pleural_effusion,
    "Mosaic attenuation pattern": parenchyma.mosaic,
    "Emphysema": parenchyma.emphysema,
}
BEFORE_BRONCHI: dict[str, Draw] = {
    "Interlobular septal thickening": parenchyma.septal_lines,
    "Consolidation": parenchyma.consolidation,
    "Lung opacity": parenchyma.lung_opacity,
}
AFTER_BRONCHI: dict[str, Draw] = {
    "Pulmonary fibrotic sequela": focal.fibrotic_sequela,
    "Peribronchial thickening": focal.peribronchial_thickening,
    "Bronchiectasis": focal.bronchiectasis,
    "Atelectasis": focal.atelectasis,
}
BEFORE_HEART: dict[str, Draw] = {
    "Lung nodule": focal.lung_nodules,
    "Pericardial effusion": mediastinum.pericardial_effusion,
}
AFTER_VESSELS: dict[str, Draw] = {
    "Lymphadenopathy": mediastinum.lymphadenopathy,
}
LAST: dict[str, Draw] = {
    "Coronary artery wall calcification": mediastinum.coronary_calcification,
    "Arterial wall calcification": mediastinum.arterial_calcification,
    "Hiatal hernia": mediastinum.hiatal_hernia,
    "Medical material": mediastinum.medical_material,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ChestStudy:
    """A finished study on its own grid (axes z, y, x running to S, P, L)."""

    body: ChestBody
    grid: Grid
    hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    findings: tuple[Finding, ...]


def draw_chest(
    seed: int,
    study: int,
    shape: tuple[int, int, int],
    labels: Collection[str],
    sizes: Mapping[str, Size],
    *,
    vascular: float = 0.0,
) -> ChestStudy:
    """Draw study number `study` with the given abnormalities.

    Every part draws from its own random stream, so that leaving one abnormality out changes
    nothing else about the patient.
    """
    body = sample_body(seed, study, vascular=vascular, large_heart="Cardiomegaly" in labels)
    grid = chest_grid(body, shape)
    scene = Scene(seed=seed, study=study, body=body, canvas=Canvas(grid))
    found: list[Finding] = []

    def draw(table: Mapping[str, Draw]) -> None:
        found.extend(f(scene, sizes[name]) for name, f in table.items() if name in labels)

    anatomy.draw_wall(scene)
    anatomy.draw_bones(scene)
    anatomy.draw_abdomen(scene)
    anatomy.draw_mediastinum(scene)
    if "Pericardial effusion" in labels:
        mediastinum.make_room_for_fluid(scene, sizes["Pericardial effusion"])
    anatomy.draw_lungs(scene)
    pleural = Patch(anatomy.FULL, scene.lung.copy())
    draw(BEFORE_VESSELS)
    vessels.draw_lung_vessels(scene)
    draw(BEFORE_BRONCHI)
    for lobe in range(1, 6):
        vessels.draw_bronchi(scene, vessels.plan_bronchi(scene, lobe))
    draw(AFTER_BRONCHI)
    scene.canvas.paint(pleural, scene.tissue)
    draw(BEFORE_HEART)
    anatomy.draw_heart(scene)
    vessels.draw_great_vessels(scene)
    canvas = scene.canvas
    canvas.paint(anatomy.aorta(scene), body.blood_hu, CHEST_CLASSES["aorta"])
    draw(AFTER_VESSELS)
    vessels.draw_airways(scene)
    draw(LAST)
    if "Cardiomegaly" in labels:
        found.append(_cardiomegaly(scene))
    return ChestStudy(
        body=body, grid=grid, hu=_scan(scene), mask=scene.canvas.mask, findings=tuple(found)
    )


def _cardiomegaly(scene: Scene) -> Finding:
    """Cardiothoracic ratio of the drawn heart, in per cent, as the size."""
    body = scene.body
    turn, radii = body.heart_turn, np.asarray(body.heart_radii)
    width = 2 * float(np.linalg.norm(turn[:, 2] * radii))
    ratio = width / (2 * body.half_width)
    return Finding(label="Cardiomegaly", size_mm=width, severity=graded(ratio, 0.58, 0.64))


def _scan(scene: Scene) -> NDArray[np.int16]:
    """Noise, the scanner's value range, and sometimes the padding outside its circle."""
    canvas, body = scene.canvas, scene.body
    hu = canvas.hu
    hu += scanner_noise(scene.rng("noise"), canvas.grid, body.noise)
    image = np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)
    if stream(scene.seed, scene.study, "circle").random() < 0.25:
        _, y, x = canvas.grid.axes
        _, ny, nx = canvas.grid.shape
        half = max(ny * canvas.grid.spacing[1], nx * canvas.grid.spacing[2]) / 2
        outside = (y - y.mean()) ** 2 + x**2 > (1.02 * half) ** 2
        image[:, outside[0]] = -1024
    return image
