"""HSENet's lists and arrays, read strictly."""

import json
import re

import numpy as np
import pytest

from uvlm.errors import CatalogError, ImageError
from uvlm.preprocessing.hsenet_lists import (
    from_hu,
    read_features,
    read_list,
    read_volume_file,
    to_hu,
    write_array,
    write_list,
)

SHAPE = (2, 3, 4)
REPORT = {"image": "a.npy", "text": "Clear lungs."}
ASK = {"image": "a.npy", "biomedclip_features": "f.npy", "anatomy": "heart", "abnormality": "cyst"}


def listed(folder, train, **groups):
    path = folder / "list.json"
    path.write_text(json.dumps({"train": train} | groups))
    return path


def test_reports_and_questions_are_read_in_their_order(tmp_path):
    more = {"image": "/data/b.npy", "text": "", "biomedclip_features": "b_f.npy"}
    path = listed(tmp_path, [REPORT], validation=[more])
    first, second = read_list(path)
    assert (first.where, first.split, first.text, first.features) == (
        "train[0]", "train", "Clear lungs.", None,
    )  # fmt: skip
    assert first.image == tmp_path / "a.npy"
    assert (second.split, second.text, second.features) == ("valid", "", tmp_path / "b_f.npy")
    (asked,) = read_list(listed(tmp_path, [ASK]))
    assert (asked.text, asked.abnormality, asked.anatomy) == (None, "cyst", "heart")


def test_an_image_may_recur_where_each_entry_asks(tmp_path):
    path = listed(tmp_path, [ASK, ASK | {"anatomy": float("nan")}])
    assert [entry.anatomy for entry in read_list(path)] == ["heart", ""]


def test_moved_replaces_the_beginning_of_every_path(tmp_path):
    path = listed(tmp_path, [{"image": "/old/x/a.npy", "text": "t"}])
    assert str(read_list(path, ("/old", "/new"))[0].image) == "/new/x/a.npy"


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "no entry"),
        (["a.npy"], "train[0]: no object"),
        ([{"text": "t"}], "train[0]: no 'image'"),
        ([{"image": 3, "text": "t"}], "'image' is no text"),
        ([{"image": "a.npy"}], "neither 'text' nor 'abnormality'"),
        ([REPORT | {"text": ["t"]}], "'text' is no text"),
        ([REPORT | {"biomedclip_features": ""}], "'biomedclip_features' is empty"),
        ([{"image": "a.npy", "anatomy": "heart"}], "no 'abnormality'"),
        ([REPORT, REPORT], "train[1]: the image of train[0] again"),
        ([ASK, REPORT], "train[1]: the image of train[0] again"),
        ([ASK, ASK | {"biomedclip_features": "g.npy"}], "with other features"),
    ],
)
def test_bad_entries_are_named(tmp_path, train, message):
    with pytest.raises(CatalogError, match=re.escape(message)) as caught:
        read_list(listed(tmp_path, train))
    assert "list.json" in str(caught.value)
    assert "Clear" not in str(caught.value)


def test_one_image_in_two_splits_is_refused(tmp_path):
    with pytest.raises(CatalogError, match="Keep it in one split"):
        read_list(listed(tmp_path, [ASK], validation=[ASK]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": [', "no JSON"),
        ("[]", "no object with splits"),
        ('{"dev": []}', "'dev' is no split"),
        ('{"train": {}}', "'train' is no list"),
        (b"\xff\xfe\xfa", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_broken_lists_are_refused(tmp_path, text, message):
    path = tmp_path / "list.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CatalogError, match=message):
        read_list(path)


def test_a_list_written_is_read_back(tmp_path):
    path = tmp_path / "list.json"
    write_list(path, {"train": [REPORT]})
    assert json.loads(path.read_text()) == {"train": [REPORT], "validation": []}
    assert read_list(path)[0].text == "Clear lungs."


def test_values_survive_whole_hu_within_half_a_unit():
    values = np.linspace(0, 1, 5000, dtype=np.float32)
    hu = to_hu(values)
    assert (hu.min(), hu.max()) == (-1000, 200)
    assert np.abs(from_hu(hu) - values).max() <= 0.5 / 1200 + 1e-6
    assert np.array_equal(to_hu(from_hu(hu)), hu)
    assert from_hu(np.array([-3000, 3000], np.int16)).tolist() == [0, 1]


def test_volumes_are_read_without_their_channel(tmp_path):
    array = np.random.default_rng(0).random((1, *SHAPE), np.float32)
    write_array(tmp_path / "new" / "a.npy", array)
    assert np.array_equal(read_volume_file(tmp_path / "new" / "a.npy", SHAPE), array[0])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.npy"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(SHAPE, np.float32), "an array of (2, 3, 4), not (1, 2, 3, 4)"),
        (np.zeros((1, 2, 4, 3), np.float32), "an array of (1, 2, 4, 3)"),
        (np.full((1, *SHAPE), 1.1, np.float32), "values from 1.1 to 1.1, not within 0..1"),
        (np.full((1, *SHAPE), -0.1, np.float32), "not within 0..1"),
        (np.full((1, *SHAPE), np.nan, np.float32), "24 values are NaN"),
        (np.zeros((1, *SHAPE), np.uint8), "uint8, not an array of floating point"),
    ],
)
def test_bad_volumes_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ImageError, match=re.escape(message)):
        read_volume_file(tmp_path / "a.npy", SHAPE)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((31, 8), np.float32), "slice features of (31, 8), not 32 x 8"),
        (np.zeros((32, 9), np.float32), "slice features of (32, 9), not 32 x 8"),
        (np.zeros((1, 32, 8), np.float32), "slice features of (1, 32, 8)"),
        (np.full((32, 8), np.inf, np.float32), "256 values are NaN or infinite"),
        (np.full((32, 8), 1e6, np.float32), "too large for half precision"),
    ],
)
def test_bad_features_are_refused(tmp_path, array, message):
    np.save(tmp_path / "f.npy", array)
    with pytest.raises(ImageError, match=re.escape(message)):
        read_features(tmp_path / "f.npy", (32, 8))


@pytest.mark.parametrize("content", [None, b"", b"no array", b"pickle", b"cut"])
def test_files_that_are_no_arrays_are_refused(tmp_path, content):
    path = tmp_path / "a.npy"
    if content == b"pickle":
        np.save(path, np.array([{}], object), allow_pickle=True)
    elif content == b"cut":
        np.save(path, np.zeros((1, *SHAPE), np.float32))
        path.write_bytes(path.read_bytes()[:-8])
    elif content is not None:
        path.write_bytes(content)
    message = "no such file" if content is None else "no whole .npy array"
    with pytest.raises(ImageError, match=message):
        read_volume_file(path, SHAPE)
