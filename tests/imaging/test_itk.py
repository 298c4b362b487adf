"""NRRD and MetaImage give the array and LPS affine that ITK sees, or one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from uvlm.errors import ImageError
from uvlm.imaging.itk import read_itk
from uvlm.imaging.nifti import read_nifti

RNG = np.random.default_rng(0)
HU = RNG.integers(-1000, 1500, (5, 7, 9)).astype(np.int16)
NAMES = ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"]
DIRECTION = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, -1.0)


def save(path: Path, array, is_vector=False) -> Path:
    image = sitk.GetImageFromArray(array, isVector=is_vector)
    if image.GetDimension() == 3:
        image.SetSpacing((0.75, 0.5, 2.5))
        image.SetOrigin((-10.0, 20.0, -300.0))
        image.SetDirection(DIRECTION)
    sitk.WriteImage(image, str(path), useCompression=path.suffix == ".mha")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_values_and_place_are_itks(tmp_path, name):
    volume = read_itk(save(tmp_path / name, HU))
    np.testing.assert_array_equal(volume.array, HU)
    expected = np.array(DIRECTION).reshape(3, 3) * (0.75, 0.5, 2.5)
    np.testing.assert_allclose(volume.affine[:3, :3], expected, atol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 3], (-10.0, 20.0, -300.0))
    assert volume.provenance.format == ("nrrd" if "r" in name[2:] else "metaimage")


def test_the_same_image_as_nifti_lies_in_the_same_place(tmp_path):
    nrrd = read_itk(save(tmp_path / "a.nrrd", HU))
    nifti = read_nifti(save(tmp_path / "a.nii.gz", HU))
    np.testing.assert_array_equal(nrrd.array, nifti.array)
    np.testing.assert_allclose(nrrd.affine, nifti.affine, atol=1e-4)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_whole_numbers_become_int16(tmp_path, kind):
    data = RNG.integers(0, 255, (6, 20, 20)).astype(kind)
    volume = read_itk(save(tmp_path / "a.nrrd", data))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, data)


@pytest.mark.parametrize(
    ("array", "is_vector", "message"),
    [
        (np.zeros((4, 5, 6, 3), np.uint8), True, "3 values per voxel"),
        (np.zeros((5, 6), np.int16), False, "a 2D image of 6 x 5"),
        (np.zeros((1, 5, 6), np.int16), False, "a 2D image of 6 x 5 x 1"),
        (np.zeros((2, 4, 5, 6), np.int16), False, "4 dimensions"),
    ],
)
def test_what_is_no_3d_volume_of_numbers_is_refused(tmp_path, array, is_vector, message):
    with pytest.raises(ImageError, match=message):
        read_itk(save(tmp_path / "a.nrrd", array, is_vector))


def test_nan_voxels_are_counted(tmp_path):
    data = HU.astype(np.float32)
    data[0, 0, :3] = np.nan
    with pytest.raises(ImageError, match="3 NaN"):
        read_itk(save(tmp_path / "a.nrrd", data))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_truncated_files_are_refused(tmp_path, name):
    path = save(tmp_path / name, HU)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ImageError, match="not whole"):
        read_itk(path)


@pytest.mark.parametrize(("name", "data"), [("a.nhdr", "a.raw"), ("a.mhd", "a.raw")])
def test_a_missing_data_file_is_refused(tmp_path, name, data):
    path = save(tmp_path / name, HU)
    (tmp_path / data).unlink()
    with pytest.raises(ImageError, match="data file beside it"):
        read_itk(path)


@pytest.mark.parametrize("name", NAMES)
def test_text_is_refused_with_one_message(tmp_path, capfd, name):
    (tmp_path / name).write_text("hello\n")
    with pytest.raises(ImageError, match="no NRRD or MetaImage header"):
        read_itk(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_a_zero_spacing_is_refused(tmp_path):
    path = save(tmp_path / "a.mhd", HU)
    path.write_text(path.read_text().replace("ElementSpacing = 0.75", "ElementSpacing = 0"))
    with pytest.raises(ImageError, match="spacing of zero"):
        read_itk(path)


def test_the_checksum_of_a_detached_header_covers_the_voxels(tmp_path):
    before = read_itk(save(tmp_path / "a.mhd", HU)).provenance.checksum
    assert read_itk(save(tmp_path / "a.mhd", HU + 1)).provenance.checksum != before


def test_masks_and_images_are_not_taken_for_each_other(tmp_path):
    mask = np.zeros((6, 8, 10), np.int16)
    mask[2:4] = 3
    path = save(tmp_path / "a.nrrd", mask)
    with pytest.raises(ImageError, match="a mask, not an image"):
        read_itk(path)
    assert read_itk(path, labels=True).array.dtype == np.uint8
    with pytest.raises(ImageError, match="looks like an image"):
        read_itk(save(tmp_path / "b.nrrd", HU), labels=True)


def test_the_real_labels_lie_on_their_ct(real_data):
    from uvlm.imaging.dicom import read_dicom

    labels = read_itk(real_data / "dcmqi" / "liver_spine_seg.nrrd", labels=True)
    ct = read_dicom(real_data / "dcmqi" / "ct-3slice")
    assert labels.shape == ct.shape
    np.testing.assert_allclose(labels.affine, ct.affine, atol=1e-6)
