"""Presence of lesions from masks, reports and probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.evaluation.masks.mask_files import nifti, store
from uvlm.errors import ConfigError, ImageError, InputError
from uvlm.evaluation.masks.detection import (
    ABDOMEN_RULES,
    CANDIDATES_MM3,
    LesionRule,
    best_minimums,
    lesion_volumes,
    present_in_masks,
    present_in_reports,
    present_with_probability,
    volumes_in_files,
)
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.lesions import measure_lesions
from uvlm.preprocessing.sources.abdomen_classes import SCOPES
from uvlm.registry import ABDOMEN_LABELS

CLASSES = {"liver": 1, "liver_tumor": 2, "liver_cyst": 3}
RULE = LesionRule(label="Liver lesion", lesions=("liver_tumor", "liver_cyst"), organ=("liver",))


def volume(array, spacing=(1.0, 1.0, 1.0)):
    source = Provenance(path="m.nii.gz", format="nifti", checksum="0")
    return Volume(array=array, affine=np.diag([*spacing[::-1], 1.0]), provenance=source)


def liver_with(*boxes):
    """A liver of 30 x 20 x 20 mm with boxes of lesions: (value, z, y, x, edge)."""
    mask = np.zeros((40, 40, 40), np.uint8)
    mask[5:35, 5:25, 5:25] = 1
    for value, z, y, x, edge in boxes:
        mask[z : z + edge, y : y + edge, x : x + edge] = value
    return mask


def volume_of(mask, **options):
    return float(lesion_volumes(volume(mask), CLASSES, [RULE], **options)[0])


def test_a_lesion_loses_a_millimetre_on_every_side():
    assert volume_of(liver_with((2, 10, 10, 10, 5))) == 27.0
    assert volume_of(liver_with((2, 10, 10, 10, 3))) == 1.0
    assert volume_of(liver_with((2, 10, 10, 10, 2))) == 0.0
    assert volume_of(liver_with()) == 0.0


def test_kinds_of_lesion_are_one_lesion():
    mask = liver_with((2, 10, 10, 10, 5))
    mask[10:15, 10:15, 12:15] = 3
    assert volume_of(mask) == 27.0


def test_a_lesion_that_does_not_touch_its_organ_is_removed():
    outside = liver_with((2, 10, 10, 10, 5), (2, 30, 33, 33, 6))
    assert volume_of(outside) == 27.0 + 64.0
    assert volume_of(outside, within_organ=True) == 27.0
    touching = liver_with((2, 10, 10, 25, 6))
    assert volume_of(touching, within_organ=True) == 64.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (2.5, 1.5, 0.9)]))
def test_without_a_threshold_it_is_the_rule_of_the_labels(seed, spacing):
    rng = np.random.default_rng(seed)
    inside = ndimage.gaussian_filter(rng.normal(size=(8, 14, 12)), rng.uniform(0.6, 2.0)) > 0.12
    mask = volume(inside.astype(np.uint8) * 2, spacing)
    found = lesion_volumes(mask, CLASSES, [RULE])
    present = present_in_masks(found[None], 0.0, [RULE.label])
    assert bool(present[0, 0]) == measure_lesions(mask, 2).present


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_at_one_millimetre_the_volume_is_that_of_scipys_erosion(seed):
    rng = np.random.default_rng(seed)
    inside = ndimage.gaussian_filter(rng.normal(size=(12, 14, 12)), 1.5) > 0.05
    expected = ndimage.binary_erosion(inside, np.ones((3, 3, 3))).sum()
    assert volume_of(inside.astype(np.uint8) * 2) == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_pieces_within_the_organ_are_those_that_a_loop_finds(seed):
    rng = np.random.default_rng(seed)
    mask = (rng.random((8, 9, 10)) < 0.1).astype(np.uint8) * 2
    mask[rng.random(mask.shape) < 0.02] = 1
    mask = np.kron(mask, np.ones((3, 3, 3), np.uint8))
    pieces, number = ndimage.label(mask == 2, np.ones((3, 3, 3)))
    kept = np.zeros(mask.shape, np.uint8)
    for piece in range(1, number + 1):
        around = ndimage.binary_dilation(pieces == piece, np.ones((3, 3, 3)))
        if (mask[around] == 1).any():
            kept[pieces == piece] = 2
    assert volume_of(mask, within_organ=True) == volume_of(kept)


def test_axis_order_changes_nothing():
    mask = liver_with((2, 10, 10, 10, 5))
    affine = np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, -1, 0, 39], [0, 0, 0, 1]])
    turned = Volume(array=mask, affine=affine, provenance=volume(mask).provenance)
    assert lesion_volumes(turned, CLASSES, [RULE])[0] == 27.0


@pytest.mark.parametrize("scope", ["fine+lesions", "coarse+lesions"])
def test_the_rules_fit_the_classes_of_the_datasets(scope):
    classes = SCOPES[scope].classes
    mask = volume(np.zeros((4, 4, 4), np.uint8))
    assert lesion_volumes(mask, classes, within_organ=True).tolist() == [0, 0, 0]
    assert tuple(rule.label for rule in ABDOMEN_RULES) == ABDOMEN_LABELS


def test_masks_without_the_classes_are_refused():
    mask = volume(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ConfigError, match=r"Liver lesion: the masks have no class of the lesion"):
        lesion_volumes(mask, SCOPES["coarse"].classes)
    with pytest.raises(ConfigError, match="no class of the organ"):
        lesion_volumes(mask, {"liver_tumor": 1}, [RULE], within_organ=True)


def test_files_name_their_classes_or_are_given_them(tmp_path):
    mask = liver_with((2, 10, 10, 10, 5))
    plain = nifti(tmp_path / "a.nii.gz", mask, np.eye(4))
    named = store(tmp_path / "b.b2nd", mask, CLASSES)
    found = volumes_in_files([plain, None, named], CLASSES, [RULE])
    assert found[:2].tolist() == [[27.0], [0.0]]
    assert volumes_in_files([named], None, [RULE]).tolist() == found[2:].tolist()
    with pytest.raises(ImageError, match=r"a\.nii\.gz: the file does not say what its values"):
        volumes_in_files([plain], None, [RULE])


def test_more_than_the_minimum_is_present():
    volumes = [[30.0, 31.0], [0.0, 0.5]]
    names = ["liver", "kidney"]
    assert present_in_masks(volumes, 30.0, names).tolist() == [[0, 1], [0, 0]]
    each = present_in_masks(volumes, {"liver": 0.0, "kidney": 31.0}, names)
    assert each.tolist() == [[1, 0], [0, 0]]


def test_a_probability_at_the_threshold_is_present():
    found = present_with_probability([[0.5, 0.49]], 0.5, ["liver", "kidney"])
    assert found.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: present_in_masks([[1.0]], {"kidney": 1.0}, ["liver"]), ConfigError, "for each of"),
        (lambda: present_in_masks([[1.0]], -1.0, ["liver"]), ConfigError, "must be from 0"),
        (lambda: present_in_masks([[-1.0]], 1.0, ["liver"]), InputError, "no number from 0"),
        (lambda: present_in_masks([1.0], 1.0, ["liver"]), InputError, r"shape \(1,\)"),
        (lambda: present_with_probability([[0.1]], 1.5, ["liver"]), ConfigError, "from 0 to 1"),
        (lambda: present_with_probability([[3.0]], 0.5, ["liver"]), InputError, "logits"),
    ],
)
def test_impossible_limits_and_values_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@dataclass
class Answer:
    values: dict[str, int]


class Echo:
    """A labeller that finds a lesion where its organ is named."""

    def label(self, reports):
        return [Answer({o: int(o in r) for o in ("pancreas", "liver")}) for r in reports]


def test_any_labeller_reads_reports():
    found = present_in_reports(Echo(), ["a liver", "", "liver, pancreas"], ["liver", "pancreas"])
    assert found.tolist() == [[1, 0], [0, 0], [1, 1]]
    with pytest.raises(InputError, match=r"no label 'kidney'\. It has: pancreas, liver"):
        present_in_reports(Echo(), ["x"], ["kidney"])
    with pytest.raises(InputError, match="there is no report"):
        present_in_reports(Echo(), [], ["liver"])


def test_the_best_minimum_has_the_largest_youden_index():
    volumes = np.array([[5.0], [25.0], [45.0], [70.0], [90.0], [400.0]])
    truth = np.array([[0], [0], [1], [0], [1], [1]], float)
    chosen = best_minimums(volumes, truth, ["liver"])
    scores = {
        mm3: (volumes[truth == 1] > mm3).mean() - (volumes[truth == 0] > mm3).mean()
        for mm3 in CANDIDATES_MM3
    }
    assert chosen == {"liver": min(m for m in scores if scores[m] == max(scores.values()))}


def test_unknown_labels_do_not_choose():
    volumes = [[1.0], [50.0], [999.0]]
    assert best_minimums(volumes, [[0], [1], [np.nan]], ["liver"]) == {"liver": 10.0}


def test_a_minimum_cannot_be_chosen_from_one_kind_of_study():
    with pytest.raises(InputError, match="liver: 2 positive and 0 negative studies"):
        best_minimums([[1.0], [2.0]], [[1], [1]], ["liver"])
    with pytest.raises(InputError, match="Join them"):
        best_minimums([[1.0], [2.0]], [[1]], ["liver"])


def test_classes_that_contradict_those_of_a_store_are_refused(tmp_path):
    named = store(tmp_path / "b.b2nd", liver_with((2, 10, 10, 10, 5)), CLASSES)
    other = {"liver": 2, "liver_tumor": 1, "liver_cyst": 3}
    with pytest.raises(ImageError, match=r"b\.b2nd: carries its own classes, where liver is 1"):
        volumes_in_files([named], other, [RULE])
    own = volumes_in_files([named], None, [RULE])
    assert own[0, 0] > 0
    assert volumes_in_files([named], None, [RULE], unnamed=other).tolist() == own.tolist()


def test_values_without_a_class_are_refused_or_background(tmp_path):
    path = nifti(tmp_path / "a.nii", liver_with((9, 10, 10, 10, 5)), np.eye(4))
    with pytest.raises(ImageError, match=r"a\.nii: holds values that no class has: 9"):
        volumes_in_files([path], CLASSES, [RULE])
    assert volumes_in_files([path], CLASSES, [RULE], others="background").tolist() == [[0.0]]
