"""The masks of a folder, and tables of classes."""

from __future__ import annotations

import json

import pytest

from uvlm.errors import InputError
from uvlm.evaluation.masks.pairs import folder_mark, masks_in, read_classes


def folder(path, *names):
    path.mkdir()
    for name in names:
        (path / name).write_bytes(b"")
    return path


def test_a_folder_holds_one_mask_of_each_study(tmp_path):
    masks = folder(tmp_path / "r", "b.nii.gz", "a.nii", "c.b2nd", "dataset.json", ".x.nii")
    assert masks_in(masks) == {
        "a": masks / "a.nii",
        "b": masks / "b.nii.gz",
        "c": masks / "c.b2nd",
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.nii", "a.nii.gz"], r"a\.nii\.gz: the same study as a\.nii"),
        (["notes.txt"], "no mask in it"),
        ([], "no mask in it"),
    ],
)
def test_folders_that_are_refused(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        masks_in(folder(tmp_path / "r", *names))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read as a folder"):
        masks_in(tmp_path / "none")


def test_the_mark_of_a_folder_changes_with_names_and_contents_of_masks_only(tmp_path):
    masks = folder(tmp_path / "r", "a.nii", "b.nii")
    first = folder_mark(masks)
    assert first.startswith("r (folder of 2, ")
    (masks / "notes.txt").write_text("x")
    assert folder_mark(masks) == first
    (masks / "b.nii").write_bytes(b"1")
    second = folder_mark(masks)
    (masks / "b.nii").rename(masks / "c.nii")
    assert len({first, second, folder_mark(masks)}) == 3


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
