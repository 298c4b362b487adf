"""Small simulated bodies with the materials, shapes and noise that the audit looks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.volume import Provenance, Volume

__all__ = ["abdomen", "chest", "head", "make_volume", "pelvis", "thighs"]

AIR, LUNG, FAT, SOFT, BONE = -1000.0, -850.0, -100.0, 45.0, 700.0


def make_volume(
    array: NDArray[Any], spacing: tuple[float, float, float] = (5.0, 4.0, 4.0), path: str = "ct"
) -> Volume:
    """A volume in LPS with `spacing` (z, y, x) mm."""
    z, y, x = spacing
    return Volume(
        array=array,
        affine=np.diag([x, y, z, 1.0]),
        provenance=Provenance(path=path, format="nifti", checksum=""),
    )


def _body(
    slices: int,
    draw: Callable[[int, NDArray[Any], NDArray[Any], NDArray[Any]], None],
    seed: int = 0,
) -> Volume:
    """`draw(z, hu, y_mm, x_mm)` paints a slice of 96 x 96 voxels of 4 mm, centred on 0 mm."""
    y, x = np.meshgrid(np.arange(-47.5, 48) * 4, np.arange(-47.5, 48) * 4, indexing="ij")
    array = np.full((slices, 96, 96), AIR)
    for z in range(slices):
        draw(z, array[z], y, x)
    rng = np.random.default_rng(seed)
    array += (array == BONE) * rng.uniform(-400, 500, array.shape)
    array += rng.normal(0, 12, array.shape)
    return make_volume(np.rint(array).astype(np.int16))


def _ellipse(y: NDArray[Any], x: NDArray[Any], cy: float, cx: float, ry: float, rx: float) -> Any:
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


def _trunk(hu: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> None:
    hu[_ellipse(y, x, 0, 0, 110, 160)] = FAT
    hu[_ellipse(y, x, 0, 0, 90, 140)] = SOFT
    hu[_ellipse(y, x, 70, 0, 18, 20)] = BONE


def _lungs(hu: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> None:
    hu[_ellipse(y, x, -5, -75, 70, 50)] = LUNG
    hu[_ellipse(y, x, -5, 75, 70, 50)] = LUNG


def abdomen(slices: int = 30) -> Volume:
    """Trunk with a spine, no lung."""
    return _body(slices, lambda z, hu, y, x: _trunk(hu, y, x))


def chest(slices: int = 48, lung_slices: int = 38) -> Volume:
    """Trunk whose upper slices hold two lungs."""

    def draw(z: int, hu: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> None:
        _trunk(hu, y, x)
        if z >= slices - lung_slices:
            _lungs(hu, y, x)

    return _body(slices, draw)


def pelvis(slices: int = 30) -> Volume:
    """Trunk with two hip bones."""

    def draw(z: int, hu: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> None:
        _trunk(hu, y, x)
        hu[_ellipse(y, x, 20, -95, 40, 15)] = BONE
        hu[_ellipse(y, x, 20, 95, 40, 15)] = BONE

    return _body(slices, draw)


def head(slices: int = 30) -> Volume:
    """Brain in a closed skull."""

    def draw(z: int, hu: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> None:
        hu[_ellipse(y, x, 0, 0, 100, 80)] = FAT
        hu[_ellipse(y, x, 0, 0, 94, 74)] = BONE
        hu[_ellipse(y, x, 0, 0, 84, 64)] = 35

    return _body(slices, draw)


def thighs(slices: int = 30) -> Volume:
    """Two legs with a femur each."""

    def draw(z: int, hu: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> None:
        for side in (-90, 90):
            hu[_ellipse(y, x, 0, side, 75, 75)] = FAT
            hu[_ellipse(y, x, 0, side, 65, 65)] = SOFT
            hu[_ellipse(y, x, 0, side, 16, 16)] = BONE

    return _body(slices, draw)
