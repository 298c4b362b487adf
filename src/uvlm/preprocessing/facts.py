"""What is remembered of every prepared study: plain numbers and words, ready for JSON.

They are taken in the worker while the arrays are in memory, and are all that the quality report,
the search for duplicates and the comparison of sides ever see. Nothing in them is NaN or infinite.

Axes: prepared arrays are (z, y, x) in LPS, so that x grows towards the patient's left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.imaging.audit import Audit
from uvlm.imaging.geometry import orientation_code
from uvlm.imaging.preprocess import Prepared
from uvlm.imaging.volume import Volume

__all__ = ["digest_of", "image_facts", "mask_facts", "midline_of"]

BODY_HU = -300
"""Above it is tissue, below it air, lung and clothes."""

SAMPLES = 48
"""Slices and rows looked at for the midline."""

COARSE = slice(None, None, 2)
"""Every second voxel along each axis is enough for the mean of an organ."""


def image_facts(volume: Volume, audit: Audit, prepared: Prepared) -> dict[str, Any]:
    """The facts of one image.

    Args:
        volume: as read, in HU
        audit: of `volume`
        prepared: made from `volume`

    Returns:
        format          "nifti", "dicom", ...
        shape           source voxels [z, y, x] along the file's own axes
        spacing_mm      source mm [z, y, x]
        orientation     such as "LPS"
        field_of_view_mm  source mm [z, y, x]
        verdict, region  of the audit; coverage_mm: part of the body -> mm
        landmarks       material -> HU of its peak
        percentiles     "0.5", "5", ... -> HU
        padding, padding_share, clipped   values outside the field of view; [below, above]
        warnings, notes  sentences of the audit and of the reader
        mean, std       HU of the prepared voxels
        midline         where the body's middle lies, in prepared x indices
        digest          of the prepared voxels: equal images have equal ones, however stored
    """
    facts = {
        "format": volume.provenance.format,
        "shape": volume.shape,
        "spacing_mm": [round(step, 5) for step in volume.spacing],
        "orientation": orientation_code(volume.affine),
        "field_of_view_mm": audit.field_of_view_mm,
        "verdict": audit.verdict,
        "region": audit.region,
        "coverage_mm": audit.coverage_mm,
        "landmarks": {mark.name: mark.found for mark in audit.landmarks},
        "percentiles": audit.percentiles,
        "padding": audit.padding,
        "padding_share": audit.padding_share,
        "clipped": audit.clipped,
        "warnings": audit.warnings,
        "notes": volume.provenance.notes,
        "mean": round(prepared.mean, 4),
        "std": round(prepared.std, 4),
        "midline": midline_of(prepared.array),
        "digest": digest_of(prepared.array),
    }
    plain: dict[str, Any] = _plain(facts)
    return plain


def digest_of(array: NDArray[Any]) -> str:
    """BLAKE2b of shape, type and voxels, 32 hexadecimal digits."""
    found = hashlib.blake2b(f"{array.shape} {array.dtype.str}".encode(), digest_size=16)
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def midline_of(array: NDArray[Any]) -> float:
    """Where the body's middle lies along x, in voxel indices; the array's middle without a body.

    In each sampled slice (z) it is half way between the body's outermost columns of tissue; over
    the slices the median counts, so that one arm in view or a tilted table moves it little.
    """
    deep, high, wide = array.shape
    tissue = array[:: max(1, deep // SAMPLES), :: max(1, high // SAMPLES)] > BODY_HU
    thick = tissue.sum(axis=1)  # rows of tissue per column: (slices, x)
    # Columns with little tissue are table edges, tubes and noise.
    solid = thick > np.maximum(0.25 * thick.max(axis=1, keepdims=True), 1)
    seen = solid.any(axis=1)
    if not seen.any():
        return float(wide - 1) / 2
    first = solid[seen].argmax(axis=1)
    last = wide - 1 - solid[seen, ::-1].argmax(axis=1)
    return float(np.median((first + last) / 2))


def mask_facts(
    labels: NDArray[Any], prepared: Prepared, classes: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Size and place of each class that occurs in a prepared mask.

    Args:
        labels: (z, y, x) on the grid of `prepared`; integers, 0 is background
        prepared: the image the mask belongs to
        classes: name -> value

    Returns:
        class -> voxels, ml, left_share (share of its voxels on the patient's left of the body's
        midline, 0 to 1), centroid_mm ([L, P, S] in mm) and, unless it is tiny, hu: the image's mean
        in it, and in its mirror image (left for right). Absent classes are left out.
    """
    value, length, start = _runs(labels)
    size = 1 + max([*classes.values(), int(value.max(initial=0))])
    z, y, x = np.unravel_index(start, labels.shape)
    midline = midline_of(prepared.array)

    def total(weights: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(value, weights, size).astype(np.float64)

    voxels = total(length)
    # A run of n voxels from x on has its middle at x + (n - 1) / 2.
    sums = [total(length * (x + (length - 1) / 2)), total(length * y), total(length * z)]
    left = total(np.clip(x + length - 0.5 - midline, 0, length))
    affine = np.array(prepared.grid.affine)
    means = [_means(turned, prepared.array, size) for turned in (labels, labels[:, :, ::-1])]
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    facts = {}
    for name, k in classes.items():
        if voxels[k]:
            centre = affine @ [*(float(along[k] / voxels[k]) for along in sums), 1.0]
            facts[name] = {
                "voxels": int(voxels[k]),
                "ml": round(float(voxels[k]) * voxel_ml, 4),
                "left_share": round(float(left[k] / voxels[k]), 4),
                "centroid_mm": [round(float(mm), 3) for mm in centre[:3]],
            }
            hu = [round(float(mean[k]), 1) for mean in means]
            if np.isfinite(hu).all():
                facts[name]["hu"] = hu
    return facts


def _means(labels: NDArray[Any], hu: NDArray[np.int16], size: int) -> NDArray[np.float64]:
    """(size,) mean HU of each value; NaN where the coarse grid misses it."""
    value = labels[COARSE, COARSE, COARSE].ravel()
    voxels = np.bincount(value, minlength=size)
    sums = np.bincount(value, hu[COARSE, COARSE, COARSE].ravel(), minlength=size)
    means: NDArray[np.float64] = np.full(len(sums), np.nan)
    np.divide(sums, voxels, out=means, where=voxels > 0)
    return means


def _runs(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of equal voxels along x, background left out: (value, length, flat index of the first).

    A mask has a hundred times fewer of them than voxels.
    """
    flat = np.ascontiguousarray(labels).reshape(-1)
    breaks = np.empty(flat.size, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=breaks[1:])
    breaks[:: labels.shape[2]] = True
    start = np.flatnonzero(breaks)
    length = np.diff(start, append=flat.size)
    value = flat[start].astype(np.int64)
    inside = value > 0
    return value[inside], length[inside], start[inside]


def _plain(value: Any) -> Any:
    """Lists, texts and finite numbers only; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    return number if np.isfinite(number) else None
