"""Two masks on one grid and with one numbering, or an error that names the file."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from tests.evaluation.masks.mask_files import AFFINE, CLASSES, liver, nifti, store
from uvlm.errors import ImageError
from uvlm.evaluation.masks.reading import read_pair


def test_without_names_every_value_is_a_class(tmp_path):
    truth = nifti(tmp_path / "t.nii", liver())
    read = read_pair(truth, nifti(tmp_path / "p.nii", (liver() == 1) * np.uint8(7)))
    assert read.classes == {"label 1": 1, "label 2": 2, "label 7": 7}


def test_a_missing_prediction_is_an_empty_mask(tmp_path):
    read = read_pair(nifti(tmp_path / "t.nii", liver()), None)
    assert read.classes == {"label 1": 1, "label 2": 2}
    assert not read.predicted.any()
    assert read.predicted.shape == read.reference.shape


def test_stores_say_their_classes_and_names_decide(tmp_path):
    truth = store(tmp_path / "t.b2nd", liver(), CLASSES)
    swapped = np.array([0, 2, 1], np.uint8)[liver()]
    prediction = store(tmp_path / "p.b2nd", swapped, {"liver_lesion": 1, "liver": 2})
    read = read_pair(truth, prediction)
    assert read.classes == CLASSES
    np.testing.assert_array_equal(read.predicted, liver())


def test_a_store_and_a_nifti_file_on_its_grid_are_compared(tmp_path):
    truth = store(tmp_path / "t.b2nd", liver(), CLASSES)
    read = read_pair(truth, nifti(tmp_path / "p.nii.gz", liver()))
    np.testing.assert_array_equal(read.predicted, read.reference.array)


def test_classes_of_one_mask_only_are_named_and_not_scored(tmp_path):
    truth, prediction = (nifti(tmp_path / f"{n}.nii", liver()) for n in "tp")
    read = read_pair(truth, prediction, {"liver": 1, "spleen": 2}, {"liver": 1, "tumor": 2})
    assert read.classes == {"liver": 1}
    assert set(np.unique(read.predicted)) == {0, 1}
    assert read.notes == (
        "Not scored, only in the reference: spleen.",
        "Not scored, only in the prediction: tumor.",
    )


def test_no_class_in_common_is_an_error(tmp_path):
    truth, prediction = (nifti(tmp_path / f"{n}.nii", liver()) for n in "tp")
    with pytest.raises(ImageError, match=r"p\.nii: no class in common: cyst, spleen here, liver"):
        read_pair(truth, prediction, CLASSES, {"spleen": 1, "cyst": 2})


@pytest.mark.parametrize("which", ["t.nii", "p.nii"])
def test_values_without_a_class_are_refused_or_noted(tmp_path, which):
    paths = {name: nifti(tmp_path / name, liver()) for name in ("t.nii", "p.nii")}
    odd = liver()
    odd[0, 0, 0] = 9
    nifti(paths[which], odd)
    with pytest.raises(ImageError, match=rf"{which}: holds values that no class has: 9"):
        read_pair(paths["t.nii"], paths["p.nii"], CLASSES)
    read = read_pair(paths["t.nii"], paths["p.nii"], CLASSES, others="background")
    assert read.notes == (f"{which} holds values that no class has: 9; they count as background.",)


def test_whole_numbers_stored_as_floats_are_a_mask_and_others_are_not(tmp_path):
    truth = nifti(tmp_path / "t.nii", liver())
    nib.save(nib.Nifti1Image(liver().T.astype(np.float32), AFFINE), tmp_path / "f.nii")
    flipped = AFFINE @ np.diag([-1, -1, 1, 1])
    nib.save(nib.Nifti1Image(liver().T.astype(np.float32), flipped), tmp_path / "f.nii")
    np.testing.assert_array_equal(read_pair(truth, tmp_path / "f.nii").predicted, liver())
    nib.save(nib.Nifti1Image(liver().T * np.float32(0.5), flipped), tmp_path / "f.nii")
    with pytest.raises(ImageError, match=r"f\.nii: values that are not whole numbers"):
        read_pair(truth, tmp_path / "f.nii")


def test_a_mask_of_another_shape_or_place_is_refused(tmp_path):
    truth = nifti(tmp_path / "t.nii", liver())
    short = nifti(tmp_path / "p.nii", liver()[:, :, :-1])
    with pytest.raises(ImageError, match=r"p\.nii: it has \(8, 10, 13\) voxels"):
        read_pair(truth, short)
    moved = AFFINE.copy()
    moved[:3, 3] = 7
    with pytest.raises(ImageError, match=r"q\.nii: covers \d+ % of the space of .*t\.nii"):
        read_pair(truth, nifti(tmp_path / "q.nii", liver(), moved))


def test_a_damaged_file_is_named(tmp_path):
    truth = nifti(tmp_path / "t.nii", liver())
    (tmp_path / "p.nii.gz").write_bytes(gzip.compress(b"nothing"))
    with pytest.raises(ImageError, match=r"p\.nii\.gz"):
        read_pair(truth, tmp_path / "p.nii.gz")
    with pytest.raises(ImageError, match="no such file"):
        read_pair(truth, tmp_path / "none.nii")


@pytest.mark.parametrize("given", [{"liver": 2, "liver_lesion": 1}, {"liver": 1, "spleen": 2}])
def test_classes_that_contradict_those_of_a_store_are_refused(tmp_path, given):
    named = store(tmp_path / "t.b2nd", liver(), CLASSES)
    plain = nifti(tmp_path / "p.nii", liver())
    with pytest.raises(ImageError, match=r"t\.b2nd: carries its own classes, where .*--classes"):
        read_pair(named, plain, given)
    with pytest.raises(ImageError, match=r"t\.b2nd: carries its own classes"):
        read_pair(plain, named, CLASSES, given)


def test_a_prediction_with_its_own_classes_keeps_them_beside_those_of_the_reference(tmp_path):
    swapped = np.array([0, 2, 1], np.uint8)[liver()]
    own = store(tmp_path / "p.b2nd", swapped, {"liver_lesion": 1, "liver": 2})
    read = read_pair(nifti(tmp_path / "t.nii", liver()), own, CLASSES)
    np.testing.assert_array_equal(read.predicted, liver())


def test_what_other_predictions_know_is_scored_as_not_found(tmp_path):
    truth, prediction = (nifti(tmp_path / f"{n}.nii", liver()) for n in "tp")
    every = ["liver", "liver_lesion"]
    read = read_pair(truth, prediction, CLASSES, {"liver": 1, "x": 2}, predicted_names=every)
    assert read.classes == CLASSES
    assert set(np.unique(read.predicted)) == {0, 1}
    missing = read_pair(truth, None, CLASSES, predicted_names=["liver"])
    assert missing.classes == {"liver": 1}
    assert missing.notes == ("Not scored, only in the reference: liver_lesion.",)
