"""From a CT volume to the array a model sees, and from the model's answers back to the CT's grid.

`prepare` turns the volume to LPS, straightens a gantry tilt, clips, crops to the foreground if it
shall, and resizes (or resamples to a spacing and crops or pads around the centre). `Grid` remembers
the way; `restore_labels` and `restore_map` go back along it and end on the source's own grid, voxel
for voxel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uvlm.config import LATER, config_hash, from_dict, to_dict
from uvlm.errors import ConfigError, ImageError
from uvlm.imaging.foreground import foreground_box
from uvlm.imaging.resample import Slices, resample, resample_labels
from uvlm.imaging.route import Box, Route, plan_route
from uvlm.imaging.volume import Volume

__all__ = [
    "Grid",
    "Prepared",
    "PreprocessSpec",
    "grid_of",
    "prepare",
    "prepare_labels",
    "preset",
    "restore_labels",
    "restore_map",
]

Matrix = tuple[tuple[float, ...], ...]

AIR_HU = -1024.0
"""Fills what lies outside the scanned volume."""


@dataclass(frozen=True, kw_only=True)
class PreprocessSpec:
    """How a volume becomes a model's input. Equal specifications have equal `hash`.

    The values as they stand are the paper's, with antialiasing and a clip against padding.
    """

    orientation: Literal["LPS"] = "LPS"
    """Axes of the result: x to the left, y to the back, z to the head."""

    shape: tuple[int, int, int] = (192, 256, 256)
    """Voxels (z, y, x) of the result."""

    spacing: tuple[float, float, float] | None = None
    """None: resize to `shape` whatever the spacing. Millimetres (z, y, x): resample to them, then
    crop or pad around the centre to `shape`."""

    antialias: bool = True
    """When shrinking, average over what a voxel covers and let the class with the largest share of
    it win. Without, images mix two neighbours along each axis and labels take the nearest one."""

    align_corners: bool = False
    """Resizing maps corner voxel centres, instead of outer voxel edges, onto one another."""

    clip: tuple[float, float] | None = (-1024.0, 3071.0)
    """HU limits applied before interpolating, so that padding of -3024 cannot spread."""

    normalise: Literal["zscore", "minmax", "none"] = "zscore"
    """What a model sees: the whole volume's mean becomes 0 and its standard deviation 1, its lowest
    voxel 0 and its highest 1, or HU."""

    foreground: bool = field(default=False, metadata=LATER)
    """First crop to the box around all voxels above the volume's lowest value after clipping."""

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ConfigError(f"shape must be three positive numbers (z, y, x), got {self.shape}.")
        # One way to write a value, or equal specifications would differ in their hash.
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.spacing is not None:
            if len(self.spacing) != 3 or not all(mm > 0 for mm in self.spacing):
                raise ConfigError(f"spacing must be three positive mm, got {self.spacing}.")
            object.__setattr__(self, "spacing", tuple(float(mm) for mm in self.spacing))
        if self.clip is not None:
            low, high = (float(limit) for limit in self.clip)
            if not -32768 <= low < high <= 32767:
                raise ConfigError(f"clip must be (low, high) within int16, got {self.clip}.")
            object.__setattr__(self, "clip", (low, high))

    @property
    def hash(self) -> str:
        return config_hash(self)

    @property
    def fill(self) -> float:
        """HU of what lies outside the scanned volume."""
        return AIR_HU if self.clip is None else max(AIR_HU, self.clip[0])

    def scaling(self, *, mean: float, std: float, low: float, high: float) -> tuple[float, float]:
        """(a, b): of a prepared volume with these statistics (HU) a model sees (HU - a) / b."""
        if self.normalise == "zscore":
            return mean, std
        return (low, high - low) if self.normalise == "minmax" else (0.0, 1.0)


def preset(name: str, shape: tuple[int, int, int] | None = None) -> PreprocessSpec:
    """The named specification, at another `shape` if given.

    - `paper`: LPS, clip to -1024..3071 HU, antialiased linear resize to 192x256x256, z-score.
    - `authors`: as the published code does it: corners aligned, neither antialiased nor clipped.
    - `hsenet`: HSENet's: clip to -1000..200 HU, crop to the foreground, resize to 32x256x256,
      lowest voxel to 0 and highest to 1. Its code resamples to 1.5x0.75x0.75 mm before it resizes
      and takes the limits before it crops; here the volume is resampled once, and the limits are
      those of the result.
    """
    if name == "hsenet":
        return PreprocessSpec(
            shape=shape or (32, 256, 256),
            clip=(-1000.0, 200.0),
            normalise="minmax",
            foreground=True,
        )
    shape = shape or (192, 256, 256)
    if name == "paper":
        return PreprocessSpec(shape=shape)
    if name == "authors":
        return PreprocessSpec(shape=shape, antialias=False, align_corners=True, clip=None)
    raise ConfigError(f"unknown preset {name!r}; known: paper, authors, hsenet.")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The way back from a prepared array to its source."""

    source_shape: tuple[int, int, int]
    """Voxels (z, y, x)."""

    source_affine: Matrix
    """4x4, source voxel index (x, y, z) to LPS mm."""

    source_spacing: tuple[float, float, float]
    """mm (z, y, x)."""

    source_checksum: str
    """SHA-256, as in the source's provenance."""

    affine: Matrix
    """4x4, prepared voxel index (x, y, z) to LPS mm."""

    spec: PreprocessSpec

    crop: Box | None = field(default=None, metadata=LATER)
    """The part of the turned and straightened source that was prepared; None: all of it."""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm per prepared voxel (z, y, x)."""
        x, y, z = np.linalg.norm(np.array(self.affine)[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def route(self) -> Route:
        return plan_route(
            self.source_shape,
            np.array(self.source_affine),
            self.spec.shape,
            self.spec.spacing,
            self.spec.align_corners,
            self.crop,
        )

    @property
    def source_lps(self) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """(shape, spacing) of the source with its axes turned to LPS: voxels and mm (z, y, x)."""
        z, y, x = self.route.turn.order
        shape, spacing = self.source_shape, self.source_spacing
        return (shape[z], shape[y], shape[x]), (spacing[z], spacing[y], spacing[x])

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        values: dict[str, Any] = to_dict(self)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Grid:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: unknown or missing keys, or a value of another type.
        """
        return from_dict(cls, values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A volume ready for the store or a model."""

    array: NDArray[np.int16]
    """HU (z, y, x) of the specification's shape."""

    grid: Grid
    mean: float
    """Of `array`, HU."""

    std: float
    """Of `array`, HU; above 0."""

    def normalised(self) -> NDArray[np.float32]:
        """What a model sees, as the specification says."""
        values = self.array.astype(np.float32)
        offset, scale = self.grid.spec.scaling(
            mean=self.mean,
            std=self.std,
            low=float(self.array.min()),
            high=float(self.array.max()),
        )
        values -= np.float32(offset)
        values /= np.float32(scale)
        return values


def grid_of(volume: Volume, spec: PreprocessSpec, crop: Box | None = None) -> Grid:
    """The grid `prepare` would put `volume` on.

    Args:
        crop: that of the image's grid, for a mask; otherwise the foreground of `volume` itself is
            looked for, if the specification asks for it
    """
    if crop is None and spec.foreground:
        crop = _foreground(volume, spec)
    route = plan_route(
        volume.shape, volume.affine, spec.shape, spec.spacing, spec.align_corners, crop
    )
    return Grid(
        source_shape=volume.shape,
        source_affine=_matrix(volume.affine),
        source_spacing=volume.spacing,
        source_checksum=volume.provenance.checksum,
        affine=_matrix(route.affine),
        spec=spec,
        crop=crop,
    )


def _foreground(volume: Volume, spec: PreprocessSpec) -> Box | None:
    # The turn and the straightening do not depend on the crop.
    route = plan_route(volume.shape, volume.affine, spec.shape, spec.spacing, spec.align_corners)
    source, clip = _straightened(volume, route, spec)
    z, y, x = (axis.source for axis in route.maps)
    return foreground_box(source, (z, y, x), clip)


def _straightened(
    volume: Volume, route: Route, spec: PreprocessSpec
) -> tuple[Slices, tuple[float, float] | None]:
    """The turned and straightened volume, and the limits that are still to be applied to it."""
    turned = route.turn.apply(volume.array)
    if route.straighten is None:
        return turned, spec.clip
    # Clipped there, for the straightened array already mixes neighbours.
    return route.straighten.apply(turned, spec.fill, spec.clip), None


def _matrix(affine: NDArray[np.float64]) -> Matrix:
    return tuple(tuple(float(value) for value in row) for row in affine)


def prepare(volume: Volume, spec: PreprocessSpec) -> Prepared:
    """Bring a CT (HU) to the specification's grid, as int16 HU.

    Raises:
        ImageError: it holds NaN or infinite values, values beyond int16, or one value throughout.
    """
    where = volume.provenance.path
    _refuse_unusable(volume, spec)
    grid = grid_of(volume, spec)
    route = grid.route
    source, clip = _straightened(volume, route, spec)
    mixed = resample(source, route.maps, antialias=spec.antialias, fill=spec.fill, clip=clip)
    array = np.rint(mixed, out=mixed).astype(np.int16)
    mean, std = _moments(array)
    if array.min() == array.max():
        raise ImageError.about(
            where,
            f"every voxel has the value {array.flat[0]} HU on the {spec.shape} grid",
            "Check that the file holds a CT; a flat image cannot be standardised.",
        )
    return Prepared(array=array, grid=grid, mean=mean, std=std)


def _moments(array: NDArray[np.int16]) -> tuple[float, float]:
    """Mean and standard deviation, from sums of integers that float64 holds exactly."""
    total = squares = 0.0
    for plane in array:
        values = plane.astype(np.float64).ravel()
        total += float(values.sum())
        squares += float(values @ values)
    mean = total / array.size
    return mean, max(squares / array.size - mean * mean, 0.0) ** 0.5


def _refuse_unusable(volume: Volume, spec: PreprocessSpec) -> None:
    array, where = volume.array, volume.provenance.path
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ImageError.about(
            where,
            f"{int((~np.isfinite(array)).sum())} voxels are NaN or infinite",
            "Export the file again, or replace them with the scanner's padding value.",
        )
    if spec.clip is None and array.dtype != np.int16:
        low, high = array.min(), array.max()
        if low < -32768 or high > 32767:
            raise ImageError.about(
                where,
                f"values from {low} to {high} do not fit 16 bits",
                "Use a preprocessing that clips, or check rescale slope and intercept.",
            )


def prepare_labels(volume: Volume, spec: PreprocessSpec, crop: Box | None = None) -> NDArray[Any]:
    """Bring a mask to the grid that `prepare` gives an image of its geometry; same values, type.

    Args:
        crop: that of the image's grid; needed if the specification crops to the foreground
    """
    if spec.foreground and crop is None:
        raise ValueError("a mask is cropped as its image is; give the crop of the image's grid")
    route = grid_of(volume, spec, crop).route
    source = route.turn.apply(volume.array)
    if route.straighten is not None:
        source = route.straighten.apply_labels(source)
    return resample_labels(source, route.maps, vote=_votes(route, spec))


def restore_labels(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """A label map on the prepared grid, brought to the source's; same values and type.

    Source voxels outside the prepared grid (cropped away) are 0.
    """
    route = _checked_route(array, grid)
    back = [axis.inverse for axis in route.maps]
    result = resample_labels(array, back, vote=_votes(route, grid.spec))
    if route.straighten is not None:
        result = route.straighten.undo_labels(result)
    return np.ascontiguousarray(route.turn.undo(result))


def restore_map(array: NDArray[Any], grid: Grid) -> NDArray[np.float32]:
    """A map of real values on the prepared grid, brought to the source's by linear interpolation.

    Source voxels outside the prepared grid (cropped away) are 0.
    """
    route = _checked_route(array, grid)
    back = [axis.inverse for axis in route.maps]
    result = resample(array, back, antialias=grid.spec.antialias, fill=0.0)
    if route.straighten is not None:
        result = route.straighten.undo(result)
    return np.ascontiguousarray(route.turn.undo(result))


def _votes(route: Route, spec: PreprocessSpec) -> bool:
    """Whether classes vote by share: where preparing shrinks the mask along any axis.

    Where it only enlarges, copying voxels, and picking the nearest copy on the way back, loses
    nothing.
    """
    return spec.antialias and any(axis.scale > 1 for axis in route.maps)


def _checked_route(array: NDArray[Any], grid: Grid) -> Route:
    if array.shape != grid.spec.shape:
        raise ValueError(f"expected an array of {grid.spec.shape} (z, y, x), got {array.shape}")
    return grid.route
