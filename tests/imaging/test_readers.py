"""`read_volume` knows a file by its content and answers every bad one with one clear error."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import blosc2
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tests.imaging.dicom_factory import anatomy, write_series
from uvlm.errors import ImageError
from uvlm.imaging.preprocess import prepare, preset
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import meta_of, write_store
from uvlm.imaging.values import looks_like_mask

HU = anatomy()


@pytest.fixture
def inputs(tmp_path):
    """One study in every form the reader takes."""
    write_series(tmp_path / "study", HU)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in (tmp_path / "study").iterdir():
            archive.write(file, file.name)
    image = nib.Nifti1Image(HU.T, np.diag([-1.0, -1.0, 2.0, 1.0]))
    for name in ("a.nii", "a.nii.gz"):
        nib.save(image, tmp_path / name)
    for name in ("a.nrrd", "a.nhdr", "a.mha", "a.mhd"):
        sitk.WriteImage(sitk.GetImageFromArray(HU), str(tmp_path / name))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("study", "dicom"),
        ("study.zip", "dicom"),
        ("a.nii", "nifti"),
        ("a.nii.gz", "nifti"),
        ("a.nrrd", "nrrd"),
        ("a.nhdr", "nrrd"),
        ("a.mha", "metaimage"),
        ("a.mhd", "metaimage"),
    ],
)
def test_every_form_gives_the_same_voxels(inputs, name, kind):
    volume = read_volume(inputs / name)
    np.testing.assert_array_equal(volume.array, HU)
    assert volume.provenance.format == kind
    assert volume.provenance.path == str(inputs / name)
    assert len(volume.provenance.checksum) == 64


def test_a_stored_volume_lies_on_its_prepared_grid(inputs):
    spec = preset("paper", shape=(4, 8, 8))
    prepared = prepare(read_volume(inputs / "a.nii.gz"), spec)
    write_store(inputs / "a.b2nd", prepared.array, meta_of(prepared))
    volume = read_volume(inputs / "a.b2nd")
    np.testing.assert_array_equal(volume.array, prepared.array)
    np.testing.assert_array_equal(volume.affine, np.array(prepared.grid.affine))
    with pytest.raises(ImageError, match="a store of kind image"):
        read_volume(inputs / "a.b2nd", labels=True)


def test_a_stored_volume_without_metadata_says_so(tmp_path, caplog):
    blosc2.asarray(HU, urlpath=str(tmp_path / "a.b2nd"), mode="w")
    volume = read_volume(tmp_path / "a.b2nd")
    np.testing.assert_array_equal(volume.array, HU)
    assert "preprocessing is unknown" in volume.provenance.notes[0]
    assert "preprocessing is unknown" in caplog.text


@pytest.mark.parametrize("name", ["study.zip", "a.nii", "a.nii.gz", "a.nrrd"])
def test_content_decides_not_the_name(inputs, name):
    renamed = inputs / "IM000001"
    (inputs / name).rename(renamed)
    np.testing.assert_array_equal(read_volume(renamed).array, HU)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.nii.gz", b"", "an empty file"),
        ("a.nrrd", b"", "an empty file"),
        ("a.nii.gz", b"text\n" * 200, "no NIfTI header"),
        ("notes.txt", b"text\n" * 200, "no known image format"),
        ("a.dcm", b"text\n" * 200, "no DICOM image"),
        ("a.zip", b"text\n" * 200, "damaged zip"),
        ("a.png", b"\x89PNG\r\n" + bytes(400), "no known image format"),
    ],
)
def test_files_that_are_no_ct_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_volume(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert (tmp_path / name).read_bytes() == content


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ImageError, match="no such file or folder"):
        read_volume(tmp_path / "gone")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ImageError, match="no DICOM image among 0 files"):
        read_volume(tmp_path)


def test_a_series_of_a_single_file_is_refused(inputs):
    with pytest.raises(ImageError, match="Leave the series out"):
        read_volume(inputs / "a.nii.gz", series="2")


def test_dicom_is_refused_as_mask(inputs):
    with pytest.raises(ImageError, match="Give the mask as a NIfTI"):
        read_volume(inputs / "study", labels=True)


def test_reading_needs_no_torch():
    code = "import sys, uvlm.imaging.readers, uvlm.imaging.dicom; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def blocks(*labels: int) -> np.ndarray:
    """A map with one block per label."""
    array = np.zeros((len(labels) * 2, 20, 20), np.int16)
    for n, label in enumerate(labels):
        array[2 * n : 2 * n + 2, 5:12, 5:12] = label
    return array


@pytest.mark.parametrize(
    ("array", "verdict"),
    [
        (blocks(1), True),
        (blocks(*range(1, 118)), True),
        (blocks(9, 513, 780), True),
        (HU, False),
        (HU.astype(np.int32) + 1024, False),
        (blocks(1) - 1024, False),
        (np.random.default_rng(0).integers(0, 255, (6, 40, 40)), False),
        (blocks(1).astype(np.float32) + 0.5, False),
    ],
)
def test_the_rule_for_a_mask_given_as_image(array, verdict):
    assert looks_like_mask(array) is verdict


@pytest.mark.parametrize("name", ["kits19", "cip", "totalsegmentator", "nnunet"])
def test_no_real_mask_passes_for_an_image_and_no_image_for_a_mask(real_data, name):
    for path in sorted((real_data / name).rglob("*.nii.gz")):
        is_image = "ct-64" in path.name or path.name in (
            "example_ct.nii.gz",
            "example_ct_sm.nii.gz",
        )
        assert read_volume(path, labels=not is_image).shape
        with pytest.raises(ImageError, match="mask"):
            read_volume(path, labels=is_image)
