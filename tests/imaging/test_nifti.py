"""NIfTI files give the values and places they state, or one clear error."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from uvlm.errors import ImageError
from uvlm.imaging.nifti import read_nifti, write_nifti

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
RNG = np.random.default_rng(0)
HU = RNG.integers(-1000, 1500, (5, 7, 9)).astype(np.int16)
MASK = np.zeros((6, 8, 10), np.uint8)
MASK[2:4, 3:6, 4:8] = 3


def straight(spacing=(0.7, 0.8, 2.5)) -> np.ndarray:
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (120.0, 80.0, -300.0)
    return affine


def oblique() -> np.ndarray:
    affine = straight()
    affine[:3, :3] = (
        Rotation.from_euler("xyz", (10, -7, 25), degrees=True).as_matrix() @ (affine[:3, :3])
    )
    return affine


def permuted() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, -0.7], [0, 0.7, 0], [3.0, 0, 0]]
    return affine


def sheared() -> np.ndarray:
    affine = straight()
    affine[1, 2] = 0.9
    return affine


def save(path: Path, data, affine=None, cls=nib.Nifti1Image, **header) -> Path:
    """`data` (x, y, z) with an RAS affine, as nibabel writes it."""
    image = cls(data, straight() if affine is None else affine, dtype=header.pop("dtype", None))
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def patch(path: Path, field: str, value, index=None) -> Path:
    """Change a header field of an uncompressed file in place."""
    data = path.read_bytes()
    header = nib.Nifti1Header(data[:348], check=False)
    if index is None:
        header[field] = value
    else:
        header[field][index] = value
    path.write_bytes(header.binaryblock + data[348:])
    return path


@pytest.mark.parametrize(
    "affine", [straight(), oblique(), permuted(), sheared(), np.diag([2.0] * 3 + [1.0])]
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_reading_agrees_with_nibabel(tmp_path, name, affine):
    path = save(tmp_path / name, HU, affine)
    volume = read_nifti(path)
    image = nib.load(path)
    np.testing.assert_array_equal(volume.array, np.asarray(image.dataobj).T)
    np.testing.assert_array_equal(volume.affine, LPS @ image.affine)
    assert volume.array.dtype == np.int16


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<u2", "i4", ">i4", "u4", "i8", "u8"])
def test_every_integer_type_becomes_int16_where_it_fits(tmp_path, dtype):
    info = np.iinfo(dtype)
    low, high = max(info.min, -1000), min(info.max, 3000)
    data = RNG.integers(low, high, (5, 6, 7)).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(np.dtype(dtype))
    image = nib.Nifti1Image(data, straight(), header, dtype=np.dtype(dtype))
    nib.save(image, tmp_path / "a.nii.gz")
    volume = read_nifti(tmp_path / "a.nii.gz")
    assert volume.array.dtype == np.int16
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, data.T)


@pytest.mark.parametrize("dtype", ["f4", ">f4", "f8"])
def test_whole_floats_become_int16_and_others_stay_float32(tmp_path, dtype):
    whole = HU.astype(dtype)
    assert read_nifti(save(tmp_path / "w.nii", whole)).array.dtype == np.int16
    part = whole.copy()
    part[0, 0, 0] += 0.5
    volume = read_nifti(save(tmp_path / "p.nii", part))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, part.T.astype(np.float32))


def test_integers_beyond_int16_become_float32(tmp_path):
    data = HU.astype(np.int32)
    data[-1, -1, -1] = 60000
    volume = read_nifti(save(tmp_path / "a.nii", data))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, data.T)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1.0, -1024.0, np.int16), (2.0, 0.0, np.int16), (0.5, -1024.0, np.float32)],
)
def test_slope_and_intercept_are_applied(tmp_path, slope, intercept, dtype):
    stored = RNG.integers(0, 4095, (5, 6, 7)).astype(np.uint16)
    path = patch(save(tmp_path / "a.nii", stored), "scl_slope", slope)
    patch(path, "scl_inter", intercept)
    volume = read_nifti(path)
    assert volume.array.dtype == dtype
    np.testing.assert_allclose(volume.array, nib.load(path).get_fdata().T)


def test_labels_stored_with_a_rounded_slope_are_whole_again(tmp_path):
    """As nibabel writes a mask of floats into 16 bits: the slope is a float32."""
    image = nib.Nifti1Image(np.arange(24, dtype=np.float64).reshape(2, 3, 4), np.eye(4))
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "mask.nii.gz")
    read = read_nifti(tmp_path / "mask.nii.gz", labels=True)
    np.testing.assert_array_equal(read.array.transpose(2, 1, 0).ravel(), np.arange(24))
    assert read.provenance.details["slope"] != 1


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_a_slope_of_zero_or_nan_means_none(tmp_path, slope):
    path = patch(save(tmp_path / "a.nii", HU), "scl_slope", slope)
    np.testing.assert_array_equal(read_nifti(path).array, HU.T)


def test_nifti_2_is_read(tmp_path):
    path = save(tmp_path / "a.nii.gz", HU, cls=nib.Nifti2Image)
    np.testing.assert_array_equal(read_nifti(path).array, HU.T)


def test_several_gzip_members_are_one_file(tmp_path):
    data = save(tmp_path / "a.nii", HU).read_bytes()
    split = b"".join(gzip.compress(data[i : i + 100]) for i in range(0, len(data), 100))
    (tmp_path / "a.nii.gz").write_bytes(split)
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz").array, HU.T)


def test_the_suffix_does_not_matter(tmp_path):
    plain, packed = save(tmp_path / "a.nii", HU), save(tmp_path / "b.nii.gz", HU)
    plain.rename(tmp_path / "c.nii.gz")
    packed.rename(tmp_path / "d.nii")
    np.testing.assert_array_equal(read_nifti(tmp_path / "c.nii.gz").array, HU.T)
    np.testing.assert_array_equal(read_nifti(tmp_path / "d.nii").array, HU.T)


def test_the_array_may_be_written_to(tmp_path):
    assert read_nifti(save(tmp_path / "a.nii.gz", HU)).array.flags.writeable


def both_forms(path: Path, sform_code: int, qform_code: int) -> Path:
    image = nib.Nifti1Image(HU, None)
    image.set_sform(straight(), sform_code)
    shifted = straight()
    shifted[2, 3] += 12.0
    image.set_qform(shifted, qform_code)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(("sform", "qform", "z"), [(1, 1, -300.0), (2, 0, -300.0), (0, 1, -288.0)])
def test_the_sform_counts_where_its_code_is_set(tmp_path, sform, qform, z):
    volume = read_nifti(both_forms(tmp_path / "a.nii", sform, qform))
    assert volume.affine[2, 3] == pytest.approx(z)


def test_a_disagreement_of_the_forms_is_noted(tmp_path):
    notes = read_nifti(both_forms(tmp_path / "a.nii", 1, 1)).provenance.notes
    assert notes == ("sform and qform disagree by up to 12.0 mm; the sform was used.",)


def test_a_file_without_orientation_says_so(tmp_path):
    path = both_forms(tmp_path / "a.nii", 0, 0)
    volume = read_nifti(path)
    np.testing.assert_array_equal(volume.affine, LPS @ nib.load(path).affine)
    assert "orientation are unknown" in volume.provenance.notes[0]


def test_a_trailing_axis_of_one_is_dropped_and_said(tmp_path):
    volume = read_nifti(save(tmp_path / "a.nii.gz", HU[..., None]))
    np.testing.assert_array_equal(volume.array, HU.T)
    assert "read as 3D" in volume.provenance.notes[0]


RGB = np.zeros((4, 5, 6), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HU[..., 0], "a 2D image of 5 x 7 voxels"),
        (HU[..., :1], "a 2D image of 5 x 7 x 1 voxels"),
        (np.stack([HU] * 4, -1), r"4 dimensions \(5 x 7 x 9 x 4\)"),
        (RGB, "colours"),
        (HU.astype(np.complex64), "complex64"),
    ],
)
def test_what_is_no_3d_volume_of_numbers_is_refused(tmp_path, data, message):
    with pytest.raises(ImageError, match=message):
        read_nifti(save(tmp_path / "a.nii.gz", data))


def test_nan_and_infinite_voxels_are_counted(tmp_path):
    data = HU.astype(np.float32)
    data[0, 0, :3] = np.nan
    data[1, 1, :2] = np.inf
    with pytest.raises(ImageError, match="3 NaN and 2 infinite voxels of 315"):
        read_nifti(save(tmp_path / "a.nii.gz", data))


def test_one_infinite_voxel_in_a_whole_valued_image_is_found(tmp_path):
    data = HU.astype(np.float64)
    data[4, 6, 8] = -np.inf
    with pytest.raises(ImageError, match="0 NaN and 1 infinite"):
        read_nifti(save(tmp_path / "a.nii.gz", data))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_impossible_spacing_is_refused(tmp_path, value):
    path = patch(save(tmp_path / "a.nii", HU), "pixdim", value, index=3)
    with pytest.raises(ImageError, match=r"a voxel spacing of 0\.7 x 0\.8 x"):
        read_nifti(path)


def test_a_singular_affine_is_refused(tmp_path):
    path = patch(save(tmp_path / "a.nii", HU), "srow_z", 0.0)
    with pytest.raises(ImageError, match="spacing or direction is unusable"):
        read_nifti(path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(ImageError, match=r"a\.nii\.gz: an empty file"):
        read_nifti(tmp_path / "a.nii.gz")


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").write_text("Findings: none.\n" * 100)
    with pytest.raises(ImageError, match="no NIfTI header"):
        read_nifti(tmp_path / "a.nii.gz")


def test_compressed_text_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"short"))
    with pytest.raises(ImageError, match="only 5 bytes"):
        read_nifti(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("keep", [1, 15, 60, -200, -8, -1])
def test_a_truncated_gzip_file_is_refused(tmp_path, keep):
    path = save(tmp_path / "a.nii.gz", HU)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImageError, match=r"too early|no NIfTI|only 1 bytes"):
        read_nifti(path)


def test_a_truncated_plain_file_says_how_much_is_there(tmp_path):
    path = save(tmp_path / "a.nii", HU)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ImageError, match="truncated: 600 of 630 bytes"):
        read_nifti(path)


def test_a_flipped_bit_is_found(tmp_path):
    path = save(tmp_path / "a.nii.gz", HU)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(ImageError, match="damaged gzip"):
        read_nifti(path)


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", HU)
    for axis in (1, 2, 3):
        patch(path, "dim", 32000, index=axis)
    with pytest.raises(ImageError, match=r"promises|truncated"):
        read_nifti(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.nii: no such file"):
        read_nifti(tmp_path / "gone.nii")


def test_a_mask_is_refused_as_image(tmp_path):
    with pytest.raises(ImageError, match=r"0 to 3 .*a mask, not an image"):
        read_nifti(save(tmp_path / "a.nii.gz", MASK))


def test_a_label_map_beyond_255_is_refused_as_image(tmp_path):
    with pytest.raises(ImageError, match="a mask, not an image"):
        read_nifti(save(tmp_path / "a.nii.gz", MASK.astype(np.uint16) * 200))


@pytest.mark.parametrize("offset", [1000, 1024, 8192])
def test_a_ct_stored_unsigned_is_no_mask(tmp_path, offset):
    stored = (HU.astype(np.int32) + offset).clip(0).astype(np.uint16)
    np.testing.assert_array_equal(read_nifti(save(tmp_path / "a.nii", stored)).array, stored.T)


@pytest.mark.parametrize(
    "data", [HU, np.abs(HU).astype(np.float32) + 0.5, np.full((4, 4, 4), 70000, np.int32)]
)
def test_an_image_is_refused_as_mask(tmp_path, data):
    with pytest.raises(ImageError, match="looks like an image"):
        read_nifti(save(tmp_path / "a.nii.gz", data), labels=True)


def test_an_unsigned_ct_is_refused_as_mask(tmp_path):
    ct = RNG.integers(0, 4000, (10, 20, 20)).astype(np.uint16)
    with pytest.raises(ImageError, match="1024 distinct values"):
        read_nifti(save(tmp_path / "a.nii.gz", ct), labels=True)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_labels_come_as_the_smallest_unsigned_type(tmp_path, dtype):
    volume = read_nifti(save(tmp_path / "a.nii.gz", MASK.astype(dtype)), labels=True)
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array, MASK.T)


@pytest.mark.parametrize("affine", [straight(), oblique(), permuted(), sheared()])
@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii"])
def test_a_written_mask_has_the_affine_it_was_given(tmp_path, name, affine):
    source = read_nifti(save(tmp_path / "ct.nii.gz", HU, affine))
    mask = (source.array > 0).astype(np.uint8)
    write_nifti(tmp_path / name, mask, source.affine)
    again = nib.load(tmp_path / name)
    np.testing.assert_array_equal(again.affine, nib.load(tmp_path / "ct.nii.gz").affine)
    np.testing.assert_array_equal(np.asarray(again.dataobj), mask.T)
    np.testing.assert_array_equal(read_nifti(tmp_path / name, labels=True).affine, source.affine)


def test_a_written_mask_has_both_forms_with_code_1(tmp_path):
    write_nifti(tmp_path / "m.nii.gz", MASK, LPS @ oblique())
    header = nib.load(tmp_path / "m.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)


def test_a_qform_never_hides_a_shear(tmp_path):
    write_nifti(tmp_path / "m.nii.gz", MASK, LPS @ sheared())
    assert int(nib.load(tmp_path / "m.nii.gz").header["qform_code"]) == 0


def test_views_and_booleans_are_written(tmp_path):
    write_nifti(tmp_path / "m.nii.gz", MASK[::-1, :, ::2] > 0, np.eye(4))
    again = np.asarray(nib.load(tmp_path / "m.nii.gz").dataobj)
    np.testing.assert_array_equal(again.T, MASK[::-1, :, ::2] > 0)


def test_writing_is_deterministic_and_leaves_nothing_beside(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, MASK, np.eye(4))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.nii.gz"
    path.write_bytes(b"old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("uvlm.imaging.nifti.os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_nifti(path, MASK, np.eye(4))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_real_volumes_agree_with_nibabel(real_data):
    for path in sorted(real_data.glob("*/*.nii.gz")):
        image = nib.load(path)
        values = np.asarray(image.dataobj).T
        volume = read_nifti(path, labels=values.min() >= 0)
        np.testing.assert_array_equal(volume.array, values)
        np.testing.assert_array_equal(volume.affine, LPS @ image.affine)
