"""CT-RATE's layout becomes a catalog; both versions of it become the same one."""

import csv
import json
import shutil

import numpy as np
import pytest

from tests.preprocessing.ct_rate_factory import (
    SERIES,
    make_ct_rate,
    to_version_1,
    volume_path,
    write_metadata,
    write_tables,
)
from uvlm.errors import CatalogError
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import prepare, preset
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import read_meta, read_store
from uvlm.phantom.make import make_chest
from uvlm.preprocessing.catalog import read_catalog
from uvlm.preprocessing.ingest import Options, prepare_dataset
from uvlm.preprocessing.records import RECORDS, read_records
from uvlm.preprocessing.sources.ct_rate import list_ct_rate
from uvlm.registry import CT_RATE_LABELS

SPEC = preset("paper", (12, 24, 24))


def prepare_ct_rate(source, out, spec=SPEC, **options):
    return prepare_dataset(list_ct_rate(source, **options), out, Options(spec=spec))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_ct_rate(tmp_path_factory.mktemp("made"))


@pytest.fixture
def source(made, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(made, tmp_path / "source")


@pytest.fixture(scope="module")
def prepared(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "out"
    return prepare_ct_rate(made, out), read_catalog(
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
    assert second.report == "Findings: Lungs of train_1_b_2 are clear."
    assert catalog.rows[-1].split == "valid"


def test_the_catalog_says_what_it_is(prepared):
    _, catalog = prepared
    assert (catalog.name, catalog.region, catalog.spec) == ("CT-RATE", "chest", SPEC)
    assert catalog.labels == CT_RATE_LABELS
    # Numbered 1, 2, 3, ... whatever the values in the source's masks.
    assert catalog.segmentation == {"heart": 1, "lung": 2, "body": 3}


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
    files = sorted(summary.catalogs[0].parent.rglob("*.b2nd"))
    before = [file.stat().st_mtime_ns for file in files]
    again = prepare_ct_rate(made, summary.catalogs[0].parent)
    assert (again.prepared, again.kept) == (5, 5)
    assert [file.stat().st_mtime_ns for file in files] == before
    assert read_catalog(summary.catalogs[0]) == catalog


def test_an_interrupted_run_goes_on_where_it_stopped(source, tmp_path):
    out = tmp_path / "out"
    prepare_ct_rate(source, out)
    (out / "catalog.csv").unlink()
    (out / "imagesTr" / "train_2_a_1.b2nd").unlink()
    (out / "labelsTr" / "valid_1_a_1.b2nd").unlink()
    again = prepare_ct_rate(source, out)
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
    summary = prepare_ct_rate(source, out)
    catalog = read_catalog(summary.catalogs[0])
    assert [row.series_id for row in catalog.rows] == ["train_1_b_2", "valid_1_a_1"]
    assert errors(out).keys() == {"train_1_a_1", "train_2_a_1", "train_10_a_1", "copy"}
    assert "folder train_fixed says version 2, but" in errors(out)["train_2_a_1"]
    assert "mm away" in errors(out)["train_10_a_1"]
    assert "not named like" in errors(out)["copy"]
    assert not (out / "imagesTr" / "train_2_a_1.b2nd").exists()


def test_a_dataset_without_a_usable_study_is_refused(source, tmp_path):
    write_tables(source, SERIES, Findings_EN="Not given.")
    with pytest.raises(CatalogError, match="none of 5 series can be used"):
        prepare_ct_rate(source, tmp_path / "out")
    assert "neither findings nor impression" in errors(tmp_path / "out")["train_1_a_1"]


def test_an_empty_label_stays_unknown(source, tmp_path):
    write_tables(source, SERIES, Lung_nodule="", Emphysema="1.0")
    row = read_catalog(prepare_ct_rate(source, tmp_path / "out").catalogs[0]).rows[0]
    assert row.labels[CT_RATE_LABELS.index("Lung nodule")] is None
    assert row.labels[CT_RATE_LABELS.index("Emphysema")] == 1


def test_what_is_left_out_on_purpose_is_counted_in_the_manifest(source, tmp_path):
    write_metadata(source, SERIES)
    (source / "dataset/metadata/no_chest_train.txt").write_text("train_1_b_2.nii.gz\n")
    summary = prepare_ct_rate(source, tmp_path / "out")
    assert (summary.prepared, summary.excluded, summary.rejected) == (4, 1, ())
    assert "no_chest_train.txt" in json.dumps(json.loads((tmp_path / "out/run.json").read_text()))


def test_masks_are_optional(source, tmp_path):
    catalog = read_catalog(prepare_ct_rate(source, tmp_path / "out", masks=False).catalogs[0])
    assert catalog.segmentation is None
    assert {row.mask for row in catalog.rows} == {None}


def test_a_mask_value_without_a_name_is_recorded(source, tmp_path):
    (source / "dataset" / "ts_seg" / "labels.json").write_text('{"10": "lung"}')
    with pytest.raises(CatalogError, match="none of 5"):
        prepare_ct_rate(source, tmp_path / "out")
    assert "holds the values [200] that no class has" in errors(tmp_path / "out")["train_1_a_1"]


def test_another_preprocessing_needs_another_folder(made, prepared):
    out = prepared[0].catalogs[0].parent
    with pytest.raises(CatalogError, match="another"):
        prepare_ct_rate(made, out, preset("authors", (12, 24, 24)))
    assert read_catalog(out / "catalog.csv") == prepared[1]


@pytest.mark.parametrize("name", ["catalog.csv", "errors.csv"])
def test_a_foreign_file_is_not_replaced(made, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(CatalogError):
        prepare_ct_rate(made, tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_refused(made, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CatalogError):
        prepare_ct_rate(made, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_the_source_is_left_as_it_was(made, prepared):
    names = sorted(path.name for path in made.rglob("*") if path.is_file())
    expected = [f"{name}.nii.gz" for name in SERIES] * 2
    tables = ["labels.json", "train_reports.csv", "validation_reports.csv"]
    tables += ["train_predicted_labels.csv", "valid_predicted_labels.csv"]
    assert names == sorted(expected + tables)


def test_version_1_without_metadata_is_recorded_study_by_study(source, tmp_path):
    to_version_1(source)
    write_metadata(source, SERIES[1:])
    summary = prepare_ct_rate(source, tmp_path / "out")
    assert summary.prepared == 4
    assert "there is no row for train_1_a_1" in errors(tmp_path / "out")["train_1_a_1"]


def test_a_correction_of_the_metadata_is_noticed_by_the_next_run(source, tmp_path):
    to_version_1(source)
    write_metadata(source, SERIES)
    prepare_ct_rate(source, tmp_path / "out")
    write_metadata(source, SERIES, RescaleIntercept="-8192")
    with pytest.raises(CatalogError, match="none of 5 series can be used"):
        prepare_ct_rate(source, tmp_path / "out")


def test_both_versions_of_the_same_studies_give_the_same_voxels(tmp_path):
    """Phantoms: real anatomy, masks, every orientation in version 2, both intercepts in 1."""
    catalogs = []
    for layout in ("ct-rate", "ct-rate-v1"):
        make_chest(tmp_path / layout, studies=5, seed=4, shape=(32, 64, 64), layout=layout)
        out = tmp_path / f"{layout}-prepared"
        summary = prepare_ct_rate(tmp_path / layout, out, preset("paper", (24, 40, 40)))
        assert (summary.prepared, summary.rejected) == (5, ())
        catalogs.append(read_catalog(summary.catalogs[0], need=["mask", "report", "labels"]))
    for second, first in zip(catalogs[0].rows, catalogs[1].rows, strict=True):
        assert (first.series_id, first.labels, first.report) == (
            second.series_id, second.labels, second.report,
        )  # fmt: skip
        np.testing.assert_array_equal(read_store(first.image), read_store(second.image))
        np.testing.assert_array_equal(read_store(first.mask), read_store(second.mask))
        places = [np.array(read_meta(row.image).grid.affine) for row in (first, second)]
        np.testing.assert_allclose(*places, rtol=1e-6, atol=1e-3)
    by = "folder and header and values"
    assert f"CT-RATE version 2, by {by}." in _notes(catalogs[0])
    for intercept in (-1024, -8192):
        assert f"version 1, by {by}: HU = 1 x stored {intercept}," in _notes(catalogs[1])


def _notes(catalog):
    """All that was recorded of the reading."""
    records = read_records(catalog.path.parent / RECORDS).values()
    return json.dumps([(record.image, record.notes) for record in records])
