"""DICOM series become one volume in HU on the right grid, or one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from tests.imaging.dicom_factory import SeriesSpec, anatomy, write_enhanced, write_series
from uvlm.errors import ImageError
from uvlm.imaging.dicom import list_series, read_dicom
from uvlm.imaging.geometry import shear_of

HU = anatomy()
BIG = anatomy(2, 40, 36)
"""JPEG 2000 needs 32 voxels a side."""


def turned(degrees: float) -> tuple[float, ...]:
    """Image plane turned about the x axis, as by a tilted gantry."""
    angle = np.radians(degrees)
    return (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))


def test_a_series_keeps_values_and_place(tmp_path):
    spec = write_series(tmp_path, HU)
    volume = read_dicom(tmp_path)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, HU)
    np.testing.assert_allclose(volume.affine, spec.affine(), atol=1e-9)
    assert volume.provenance.notes == ()


def test_the_grid_is_the_one_simpleitk_finds(tmp_path):
    oblique = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)
    write_series(tmp_path, HU, SeriesSpec(orientation=oblique))
    volume = read_dicom(tmp_path)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    matrix = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    np.testing.assert_allclose(volume.affine[:3, :3], matrix, atol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 3], image.GetOrigin(), atol=1e-6)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_pixels_are_exact(tmp_path, syntax):
    write_series(tmp_path, BIG, SeriesSpec(syntax=syntax))
    np.testing.assert_array_equal(read_dicom(tmp_path).array, BIG)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_plain_encoding_is_read(tmp_path, syntax):
    write_series(tmp_path, HU)
    for file in tmp_path.iterdir():
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
        data.walk(lambda *_: None)
        data.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
        data.save_as(file)
    np.testing.assert_array_equal(read_dicom(tmp_path).array, HU)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_signed_compressed_pixels_are_exact(tmp_path, syntax):
    write_series(tmp_path, BIG, SeriesSpec(syntax=syntax, signed=True, intercept=0.0))
    np.testing.assert_array_equal(read_dicom(tmp_path).array, BIG)


def test_slope_and_intercept_are_each_slices_own(tmp_path):
    spec = SeriesSpec()

    def change(data, z):
        data.RescaleIntercept = -1024 - 10 * z

    write_series(tmp_path, HU, spec, change=change)
    volume = read_dicom(tmp_path)
    shift = 10 * np.arange(len(HU), dtype=np.int16)[:, None, None]
    np.testing.assert_array_equal(volume.array, HU - shift)
    assert volume.provenance.details["scale_varies_by_slice"]


def test_a_fractional_slope_gives_float32(tmp_path):
    def change(data, z):
        data.RescaleSlope = 0.5

    write_series(tmp_path, HU, change=change)
    volume = read_dicom(tmp_path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, (HU + 1024.0) * 0.5 - 1024, atol=1e-3)


def test_missing_slope_and_intercept_are_said(tmp_path):
    def change(data, z):
        del data.RescaleSlope, data.RescaleIntercept

    write_series(tmp_path, HU, SeriesSpec(signed=True, intercept=0.0), change=change)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.array, HU)
    assert "stored values were taken as HU" in " ".join(volume.provenance.notes)


def test_padding_value_is_reported_in_hu(tmp_path):
    def change(data, z):
        data.add_new("PixelPaddingValue", "SS", -2000)

    write_series(tmp_path, HU, SeriesSpec(signed=True), change=change)
    details = read_dicom(tmp_path).provenance.details
    assert (details["padding_stored"], details["padding_hu"]) == (-2000, -3024)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLELossless])
def test_enhanced_multi_frame_images_are_read_by_frame(tmp_path, syntax):
    spec = write_enhanced(tmp_path / "enhanced.dcm", HU, SeriesSpec(syntax=syntax))
    for path in (tmp_path, tmp_path / "enhanced.dcm"):
        volume = read_dicom(path)
        np.testing.assert_array_equal(volume.array, HU)
        np.testing.assert_allclose(volume.affine, spec.affine(), atol=1e-9)


def test_a_gantry_tilt_shears_the_affine_and_is_noted(tmp_path):
    spec = write_series(tmp_path, HU, SeriesSpec(orientation=turned(-15.0)))
    volume = read_dicom(tmp_path)
    np.testing.assert_allclose(volume.affine, spec.affine(), atol=1e-6)
    assert shear_of(volume.affine) == pytest.approx(15.0, abs=1e-3)
    assert "tilted by 15.0 degrees" in " ".join(volume.provenance.notes)


def test_rounded_positions_count_as_even(tmp_path):
    def change(data, z):
        data.ImagePositionPatient = [-10, -20, round(-30 + 0.625 * z, 1)]

    hu = anatomy(slices=9)
    write_series(tmp_path, hu, SeriesSpec(step=(0, 0, 0.625)), change=change)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.array, hu)
    assert volume.spacing[0] == pytest.approx(0.625, abs=0.01)
    assert volume.provenance.notes == ()


def test_uneven_slices_are_interpolated_where_they_belong(tmp_path):
    places = np.array([0.0, 2.0, 4.6, 6.0, 8.0, 10.0])
    ramp = np.rint(np.broadcast_to(100 * places[:, None, None], (6, 4, 5))).astype(np.int16)
    noise = np.arange(20).reshape(4, 5).astype(np.int16)

    def change(data, z):
        data.ImagePositionPatient = [-10, -20, -30 + places[z]]

    write_series(tmp_path, ramp + noise, change=change)
    volume = read_dicom(tmp_path)
    assert volume.shape == (6, 4, 5)
    assert volume.spacing[0] == pytest.approx(2.0)
    expected = np.arange(6)[:, None, None] * 200 + noise
    np.testing.assert_allclose(volume.array, expected, atol=1)
    assert "uneven" in " ".join(volume.provenance.notes)


def two_stacks(thicker):
    """Seven slices 2.5 mm apart, then four more 5 mm apart."""

    def change(data, z):
        data.ImagePositionPatient = [-10, -20, 2.5 * z if z < 7 else 15 + 5 * (z - 6)]
        data.SliceThickness = 5.0 if thicker and z >= 7 else 2.5

    return change


def test_a_stack_of_thicker_slices_is_interpolated_not_missing(tmp_path):
    write_series(tmp_path, anatomy(slices=11), change=two_stacks(thicker=True))
    volume = read_dicom(tmp_path)
    assert volume.shape[0] * volume.spacing[0] == pytest.approx(35 + volume.spacing[0])
    np.testing.assert_array_equal(volume.array[0], anatomy(slices=11)[0])
    assert "uneven" in " ".join(volume.provenance.notes)


def test_wide_distances_between_thin_slices_are_missing_slices(tmp_path):
    write_series(tmp_path, anatomy(slices=11), change=two_stacks(thicker=False))
    with pytest.raises(ImageError, match="about 4 missing slice"):
        read_dicom(tmp_path)


def test_missing_slices_are_counted_and_placed(tmp_path):
    write_series(tmp_path, anatomy(slices=10), only=[0, 1, 2, 5, 6, 7, 8, 9])
    with pytest.raises(ImageError, match=r"about 2 missing slice.*-25\.0 and -17\.5 mm"):
        read_dicom(tmp_path)


def test_identical_repeats_are_dropped_and_said(tmp_path):
    spec = write_series(tmp_path, HU)
    write_series(tmp_path, HU, SeriesSpec(uid=spec.uid, prefix="again"), only=[2, 3])
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.array, HU)
    assert "2 repeated slice(s)" in " ".join(volume.provenance.notes)


def test_different_slices_at_one_place_are_refused(tmp_path):
    spec = write_series(tmp_path, HU)
    write_series(tmp_path, HU + 50, SeriesSpec(uid=spec.uid, prefix="phase"))
    with pytest.raises(ImageError, match=r"different images at one position.*split"):
        read_dicom(tmp_path)


@pytest.mark.parametrize(
    "other", [{"patient": "PATIENT-2"}, {"patient": "", "name": "Bianchi^Ugo"}]
)
def test_two_patients_are_refused_without_naming_them(tmp_path, other):
    write_series(tmp_path / "a", HU)
    write_series(tmp_path / "b", HU, SeriesSpec(number=2, **other))
    with pytest.raises(ImageError, match="images of 2 patients") as caught:
        read_dicom(tmp_path)
    for word in ("PATIENT-", "Rossi", "Bianchi", "Anna"):
        assert word not in str(caught.value)


def test_naming_the_series_resolves_two_patients(tmp_path):
    write_series(tmp_path / "a", HU)
    other = write_series(tmp_path / "b", HU + 1, SeriesSpec(number=2, patient="PATIENT-2"))
    np.testing.assert_array_equal(read_dicom(tmp_path, other.uid).array, HU + 1)


def many_series(folder: Path) -> None:
    localizer = ("ORIGINAL", "PRIMARY", "LOCALIZER")
    coronal = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    write_series(folder / "1", anatomy(2), SeriesSpec(number=1, image_type=localizer))
    write_series(folder / "2", anatomy(5, seed=2), SeriesSpec(number=2, thickness=5))
    write_series(folder / "3", anatomy(6, seed=3), SeriesSpec(number=3, thickness=1.25))
    write_series(folder / "4", anatomy(6, seed=4), SeriesSpec(number=4, thickness=2.5))
    mpr = ("DERIVED", "SECONDARY", "MPR")
    write_series(
        folder / "5",
        anatomy(9),
        SeriesSpec(number=5, image_type=mpr, orientation=coronal, step=(0, 2, 0)),
    )
    write_series(folder / "6", anatomy(8), SeriesSpec(number=6, modality="PT"))
    write_series(folder / "7", anatomy(1), SeriesSpec(number=7))
    capture = SeriesSpec(number=8, sop_class=SecondaryCaptureImageStorage)
    write_series(folder / "8", anatomy(3), capture)


def test_the_rule_prefers_the_thin_original_axial_series(tmp_path):
    many_series(tmp_path)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.array, anatomy(6, seed=3))
    assert "Series number 3 of 8 was read" in volume.provenance.notes[0]


def test_the_list_says_why_each_series_was_left_out(tmp_path):
    many_series(tmp_path)
    listed = list_series(tmp_path)
    assert [s.number for s in listed if s.chosen] == [3]
    assert [s.reason for s in listed] == [
        "a localizer",
        "fewer slices",
        "chosen",
        "thicker slices",
        "a projection or reformat",
        "modality PT, not CT",
        "a single slice (2D)",
        "no CT image (secondary capture, dose report or other)",
    ]
    assert listed[2].shape == (6, 12, 10)


@pytest.mark.parametrize("by", ["uid", "number", "index"])
def test_a_named_series_overrides_the_rule(tmp_path, by):
    many_series(tmp_path)
    wanted = list_series(tmp_path)[1]
    name = {"uid": wanted.uid, "number": "2", "index": "#2"}[by]
    volume = read_dicom(tmp_path, name)
    np.testing.assert_array_equal(volume.array, anatomy(5, seed=2))
    assert "as asked" in volume.provenance.notes[0]


def test_an_unknown_series_lists_what_there_is(tmp_path):
    many_series(tmp_path)
    with pytest.raises(ImageError, match=r"no series match '99'.*#3 \(number 3, 6 slices\)"):
        read_dicom(tmp_path, "99")


def test_a_derived_series_is_read_where_there_is_no_other(tmp_path):
    write_series(tmp_path, HU, SeriesSpec(image_type=("DERIVED", "SECONDARY", "MPR")))
    np.testing.assert_array_equal(read_dicom(tmp_path).array, HU)


def test_localizers_within_a_series_are_left_out(tmp_path):
    spec = write_series(tmp_path, HU)
    scout = SeriesSpec(uid=spec.uid, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), prefix="loc")
    scout.orientation = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    write_series(tmp_path, anatomy(1), scout)
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.array, HU)
    assert "1 localizer" in " ".join(volume.provenance.notes)


def test_a_stray_image_of_another_size_is_left_out_and_said(tmp_path):
    spec = write_series(tmp_path, HU)
    write_series(tmp_path, anatomy(1, rows=4), SeriesSpec(uid=spec.uid, prefix="stray"))
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.array, HU)
    assert "1 image(s) of another size" in " ".join(volume.provenance.notes)


def test_two_stacks_of_one_series_are_refused(tmp_path):
    spec = write_series(tmp_path, HU)
    write_series(tmp_path, anatomy(rows=4), SeriesSpec(uid=spec.uid, prefix="other"))
    with pytest.raises(ImageError, match="mixes 2 image sizes"):
        read_dicom(tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"modality": "MR"}, "modality MR, not CT"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "a localizer"),
        ({"spacing": (0.0, 0.7)}, "impossible pixel spacing"),
        ({"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)}, "impossible pixel spacing"),
        ({"step": (0.0, 0.0, 0.0)}, "6 slices at one position"),
    ],
)
def test_unusable_series_are_refused(tmp_path, spec, message):
    write_series(tmp_path, HU, SeriesSpec(**spec))
    with pytest.raises(ImageError, match=message):
        read_dicom(tmp_path)


def remove(name):
    def change(data, z):
        delattr(data, name)

    return change


def put(name, value):
    def change(data, z):
        setattr(data, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("ImagePositionPatient"), "no valid ImagePositionPatient"),
        (remove("ImageOrientationPatient"), "no valid ImageOrientationPatient"),
        (remove("PixelSpacing"), "no valid PixelSpacing"),
        (put("PhotometricInterpretation", "MONOCHROME1"), "MONOCHROME1"),
        (put("SamplesPerPixel", 3), "RGB"),
        (put("RescaleType", "MGML"), "other than Hounsfield"),
        (put("PixelData", b"\0\0"), "cannot be decoded"),
    ],
)
def test_broken_headers_are_refused(tmp_path, change, message):
    write_series(tmp_path, HU, change=change)
    with pytest.raises(ImageError, match=message):
        read_dicom(tmp_path)


def test_a_single_slice_is_refused_as_2d(tmp_path):
    write_series(tmp_path, HU[:1])
    with pytest.raises(ImageError, match="a single slice"):
        read_dicom(tmp_path)


def test_checksum_covers_every_slice(tmp_path):
    write_series(tmp_path / "a", HU, SeriesSpec(uid="1.2.3"))
    before = read_dicom(tmp_path / "a").provenance.checksum
    assert before == read_dicom(tmp_path / "a").provenance.checksum
    file = sorted((tmp_path / "a").iterdir())[-1]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert read_dicom(tmp_path / "a").provenance.checksum != before


def test_the_real_three_slices(real_data):
    folder = real_data / "dcmqi" / "ct-3slice"
    volume = read_dicom(folder)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.affine[:3, 3], image.GetOrigin())
    np.testing.assert_allclose(volume.spacing[::-1], image.GetSpacing())
