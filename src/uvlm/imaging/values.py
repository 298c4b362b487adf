"""From the numbers a file stores to Hounsfield units or labels, and the refusal of the wrong kind.

Shapes: every array is (z, y, x). Work goes slice by slice along z, so that no float64 copy of
a whole volume is ever made, nor the volume as a file stores it where that is being read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError, InputError

__all__ = ["Slices", "image_values", "label_values", "looks_like_mask", "refuse_mask"]

INT16 = np.iinfo(np.int16)
FLOAT32_MAX = np.finfo(np.float32).max
LABELS = 1024
"""A mask read as such has no more distinct values."""
MASK_VALUES = 150
"""A mask has no more distinct values: TotalSegmentator has 117 classes, a CT thousands."""
MASK_VALUES_WIDE = 64
"""The same for label maps numbered beyond 255, where a CT stored unsigned could also lie."""


MASK_REPEATS = 8
"""Voxels per distinct value, at least, of a mask: a small crop of a CT also has few values."""


class Slices(Protocol):
    """Slices (y, x) along z: an array (z, y, x), or a file that is still being read.

    They are asked for once, in order, and one is done with before the next is asked for.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x)"""
        ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __iter__(self) -> Iterator[NDArray[Any]]: ...


def image_values(
    raw: Slices, path: Path | str, slope: float = 1.0, intercept: float = 0.0
) -> NDArray[Any]:
    """`raw * slope + intercept` as int16 where that loses nothing, otherwise as float32.

    Raises:
        ImageError: NaN or infinite voxels (says how many), or a data type that is no single number.
    """
    _refuse_types(raw, path)
    unscaled = slope == 1.0 and intercept == 0.0
    if unscaled and np.can_cast(raw.dtype, np.int16) and isinstance(raw, np.ndarray):
        return raw.astype(np.int16, copy=False)
    slices = iter(raw)
    result: NDArray[Any] = np.empty(raw.shape, np.int16)
    for z, stored in enumerate(slices):
        if not _is_finite(stored):
            raise _not_finite(stored, slices, raw.shape, path)
        values = stored if unscaled else _scaled(stored, slope, intercept)
        if result.dtype == np.int16 and not _fits_int16(values):
            # int16 to float32 is exact, so what was converted so far stays right.
            result = _widened(result, z, np.float32)
        if not unscaled and not _is_finite(values):
            raise ImageError.about(
                path, f"a slope of {slope:g} that gives infinite values", "Export it again."
            )
        result[z] = values
    return result


def _scaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Slope and intercept applied: in float64, or where nothing can overflow in whole numbers."""
    small = np.can_cast(stored.dtype, np.int32) and stored.dtype.itemsize <= 2
    whole = slope == round(slope) and intercept == round(intercept)
    if small and whole and abs(slope) <= 4096 and abs(intercept) <= 2**24:
        values = stored.astype(np.int32)
        if slope != 1:
            values *= np.int32(slope)
        values += np.int32(intercept)
        return values
    return np.asarray(stored.astype(np.float64) * slope + intercept)


def _fits_int16(values: NDArray[Any]) -> bool:
    if np.can_cast(values.dtype, np.int16):
        return True
    in_range = INT16.min <= values.min() and values.max() <= INT16.max
    return bool(in_range) and _integral(values)


def _widened(array: NDArray[Any], done: int, dtype: type[np.generic]) -> NDArray[Any]:
    """An array of a wider type whose first `done` slices are those of `array`."""
    result: NDArray[Any] = np.empty(array.shape, dtype)
    result[:done] = array[:done]
    return result


def label_values(
    raw: Slices, path: Path | str, slope: float = 1.0, intercept: float = 0.0
) -> NDArray[Any]:
    """Labels as uint8, or uint16 where a label exceeds 255.

    Raises:
        ImageError: values that are no labels: not integers, negative, above 65535, or as many
            distinct ones as only an image has (more than 1024).
    """
    _refuse_types(raw, path)
    remedy = "Give a mask of whole numbers, 0 for background; this looks like an image."
    unscaled = slope == 1.0 and intercept == 0.0
    slices = iter(raw)
    result: NDArray[Any] = np.empty(raw.shape, np.uint8)
    for z, stored in enumerate(slices):
        if not _is_finite(stored):
            raise _not_finite(stored, slices, raw.shape, path)
        slab = stored if unscaled else _scaled_labels(stored, slope, intercept)
        if not _integral(slab):
            raise ImageError.about(path, "values that are not whole numbers", remedy)
        low, high = slab.min(), slab.max()
        if low < 0 or high > 65535:
            found = f"values from {low:g} to {high:g} in a mask"
            raise ImageError.about(path, found, remedy)
        if high > 255 and result.dtype == np.uint8:
            result = _widened(result, z, np.uint16)
        result[z] = slab
    if result.dtype == np.uint16 and result.max() > LABELS and _distinct(result, LABELS) > LABELS:
        raise ImageError.about(path, f"more than {LABELS} distinct values in a mask", remedy)
    return result


def _scaled_labels(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[np.float64]:
    """Labels that were stored scaled; the header's float32 slope leaves 1.00000006 of a 1."""
    values = stored.astype(np.float64) * slope + intercept
    whole = np.rint(values)
    np.copyto(values, whole, where=np.abs(values - whole) < 1e-3)
    return np.asarray(values, np.float64)


def looks_like_mask(array: NDArray[Any]) -> bool:
    """Whether an image is really a label map.

    The rule: whole numbers, none negative, and either at most 150 distinct values within 0..255,
    or at most 64 distinct values with 0 the commonest and nine of ten x-neighbours equal (label
    maps numbered beyond 255); and at least 8 voxels per distinct value. A CT, even one stored
    unsigned or shifted, has noise and hence thousands of distinct values; one in Hounsfield units
    has negative ones (air, fat).
    """
    if array.dtype.kind == "f" or any(slab.min() < 0 for slab in array):
        return False
    wide = array.max() > 255
    limit = min(MASK_VALUES_WIDE if wide else MASK_VALUES, array.size // MASK_REPEATS)
    if _distinct(array, limit) > limit:
        return False
    if not wide:
        return True
    values, counts = np.unique(array, return_counts=True)
    flat = np.mean(array[..., 1:] == array[..., :-1]) if array.shape[2] > 1 else 0.0
    return bool(values[counts.argmax()] == 0 and flat >= 0.9)


def refuse_mask(array: NDArray[Any], path: Path | str) -> None:
    """Raise ImageError where `array`, read as an image, is a label map by `looks_like_mask`."""
    if looks_like_mask(array):
        raise ImageError.about(
            path,
            f"whole numbers from {int(array.min())} to {int(array.max())} with few distinct "
            "values: a mask, not an image",
            "Give the CT image this mask belongs to.",
        )


def _distinct(array: NDArray[Any], limit: int) -> int:
    """Number of distinct values; counting stops at the first slab that passes `limit`."""
    seen = np.unique(array[array.shape[0] // 2])
    for slab in array:
        if len(seen) > limit:
            break
        seen = np.union1d(seen, slab)
    return len(seen)


def _integral(slab: NDArray[Any]) -> bool:
    return slab.dtype.kind in "iu" or bool((np.rint(slab) == slab).all())


def _refuse_types(raw: Slices, path: Path | str) -> None:
    if raw.dtype.names or raw.dtype.kind not in "iufb" or raw.dtype.itemsize > 8:
        what = "colours (RGB)" if raw.dtype.names else f"values of type {raw.dtype}"
        raise ImageError.about(
            path, what, "Export one number per voxel, in Hounsfield units (int16 or float32)."
        )


def _is_finite(values: NDArray[Any]) -> bool:
    """What float32 cannot hold counts as infinite; NaN fails the comparison."""
    if values.dtype.kind != "f":
        return True
    return bool(values.min() >= -FLOAT32_MAX and values.max() <= FLOAT32_MAX)


def _not_finite(
    first: NDArray[Any], rest: Iterator[NDArray[Any]], shape: tuple[int, ...], path: Path | str
) -> InputError:
    """The error that counts such voxels in slice `first` and in all after it."""
    nan = infinite = 0
    for stored in chain([first], rest):
        nan += int(np.isnan(stored).sum())
        infinite += int((np.abs(stored) > FLOAT32_MAX).sum())
    return ImageError.about(
        path,
        f"{nan} NaN and {infinite} infinite voxels of {math.prod(shape)}",
        "Export it again, or replace them with what stands for outside the scan: -1024 (air) in a "
        "CT, 0 in a mask.",
    )
