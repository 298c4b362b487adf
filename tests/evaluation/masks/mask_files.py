"""Small masks on disk, for the tests of segmentation scores."""

from __future__ import annotations

import numpy as np

from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import PreprocessSpec, grid_of
from uvlm.imaging.store import StoreMeta, write_store
from uvlm.imaging.volume import Provenance, Volume

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
"""Voxels of 1 x 1 x 2 mm."""

CLASSES = {"liver": 1, "liver_lesion": 2}


def liver(shift=0):
    """A liver with two lesions, moved along x; (8, 10, 14)."""
    mask = np.zeros((8, 10, 14), np.uint8)
    mask[1:7, 1:9, 1 + shift : 9 + shift] = 1
    mask[2:4, 2:4, 2 + shift : 4 + shift] = 2
    mask[5:6, 6:8, 6 + shift : 8 + shift] = 2
    return mask


def nifti(path, array, affine=AFFINE):
    write_nifti(path, np.asarray(array), affine)
    return path


def store(path, array, classes=None):
    source = Provenance(path="x", format="nifti", checksum="0")
    volume = Volume(array=array, affine=AFFINE, provenance=source)
    # Resizing to its own shape keeps the grid as it is.
    spec = PreprocessSpec(shape=volume.shape)
    meta = StoreMeta(
        kind="labels", spec_hash=spec.hash, grid=grid_of(volume, spec), classes=classes
    )
    write_store(path, array, meta)
    return path
