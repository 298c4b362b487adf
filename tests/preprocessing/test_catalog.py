"""A catalog is read as written, and every fault in it is refused by file, row and column."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from uvlm.errors import CatalogError
from uvlm.imaging.preprocess import preset
from uvlm.preprocessing.catalog import (
    Catalog,
    Row,
    check_id,
    read_catalog,
    read_region,
    read_spec,
    write_catalog,
    write_text,
)
from uvlm.registry import CT_RATE_LABELS

COLUMNS = (
    "series_id", "case_id", "patient_id", "split", "blosc2_path", "seg_blosc2_path",
    "Emphysema", "Lung nodule", "report",
)  # fmt: skip
FIRST = ("train_1_a_1", "train_1_a", "train_1", "train", "a.b2nd", "a_seg.b2nd", "0", "1", "Text.")
SECOND = ("train_2_a_1", "train_2_a", "train_2", "valid", "b.b2nd", "", "", "1.0", "")


def write(folder, rows, columns=COLUMNS):
    for name in ("a.b2nd", "a_seg.b2nd", "b.b2nd"):
        (folder / name).touch()
    path = folder / "catalog.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def changed(row, **cells):
    names = [name.replace(" ", "_") for name in COLUMNS]
    return tuple(cells.get(name, value) for name, value in zip(names, row, strict=True))


def test_rows_are_read_as_written(tmp_path):
    catalog = read_catalog(write(tmp_path, [FIRST, SECOND]), need=["labels"])
    assert catalog.labels == ("Emphysema", "Lung nodule")
    assert catalog.spec is None
    assert catalog.rows == (
        Row(
            series_id="train_1_a_1",
            case_id="train_1_a",
            patient_id="train_1",
            split="train",
            image=tmp_path / "a.b2nd",
            mask=tmp_path / "a_seg.b2nd",
            labels=(0.0, 1.0),
            report="Text.",
        ),
        Row(
            series_id="train_2_a_1",
            case_id="train_2_a",
            patient_id="train_2",
            split="valid",
            image=tmp_path / "b.b2nd",
            mask=None,
            labels=(None, 1.0),
            report=None,
        ),
    )


def test_what_is_written_is_read_back(tmp_path):
    folder = tmp_path / "prepared"
    rows = [
        # As read from a catalog in another folder: relative to it.
        replace(
            row,
            image=folder / ".." / row.image.name,
            mask=row.mask and folder / ".." / row.mask.name,
            extra={"split_source": "iid", "spleen_ml": row.series_id},
        )
        for row in read_catalog(write(tmp_path, [FIRST, SECOND])).rows
    ]
    catalog = Catalog(
        path=folder / "catalog.csv",
        name="chest",
        region="chest",
        labels=("Emphysema", "Lung nodule"),
        segmentation={"lung": 1, "lung nodule": 2},
        spec=preset("authors", (8, 16, 16)),
        rows=tuple(rows),
        extra_columns=("split_source", "spleen_ml"),
    )
    write_catalog(catalog)
    assert read_catalog(catalog.path) == catalog
    assert read_spec(folder) == catalog.spec
    assert json.loads((folder / "dataset.json").read_text())["spec_hash"] == catalog.spec.hash


def test_a_prepared_folder_can_be_moved(tmp_path):
    source = tmp_path / "here"
    source.mkdir()
    rows = read_catalog(write(source, [FIRST])).rows
    catalog = Catalog(
        path=source / "catalog.csv", name="chest", region="chest", segmentation=None, spec=None,
        labels=("Emphysema", "Lung nodule"), rows=rows,
    )  # fmt: skip
    write_catalog(catalog)
    moved = source.rename(tmp_path / "there")
    assert read_catalog(moved / "catalog.csv").rows[0].image == moved / "a.b2nd"


def test_catalogs_of_several_scopes_share_their_images_and_move_together(tmp_path):
    source = tmp_path / "here"
    (source / "imagesTr").mkdir(parents=True)
    (source / "imagesTr" / "x.b2nd").touch()
    row = Row(
        series_id="x", case_id="x", patient_id="x", split=None, mask=None, labels=(), report=None,
        image=source / "imagesTr" / "x.b2nd",
    )  # fmt: skip
    catalog = Catalog(
        path=source / "coarse" / "catalog.csv", name="chest", region="chest", segmentation=None,
        spec=None, labels=(), rows=(row,),
    )  # fmt: skip
    write_catalog(catalog)
    assert "../imagesTr/x.b2nd" in catalog.path.read_text()
    moved = source.rename(tmp_path / "there")
    (read,) = read_catalog(moved / "coarse" / "catalog.csv").rows
    assert read.image.samefile(moved / "imagesTr" / "x.b2nd")


def test_a_further_column_that_dataset_json_names_must_be_there(tmp_path):
    path = write(tmp_path, [FIRST])
    described = {"name": "d", "region": "chest", "labels": [], "extra_columns": ["spleen_ml"]}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(CatalogError, match="no column 'spleen_ml'"):
        read_catalog(path)


def test_paths_relative_to_the_working_directory_are_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, [])
    row = Row(
        series_id="x", case_id="x", patient_id="x", split=None, image=Path("a.b2nd"), mask=None,
        labels=(), report=None,
    )  # fmt: skip
    catalog = Catalog(
        path=Path("list/catalog.csv"), name="chest", region="chest", segmentation=None, spec=None,
        labels=(), rows=(row,),
    )  # fmt: skip
    write_catalog(catalog)
    assert read_catalog(catalog.path).rows[0].image.samefile(tmp_path / "a.b2nd")


def test_the_least_catalog_has_two_columns(tmp_path):
    path = write(tmp_path, [("x", "a.b2nd")], ("series_id", "blosc2_path"))
    (row,) = read_catalog(path).rows
    assert (row.case_id, row.patient_id, row.split, row.labels) == ("x", "x", None, ())


def test_scans_of_one_ct_rate_patient_stay_together_without_a_patient_column(tmp_path):
    columns = ("series_id", "case_id", "blosc2_path")
    rows = [("train_7_a_1", "train_7_a", "a.b2nd"), ("train_7_b_2", "train_7_b", "b.b2nd")]
    catalog = read_catalog(write(tmp_path, rows, columns))
    assert {row.patient_id for row in catalog.rows} == {"train_7"}


def test_ct_rate_labels_are_found_wherever_they_stand(tmp_path):
    columns = ("series_id", "report", "blosc2_path", "note", *reversed(CT_RATE_LABELS))
    path = write(tmp_path, [("x", "Text.", "a.b2nd", "any", *"0" * 17, "1")], columns)
    catalog = read_catalog(path, need=["labels", "report"])
    assert catalog.labels == CT_RATE_LABELS
    assert catalog.rows[0].labels[0] == 1


def test_the_dataset_file_of_nnunet_is_not_taken_for_ours(tmp_path):
    path = write(tmp_path, [FIRST])
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "CT"}, "labels": {"lung": 1}}')
    assert read_catalog(path).labels == ("Emphysema", "Lung nodule")


@pytest.mark.parametrize(
    ("cells", "need", "message"),
    [
        ({"blosc2_path": "gone.b2nd"}, (), "column 'blosc2_path': there is no file"),
        ({"seg_blosc2_path": "gone.b2nd"}, (), "column 'seg_blosc2_path': there is no file"),
        ({"blosc2_path": ""}, (), "column 'blosc2_path': no path"),
        ({"Lung_nodule": "2"}, (), "column 'Lung nodule': the label '2'"),
        ({"Emphysema": "TODO_DATA_PATH/0"}, (), "column 'Emphysema': the label 'TODO_DATA_PATH/0'"),
        ({"Emphysema": "nan"}, (), "column 'Emphysema': the label 'nan'"),
        ({"series_id": "train_1_a_1"}, (), "column 'series_id': .* is also in row 2"),
        ({"series_id": ""}, (), "column 'series_id': '' is empty"),
        ({"series_id": "../../etc/x"}, (), "column 'series_id': .* could not be a file name"),
        ({"case_id": "a\\b"}, (), "column 'case_id': .* could not be a file name"),
        ({"patient_id": ".hidden"}, (), "column 'patient_id': .* could not be a file name"),
        ({"split": "training"}, (), "column 'split': 'training'"),
        ({}, ("report",), "column 'report': no text"),
        ({"report": "  "}, ("report",), "column 'report': no text"),
        ({}, ("mask",), "column 'seg_blosc2_path': no path"),
    ],
)
def test_faulty_rows_are_refused_by_row_and_column(tmp_path, cells, need, message):
    path = write(tmp_path, [FIRST, changed(SECOND, **cells)])
    with pytest.raises(CatalogError, match=f"catalog.csv: row 3, {message}") as caught:
        read_catalog(path, need=need)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("column", ["series_id", "blosc2_path", "seg_blosc2_path", "report"])
def test_a_column_of_another_name_is_refused(tmp_path, column):
    columns = [name + "s" if name == column else name for name in COLUMNS]
    path = write(tmp_path, [FIRST], columns)
    with pytest.raises(CatalogError, match=f"no column '{column}'; did you mean '{column}s'"):
        read_catalog(path, need=["mask", "report"])


def test_a_label_that_dataset_json_names_must_be_a_column(tmp_path):
    path = write(tmp_path, [FIRST])
    described = {"name": "d", "region": "chest", "labels": ["Emphysema", "Lung nodul"]}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(CatalogError, match="no column 'Lung nodul'; did you mean 'Lung nodule'"):
        read_catalog(path)


def test_labels_can_be_demanded(tmp_path):
    path = write(tmp_path, [("x", "a.b2nd")], ("series_id", "blosc2_path"))
    with pytest.raises(CatalogError, match="no label columns"):
        read_catalog(path, need=["labels"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "unreadable"),
        ('{"name": "d", "region": "chest", "labels": [], "sgmentation": {}}', "did you mean"),
        ('{"name": "d", "labels": []}', "region"),
        (
            '{"name": "d", "region": "chest", "labels": [], "spec": {}, "spec_hash": "0"}',
            "spec_hash is 0",
        ),
    ],
)
def test_a_damaged_dataset_file_is_refused(tmp_path, text, message):
    path = write(tmp_path, [FIRST])
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(CatalogError, match=message):
        read_catalog(path)


def test_identifiers_are_file_names():
    assert check_id("train_1_a_1") is None
    assert check_id("BDMAP_00000001") is None
    assert check_id("é 1.2-3") is None
    for bad in ("", "..", "a/b", "a\\b", "C:x", "a\n", " a", "x" * 201, "\u00e9" * 101, "\udce9"):
        assert check_id(bad) is not None


def test_a_name_that_is_no_text_is_escaped_in_a_table(tmp_path):
    write_text(tmp_path / "errors.csv", "f\udce9b.nii.gz\n\u00e9\n")
    assert (tmp_path / "errors.csv").read_text("utf-8") == "f\\udce9b.nii.gz\n\u00e9\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Dataset200_UVLM_ChestSeg_Test/dataset_train_seg_basic.csv",
            "row 2, column 'blosc2_path'",
        ),
        ("Dataset201_UVLM_ChestClsReport_Test/train_merged.csv", "row 2, column 'Lymphadenopathy'"),
        ("Dataset202_UVLM_AbdomenAll_Test/train_merged.csv", "row 2, column 'report_structured'"),
    ],
)
def test_published_examples_are_refused_for_their_defects(real_data, name, message):
    with pytest.raises(CatalogError, match=message):
        read_catalog(real_data / "uvlm_examples" / name)


def test_the_region_is_that_of_dataset_json(tmp_path: Path):
    assert read_region(tmp_path) == "unknown"
    path = tmp_path / "dataset.json"
    path.write_text('{"name": "mine", "region": "abdomen", "labels": []}')
    assert read_region(tmp_path) == "abdomen"
    path.write_text("{")
    with pytest.raises(CatalogError, match="unreadable"):
        read_region(tmp_path)
