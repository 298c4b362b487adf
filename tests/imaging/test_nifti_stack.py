"""Stacks of masks read as bits: whichever way they are stored, and refused when they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from uvlm.errors import ImageError
from uvlm.imaging.nifti_stack import read_mask_stack
from uvlm.imaging.volume import Provenance, Volume

SHAPE = (4, 5, 6)
AFFINE = np.diag([1.5, 1.5, 3.0, 1.0])


@pytest.fixture
def image() -> Volume:
    source = Provenance(path="ct.nii.gz", format="nifti", checksum="")
    return Volume(array=np.zeros(SHAPE, np.int16), affine=AFFINE, provenance=source)


def masks(count: int, shape: tuple[int, ...] = SHAPE) -> Any:
    """(n, z, y, x), numbers of instances where there are any."""
    return np.random.default_rng(count).integers(0, 4, (count, *shape)).astype(np.uint8)


def write(path: Path, array: Any, affine: Any = AFFINE) -> Path:
    """`array` as NIfTI counts: x first."""
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def first(stack: Any) -> Any:
    return stack.transpose(0, 3, 2, 1)


def last(stack: Any) -> Any:
    return stack.transpose(3, 2, 1, 0)


@pytest.mark.parametrize("count", [1, 3, 8, 9, 16, 17, 33, 64])
@pytest.mark.parametrize("order", [first, last])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_mask_comes_back(tmp_path, image, count, order, suffix):
    stored = masks(count)
    stack = read_mask_stack(write(tmp_path / f"m{suffix}", order(stored)), image, count)
    assert stack.count == count
    for n in range(count):
        np.testing.assert_array_equal(stack.mask(n), stored[n] > 0)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64, ">i4"])
def test_any_type_of_whole_numbers_will_do(tmp_path, image, dtype):
    stored = masks(3)
    path = write(tmp_path / "m.nii", first(stored).astype(dtype))
    np.testing.assert_array_equal(read_mask_stack(path, image, 3).mask(2), stored[2] > 0)


def test_a_file_of_three_axes_is_a_stack_of_one(tmp_path, image):
    stored = masks(1)
    path = write(tmp_path / "m.nii.gz", stored[0].transpose(2, 1, 0))
    np.testing.assert_array_equal(read_mask_stack(path, image, 1).mask(0), stored[0] > 0)


def test_more_masks_than_findings_are_told_from_the_image(tmp_path, image):
    assert read_mask_stack(write(tmp_path / "m.nii", first(masks(7))), image, 3).count == 7


def test_where_both_axes_could_be_it_the_count_decides(tmp_path):
    source = Provenance(path="ct", format="nifti", checksum="")
    image = Volume(array=np.zeros((5, 5, 5), np.int16), affine=AFFINE, provenance=source)
    stored = masks(4, (5, 5, 5))
    path = write(tmp_path / "m.nii", first(stored))
    np.testing.assert_array_equal(read_mask_stack(path, image, 4).mask(3), stored[3] > 0)
    with pytest.raises(ImageError, match="5 masks are expected along the first or last axis"):
        read_mask_stack(write(tmp_path / "n.nii", first(masks(5, (5, 5, 5)))), image, 5)


def test_an_identity_says_nothing_about_place(tmp_path, image):
    here = read_mask_stack(write(tmp_path / "a.nii", first(masks(2))), image, 2)
    nowhere = read_mask_stack(write(tmp_path / "b.nii", first(masks(2)), np.eye(4)), image, 2)
    assert (here.placed, nowhere.placed) == (True, False)
    np.testing.assert_allclose(here.affine, np.diag([-1, -1, 1, 1]) @ AFFINE)


@pytest.mark.parametrize(
    ("stored", "count", "said"),
    [
        (first(masks(3))[:, :, :, :3], 3, "6 x 5 x 4"),
        (masks(1)[0].transpose(2, 1, 0), 2, "2 masks of 6 x 5 x 4"),
        (first(masks(65)), 65, "At most 64"),
        (-first(masks(2)).astype(np.int16), 2, "negative"),
        (first(masks(2)) + 0.5, 2, "not whole numbers"),
        (np.full((2, 6, 5, 4), np.nan), 2, "not whole numbers"),
    ],
)
def test_what_is_no_stack_of_this_image_is_refused(tmp_path, image, stored, count, said):
    path = write(tmp_path / "m.nii", stored)
    with pytest.raises(ImageError, match=said) as error:
        read_mask_stack(path, image, count)
    assert str(path) in str(error.value)


def test_a_file_cut_short_is_refused(tmp_path, image):
    path = write(tmp_path / "m.nii", first(masks(3)))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ImageError, match="truncated"):
        read_mask_stack(path, image, 3)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ImageError, match="only 100 bytes"):
        read_mask_stack(path, image, 3)
