"""A chest CT at full resolution for benchmarks: no network, the same voxels at every run.

Materials, texture and noise are such that it compresses and audits as a real study does; it is no
picture of a patient. `uvlm.phantom` draws better ones, and takes longer.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["FULL", "chest_ct", "write_ct"]

FULL = (300, 512, 512)
"""Voxels (z, y, x) of a full-resolution study."""

EXTENT_MM = (330.0, 384.0, 384.0)
"""Field of view along (z, y, x), whatever the number of voxels."""

AIR, LUNG, FAT, SOFT, BONE = -1000.0, -860.0, -105.0, 45.0, 500.0
NOISE_HU = 22.0
Plane = NDArray[np.float32]


def chest_ct(shape: tuple[int, int, int] = FULL, seed: int = 0) -> NDArray[np.int16]:
    """HU (z, y, x): a trunk with lungs, vessels, spine and ribs, textured and noisy."""
    rng = np.random.default_rng(seed)
    coarse = _texture(rng, (24, 32, 32))
    fine = _texture(rng, (60, 100, 100))
    result = np.empty(shape, np.int16)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape[1:]), indexing="ij")
    for z in range(shape[0]):
        height = z / max(1, shape[0] - 1)
        structure, detail = (_plane(field, height, shape[1:]) for field in (coarse, fine))
        hu = _slice(height, y, x, structure, detail)
        white = rng.standard_normal(shape[1:], dtype=np.float32)
        hu += 1.6 * NOISE_HU * ndimage.uniform_filter(white, 2) * (0.35 + 0.65 * (hu > -950))
        result[z] = np.clip(np.rint(hu), -1024, 3071)
    return result


def write_ct(path: Path, array: NDArray[np.int16]) -> None:
    """Write HU (z, y, x) as a `.nii.gz` of the usual compression, axes towards R, A and S."""
    z, y, x = (mm / n for mm, n in zip(EXTENT_MM, array.shape, strict=True))
    # NIfTI's axes are RAS: x to the left and y to the back run against them.
    image = nib.Nifti1Image(array.T, np.diag([-x, -y, z, 1.0]))
    path.write_bytes(gzip.compress(image.to_bytes(), 6, mtime=0))


def _texture(rng: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.0)
    return np.asarray(field / field.std(), np.float32)


def _plane(field: NDArray[np.float32], height: float, shape: tuple[int, ...]) -> Plane:
    """The field at `height` (0 to 1), enlarged to `shape`."""
    place = height * (len(field) - 1)
    low = min(int(place), len(field) - 2)
    mixed = field[low] + (place - low) * (field[low + 1] - field[low])
    zoom = [n / m for n, m in zip(shape, mixed.shape, strict=True)]
    return np.asarray(ndimage.zoom(mixed, zoom, order=1), np.float32)


def _ellipse(y: Plane, x: Plane, cy: float, cx: float, ry: float, rx: float) -> NDArray[np.bool_]:
    return np.asarray(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1)


def _slice(height: float, y: Plane, x: Plane, structure: Plane, detail: Plane) -> Plane:
    """One axial slice without noise; the lungs fill the upper 80 %."""
    hu = np.full(y.shape, AIR, np.float32)
    skin = _ellipse(y, x, 0, 0, 0.62, 0.88)
    muscle = _ellipse(y, x, 0, 0, 0.54 + 0.01 * np.sin(9 * height), 0.78)
    hu[skin] = FAT
    hu[muscle] = (SOFT + 12 * structure + 8 * detail)[muscle]
    ribs = _ellipse(y, x, 0, 0, 0.52, 0.75) & ~_ellipse(y, x, 0, 0, 0.48, 0.70)
    ribs &= np.sin(40 * height + 6 * np.abs(x)) > 0.4
    hu[ribs] = (BONE + 120 * detail)[ribs]
    size = float(np.clip((height - 0.2) * 4, 0, 1))
    if size > 0:
        for side in (-1, 1):
            lung = _ellipse(y, x, -0.03, 0.40 * side, 0.40 * size, 0.28 * size)
            hu[lung] = (LUNG + 35 * structure + 30 * detail)[lung]
            hu[lung & (detail > 1.9)] = SOFT
    spine = _ellipse(y, x, 0.38, 0, 0.10, 0.11)
    hu[spine] = (BONE - 250 + 150 * detail)[spine]
    return hu
