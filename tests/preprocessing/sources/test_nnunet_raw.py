"""What an nnU-Net raw dataset is understood as, and which are refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.preprocessing.raw_dataset_factory import AFFINE, write_case, write_description
from uvlm.errors import CatalogError, ImageError
from uvlm.preprocessing.sources.nnunet_raw import find_dataset, ids_of, list_nnunet_raw, series_in
from uvlm.preprocessing.study import Scope

LABELS = {"background": 0, "liver": 1, "tumour": 3}
IMAGE = np.random.default_rng(0).normal(0, 100, (6, 7, 8)).astype(np.int16)
MASK = np.zeros((6, 7, 8), np.uint8)
MASK[1:4, 2:5, 3:6] = 1
MASK[2, 3, 4] = 3


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "nnUNet_raw" / "Dataset007_Liver"
    write_description(root, LABELS)
    for name in ("a", "b"):
        write_case(root, "Tr", name, IMAGE, MASK)
    return root


def test_images_and_masks_are_paired(root):
    listing = list_nnunet_raw(root, region="abdomen")
    assert (listing.name, listing.region, listing.labels) == ("Dataset007_Liver", "abdomen", ())
    assert [study.series_id for study in listing.studies] == ["a", "b"]
    study = listing.studies[0]
    assert study.split is None
    mask = study.mask.read(study.image.read())
    np.testing.assert_array_equal(mask.volume.array, MASK)


def test_classes_are_numbered_without_gaps(root):
    (scope,) = list_nnunet_raw(root).scopes
    assert scope.name == "all"
    assert scope.classes == {"liver": 1, "tumour": 2}
    assert scope.table == {1: 1, 3: 2}


def test_given_scopes_are_read_by_the_names_of_the_classes(root):
    given = Scope(name="coarse", classes={"abdomen": 1}, table={10: 1, 20: 1})
    (scope,) = list_nnunet_raw(root, [given], names={"liver": 20, "tumour": 10}).scopes
    assert scope.table == {1: 1, 3: 1}
    with pytest.raises(CatalogError, match="'tumour' \\(value 3\\) is none of those"):
        list_nnunet_raw(root, [given], names={"liver": 20})


def test_given_scopes_without_names_are_read_by_value(root):
    given = Scope(name="all", classes={"liver": 1, "lesion": 2}, table={1: 1, 2: 1, 3: 2})
    assert list_nnunet_raw(root, [given]).scopes[0].table == {1: 1, 3: 2}


def test_validation_and_test_folders_are_splits(root):
    write_case(root, "Val", "c", IMAGE, MASK)
    write_case(root, "Ts", "d", IMAGE, MASK)
    studies = list_nnunet_raw(root).studies
    assert [(s.series_id, s.split) for s in studies] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "valid"),
        ("d", "test"),
    ]
    assert [s.series_id for s in list_nnunet_raw(root, splits=("valid",)).studies] == ["c"]


def test_a_test_set_without_masks_is_left_out(root):
    write_case(root, "Ts", "d", IMAGE, None)
    (root / "labelsTs").rmdir()
    (left_out,) = list_nnunet_raw(root).excluded
    assert (left_out.series_id, left_out.reason) == ("d", "the test set has no masks")


def test_an_image_without_mask_or_channel_number_is_rejected(root):
    write_case(root, "Tr", "c", IMAGE, None)
    (root / "imagesTr" / "b_0000.nii.gz").rename(root / "imagesTr" / "b.nii.gz")
    listing = list_nnunet_raw(root)
    assert [s.series_id for s in listing.studies] == ["a"]
    errors = {each.series_id: each.error for each in listing.rejected}
    assert "no mask for c_0000.nii.gz" in errors["c"]
    assert "not named like CASE_0000.nii.gz" in errors["b"]


def test_a_mask_without_its_image_is_rejected(root):
    (root / "imagesTr/a_0000.nii.gz").unlink()
    listing = list_nnunet_raw(root)
    assert [study.series_id for study in listing.studies] == ["b"]
    (lonely,) = listing.rejected
    assert lonely.series_id == "a"
    assert "no image for it in imagesTr" in lonely.error


def test_a_ct_rate_name_says_who_the_patient_is(root):
    assert ids_of("train_12_b_2") == ("train_12_b", "train_12")
    assert ids_of("BDMAP_00000001") == ("BDMAP_00000001", "BDMAP_00000001")
    write_case(root, "Tr", "train_12_b_2", IMAGE, MASK)
    study = list_nnunet_raw(root).studies[-1]
    assert (study.series_id, study.case_id, study.patient_id) == (
        "train_12_b_2",
        "train_12_b",
        "train_12",
    )


def test_a_patient_of_the_validation_is_not_trained_on(root):
    write_case(root, "Tr", "train_1_a_1", IMAGE, MASK)
    write_case(root, "Val", "train_1_b_1", IMAGE, MASK)
    listing = list_nnunet_raw(root)
    assert [s.series_id for s in listing.studies] == ["a", "b", "train_1_b_1"]
    (left_out,) = listing.excluded
    assert left_out.series_id == "train_1_a_1"
    assert "valid split" in left_out.reason


def test_patients_of_folders_that_are_not_taken_are_not_trained_on_either(root):
    write_case(root, "Tr", "train_1_a_1", IMAGE, MASK)
    write_case(root, "Tr", "train_2_a_1", IMAGE, MASK)
    write_case(root, "Val", "train_1_b_1", IMAGE, MASK)
    write_case(root, "Ts", "train_2_b_1", IMAGE, None)
    listing = list_nnunet_raw(root, splits=("train",))
    assert [s.series_id for s in listing.studies] == ["a", "b"]
    assert [s.series_id for s in listing.excluded] == ["train_1_a_1", "train_2_a_1"]
    assert series_in(root)[-2:] == [("train_1_b_1", "valid"), ("train_2_b_1", "test")]


def test_what_ct_rate_validates_on_is_not_trained_on(root):
    write_case(root, "Tr", "valid_1_a_1", IMAGE, MASK)
    write_case(root, "Tr", "valid_lesion", IMAGE, MASK)
    listing = list_nnunet_raw(root)
    assert [s.series_id for s in listing.studies] == ["a", "b", "valid_lesion"]
    (left_out,) = listing.excluded
    assert left_out.series_id == "valid_1_a_1"
    assert "CT-RATE validates on it" in left_out.reason


def test_the_parent_folder_will_do_where_there_is_one_dataset(root):
    assert find_dataset(root.parent) == root
    write_description(root.parent / "Dataset141_Chest", LABELS)
    with pytest.raises(CatalogError, match="several nnU-Net datasets"):
        find_dataset(root.parent)
    assert find_dataset(root.parent, 7) == root
    with pytest.raises(CatalogError, match="no nnU-Net raw dataset"):
        find_dataset(root / "imagesTr")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "tumour": [1, 2]}, "is a region"),
        ({"background": 0, "liver": 1, "ignore": 2}, "without a truth"),
        ({"0": "background", "1": "liver"}, "version 1 of nnU-Net"),
        ({"background": 0, "liver": -1}, "the value '-1'"),
        ({"background": 0, "liver": True}, "the value 'True'"),
        ({"background": 0, "liver": 1, "spleen": 1}, "shares the value 1"),
        ({"background": 0}, "no class but background"),
        ([], "no table of labels"),
    ],
)
def test_labels_that_are_not_one_number_each_are_refused(root, labels, said):
    write_description(root, labels)
    with pytest.raises(CatalogError, match=said) as error:
        list_nnunet_raw(root)
    assert "dataset.json" in str(error.value)


def test_several_channels_and_broken_json_are_refused(root):
    write_description(root, LABELS, channel_names={"0": "CT", "1": "PET"})
    with pytest.raises(CatalogError, match="one channel"):
        list_nnunet_raw(root)
    (root / "dataset.json").write_text("{")
    with pytest.raises(CatalogError, match="unreadable"):
        list_nnunet_raw(root)


def test_a_value_without_a_name_is_refused_when_read(root):
    write_case(root, "Tr", "c", IMAGE, MASK + 1, AFFINE)
    study = list_nnunet_raw(root).studies[-1]
    with pytest.raises(ImageError, match="no class has"):
        study.mask.read(study.image.read())


def test_a_dataset_without_images_is_refused(tmp_path):
    write_description(tmp_path, LABELS)
    with pytest.raises(CatalogError, match="no image named like"):
        list_nnunet_raw(tmp_path)
