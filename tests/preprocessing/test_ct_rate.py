"""CT-RATE's layout becomes a catalog; what cannot be used is recorded, not replaced."""

import csv
import shutil

import numpy as np
import pytest

from tests.preprocessing.ct_rate_factory import (
    SERIES,
    make_ct_rate,
    volume_path,
    write_tables,
)
from uvlm.errors import CatalogError
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import prepare, preset
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import read_meta, read_store
from uvlm.preprocessing.catalog import read_catalog
from uvlm.preprocessing.ct_rate import prepare_ct_rate
from uvlm.registry import CT_RATE_LABELS

SPEC = preset("paper", (12, 24, 24))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_ct_rate(tmp_path_factory.mktemp("made"))


@pytest.fixture
def source(made, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(made, tmp_path / "source")


@pytest.fixture(scope="module")
def prepared(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    return prepare_ct_rate(made, out, SPEC), read_catalog(
        out / "catalog.csv", need=["labels", "mask", "report"]
    )


def errors(out):
    with (out / "errors.csv").open(newline="") as file:
        return {row["series_id"]: row["error"] for row in csv.DictReader(file)}


def test_every_series_has_a_row_in_order_of_patient_and_scan(prepared):
    summary, catalog = prepared
    assert (summary.prepared, summary.rejected) == (5, ())
    assert [row.series_id for row in catalog.rows] == [
        "train_1_a_1", "train_1_b_2", "train_2_a_1", "train_10_a_1", "valid_1_a_1",
    ]  # fmt: skip
    second = catalog.rows[1]
    assert (second.case_id, second.patient_id, second.split) == ("train_1_b", "train_1", "train")
    assert catalog.rows[-1].split == "valid"


def test_the_catalog_says_what_it_is(prepared):
    _, catalog = prepared
    assert (catalog.region, catalog.labels, catalog.spec) == ("chest", CT_RATE_LABELS, SPEC)
    # Numbered 1, 2, 3, ... whatever the values in the source's masks.
    assert catalog.segmentation == {"heart": 1, "lung": 2, "body": 3}


def test_the_catalog_is_named_after_its_source_not_after_a_folder(made, prepared, source, tmp_path):
    assert prepared[1].name == "CT-RATE"
    (source / "dataset/source.txt").write_text("Chest CT of our\nhospital\n")
    summary = prepare_ct_rate(source, tmp_path / "out", SPEC)
    assert read_catalog(summary.catalog).name == "Chest CT of our hospital"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_source_that_says_nothing_is_refused(source, tmp_path, content):
    (source / "dataset/source.txt").write_bytes(content)
    with pytest.raises(CatalogError, match=r"source\.txt: it holds no text"):
        prepare_ct_rate(source, tmp_path / "out", SPEC)


def test_reports_are_joined_and_lose_empty_sections(prepared):
    _, catalog = prepared
    assert catalog.rows[0].report == "Findings: Lungs of train_1_a_1 are clear."


def test_images_are_stored_as_prepared(made, prepared):
    _, catalog = prepared
    row = catalog.rows[0]
    expected = prepare(read_volume(volume_path(made, row.series_id)), SPEC)
    np.testing.assert_array_equal(read_store(row.image), expected.array)
    assert read_meta(row.image).grid == expected.grid


def test_masks_lie_on_their_images_with_the_new_values(prepared):
    _, catalog = prepared
    for row in catalog.rows:
        image, mask = read_store(row.image), read_store(row.mask)
        assert set(np.unique(mask)) == {0, 2, 3}
        assert np.median(image[mask == 2]) < -600
        assert np.median(image[mask == 3]) > -200
        assert read_meta(row.mask).classes == catalog.segmentation


def test_a_second_run_keeps_everything(made, prepared):
    summary, catalog = prepared
    files = sorted(summary.catalog.parent.rglob("*.b2nd"))
    before = [file.stat().st_mtime_ns for file in files]
    again = prepare_ct_rate(made, summary.catalog.parent, SPEC)
    assert (again.prepared, again.kept) == (5, 5)
    assert [file.stat().st_mtime_ns for file in files] == before
    assert read_catalog(summary.catalog) == catalog


def test_an_interrupted_run_goes_on_where_it_stopped(source, tmp_path):
    out = tmp_path / "out"
    prepare_ct_rate(source, out, SPEC)
    (out / "catalog.csv").unlink()
    (out / "imagesTr" / "train_2_a_1.b2nd").unlink()
    (out / "labelsTr" / "valid_1_a_1.b2nd").unlink()
    again = prepare_ct_rate(source, out, SPEC)
    assert (again.prepared, again.kept) == (5, 3)


def test_studies_that_cannot_be_used_are_recorded_and_the_others_go_on(source, tmp_path):
    out = tmp_path / "out"
    volume_path(source, "train_1_a_1").write_bytes(b"\x1f\x8bcut off")
    raw = read_volume(volume_path(source, "train_2_a_1"))
    write_nifti(volume_path(source, "train_2_a_1"), raw.array + 1024, raw.affine)
    shifted = raw.affine.copy()
    shifted[2, 3] += 40
    mask = read_volume(volume_path(source, "train_10_a_1", "ts_seg"), labels=True)
    write_nifti(volume_path(source, "train_10_a_1", "ts_seg"), mask.array, shifted)
    shutil.copy(
        volume_path(source, "train_1_b_2"),
        volume_path(source, "train_1_b_2").parent / "copy.nii.gz",
    )
    summary = prepare_ct_rate(source, out, SPEC)
    catalog = read_catalog(summary.catalog)
    assert [row.series_id for row in catalog.rows] == ["train_1_b_2", "valid_1_a_1"]
    assert errors(out).keys() == {"train_1_a_1", "train_2_a_1", "train_10_a_1", "copy"}
    assert "1024" in errors(out)["train_2_a_1"]
    assert "mm away" in errors(out)["train_10_a_1"]
    assert "not named like" in errors(out)["copy"]
    assert not (out / "imagesTr" / "train_2_a_1.b2nd").exists()


def test_a_study_without_its_rows_is_recorded(source, tmp_path):
    out = tmp_path / "out"
    write_tables(source, [name for name in SERIES if name != "train_2_a_1"])
    prepare_ct_rate(source, out, SPEC)
    assert "no row in the reports table" in errors(out)["train_2_a_1"]
    labels = source / "dataset/multi_abnormality_labels/train_predicted_labels.csv"
    lines = labels.read_text().splitlines()
    write_tables(source, SERIES)
    labels.write_text("\n".join(lines) + "\n")
    prepare_ct_rate(source, tmp_path / "other", SPEC)
    assert "no row in the labels table" in errors(tmp_path / "other")["train_2_a_1"]


def test_a_study_without_report_text_is_recorded(source, tmp_path):
    write_tables(source, SERIES, Findings_EN="Not given.")
    with pytest.raises(CatalogError, match="none of 5 series can be used"):
        prepare_ct_rate(source, tmp_path / "out", SPEC)
    assert "neither findings nor impression" in errors(tmp_path / "out")["train_1_a_1"]


def test_an_empty_label_stays_unknown(source, tmp_path):
    write_tables(source, SERIES, Lung_nodule="", Emphysema="1.0")
    summary = prepare_ct_rate(source, tmp_path / "out", SPEC)
    row = read_catalog(summary.catalog).rows[0]
    assert row.labels[CT_RATE_LABELS.index("Lung nodule")] is None
    assert row.labels[CT_RATE_LABELS.index("Emphysema")] == 1


def test_a_label_that_is_neither_0_nor_1_is_refused(source, tmp_path):
    write_tables(source, SERIES, Lung_nodule="TODO_DATA_PATH/0")
    with pytest.raises(CatalogError, match=r"labels\.csv: row 2, column 'Lung nodule'"):
        prepare_ct_rate(source, tmp_path / "out", SPEC)


def test_a_series_twice_in_a_table_is_refused(source, tmp_path):
    write_tables(source, ["train_1_a_1", *SERIES])
    with pytest.raises(CatalogError, match="row 3, column 'VolumeName': 'train_1_a_1' twice"):
        prepare_ct_rate(source, tmp_path / "out", SPEC)


def test_series_that_are_not_of_the_chest_are_left_out(source, tmp_path):
    folder = source / "dataset" / "metadata"
    folder.mkdir()
    (folder / "no_chest_train.txt").write_text("train_1_b_2.nii.gz\n")
    summary = prepare_ct_rate(source, tmp_path / "out", SPEC)
    assert (summary.prepared, summary.excluded, summary.rejected) == (4, 1, ())


def test_masks_are_optional(source, tmp_path):
    shutil.rmtree(source / "dataset" / "ts_seg")
    catalog = read_catalog(prepare_ct_rate(source, tmp_path / "out", SPEC).catalog)
    assert catalog.segmentation is None
    assert {row.mask for row in catalog.rows} == {None}


def test_a_mask_value_without_a_name_is_recorded(source, tmp_path):
    labels = source / "dataset" / "ts_seg" / "labels.json"
    labels.write_text('{"10": "lung"}')
    with pytest.raises(CatalogError, match="none of 5"):
        prepare_ct_rate(source, tmp_path / "out", SPEC)
    assert "holds the values [200] that have no name" in errors(tmp_path / "out")["train_1_a_1"]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"a": "lung"}', '{"1": "x", "2": "x"}'])
def test_masks_without_usable_names_are_refused(source, tmp_path, text):
    labels = source / "dataset" / "ts_seg" / "labels.json"
    labels.unlink()
    if text is not None:
        labels.write_text(text)
    with pytest.raises(CatalogError, match=r"labels\.json"):
        prepare_ct_rate(source, tmp_path / "out", SPEC)


def test_version_1_is_refused_for_its_values_are_not_hu(source, tmp_path):
    for split in ("train", "valid"):
        (source / "dataset" / f"{split}_fixed").rename(source / "dataset" / split)
    with pytest.raises(CatalogError, match="version 1"):
        prepare_ct_rate(source, tmp_path / "out", SPEC)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(CatalogError, match="neither train_fixed nor valid_fixed"):
        prepare_ct_rate(tmp_path, tmp_path / "out", SPEC)


def test_another_preprocessing_needs_another_folder(made, prepared):
    summary, _ = prepared
    with pytest.raises(CatalogError, match="prepared in another way"):
        prepare_ct_rate(made, summary.catalog.parent, preset("authors", (12, 24, 24)))


def test_a_foreign_catalog_is_not_replaced(made, tmp_path):
    (tmp_path / "catalog.csv").write_text("mine")
    with pytest.raises(CatalogError, match="prepared in another way"):
        prepare_ct_rate(made, tmp_path, SPEC)
    assert (tmp_path / "catalog.csv").read_text() == "mine"


def test_a_foreign_errors_csv_is_not_replaced(made, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "errors.csv").write_text("mine")
    with pytest.raises(CatalogError, match="did not write"):
        prepare_ct_rate(made, tmp_path / "out", SPEC)
    assert (tmp_path / "out" / "errors.csv").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_refused(made, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CatalogError, match="Choose another --out"):
        prepare_ct_rate(made, tmp_path / "out", SPEC)
    assert (tmp_path / "out").read_text() == "mine"


def test_the_source_is_left_as_it_was(made, prepared):
    names = sorted(path.name for path in made.rglob("*") if path.is_file())
    expected = [f"{name}.nii.gz" for name in SERIES] * 2
    tables = ["labels.json", "train_reports.csv", "validation_reports.csv"]
    tables += ["train_predicted_labels.csv", "valid_predicted_labels.csv"]
    assert names == sorted(expected + tables)
