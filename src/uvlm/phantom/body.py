"""The shape of one patient's chest in millimetres, before any voxel exists.

Origin: midline, middle of the chest's depth, deepest point of the lungs; axes z to Superior,
y to Posterior, x to the patient's Left. Typical adult sizes; every length varies by patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uvlm.phantom.canvas import Floats, Grid, Triple
from uvlm.phantom.classes import stream

__all__ = ["ChestBody", "chest_grid", "nominal_chest_spacing", "sample_body"]


@dataclass(frozen=True, kw_only=True)
class ChestBody:
    """Everything that makes one chest differ from another."""

    sex: str
    """"F" or "M"."""

    age: int
    """Years."""

    contrast: bool
    """Whether blood is enhanced."""

    half_width: float
    """Inside of the rib cage at its widest."""

    half_depth: float
    """The same, front to back."""

    height: float
    """Lung base to apex."""

    fat: float
    """Thickness of the fat under the skin."""

    blood_hu: float
    """Aorta and chambers."""

    lung_hu: float
    """Mid-lung parenchyma; rises to the back."""

    noise: float
    """Standard deviation of the scanner's noise, HU."""

    domes: tuple[float, float]
    """Tops of the right and left hemidiaphragm."""

    heart_scale: float
    """1 is normal; from 1.25 the cardiothoracic ratio exceeds one half."""

    tilt: float
    """Rotation of the heart's long axis to the left, radians."""

    shift: Triple
    """Where the scanner's origin lies from the patient's."""

    view: float
    """Width of the field of view beyond the rib cage, both sides together."""

    margins: tuple[float, float]
    """Scan length below the lung bases and above the apices."""

    @property
    def carina(self) -> float:
        """Height where the trachea divides."""
        return 0.66 * self.height

    @property
    def arch(self) -> float:
        """Height from which the aortic arch rises."""
        return 0.72 * self.height

    @property
    def heart_radii(self) -> Triple:
        """Half axes (base to apex direction last)."""
        s = self.heart_scale * self.half_width / 136.0
        return 46.0 * s, 42.0 * s, 60.0 * s

    @property
    def heart_centre(self) -> Triple:
        """(z, y, x); a large heart grows to the left and rests on the diaphragm."""
        bottom = max(self.domes) - 22.0
        r = self.heart_radii
        return bottom + r[0], -0.22 * self.half_depth - 4.0, 14.0 + 30.0 * (self.heart_scale - 1)

    @property
    def heart_turn(self) -> NDArray[np.float64]:
        """Rows: the heart's axes in (z, y, x): up, back, and its long axis to the apex."""
        long = np.array([-np.sin(0.45), -np.sin(self.tilt), np.cos(self.tilt)])
        long /= np.linalg.norm(long)
        up = np.array([1.0, 0.0, 0.0]) - long * long[0]
        up /= np.linalg.norm(up)
        back = np.cross(up, long)
        return np.stack([up, back * np.sign(back[1]), long])

    def taper(self, z: Floats) -> Floats:
        """Width of the rib cage at height z relative to its widest: a barrel closed by a dome."""
        t = np.clip(z / self.height, -0.3, 0.9995)
        top = np.clip((t - 0.3) / 0.7, 0, 1)
        low = np.clip((0.3 - t) / 0.6, 0, 1)
        return np.asarray((1 - top**2.8) ** 0.55 * (1 - 0.06 * low), dtype=np.float32)

    def lean(self, z: Floats) -> Floats:
        """How far the cage's centre lies behind y = 0: the front wall recedes upwards."""
        t = np.clip(z / self.height, -0.2, 1.2)
        return np.asarray(16.0 * t * t - 3.0, dtype=np.float32)

    def spine_y(self, z: Floats) -> Floats:
        """Centre of the vertebral bodies, following the kyphosis."""
        t = np.clip(z / self.height, -0.2, 1.2)
        back = self.half_depth * (0.80 - 0.55 * np.clip(t - 0.72, 0, 1))
        return np.asarray(back + 8 * np.sin(np.pi * t), dtype=np.float32)

    @property
    def desc_aorta(self) -> tuple[float, float]:
        """(y, x) of the descending aorta: in front and to the left of the spine."""
        return 0.44 * self.half_depth, 29.0


def sample_body(seed: int, study: int, *, vascular: float = 0.0, large_heart: bool) -> ChestBody:
    """The patient of one study; `vascular` shifts the age, `large_heart` sets the heart."""
    rng = stream(seed, study, "body")
    sex = "F" if rng.random() < 0.45 else "M"
    scale = rng.uniform(0.94, 1.06)
    width = (122.0 if sex == "F" else 134.0) * scale
    contrast = bool(rng.random() < 0.35)
    heart = stream(seed, study, "heart")
    right = rng.uniform(0.27, 0.34)
    return ChestBody(
        sex=sex,
        age=int(np.clip(rng.normal(55, 9) + 13 * vascular, 19, 92)),
        contrast=contrast,
        half_width=width,
        half_depth=width * rng.uniform(0.66, 0.74),
        height=width * rng.uniform(1.72, 1.90),
        fat=rng.uniform(8, 22) + (5 if sex == "F" else 0),
        blood_hu=rng.uniform(150, 300) if contrast else rng.uniform(38, 50),
        lung_hu=rng.uniform(-875, -835),
        noise=float(np.clip(np.exp(rng.normal(np.log(15), 0.35)), 8, 30)),
        domes=(right * width * 1.8, (right - rng.uniform(0.03, 0.06)) * width * 1.8),
        heart_scale=heart.uniform(1.25, 1.42) if large_heart else heart.uniform(0.90, 1.04),
        tilt=rng.uniform(0.35, 0.6),
        shift=(rng.uniform(-400, 100), rng.uniform(-30, 30), rng.uniform(-15, 15)),
        view=rng.uniform(2, 30),
        margins=(rng.uniform(2, 10), rng.uniform(4, 12)),
    )


def chest_grid(body: ChestBody, shape: tuple[int, int, int]) -> Grid:
    """A field of view fitted to the rib cage; square pixels."""
    wide = 2 * (body.half_width + 9) + body.view
    deep = 2 * (body.half_depth + 9) + 0.6 * body.view + 14
    pixel = round(max(wide / shape[2], deep / shape[1]), 4)
    low, high = body.margins
    thick = round((body.height + low + high) / shape[0], 4)
    return Grid(
        shape=shape,
        spacing=(thick, pixel, pixel),
        origin=(
            -low + thick / 2,
            6.0 - (shape[1] - 1) / 2 * pixel,
            -(shape[2] - 1) / 2 * pixel,
        ),
    )


def nominal_chest_spacing(shape: tuple[int, int, int]) -> Triple:
    """Voxel of the largest patient the sampler makes; what it shows, every patient's shows."""
    widest = 134.0 * 1.06
    pixel = max((2 * (widest + 9) + 30) / shape[2], (2 * (0.74 * widest + 9) + 32) / shape[1])
    return (1.90 * widest + 22) / shape[0], pixel, pixel
