"""Findings and anatomy merged into one mask, with stated priorities and recorded oddities."""

from __future__ import annotations

import numpy as np
import pytest

from tests.preprocessing.rexgrounding_factory import AFFINE, SHAPE, ball, body, write_stack
from uvlm.errors import ImageError
from uvlm.imaging.nifti import write_nifti
from uvlm.preprocessing.sources.rexgrounding_classes import CLASSES, LESIONS
from uvlm.preprocessing.sources.rexgrounding_findings import Finding
from uvlm.preprocessing.sources.rexgrounding_mask import FindingMasks, LabelFile, total_segmentator

RIGHT, LEFT = ball(10, 20, 16, 4), ball(12, 26, 43, 4)
NONE = RIGHT & False


@pytest.fixture(scope="module")
def image():
    return body(nodule=(RIGHT, 40.0), ground_glass=(LEFT, -550.0))


def read(tmp_path, image, masks, findings, anatomy=(), **how):
    path = write_stack(tmp_path / "stack.nii.gz", masks, affine=None, **how)
    return FindingMasks(path=path, findings=findings, anatomy=anatomy, flip="none").read(image)


def test_findings_become_classes_and_statements(tmp_path, image):
    findings = (
        Finding(0, "A nodule on the right.", "2d"),
        Finding(1, "Ground glass on the left.", "2c", int(LEFT.sum())),
    )
    mask = read(tmp_path, image, [RIGHT, LEFT], findings)
    expected = np.where(RIGHT, LESIONS["2d"], np.where(LEFT, LESIONS["2c"], 0))
    np.testing.assert_array_equal(mask.volume.array, expected)
    said = [(each.text, each.left_share) for each in mask.statements]
    assert said == [("A nodule on the right.", 0.0), ("Ground glass on the left.", 1.0)]
    assert len(mask.notes) == 1  # how it was placed


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        (("1c", ball(10, 20, 16, 2)), ("2c", RIGHT), "2c"),  # focal over the rest
        (("2c", RIGHT), ("2d", ball(10, 20, 16, 2)), "2d"),  # small over large
        (("2d", RIGHT), ("2c", ball(10, 20, 16, 2)), "2c"),
        (("1c", RIGHT), ("1b", ball(10, 20, 16, 2)), "1b"),
    ],
)
def test_overlaps_go_to_the_focal_then_to_the_smaller(tmp_path, image, first, second, winner):
    for pair in ((first, second), (second, first)):
        findings = tuple(Finding(n, "", code) for n, (code, _) in enumerate(pair))
        mask = read(tmp_path, image, [inside for _, inside in pair], findings)
        shared = first[1] & second[1]
        assert set(np.unique(mask.volume.array[shared])) == {LESIONS[winner]}
        assert f"{int(shared.sum())}." in next(n for n in mask.notes if "overlap" in n)


def test_two_findings_of_one_category_are_one_class(tmp_path, image):
    findings = (Finding(0, "", "2d"), Finding(1, "", "2d"))
    mask = read(tmp_path, image, [RIGHT, LEFT], findings)
    np.testing.assert_array_equal(mask.volume.array > 0, RIGHT | LEFT)
    assert not any("overlap" in note for note in mask.notes)


def test_a_category_outside_the_14_is_left_out_with_a_note(tmp_path, image):
    findings = (Finding(0, "", "2d"), Finding(1, "", "3a"), Finding(2, "", ""))
    mask = read(tmp_path, image, [RIGHT, LEFT, LEFT], findings)
    np.testing.assert_array_equal(mask.volume.array > 0, RIGHT)
    assert "Finding 1 has the category '3a', none of the 14, and was left out." in mask.notes
    assert "Finding 2 has no category, none of the 14, and was left out." in mask.notes


def test_an_empty_mask_is_noted_and_only_empty_ones_are_refused(tmp_path, image):
    findings = (Finding(0, "", "2d"), Finding(1, "Nothing.", "2c"))
    mask = read(tmp_path, image, [RIGHT, NONE], findings)
    assert "The mask of finding 1 is empty." in mask.notes
    assert [each.text for each in mask.statements] == [""]
    with pytest.raises(ImageError, match="the mask of every finding is empty"):
        read(tmp_path, image, [NONE, NONE], findings)


def test_a_mask_without_a_finding_is_left_out_with_a_note(tmp_path, image):
    mask = read(tmp_path, image, [RIGHT, LEFT], (Finding(0, "", "2d"),))
    assert "Mask 1 belongs to no finding and was left out." in mask.notes
    np.testing.assert_array_equal(mask.volume.array > 0, RIGHT)


def test_a_finding_without_a_mask_is_refused(tmp_path, image):
    findings = (Finding(0, "", "2d"), Finding(4, "", "2c"))
    with pytest.raises(ImageError, match=r"2 masks, but the table has findings number \[4\]"):
        read(tmp_path, image, [RIGHT, LEFT], findings)


def test_another_number_of_voxels_than_the_table_says_is_noted(tmp_path, image):
    mask = read(tmp_path, image, [RIGHT], (Finding(0, "", "2d", 7),))
    assert f"The mask of finding 0 has {int(RIGHT.sum())} voxels, by the table 7." in mask.notes


def structures(folder, **masks):
    folder.mkdir()
    for name, inside in masks.items():
        write_nifti(folder / f"{name}.nii.gz", inside, AFFINE)
    return total_segmentator(folder)


def test_lesions_lie_over_vessels_over_organs_over_muscles(tmp_path, image):
    wide = [ball(10, 20, 16, radius) for radius in (10, 8, 6)]
    found = structures(
        tmp_path / "study",
        autochthon_left=wide[0],
        lung_upper_lobe_right=wide[1],
        pulmonary_vein=wide[2],
        brain=wide[0],
    )
    mask = read(tmp_path, image, [RIGHT], (Finding(0, "", "2d"),), (found,))
    names = ["Muscles", "Lung upper lobe R", "Pulmonary vein"]
    layers = [*zip(wide, (CLASSES[name] for name in names), strict=True), (RIGHT, LESIONS["2d"])]
    expected = np.zeros(SHAPE, np.uint8)
    for inside, value in layers:
        expected[inside] = value
    np.testing.assert_array_equal(mask.volume.array, expected)


def test_later_tools_lie_over_earlier_ones(tmp_path, image):
    found = structures(tmp_path / "study", trachea=LEFT, pulmonary_vein=LEFT)
    write_nifti(tmp_path / "airway.nii.gz", LEFT, AFFINE)
    airway = LabelFile(tmp_path / "airway.nii.gz", ((1, 16), (255, 16)))
    mask = read(tmp_path, image, [RIGHT], (Finding(0, "", "2d"),), (found, airway))
    assert set(np.unique(mask.volume.array[LEFT])) == {16}


def test_a_file_of_many_structures_is_renumbered(tmp_path, image):
    path = tmp_path / "all.nii.gz"
    write_nifti(path, (RIGHT * 5 + LEFT * 91).astype(np.uint8), AFFINE)
    found = LabelFile(path, ((5, 12), (91, 0))).read(image)
    np.testing.assert_array_equal(found.volume.array, RIGHT * 12)
    with pytest.raises(ImageError, match=r"the values \[91\], which have no name"):
        LabelFile(path, ((5, 12),)).read(image)
    write_nifti(path, NONE, AFFINE)
    with pytest.raises(ImageError, match="holds no structure"):
        LabelFile(path, ((5, 12),)).read(image)


def test_an_unknown_structure_is_refused(tmp_path, image):
    found = structures(tmp_path / "study", lung_uper_lobe_right=RIGHT)
    with pytest.raises(ImageError, match="lung_uper_lobe_right"):
        read(tmp_path, image, [RIGHT], (Finding(0, "", "2d"),), (found,))


def test_anatomy_of_another_grid_is_refused(tmp_path, image):
    path = tmp_path / "airway.nii.gz"
    write_nifti(path, LEFT[1:], AFFINE)
    with pytest.raises(ImageError, match="airway"):
        read(tmp_path, image, [RIGHT], (Finding(0, "", "2d"),), (LabelFile(path, ((1, 16),)),))


def test_sources_tell_all_files_and_are_the_same_when_made_again(tmp_path):
    one, two = (
        FindingMasks(
            path=tmp_path / "a.nii.gz",
            findings=(Finding(0, "x", "2d"),),
            anatomy=(total_segmentator(tmp_path / "t"), LabelFile(tmp_path / "b", ((1, 16),))),
        )
        for _ in range(2)
    )
    assert repr(one) == repr(two)
    assert one.files == (tmp_path / "a.nii.gz", tmp_path / "t", tmp_path / "b")
