"""Which version a CT-RATE file is, by folder, header and values; what contradicts is refused."""

import csv
import pickle
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from tests.imaging.bodies import chest
from uvlm.errors import ImageError
from uvlm.imaging.audit import audit
from uvlm.imaging.geometry import orientation_code
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import prepare, preset
from uvlm.imaging.readers import read_volume
from uvlm.preprocessing.sources.ct_rate_image import CtRateImage
from uvlm.preprocessing.sources.ct_rate_metadata import SeriesMetadata, parse_metadata

CELLS = {
    "ImagePositionPatient": "[-166, 9, 56.5]",
    "ImageOrientationPatient": "[1.000000, 0.000000, 0.000000, 0.000000, 1.000000, -0.000000]",
    "XYSpacing": "[8.0, 8.0]",
    "ZSpacing": "5",
    "RescaleSlope": "1",
    "RescaleIntercept": "-1024",
    "Rows": "48",
    "Columns": "48",
    "NumberofSlices": "20",
}
META = parse_metadata(CELLS)
SIEMENS = parse_metadata(CELLS | {"RescaleIntercept": "-8192"})
NOTHING_TRUE = np.diag([-1.0, -1.0, 1.0, 1.0])
HU = chest(20, 15).array[:, ::2, ::2]


def image(tmp_path, array, affine, **changes):
    path = tmp_path / "train_1_a_1.nii.gz"
    write_nifti(path, array, affine)
    wanted = {"folder": "", "metadata": META, "lack": ""} | changes
    return CtRateImage(path=path, **wanted)


def version_1(tmp_path, intercept=-1024, **changes):
    raw = (HU.astype(int) - intercept).astype(np.int16)
    return image(tmp_path, raw, NOTHING_TRUE, **({"folder": "train"} | changes))


def version_2(tmp_path, **changes):
    return image(tmp_path, HU, META.affine, **({"folder": "train_fixed"} | changes))


@pytest.mark.parametrize(("meta", "intercept"), [(META, -1024), (SIEMENS, -8192)])
def test_version_1_becomes_what_version_2_is(tmp_path, meta, intercept):
    first = version_1(tmp_path, intercept, metadata=meta).read()
    assert first.array.dtype == np.int16
    np.testing.assert_array_equal(first.array, HU)
    np.testing.assert_allclose(first.affine, META.affine)
    assert first.spacing == (5, 8, 8)
    assert orientation_code(first.affine) == "LPS"
    assert first.provenance.notes == (
        "CT-RATE version 1, by folder and header and values: "
        f"HU = 1 x stored {intercept}, geometry from the metadata table.",
    )
    second = version_2(tmp_path, metadata=meta).read()
    np.testing.assert_array_equal(second.array, HU)
    np.testing.assert_allclose(second.affine, META.affine, atol=1e-4)
    assert second.provenance.notes == ("CT-RATE version 2, by folder and header and values.",)


@pytest.mark.parametrize("orientation", ["[1, 0, 0, 0, 0.96, 0.28]", "[-1, 0, 0, 0, 1, 0]"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (1, -8192), (0.5, -1024)])
@pytest.mark.parametrize("dtype", [np.int16, np.float64])
def test_both_versions_of_an_odd_series_are_one(tmp_path, orientation, slope, intercept, dtype):
    meta = parse_metadata(
        CELLS
        | {"ImageOrientationPatient": orientation, "RescaleSlope": str(slope)}
        | {"RescaleIntercept": str(intercept)}
    )
    hu = HU.copy()
    hu[:, :4] = -3024  # what some scanners write outside their field of view
    raw = ((hu.astype(int) - intercept) / slope).astype(dtype)
    path = tmp_path / "stored.nii.gz"
    nib.save(nib.Nifti1Image(raw.transpose(2, 1, 0), np.eye(4)), path)
    first = CtRateImage(path=path, folder="train", metadata=meta).read()
    turned = meta.affine @ [[-1, 0, 0, 47], [0, 1, 0, 0], [0, 0, -1, 19], [0, 0, 0, 1]]
    flipped = image(tmp_path, hu[::-1, :, ::-1], turned, folder="train_fixed", metadata=meta)
    spec = preset("paper", (12, 24, 24))
    np.testing.assert_array_equal(prepare(first, spec).array, prepare(flipped.read(), spec).array)


def test_version_2_may_keep_its_intercept_in_the_header(tmp_path):
    path = tmp_path / "train_1_a_1.nii.gz"
    raw = (HU.astype(int) + 8192).astype(np.uint16).transpose(2, 1, 0)
    stored = nib.Nifti1Image(raw, np.diag([-1.0, -1.0, 1.0, 1.0]) @ META.affine)
    stored.header.set_slope_inter(1, -8192)
    nib.save(stored, path)
    assert nib.load(path).dataobj.inter == -8192
    found = CtRateImage(path=path, folder="train_fixed", metadata=SIEMENS).read()
    np.testing.assert_array_equal(found.array, HU)
    assert found.provenance.notes[-1].startswith("CT-RATE version 2, by folder and header")


def test_a_wrong_slice_spacing_in_the_table_costs_no_series_of_version_2(tmp_path):
    found = version_2(tmp_path, metadata=replace(META, spacing=(3.0, 8.0, 8.0))).read()
    assert found.spacing == pytest.approx((5, 8, 8))
    assert found.provenance.notes == (
        "CT-RATE version 2, by folder and values.",
        "Only between slices, the header's spacing is 5 x 8 x 8 mm instead of 3 x 8 x 8.",
    )


def test_hu_under_a_header_that_says_nothing_true_are_of_neither_version(tmp_path):
    for metadata in (META, replace(META, spacing=(1.5, 1.0, 1.0))):
        lost = image(tmp_path, HU, NOTHING_TRUE, folder="train_fixed", metadata=metadata)
        with pytest.raises(ImageError, match="but the header's spacing is 1 x 1 x 1 mm instead of"):
            lost.read()


def test_where_the_witnesses_agree_the_values_are_not_audited_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("uvlm.imaging.audit.audit", lambda _: pytest.fail("audited"))
    for made, changes in (
        (version_2, {}),
        (version_2, {"metadata": None}),
        (version_2, {"folder": ""}),
        (version_1, {}),
        (version_1, {"intercept": -8192, "metadata": SIEMENS}),
    ):
        assert made(tmp_path, **changes).read().array.dtype == np.int16


def test_the_values_alone_are_enough(tmp_path):
    assert (
        "version 2, by values"
        in version_2(tmp_path, folder="", metadata=None).read().provenance.notes[-1]
    )
    no_spacing = replace(META, spacing=(1.0, 1.0, 1.0))
    found = version_1(tmp_path, folder="", metadata=no_spacing).read()
    # A header of 1 mm where the table has 1 mm as well says nothing.
    assert found.provenance.notes[-1].startswith("CT-RATE version 1, by values:")


def test_version_2_may_store_its_axes_in_any_order(tmp_path):
    turned = META.affine[:, [2, 1, 0, 3]]
    found = image(tmp_path, HU.transpose(2, 1, 0), turned, folder="train_fixed").read()
    assert "by folder and header and values" in found.provenance.notes[-1]


def test_slopes_and_values_beyond_int16_are_kept_within_it(tmp_path):
    raw = ((HU.astype(int) + 1024) * 2).astype(np.int16)
    raw[0, 0, 0] = -32768
    meta = replace(META, slope=0.5, intercept=-1024.0)
    found = image(tmp_path, raw, NOTHING_TRUE, folder="train", metadata=meta).read()
    np.testing.assert_array_equal(found.array[1:], HU[1:])
    # Padding below what int16 holds after the intercept does not wrap around to bone.
    raw = (HU.astype(int) + 8192).astype(np.int16)
    raw[:, :2] = -32768
    found = image(tmp_path, raw, NOTHING_TRUE, folder="train", metadata=SIEMENS).read()
    assert (found.array[:, :2] == -32768).all()


@pytest.mark.parametrize(
    ("made", "changes", "message"),
    [
        (
            version_1,
            {"folder": "train_fixed", "metadata": None, "lack": "there is no row"},
            "the folder train_fixed says version 2, but "
            "the values are 1024 above HU, as in version 1",
        ),
        (
            version_1,
            {"folder": "train_fixed"},
            "the folder train_fixed says version 2, but the header's spacing is 1 x 1 x 1 mm "
            "instead of 5 x 8 x 8 and the values are 1024 above HU, as in version 1",
        ),
        (
            version_2,
            {"folder": "train"},
            "the folder train says version 1, but the header has the spacing of the metadata "
            "table and the values are HU, as in version 2",
        ),
        (
            version_2,
            {"metadata": replace(META, spacing=(1.5, 0.7, 0.7))},
            "the folder is train_fixed and the values are HU, as in version 2, but the header's "
            "spacing is 5 x 8 x 8 mm instead of 0.7 x 0.7 x 1.5, as in version 1",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_every_witness(tmp_path, made, changes, message):
    with pytest.raises(ImageError, match=re.escape(message)) as refused:
        made(tmp_path, **changes).read()
    assert "train_1_a_1.nii.gz" in str(refused.value)
    assert "Keep a file in the folder of its version" in str(refused.value)


@pytest.mark.parametrize("folder", ["train", ""])
def test_version_1_without_its_metadata_is_refused(tmp_path, folder):
    lack = "there is no row for train_1_a_1"
    source = version_1(tmp_path, folder=folder, metadata=None, lack=lack)
    with pytest.raises(ImageError, match=r"stand in the metadata table; there is no row for train"):
        source.read()


def test_an_intercept_that_does_not_make_hu_is_refused(tmp_path):
    with pytest.raises(
        ImageError, match="intercept -8192 of the metadata table do not make them HU"
    ):
        version_1(tmp_path, metadata=SIEMENS).read()
    with pytest.raises(
        ImageError, match="intercept -1024 of the metadata table do not make them HU"
    ):
        version_1(tmp_path, -8192).read()


def test_values_of_neither_version_are_refused(tmp_path):
    noise = np.random.default_rng(0).normal(0, 1, HU.shape).astype(np.float32)
    for meta in (META, None):
        with pytest.raises(ImageError, match="look normalised"):
            image(tmp_path, noise, META.affine, metadata=meta).read()


def test_a_matrix_that_is_not_the_tables_is_refused(tmp_path):
    raw = (HU + 1024).transpose(2, 1, 0)
    with pytest.raises(ImageError, match="48 slices of 48 rows and 20 columns, where the metadata"):
        image(tmp_path, raw, NOTHING_TRUE, folder="train").read()
    raw = (HU + 1024)[:-1]
    found = image(tmp_path, raw, NOTHING_TRUE, folder="train").read()
    assert found.provenance.notes[-1] == "The number of slices is not that of the metadata table."


def test_oblique_and_feet_first_series_keep_their_place():
    tilt = np.radians(20)
    c, s = np.cos(tilt), np.sin(tilt)
    meta = parse_metadata(CELLS | {"ImageOrientationPatient": f"[1, 0, 0, 0, {c}, {s}]"})
    row, column, normal, position = meta.affine[:3].T
    np.testing.assert_allclose(row, [8, 0, 0], atol=1e-9)
    np.testing.assert_allclose(column, [0, 8 * c, 8 * s], atol=1e-9)
    np.testing.assert_allclose(normal, [0, -5 * s, 5 * c], atol=1e-9)
    np.testing.assert_allclose(position, [-166, 9, 56.5])
    feet = parse_metadata(CELLS | {"ImageOrientationPatient": "[-1, 0, 0, 0, 1, 0]"})
    assert orientation_code(feet.affine) == "RPI"


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("XYSpacing", "[0.68]"), ("XYSpacing", "0.68"), ("XYSpacing", "[0, 0.5]"), ("ZSpacing", ""),
        ("ZSpacing", "-1.5"), ("ZSpacing", "inf"), ("RescaleSlope", "0"), ("RescaleSlope", "nan"),
        ("RescaleIntercept", "TODO_DATA_PATH/0"), ("ImagePositionPatient", "[1, 2"),
        ("ImagePositionPatient", "[1, 2, 1e999]"), ("ImagePositionPatient", "__import__('os')"),
        ("ImageOrientationPatient", "[1, 0, 0, 1, 0, 0]"),
        ("ImageOrientationPatient", "[0, 0, 0, 0, 1, 0]"),
        ("ImageOrientationPatient", "[1, 0, 0, 0, 1, [0]]"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_right_says_what_is_wrong(column, cell):
    found = parse_metadata(CELLS | {column: cell})
    assert isinstance(found, str)
    assert column in found or "spacing" in found
    missing = {name: value for name, value in CELLS.items() if name != column}
    assert parse_metadata(missing) == f"the metadata table has no column {column!r}"


def test_a_gantry_tilt_hides_where_the_slices_are():
    tilted = {"GantryDetectorTilt": "-15", "ImageOrientationPatient": "[1, 0, 0, 0, 0.96, 0.28]"}
    assert parse_metadata(CELLS | tilted) == (
        "the metadata table's GantryDetectorTilt is 15 degrees"
    )
    for cells in ({"GantryDetectorTilt": "-15"}, tilted | {"GantryDetectorTilt": "0"}):
        assert isinstance(parse_metadata(CELLS | cells), SeriesMetadata)


@pytest.mark.parametrize("cell", ["[8.0,8.0]", " [ 8 , 8 ] ", "[8. 8.]"])
def test_numbers_may_be_written_in_any_way(cell):
    assert parse_metadata(CELLS | {"XYSpacing": cell, "Rows": "48.0"}) == META


def test_an_empty_matrix_is_unknown():
    assert parse_metadata(CELLS | {"Rows": "", "NumberofSlices": "x"}).shape == (None, None, 48)


def test_every_row_of_the_real_table_is_understood(real_data):
    with (real_data / "ctrate_metadata" / "validation_metadata.csv").open(newline="") as file:
        rows = [parse_metadata(row) for row in csv.DictReader(file)]
    assert len(rows) == 3039
    assert all(isinstance(row, SeriesMetadata) for row in rows)
    intercepts = [row.intercept for row in rows]
    assert (intercepts.count(-8192), intercepts.count(-1024)) == (850, 2189)
    assert all(row.slope == 1 for row in rows)
    assert {orientation_code(row.affine) for row in rows} == {"LPS"}
    assert {row.shape[1] for row in rows} == {512, 768, 1024}
    assert all(0.25 < row.spacing[2] == row.spacing[1] < 1.2 for row in rows)


def test_a_source_is_told_apart_by_its_repr_and_travels(tmp_path):
    one = version_2(tmp_path)
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) == repr(version_2(tmp_path))
    assert repr(one) != repr(version_2(tmp_path, metadata=SIEMENS))
    assert repr(one) != repr(version_2(tmp_path, folder=""))
    assert one.files == (tmp_path / "train_1_a_1.nii.gz",)


def test_the_stored_values_of_version_1_are_called_shifted(tmp_path):
    for intercept in (-1024, -8192):
        found = audit(read_volume(version_1(tmp_path, intercept).path))
        assert (found.verdict, found.offset) == ("shifted", -intercept)
