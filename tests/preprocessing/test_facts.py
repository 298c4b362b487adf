"""Facts of a study: right numbers, plain JSON, the same for the same image however it is stored."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.imaging.bodies import abdomen, chest, make_volume
from uvlm.imaging.audit import audit
from uvlm.imaging.geometry import Reorientation
from uvlm.imaging.nifti import read_nifti, write_nifti
from uvlm.imaging.preprocess import Prepared, PreprocessSpec, grid_of, prepare
from uvlm.preprocessing.facts import digest_of, image_facts, mask_facts, midline_of

SPEC = PreprocessSpec(shape=(24, 32, 40))
TURNS = [
    Reorientation((0, 1, 2), (False, True, True)),  # RAS
    Reorientation((2, 1, 0), (True, False, True)),
    Reorientation((1, 2, 0), (False, False, True)),
]


def facts_of(volume):
    return image_facts(volume, audit(volume), prepare(volume, SPEC))


def turned(volume, turn):
    return replace(
        volume, array=turn.apply(volume.array), affine=turn.affine(volume.affine, volume.shape)
    )


def prepared(array, affine=None):
    """A prepared image that is `array` (z, y, x), on the grid of `affine`."""
    volume = make_volume(array) if affine is None else replace(make_volume(array), affine=affine)
    grid = grid_of(volume, PreprocessSpec(shape=array.shape))
    return Prepared(array=array, grid=grid, mean=0.0, std=1.0)


def box(shape=(8, 10, 40), first=10, last=29):
    """A body of tissue in air, between two columns."""
    array = np.full(shape, -1000, np.int16)
    array[:, 2:-2, first : last + 1] = 40
    return array


@pytest.fixture(scope="module")
def body():
    return chest(24, 18)


def test_facts_are_plain_finite_json(body):
    facts = facts_of(body)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_facts_of_an_image(body):
    facts = facts_of(body)
    assert facts["shape"] == [24, 96, 96]
    assert facts["spacing_mm"] == [5.0, 4.0, 4.0]
    assert facts["field_of_view_mm"] == [120.0, 384.0, 384.0]
    assert facts["orientation"] == "LPS"
    assert facts["verdict"] == "hu"
    assert facts["region"] == "chest"
    assert facts["landmarks"]["soft tissue"] == pytest.approx(45, abs=10)
    assert facts["mean"] == pytest.approx(prepare(body, SPEC).array.mean(), abs=0.01)


def test_what_is_not_finite_becomes_null(body):
    found = replace(audit(body), padding=float("nan"), clipped=(float("-inf"), None))
    facts = image_facts(body, found, prepare(body, SPEC))
    assert facts["padding"] is None
    assert facts["clipped"] == [None, None]


@pytest.mark.parametrize("turn", TURNS)
def test_an_image_has_one_digest_in_every_orientation(body, turn):
    other = facts_of(turned(body, turn))
    assert other["orientation"] != "LPS"
    assert other["digest"] == facts_of(body)["digest"]


def test_an_image_has_one_digest_in_every_file(body, tmp_path):
    flip = TURNS[0]
    write_nifti(tmp_path / "a.nii.gz", body.array, body.affine)
    other = turned(body, flip)
    write_nifti(tmp_path / "b.nii", np.ascontiguousarray(other.array, np.float32), other.affine)
    digests = {facts_of(read_nifti(tmp_path / name))["digest"] for name in ("a.nii.gz", "b.nii")}
    assert digests == {facts_of(body)["digest"]}


def test_another_image_has_another_digest(body):
    array = np.zeros((2, 3, 4), np.int16)
    changed = array.copy()
    changed[0, 0, 0] = 1
    arrays = [array, changed, array.reshape(4, 3, 2), array.astype(np.uint16)]
    assert len({digest_of(each) for each in arrays}) == 4
    assert digest_of(array[::-1]) == digest_of(array)


@pytest.mark.parametrize(("first", "last"), [(10, 29), (0, 19), (15, 39), (3, 8)])
def test_the_midline_is_the_middle_of_the_body(first, last):
    assert midline_of(box(first=first, last=last)) == (first + last) / 2


def test_the_midline_is_not_moved_by_an_arm_in_a_few_slices_or_a_table():
    array = box()
    array[:3, 2:-2, 33:39] = 40
    array[:, -1, :] = 40
    assert midline_of(array) == 19.5


def test_without_a_body_the_midline_is_the_middle_of_the_array():
    assert midline_of(np.full((3, 4, 9), -1000, np.int16)) == 4.0


def test_the_midline_of_a_simulated_patient():
    assert midline_of(prepare(abdomen(12), SPEC).array) == pytest.approx(19.5, abs=0.5)


def noisy_labels(shape=(8, 10, 40)):
    return np.random.default_rng(0).integers(0, 5, shape).astype(np.uint8)


def test_numbers_of_a_mask_agree_with_counting():
    labels = noisy_labels()
    affine = np.array([[0.9, 0.1, 0, 5], [-0.1, 0.9, 0, 6], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
    image = prepared(box(), affine)
    facts = mask_facts(labels, image, {"a": 1, "b": 4})
    affine = np.array(image.grid.affine)
    for name, value in (("a", 1), ("b", 4)):
        z, y, x = np.nonzero(labels == value)
        centre = affine @ [x.mean(), y.mean(), z.mean(), 1]
        assert facts[name]["voxels"] == len(x)
        assert facts[name]["ml"] == pytest.approx(len(x) * abs(np.linalg.det(affine)) / 1000, 1e-3)
        assert facts[name]["left_share"] == pytest.approx((x > 19.5).mean(), abs=1e-4)
        assert facts[name]["centroid_mm"] == pytest.approx(centre[:3].tolist(), abs=1e-3)
    json.dumps(facts, allow_nan=False)


def test_the_image_is_averaged_in_a_class_and_in_its_mirror_image():
    labels, image = np.zeros((8, 10, 40), np.uint8), prepared(box(first=10, last=19))
    labels[:, 4:8, 12:16] = 1
    labels[3, 3, 3] = 2
    facts = mask_facts(labels, image, {"a": 1, "dot": 2})
    inside, mirrored = (labels == 1), (labels[:, :, ::-1] == 1)
    assert facts["a"]["hu"] == [image.array[inside].mean(), image.array[mirrored].mean()]
    assert "hu" not in facts["dot"]


def test_a_voxel_on_the_midline_counts_half():
    labels = np.zeros((8, 10, 40), np.uint16)
    labels[4, 5, 20] = 300
    facts = mask_facts(labels, prepared(box(first=10, last=30)), {"a": 300})
    assert facts["a"]["left_share"] == 0.5


def test_left_is_measured_from_the_body_not_from_the_picture():
    labels = np.zeros((8, 10, 40), np.uint8)
    labels[:, :, 14:17] = 1
    assert mask_facts(labels, prepared(box(first=0, last=19)), {"a": 1})["a"]["left_share"] == 1.0
    assert mask_facts(labels, prepared(box(first=20)), {"a": 1})["a"]["left_share"] == 0.0


def test_absent_classes_are_left_out_and_unnamed_values_ignored():
    labels = noisy_labels()
    labels[labels == 2] = 0
    assert set(mask_facts(labels, prepared(box()), {"a": 1, "b": 2, "z": 77})) == {"a"}
    assert mask_facts(np.zeros_like(labels), prepared(box()), {"a": 1}) == {}
    assert mask_facts(labels, prepared(box()), {}) == {}


def test_a_mask_that_is_a_view_is_counted_like_its_copy():
    labels, image = noisy_labels(), prepared(box())
    view = labels[::-1, :, ::-1]
    assert mask_facts(view, image, {"a": 1}) == mask_facts(view.copy(), image, {"a": 1})
