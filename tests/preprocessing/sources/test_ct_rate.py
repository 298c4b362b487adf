"""CT-RATE's folders and tables become studies; what cannot be used is recorded with the reason."""

import argparse
import json
import os
import shutil

import pytest

from tests.preprocessing.ct_rate_factory import (
    SERIES,
    make_ct_rate,
    to_version_1,
    volume_path,
    write,
    write_metadata,
    write_tables,
)
from uvlm.errors import CatalogError
from uvlm.preprocessing.sources import ct_rate
from uvlm.preprocessing.sources.ct_rate import list_ct_rate
from uvlm.registry import CT_RATE_LABELS

TABLES = (
    "radiology_text_reports/train_reports.csv",
    "multi_abnormality_labels/train_predicted_labels.csv",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_ct_rate(tmp_path_factory.mktemp("made"))


@pytest.fixture
def source(made, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(made, tmp_path / "source")


def ids(listing):
    return [study.series_id for study in listing.studies]


def errors(listing):
    return {each.series_id: each.error for each in listing.rejected}


def reasons(listing):
    return {each.series_id: each.reason for each in listing.excluded}


def copy_series(root, old, new, end="_fixed"):
    path = volume_path(root, new, end=end)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(volume_path(root, old), path)


def test_series_are_in_order_of_patient_scan_and_reconstruction(source):
    more = ("train_1_b_10", "train_1_b_1", "train_1_aa_1", "train_1_z_1")
    for name in more:
        copy_series(source, "train_1_b_2", name)
    write_tables(source, SERIES + more)
    assert ids(list_ct_rate(source)) == [
        "train_1_a_1", "train_1_b_1", "train_1_b_2", "train_1_b_10", "train_1_z_1", "train_1_aa_1",
        "train_2_a_1", "train_10_a_1", "valid_1_a_1",
    ]  # fmt: skip


def test_a_study_says_all_that_the_tables_do(made):
    listing = list_ct_rate(made)
    study = listing.studies[1]
    assert (study.series_id, study.case_id, study.patient_id, study.split) == (
        "train_1_b_2", "train_1_b", "train_1", "train",
    )  # fmt: skip
    assert study.report == "Findings: Lungs of train_1_b_2 are clear."
    assert tuple(study.labels) == CT_RATE_LABELS == listing.labels
    assert set(study.labels.values()) == {0.0}
    assert listing.studies[-1].split == "valid"
    assert (listing.name, listing.region) == ("CT-RATE", "chest")
    assert (listing.rejected, listing.excluded, listing.warnings) == ((), (), ())


def test_masks_have_their_classes_numbered_in_order_of_their_values(made):
    listing = list_ct_rate(made)
    (scope,) = listing.scopes
    assert (scope.name, scope.classes) == ("all", {"heart": 1, "lung": 2, "body": 3})
    assert scope.table == {7: 1, 10: 2, 200: 3}
    for study in listing.studies:
        assert study.mask.path == volume_path(made, study.series_id, "ts_seg")
    without = list_ct_rate(made, masks=False)
    assert without.scopes == ()
    assert {study.mask for study in without.studies} == {None}


def test_masks_are_optional_for_all_and_for_one(source):
    volume_path(source, "train_2_a_1", "ts_seg").unlink()
    masked = {study.series_id: study.mask is not None for study in list_ct_rate(source).studies}
    assert masked == {name: name != "train_2_a_1" for name in SERIES}
    shutil.rmtree(source / "dataset" / "ts_seg")
    assert list_ct_rate(source).scopes == ()


@pytest.mark.parametrize("text", [None, "{", "[]", '{"a": "lung"}', '{"1": "x", "2": "x"}'])
def test_masks_without_usable_names_are_refused(source, text):
    labels = source / "dataset" / "ts_seg" / "labels.json"
    labels.unlink()
    if text is not None:
        labels.write_text(text)
    with pytest.raises(CatalogError, match=r"labels\.json.*(--no-masks|value twice)"):
        list_ct_rate(source)
    assert len(list_ct_rate(source, masks=False).studies) == 5


def test_the_folder_may_be_dataset_itself_or_hold_one_split_only(source):
    shutil.rmtree(source / "dataset" / "train_fixed")
    (source / "dataset/radiology_text_reports/train_reports.csv").unlink()
    for folder in (source, source / "dataset"):
        listing = list_ct_rate(folder)
        assert ids(listing) == ["valid_1_a_1"]
        assert listing.studies[0].image.folder == "valid_fixed"


def test_the_dataset_is_named_after_its_source_not_after_a_folder(source):
    (source / "dataset/source.txt").write_text("Chest CT of our\nhospital\n")
    assert list_ct_rate(source).name == "Chest CT of our hospital"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_source_that_says_nothing_is_refused(source, content):
    (source / "dataset/source.txt").write_bytes(content)
    with pytest.raises(CatalogError, match=r"source\.txt: it holds no text"):
        list_ct_rate(source)


def test_both_words_for_a_split_and_for_a_volume_are_known(source):
    folder = source / "dataset"
    reports = folder / "radiology_text_reports"
    (reports / "validation_reports.csv").rename(reports / "valid_reports.csv")
    labels = folder / "multi_abnormality_labels"
    (labels / "valid_predicted_labels.csv").rename(labels / "validation_predicted_labels.csv")
    for path in (*reports.iterdir(), *labels.iterdir()):
        path.write_text(path.read_text().replace("VolumeName", "AccessionNo"))
    assert sorted(ids(list_ct_rate(source))) == sorted(SERIES)


def test_a_series_without_its_rows_is_recorded(source):
    write_tables(source, [name for name in SERIES if name != "train_2_a_1"])
    listing = list_ct_rate(source)
    assert "no row in the reports table" in errors(listing)["train_2_a_1"]
    labels = source / "dataset/multi_abnormality_labels/train_predicted_labels.csv"
    short = labels.read_text()
    write_tables(source, SERIES)
    labels.write_text(short)
    listing = list_ct_rate(source)
    assert "no row in the labels table" in errors(listing)["train_2_a_1"]
    assert len(listing.studies) == 4


def test_a_series_without_report_text_is_recorded(source):
    write_tables(source, SERIES, Findings_EN="Not given.")
    listing = list_ct_rate(source)
    assert listing.studies == ()
    assert "neither findings nor impression" in errors(listing)["train_1_a_1"]


def test_a_file_with_another_name_is_recorded_and_unfinished_ones_passed_over(source):
    folder = volume_path(source, "train_1_b_2").parent
    for name in ("copy.nii.gz", "valid_3_a_1.nii.gz", "train_3_A_1.nii.gz"):
        shutil.copy(volume_path(source, "train_1_b_2"), folder / name)
    for name in ("train_9_a_1.nii.gz.part", "._train_1_b_2.nii.gz", "notes.txt"):
        (folder / name).write_bytes(b"")
    listing = list_ct_rate(source)
    assert errors(listing).keys() == {"copy", "valid_3_a_1", "train_3_A_1"}
    assert "not named like train_1_a_1.nii.gz" in errors(listing)["valid_3_a_1"]
    assert len(listing.studies) == 5


def test_a_folder_that_cannot_be_read_is_not_passed_over(source, monkeypatch):
    scan = os.scandir

    def refuse(folder):
        if os.fspath(folder).endswith("train_2"):
            raise PermissionError(13, "Permission denied", os.fspath(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CatalogError, match=r"train_2: cannot be read \(Permission denied\)"):
        list_ct_rate(source)


def test_an_empty_label_stays_unknown(source):
    write_tables(source, SERIES, Lung_nodule="", Emphysema="1.0")
    labels = list_ct_rate(source).studies[0].labels
    assert (labels["Lung nodule"], labels["Emphysema"]) == (None, 1.0)


def test_a_label_that_is_neither_0_nor_1_is_refused(source):
    write_tables(source, SERIES, Lung_nodule="TODO_DATA_PATH/0")
    with pytest.raises(CatalogError, match=r"labels\.csv: row 2, column 'Lung nodule'"):
        list_ct_rate(source)


def test_the_published_example_with_a_path_for_a_label_is_refused(source, real_data):
    published = real_data / "uvlm_examples/Dataset201_UVLM_ChestClsReport_Test/train_merged.csv"
    shutil.copy(published, source / "dataset/multi_abnormality_labels/train_predicted_labels.csv")
    with pytest.raises(CatalogError, match=r"column 'Lymphadenopathy': the label 'TODO_DATA_PATH"):
        list_ct_rate(source)


def test_a_table_cut_inside_a_quote_is_refused_without_quoting_it(source):
    path = source / "dataset/radiology_text_reports/train_reports.csv"
    write_tables(source, SERIES, Findings_EN="Lungs, as before,\nare clear.")
    path.write_text(path.read_text()[:-30])
    with pytest.raises(CatalogError, match=r"train_reports\.csv: row \d, column '") as refused:
        list_ct_rate(source)
    assert "clear" not in str(refused.value)


def test_a_series_twice_in_a_table_is_refused(source):
    write_tables(source, ["train_1_a_1", *SERIES])
    with pytest.raises(CatalogError, match="row 3, column 'VolumeName': 'train_1_a_1' twice"):
        list_ct_rate(source)


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_table_is_refused_by_name(source, name):
    (source / "dataset" / name).unlink()
    with pytest.raises(CatalogError, match=name):
        list_ct_rate(source)


def test_series_that_are_not_of_the_chest_are_left_out(source):
    write_metadata(source, ())
    (source / "dataset/metadata/no_chest_train.txt").write_text("train_1_b_2.nii.gz\n\n")
    listing = list_ct_rate(source)
    assert len(listing.studies) == 4
    assert reasons(listing) == {"train_1_b_2": "listed as not of the chest (no_chest_train.txt)"}


def test_series_scans_and_patients_may_be_left_out_by_name(source, tmp_path):
    names = tmp_path / "broken.txt"
    names.write_text(
        "# seen at review\ntrain_1_a_1.nii.gz  # noise\ntrain_2_a\nvalid_1\ntrain_77\n"
    )
    listing = list_ct_rate(source, exclude=names)
    assert ids(listing) == ["train_1_b_2", "train_10_a_1"]
    assert set(reasons(listing).values()) == {"named in broken.txt"}
    assert listing.warnings == (f"{names}: 1 of its names are of no series here: train_77",)
    with pytest.raises(CatalogError, match="cannot be read"):
        list_ct_rate(source, exclude=tmp_path)


def test_one_reconstruction_per_scan_is_the_one_with_the_thinnest_slices(source):
    more = ("train_1_a_2", "train_1_a_3", "train_2_a_2")
    for name in more:
        copy_series(source, "train_1_a_1", name)
    write_tables(source, SERIES + more)
    assert len(list_ct_rate(source).studies) == 8
    kept = list_ct_rate(source, reconstructions="one")
    assert ids(kept)[0] == "train_1_a_1"
    assert len({study.case_id for study in kept.studies}) == len(kept.studies) == 5
    write_metadata(source, ("train_1_a_3",), ZSpacing="0.75")
    path = source / "dataset/metadata/train_metadata.csv"
    thin = path.read_text()
    write_metadata(source, ("train_1_a_1", "train_1_a_2"), ZSpacing="1.5")
    path.write_text(path.read_text() + thin.split("\n", 1)[1])
    kept = list_ct_rate(source, reconstructions="one")
    assert ids(kept)[0] == "train_1_a_3"
    assert "train_2_a_1" in ids(kept)
    assert reasons(kept) == dict.fromkeys(
        ("train_1_a_1", "train_1_a_2", "train_2_a_2"), "another reconstruction of its scan is used"
    )
    # All of them are one patient.
    assert len({study.patient_id for study in list_ct_rate(source).studies}) == 4


def test_one_reconstruction_is_chosen_among_those_that_can_be_used(source):
    copy_series(source, "train_2_a_1", "train_2_a_2")
    write_tables(source, [name for name in SERIES if name != "train_2_a_1"] + ["train_2_a_2"])
    assert "train_2_a_2" in ids(list_ct_rate(source, reconstructions="one"))


def test_version_1_is_listed_with_its_metadata(source):
    to_version_1(source)
    write_metadata(source, SERIES[:-2], RescaleIntercept="-8192")
    images = {study.series_id: study.image for study in list_ct_rate(source).studies}
    assert images["train_1_a_1"].folder == "train"
    assert images["train_1_a_1"].metadata.intercept == -8192
    assert images["train_2_a_1"].metadata is None
    assert images["train_2_a_1"].lack == "there is no row for train_2_a_1"
    assert {study.mask is not None for study in list_ct_rate(source).studies} == {True}


def test_a_bare_folder_outside_dataset_tells_no_version(source):
    to_version_1(source)
    (source / "dataset").rename(source / "mine")
    assert {study.image.folder for study in list_ct_rate(source / "mine").studies} == {""}


def test_a_metadata_row_that_cannot_be_read_is_no_obstacle_to_listing(source):
    write_metadata(source, SERIES, XYSpacing="0.7")
    image = list_ct_rate(source).studies[0].image
    assert (image.metadata, image.lack) == (None, "the metadata table's XYSpacing is '0.7'")
    (source / "dataset/metadata/train_metadata.csv").write_text("VolumeName,Rows\n")
    assert len(list_ct_rate(source).studies) == 5


def test_where_both_versions_are_there_version_2_is_used(source):
    copy_series(source, "train_1_a_1", "train_1_a_1", end="")
    copy_series(source, "train_1_a_1", "train_7_a_1", end="")
    write_tables(source, (*SERIES, "train_7_a_1"))
    listing = list_ct_rate(source)
    folders = {study.series_id: study.image.folder for study in listing.studies}
    assert folders["train_1_a_1"] == "train_fixed"
    assert folders["train_7_a_1"] == "train"
    assert reasons(listing) == {"train_1_a_1": "version 1, where version 2 is there too"}


def test_two_files_of_one_series_are_refused(source):
    folder = volume_path(source, "train_1_a_1").parent / "again"
    folder.mkdir()
    shutil.copy(volume_path(source, "train_1_a_1"), folder)
    with pytest.raises(CatalogError, match="the same series as"):
        list_ct_rate(source)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(CatalogError, match="none of train_fixed, valid_fixed, train and valid"):
        list_ct_rate(tmp_path)
    (tmp_path / "train_fixed").mkdir()
    for name in TABLES:
        header = dict.fromkeys(("VolumeName", "Findings_EN", "Impressions_EN", *CT_RATE_LABELS), "")
        write(tmp_path / name, [header])
    with pytest.raises(CatalogError, match=r"no \.nii\.gz file below"):
        list_ct_rate(tmp_path)


def test_the_command_line_asks_for_the_same(made, tmp_path):
    parser = argparse.ArgumentParser()
    ct_rate.add_arguments(parser)
    names = tmp_path / "names.txt"
    names.write_text("train_2")
    options = ["--reconstructions", "one", "--no-masks", "--exclude", str(names)]
    listing = ct_rate.list_studies(parser.parse_args([str(made), *options]))
    assert listing == list_ct_rate(made, reconstructions="one", masks=False, exclude=names)
    assert json.dumps([ct_rate.DESCRIPTION, ct_rate.NNUNET.folder])
