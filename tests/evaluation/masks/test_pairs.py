"""Which prediction belongs to which reference."""

from __future__ import annotations

import json
import logging

import pytest

from uvlm.errors import InputError
from uvlm.evaluation.masks.pairs import pair_masks, read_classes


def folder(path, *names):
    path.mkdir()
    for name in names:
        (path / name).write_bytes(b"")
    return path


def test_names_decide_and_a_missing_prediction_stays(tmp_path):
    wanted = folder(tmp_path / "r", "b.nii.gz", "a.nii", "c.b2nd", "dataset.json", ".x.nii")
    given = folder(tmp_path / "p", "a.nii.gz", "b.nii.gz", "plans.json")
    assert pair_masks(wanted, given) == [
        ("a", wanted / "a.nii", given / "a.nii.gz"),
        ("b", wanted / "b.nii.gz", given / "b.nii.gz"),
        ("c", wanted / "c.b2nd", None),
    ]


def test_two_files_are_a_pair_whatever_their_names(tmp_path):
    one, other = folder(tmp_path / "r", "a.nii"), folder(tmp_path / "p", "z.nii.gz")
    assert pair_masks(one / "a.nii", other / "z.nii.gz") == [
        ("a", one / "a.nii", other / "z.nii.gz")
    ]


def test_predictions_without_a_reference_are_counted(tmp_path, caplog):
    wanted = folder(tmp_path / "r", "a.nii")
    given = folder(tmp_path / "p", "a.nii", "b.nii", "c.nii")
    with caplog.at_level(logging.WARNING):
        assert len(pair_masks(wanted, given)) == 1
    assert "2 predictions have no reference" in caplog.text


@pytest.mark.parametrize(
    ("references", "predictions", "message"),
    [
        (["a.nii"], ["b.nii"], "no mask has the name of one.*'a' there, 'b' here"),
        (["a.nii"], ["A.nii"], "named 'A' where the reference is 'a'"),
        (["a.nii", "a.nii.gz"], ["a.nii"], "the same study as a.nii"),
        (["a.nii"], ["notes.txt"], "no mask in it"),
        ([], ["a.nii"], "no mask in it"),
    ],
)
def test_folders_that_cannot_be_paired(tmp_path, references, predictions, message):
    with pytest.raises(InputError, match=message):
        pair_masks(folder(tmp_path / "r", *references), folder(tmp_path / "p", *predictions))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read as a folder"):
        pair_masks(tmp_path / "none", tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"liver": 1, "liver_lesion": 2},
        {"labels": {"background": 0, "liver": 1, "liver_lesion": 2}, "numTraining": 3},
        {"segmentation": {"liver": 1, "liver_lesion": 2}, "name": "x"},
    ],
)
def test_classes_come_from_a_table_or_a_dataset_json(tmp_path, content):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content))
    assert read_classes(path) == {"liver": 1, "liver_lesion": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "no table of classes"),
        ("{}", "no table of classes"),
        ('{"a": [1, 2]}', "class 'a' has the value"),
        ('{"a": -1}', "class 'a' has the value -1"),
        ('{"0": "background", "1": "liver"}', "class '0' has the value 'background'"),
        ('{"a": 1, "b": 1}', "two classes have one value"),
    ],
)
def test_other_files_of_classes_are_refused(tmp_path, text, message):
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_classes(path)
