"""One abdominal study: patient, organs, lesions of liver, kidneys and pancreas, from a seed.

Origin: midline, middle of the trunk's depth, bottom of the scan; axes as in `canvas`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uvlm.phantom.abdomen_lesions import Lesion, draw_lesions
from uvlm.phantom.canvas import Canvas, Floats, Grid, Patch, Triple, coverage, sheet
from uvlm.phantom.classes import stream
from uvlm.phantom.texture import scanner_noise, smooth_field
from uvlm.registry import ABDOMEN_STRUCTURES

__all__ = [
    "ABDOMEN_CLASSES",
    "AbdomenBody",
    "AbdomenStudy",
    "draw_abdomen_study",
    "nominal_abdomen_spacing",
]

ABDOMEN_CLASSES: dict[str, int] = {name: k for k, name in enumerate(ABDOMEN_STRUCTURES, start=1)}
"""Structure -> value while drawing; each is written as a file of its own. Structures outside the
scan (bladder, femurs, ...) stay empty."""

FULL = (slice(None), slice(None), slice(None))

# HU in the arterial and in the portal venous phase.
PHASES: dict[str, dict[str, float]] = {
    "Arterial": {
        "artery": 290,
        "vein": 90,
        "liver": 82,
        "spleen": 135,
        "kidney": 165,
        "pancreas": 112,
    },
    "Portal Venous": {
        "artery": 165,
        "vein": 170,
        "liver": 112,
        "spleen": 122,
        "kidney": 180,
        "pancreas": 96,
    },
}


@dataclass(frozen=True, kw_only=True)
class AbdomenBody:
    """Everything that makes one abdomen differ from another; lengths in mm."""

    sex: str
    age: int
    phase: str
    """One of `PHASES`."""
    half_width: float
    half_depth: float
    height: float
    """Length of the scan."""
    fat: float
    noise: float
    shift: Triple


@dataclass(frozen=True, kw_only=True, eq=False)
class AbdomenStudy:
    """A finished study on its own grid (axes z, y, x running to S, P, L)."""

    body: AbdomenBody
    grid: Grid
    hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    organs: NDArray[np.uint8]
    """The mask before lesions were drawn into it."""
    lesions: tuple[Lesion, ...]


def sample_abdomen(seed: int, study: int) -> AbdomenBody:
    """The patient of one study."""
    rng = stream(seed, study, "abdomen body")
    scale = rng.uniform(0.93, 1.07)
    width = 146.0 * scale
    return AbdomenBody(
        sex="F" if rng.random() < 0.45 else "M",
        age=int(np.clip(rng.normal(60, 13), 19, 92)),
        phase=str(rng.choice(list(PHASES), p=[0.35, 0.65])),
        half_width=width,
        half_depth=width * rng.uniform(0.66, 0.76),
        height=width * rng.uniform(1.62, 1.80),
        fat=rng.uniform(10, 30),
        noise=float(np.clip(np.exp(rng.normal(np.log(11), 0.25)), 8, 20)),
        shift=(rng.uniform(-600, -100), rng.uniform(-30, 30), rng.uniform(-15, 15)),
    )


def abdomen_grid(body: AbdomenBody, shape: tuple[int, int, int]) -> Grid:
    """A field of view fitted to the trunk; square pixels."""
    wide = 2 * (body.half_width + body.fat) + 8
    deep = 2 * (body.half_depth + body.fat) + 24
    pixel = round(max(wide / shape[2], deep / shape[1]), 4)
    thick = round(body.height / shape[0], 4)
    origin = (thick / 2, 8.0 - (shape[1] - 1) / 2 * pixel, -(shape[2] - 1) / 2 * pixel)
    return Grid(shape, (thick, pixel, pixel), origin)


def nominal_abdomen_spacing(shape: tuple[int, int, int]) -> Triple:
    """Voxel of the largest patient the sampler makes."""
    widest = 146.0 * 1.07
    pixel = max((2 * (widest + 30) + 8) / shape[2], (2 * (0.76 * widest + 30) + 24) / shape[1])
    return 1.80 * widest / shape[0], pixel, pixel


class _Drawing:
    """Canvas, patient and the scale of organ positions given for a typical patient."""

    def __init__(self, seed: int, study: int, body: AbdomenBody, grid: Grid) -> None:
        self.seed, self.study, self.body = seed, study, body
        self.canvas = Canvas(grid)
        self.hu = PHASES[body.phase]
        self.scale = np.array([body.height / 250, body.half_depth / 104, body.half_width / 146])

    def rng(self, what: str) -> np.random.Generator:
        return stream(self.seed, self.study, f"abdomen {what}")

    def at(self, z: float, y: float, x: float) -> Triple:
        """A place of the typical patient, 250 mm long, in this one."""
        place = np.array([z, y, x]) * self.scale
        return float(place[0]), float(place[1]), float(place[2])

    def bar(self, start: Triple, end: Triple, radius: float, hu: float, name: str | None) -> None:
        patch = self.canvas.capsule(self.at(*start), self.at(*end), radius)
        self.canvas.paint(patch, hu, ABDOMEN_CLASSES[name] if name else None)

    def egg(self, centre: Triple, radii: Triple, hu: float, name: str | None) -> Patch:
        patch = self.canvas.ellipsoid(self.at(*centre), self.at(*radii))
        self.canvas.paint(patch, hu, ABDOMEN_CLASSES[name] if name else None)
        return patch


def draw_abdomen_study(
    seed: int,
    study: int,
    shape: tuple[int, int, int],
    labels: Collection[str],
    sizes: Mapping[str, tuple[float, float]],
) -> AbdomenStudy:
    """Draw study number `study` with lesions in the organs that `labels` name."""
    body = sample_abdomen(seed, study)
    drawing = _Drawing(seed, study, body, abdomen_grid(body, shape))
    _trunk(drawing)
    _hollow_organs(drawing)
    _solid_organs(drawing)
    _vessels(drawing)
    canvas = drawing.canvas
    organs = canvas.mask.copy()
    lesions = draw_lesions(canvas, ABDOMEN_CLASSES, drawing.hu, drawing.rng, labels, sizes)
    canvas.hu += scanner_noise(drawing.rng("noise"), canvas.grid, body.noise)
    hu = np.rint(np.clip(canvas.hu, -1024, 3071)).astype(np.int16)
    return AbdomenStudy(
        body=body, grid=canvas.grid, hu=hu, mask=canvas.mask, organs=organs, lesions=lesions
    )


def _trunk(drawing: _Drawing) -> None:
    """Table, skin fat, muscle, peritoneal fat, spine, psoas, lung bases above the diaphragm."""
    canvas, body, rng = drawing.canvas, drawing.body, drawing.rng("trunk")
    z, y, x = canvas.grid.axes

    def ring(grow: float, behind: float = 0.0) -> Floats:
        across = (np.abs(x) / (body.half_width + grow)) ** 2.4
        deep = (np.abs(y - behind / 2) / (body.half_depth + grow + behind / 2)) ** 2.4
        return coverage(np.asarray(across + deep - 1 + 0 * z, dtype=np.float32))

    back = body.half_depth + body.fat + 12
    plate = np.broadcast_to(y - (back + 12) + 0.0010 * x * x, canvas.grid.shape)
    canvas.paint(Patch(FULL, sheet(plate, 22.0)), rng.uniform(-880, -760))
    canvas.paint(Patch(FULL, ring(body.fat, 10)), -102.0 + 6 * smooth_field(rng, canvas.grid, 18))
    canvas.paint(Patch(FULL, ring(0.0, 8)), 52.0 + 10 * smooth_field(rng, canvas.grid, 14))
    inside = ring(-15.0)
    cage = (ring(-3.0) - ring(-11.0)) * (np.mod(z - 0.42 * y, 27) < 12) * (z > 0.45 * body.height)
    canvas.paint(Patch(FULL, np.asarray(cage, dtype=np.float32)), 380.0)
    canvas.paint(Patch(FULL, inside), -98.0 + 12 * smooth_field(rng, canvas.grid, 15))
    for side in (-1, 1):
        drawing.bar((-30, 44, side * 44), (130, 50, side * 30), 21.0, 55.0, None)
    centre = drawing.at(0, 58, 0)[1]
    column = np.sqrt((x / 23) ** 2 + ((y - centre) / 18) ** 2) - 1 + 0 * z
    disc = np.abs(np.mod(z, 33) - 16.5) < 4
    canvas.paint(
        Patch(FULL, coverage(column.astype(np.float32))),
        np.where(disc, 90.0, 210.0).astype(np.float32),
    )
    for y0, r, hu in ((26.0, 9.0, 30.0), (42.0, 9.0, 330.0)):
        canvas.paint(
            canvas.capsule((-50, centre + y0, 0), (body.height + 50, centre + y0, 0), r), hu
        )
    domes = [
        top * drawing.scale[0]
        - 60 * (((x - c * drawing.scale[2]) / 95) ** 2 + ((y + 10) / 100) ** 2)
        for top, c in ((236.0, -66.0), (226.0, 66.0))
    ]
    above = coverage((np.maximum(*domes) - z).astype(np.float32)) * inside * (np.abs(x) > 26)
    for name, chosen in (("lung_left", x > 0), ("lung_right", x < 0)):
        canvas.paint(Patch(FULL, above * chosen), rng.uniform(-860, -820), ABDOMEN_CLASSES[name])


def _hollow_organs(drawing: _Drawing) -> None:
    """Bowel loops, colon with gas, stomach with contents and bubble, duodenum, gallbladder."""
    rng = drawing.rng("hollow")
    for _ in range(12):
        z, y, x = rng.uniform(10, 95), rng.uniform(-60, 0), rng.uniform(-75, 75)
        end = (z + rng.normal(0, 12), y + rng.normal(0, 12), x + rng.normal(0, 35))
        drawing.bar((z, y, x), end, rng.uniform(9, 13), rng.uniform(20, 55), "intestine")
    colon = [
        (-20, 12, -112),
        (92, 2, -108),
        (84, -62, -60),
        (76, -66, 20),
        (104, -48, 92),
        (118, 10, 112),
        (-20, 20, 112),
    ]
    for start, end in itertools.pairwise(colon):
        drawing.bar(start, end, 19.0, 30.0, "colon")
        gas = rng.uniform(5, 11)
        lift = 13.0 - gas
        drawing.bar(
            (start[0], start[1] - lift, start[2]),
            (end[0], end[1] - lift, end[2]),
            gas,
            -930.0,
            "colon",
        )
    drawing.egg((180, -34, 56), (46, 36, 40), 34.0, "stomach")
    drawing.egg((186, -46, 58), (28, rng.uniform(8, 16), 26), -950.0, "stomach")
    drawing.bar((160, -30, 14), (146, -26, -34), 13.0, 36.0, "stomach")
    drawing.bar((146, -22, -40), (108, 0, -44), 12.0, 32.0, "duodenum")
    drawing.bar((250, 24, 12), (206, -8, 26), 8.0, 38.0, "esophagus")


def _solid_organs(drawing: _Drawing) -> None:
    """Liver with its segments, spleen, kidneys, adrenals, pancreas, gallbladder."""
    hu, rng = drawing.hu, drawing.rng("solid")
    canvas = drawing.canvas
    size = rng.uniform(0.92, 1.08)
    right = canvas.ellipsoid(drawing.at(172, -4, -66), drawing.at(64 * size, 78, 66))
    left = canvas.ellipsoid(drawing.at(188, -40, 6), drawing.at(34 * size, 36, 60))
    lungs = np.isin(canvas.mask, (ABDOMEN_CLASSES["lung_left"], ABDOMEN_CLASSES["lung_right"]))
    segments = _segments(drawing)
    for patch in (right, left):
        here = Patch(patch.box, patch.filled * ~lungs[patch.box])
        canvas.paint(here, hu["liver"])
        solid = here.filled >= 0.5
        canvas.mask[here.box][solid] = segments[here.box][solid]
    drawing.egg((170, 40, 98), (46 * size, 36, 22), hu["spleen"], "spleen")
    for name, x in (("kidney_right", -62.0), ("kidney_left", 60.0)):
        z = 112.0 if x < 0 else 122.0
        drawing.egg((z, 40, x), (54, 26, 27), hu["kidney"], name)
        inner = 6.0 if x < 0 else -6.0
        drawing.egg((z, 36, x + inner), (28, 9, 11), -60.0, name)
        adrenal = "adrenal_gland_right" if x < 0 else "adrenal_gland_left"
        drawing.bar((z + 62, 36, 0.62 * x), (z + 50, 40, 0.80 * x), 4.5, 55.0, adrenal)
    drawing.egg((128, -8, -22), (24, 15, 17), hu["pancreas"], "pancreas_head")
    drawing.bar((134, -12, -10), (148, -16, 22), 10.5, hu["pancreas"], "pancreas_body")
    drawing.bar((148, -16, 24), (160, 14, 68), 10.0, hu["pancreas"], "pancreas_tail")
    drawing.egg((122, -52, -52), (26, 14, 13), 8.0, "gall_bladder")
    drawing.bar((150, -18, -36), (126, 2, -30), 3.5, 6.0, "common_bile_duct")


def _segments(drawing: _Drawing) -> NDArray[np.uint8]:
    """Couinaud segment at every voxel: three upright planes and one level at the portal vein."""
    z, y, x = drawing.canvas.grid.axes
    sz, sy, sx = drawing.scale
    upper = z > 172 * sz
    middle, right, falciform = -34 * sx - 0.25 * y, -82 * sx + 0.35 * y, 2 * sx
    values = {n: ABDOMEN_CLASSES[f"liver_segment_{n}"] for n in range(1, 9)}
    lateral = np.where(upper, values[2], values[3])
    outer = np.where(upper, values[7], values[6])
    inner = np.where(upper, values[8], values[5])
    whole = np.where(x > falciform, lateral, values[4])
    whole = np.where(x < middle, inner, whole)
    whole = np.where(x < right, outer, whole)
    caudate = ((x + 12 * sx) ** 2 + (y - 12 * sy) ** 2 < 20**2) & (x > -40)
    return np.where(caudate, values[1], whole).astype(np.uint8)


def _vessels(drawing: _Drawing) -> None:
    """Aorta with its first branches, inferior vena cava, portal and splenic vein."""
    artery, vein = drawing.hu["artery"], drawing.hu["vein"]
    drawing.bar((-50, 24, 12), (300, 30, 10), 11.0, artery, "aorta")
    drawing.bar((-50, 22, -18), (212, 18, -22), 11.5, vein, "postcava")
    drawing.bar((160, 16, 9), (156, 0, 8), 4.5, artery, "celiac_trunk")
    drawing.bar((146, 14, 9), (92, -12, 4), 4.5, artery, "superior_mesenteric_artery")
    drawing.bar((138, -6, -2), (166, -14, -40), 7.0, vein, "portal_vein_and_splenic_vein")
    drawing.bar((140, -4, 0), (162, 22, 76), 4.5, vein, "portal_vein_and_splenic_vein")
    for end in ((196, -10, -92), (204, -36, -60), (204, -34, -4)):
        drawing.bar((212, 10, -26), end, 4.0, vein, "hepatic_vessel")
