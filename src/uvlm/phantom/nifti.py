"""Deterministic NIfTI files in the storage orders that scanners and archives use."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from uvlm.phantom.canvas import Grid, Triple

__all__ = ["ORIENTATIONS", "nifti_bytes", "write_bytes"]

ORIENTATIONS: tuple[tuple[str, float], ...] = (
    ("LPS", 0.60), ("RAS", 0.15), ("LAS", 0.08), ("RPI", 0.05), ("LPI", 0.06), ("PIR", 0.03), ("SAL", 0.03),
)
"""Storage order (direction in which each file axis runs) and how often it is used."""


def nifti_bytes(array: NDArray[np.generic], grid: Grid, shift: Triple, orientation: str) -> bytes:
    """A gzipped NIfTI-1 file of `array` (z, y, x to S, P, L), stored along `orientation`.

    `shift` (z, y, x) moves the patient in the scanner. The anatomy stays in place in the world;
    only the order and direction of the file's axes change. The gzip header carries no time, so
    equal studies give equal bytes.
    """
    lps = np.eye(4)
    for k, (s, o, d) in enumerate(zip(grid.spacing, grid.origin, shift, strict=True)):
        lps[2 - k, 2 - k], lps[2 - k, 3] = s, o + d
    data, affine = array.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    stored = nib.orientations.axcodes2ornt(tuple(orientation))
    change = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt(("L", "P", "S")), stored)
    affine = affine @ nib.orientations.inv_ornt_aff(change, data.shape)
    data = nib.orientations.apply_orientation(data, change)
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    header.set_qform(affine, 1)
    header.set_sform(affine, 1)
    header.set_xyzt_units("mm")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header["scl_slope"], header["scl_inter"] = 1, 0
    body = header.binaryblock + b"\0\0\0\0" + data.tobytes(order="F")
    return gzip.compress(body, compresslevel=1, mtime=0)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
