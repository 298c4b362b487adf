"""Embeddings are read whole, matched by study and refused where they have no direction."""

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.embeddings import Embeddings, read_embeddings, unit_rows

RNG = np.random.default_rng(0)
IDS = ("valid_1_a_1", "valid_2_a_1", "valid_3_a_1")


@pytest.fixture
def file(tmp_path):
    def write(**change):
        arrays = {
            "ids": np.array(IDS),
            "image": RNG.normal(size=(3, 4)),
            "text": RNG.normal(size=(3, 4)).astype(np.float16),
        } | change
        path = tmp_path / "embeddings.npz"
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return write


def test_rows_are_of_length_one_and_keep_their_direction(file):
    image = RNG.normal(size=(3, 4)) * 50
    found = read_embeddings(file(image=image))
    np.testing.assert_allclose(np.linalg.norm(found.image, axis=1), 1)
    np.testing.assert_allclose(found.image * np.linalg.norm(image, axis=1)[:, None], image)


def test_text_may_be_absent(file):
    assert read_embeddings(file(text=None)).text is None


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_very_small_and_very_large_numbers_keep_their_direction(size):
    np.testing.assert_allclose(unit_rows(np.array([[3.0, 4.0]]) * size), [[0.6, 0.8]])


def test_rows_follow_the_references_whatever_the_suffix(file):
    found = read_embeddings(file())
    turned = found.in_order(["a/valid_3_a_1.nii.gz", "valid_1_a_1", "valid_2_a_1.nii.gz"])
    np.testing.assert_array_equal(turned.image, found.image[[2, 0, 1]])
    np.testing.assert_array_equal(turned.text, found.text[[2, 0, 1]])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (IDS[:2], r"studies without a reference: 1 \(valid_3_a_1\)"),
        ((*IDS, "valid_4_a_1"), r"studies without an embedding: 1 \(valid_4_a_1\)"),
        ((*IDS[:2], "Valid_3_A_1"), "1 of them differ in capitals only"),
        ((*IDS, IDS[0]), "the references name study 'valid_1_a_1' twice"),
    ],
)
def test_ids_that_do_not_match_are_refused_with_both_sides(file, ids, message):
    path = file()
    with pytest.raises(InputError, match=message) as error:
        read_embeddings(path).in_order(ids)
    assert str(path) in str(error.value)


def test_other_reconstructions_can_be_dropped_but_a_missing_study_cannot(file):
    found = read_embeddings(file())
    assert found.in_order(IDS[:2], extra="drop").ids == IDS[:2]
    with pytest.raises(InputError, match="without an embedding"):
        found.in_order(["valid_9_a_1"], extra="drop")


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "not finite"), (np.inf, "not finite")])
def test_a_row_that_is_not_finite_is_named(file, value, kind):
    image = RNG.normal(size=(3, 4))
    image[1, 2] = value
    with pytest.raises(InputError, match=f"'valid_2_a_1' is {kind}"):
        read_embeddings(file(image=image))


def test_a_zero_vector_is_named(file):
    text = np.ones((3, 4))
    text[2] = 0
    with pytest.raises(InputError, match=r"array 'text': 1 of 3 .* 'valid_3_a_1' is zero"):
        read_embeddings(file(text=text))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "no array 'image'; found: ids, text"),
        ({"image": np.ones(3)}, r"shape \(3,\)"),
        ({"image": np.ones((0, 4))}, r"shape \(0, 4\)"),
        ({"image": np.ones((2, 4))}, "3 ids and 2 image embeddings"),
        ({"text": np.ones((3, 5))}, r"\(3, 4\) and text embeddings \(3, 5\)"),
        ({"image": np.array([["a"] * 4] * 3)}, "of <U1"),
        ({"ids": np.array(IDS, dtype=object)}, "no readable .npz file of plain arrays"),
    ],
)
def test_files_of_another_shape_are_refused(file, change, message):
    with pytest.raises(InputError, match=message):
        read_embeddings(file(**change))


def test_a_file_that_is_none_or_damaged_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_embeddings(tmp_path / "none.npz")
    path = tmp_path / "damaged.npz"
    path.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(InputError, match="no readable"):
        read_embeddings(path)
    np.save(tmp_path / "one.npy", np.ones((2, 2)))
    with pytest.raises(InputError, match="no readable"):
        read_embeddings(tmp_path / "one.npy")


def test_embeddings_made_in_memory_are_checked_too():
    with pytest.raises(InputError, match="2 ids and 3 image embeddings"):
        Embeddings(ids=("a", "b"), image=np.eye(3))
