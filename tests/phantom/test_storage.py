"""A study keeps its place in the world in whatever order its file's axes run."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from uvlm.imaging.geometry import to_lps
from uvlm.imaging.nifti import read_nifti
from uvlm.phantom.canvas import Grid
from uvlm.phantom.storage import ORIENTATIONS, write_volume

GRID = Grid((5, 6, 7), (4.0, 2.0, 3.0), (-10.0, -6.0, -9.0))
SHIFT = (100.0, 5.0, -20.0)
ARRAY = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7) * 7 - 1000


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientations_agree_in_world_space(tmp_path, orientation):
    path = tmp_path / "a.nii.gz"
    write_volume(path, ARRAY, GRID, SHIFT, orientation)
    assert "".join(nib.aff2axcodes(nib.load(path).affine)) == orientation
    volume, _ = to_lps(read_nifti(path))
    assert np.array_equal(volume.array, ARRAY)
    assert volume.spacing == pytest.approx(GRID.spacing)
    assert volume.affine[:3, 3] == pytest.approx((-9.0 - 20, -6.0 + 5, -10.0 + 100))


def test_equal_volumes_give_equal_bytes(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, ARRAY, GRID, SHIFT, "LPS")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_orientations_are_a_distribution():
    assert sum(ORIENTATIONS.values()) == pytest.approx(1.0)
