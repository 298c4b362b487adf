"""Lesions of a mask: numbers against the slow way, place and side, any orientation of the file."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from uvlm.imaging.volume import Provenance, Volume
from uvlm.inference.evidence.lesions import LEAST_ML, MOST, find_lesions, lesions_of
from uvlm.inference.evidence.structures import labels_of
from uvlm.phantom.chest import draw_chest
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.phantom.resolution import size_ranges

SOURCE = Provenance(path="ct.nii.gz", format="nifti", checksum="0")
SPACING = (2.0, 1.0, 1.5)
CLASSES = {
    "lung_upper_lobe_left": 1,
    "lung_upper_lobe_right": 2,
    "heart": 3,
    "ribs": 4,
    "lung_nodule": 5,
    "pleural_effusion": 6,
}
NODULE = CLASSES["lung_nodule"]


def volume_of(array, spacing=SPACING, affine=None) -> Volume:
    if affine is None:
        affine = np.diag([*spacing[::-1], 1.0])
    return Volume(array=np.asarray(array), affine=affine, provenance=SOURCE)


def chest() -> np.ndarray:
    """(z, y, x), x to the left: right lung, heart, left lung, ribs behind them."""
    mask = np.zeros((16, 24, 40), np.uint8)
    mask[1:15, 3:18, 2:15] = CLASSES["lung_upper_lobe_right"]
    mask[1:15, 3:18, 25:38] = CLASSES["lung_upper_lobe_left"]
    mask[4:12, 5:15, 15:25] = CLASSES["heart"]
    mask[1:15, 18:20, 2:38] = CLASSES["ribs"]
    return mask


def hu_of(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == NODULE, 40, -800).astype(np.int16)


def diameter_slowly(inside, spacing) -> float:
    """All pairs of corners of all voxels of each slice."""
    _, dy, dx = spacing
    longest = 0.0
    for plane in inside:
        corners = [
            ((y + a) * dy, (x + b) * dx)
            for y, x in np.argwhere(plane)
            for a, b in itertools.product((0, 1), repeat=2)
        ]
        for one, other in itertools.combinations(corners, 2):
            longest = max(longest, float(np.hypot(one[0] - other[0], one[1] - other[1])))
    return longest


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_every_piece_is_measured_as_the_slow_way_does(seed):
    rng = np.random.default_rng(seed)
    inside = ndimage.gaussian_filter(rng.normal(size=(5, 9, 10)), 1.0) > 0.15
    mask = inside.astype(np.uint8) * NODULE
    hu = rng.integers(-100, 100, mask.shape).astype(np.int16)
    found = find_lesions(mask, volume_of(hu), CLASSES)
    pieces, count = ndimage.label(inside, np.ones((3, 3, 3)))
    voxels = [int((pieces == n).sum()) for n in range(1, count + 1)]
    kept = [n for n in voxels if n >= 2]
    assert [round(v.volume_ml / 0.003) for v in found.lesions] == sorted(kept, reverse=True)
    assert sum(found.left_out.values()) == count - len(kept)
    for lesion in found.lesions:
        own = pieces == pieces[lesion.centre]
        assert lesion.diameter_mm == pytest.approx(diameter_slowly(own, SPACING))
        assert lesion.mean_hu == pytest.approx(hu[own].mean())
        expected = ndimage.find_objects(own.astype(int))[0]
        assert lesion.box == tuple((part.start, part.stop) for part in expected)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[:4])
@pytest.mark.parametrize("flip", [(False, False, False), (True, False, True), (True, True, False)])
def test_how_the_file_is_stored_changes_only_the_indices(order, flip):
    mask = chest()
    mask[6:9, 8:12, 28:33] = NODULE
    (plain,) = lesions_of(mask, volume_of(hu_of(mask)), CLASSES)
    affine = np.diag([*SPACING[::-1], 1.0])
    stored = mask.transpose(order)
    turned = affine.copy()
    for axis, source in enumerate(order):
        turned[:, 2 - axis] = affine[:, 2 - source]
    for axis, flipped in enumerate(flip):
        if flipped:
            turned[:, 3] += turned[:, 2 - axis] * (stored.shape[axis] - 1)
            turned[:, 2 - axis] *= -1
    stored = stored[tuple(slice(None, None, -1 if f else 1) for f in flip)]
    (lesion,) = lesions_of(stored, volume_of(hu_of(stored), affine=turned), CLASSES)
    for name in ("diameter_mm", "volume_ml", "mean_hu", "side", "structure"):
        assert getattr(lesion, name) == pytest.approx(getattr(plain, name))
    assert (stored[tuple(slice(*part) for part in lesion.box)] == NODULE).all()
    z, y, x = lesion.centre
    place = turned @ (x, y, z, 1)
    assert place[:3] == pytest.approx(np.array(plain.centre)[::-1] * SPACING[::-1], abs=2.0)


def test_it_lies_in_what_surrounds_it():
    mask = chest()
    mask[6:9, 8:12, 28:33] = NODULE
    (lesion,) = lesions_of(mask, volume_of(hu_of(mask)), CLASSES)
    assert (lesion.structure, lesion.side) == ("lung_upper_lobe_left", "left")
    assert (lesion.name, lesion.number, lesion.mean_hu) == ("lung_nodule", 1, 40)


def test_fluid_lies_at_the_lung_though_it_touches_more_bone():
    mask = chest()
    mask[1:15, 16:18, 2:15] = CLASSES["pleural_effusion"]
    mask[:, 18:20][mask[:, 18:20] == 0] = CLASSES["ribs"]
    (lesion,) = lesions_of(mask, volume_of(hu_of(mask)), CLASSES)
    assert (lesion.structure, lesion.side) == ("lung_upper_lobe_right", "right")


def test_what_lies_on_both_sides_of_the_middle_says_so():
    mask = chest()
    mask[6:9, 8:12, 18:22] = NODULE
    (lesion,) = lesions_of(mask, volume_of(hu_of(mask)), CLASSES)
    assert (lesion.structure, lesion.side) == ("heart", "both")


def test_a_lesion_by_itself_is_placed_by_the_body_and_in_nothing():
    hu = np.full((12, 20, 40), -1000, np.int16)
    hu[:, 2:18, 4:36] = 20
    mask = np.zeros(hu.shape, np.uint8)
    mask[5:7, 8:10, 30:33] = NODULE
    (lesion,) = lesions_of(mask, volume_of(hu), {"lung_nodule": NODULE})
    assert (lesion.side, lesion.structure) == ("left", None)


def test_without_body_or_organs_the_side_is_unknown():
    mask = np.zeros((12, 20, 40), np.uint8)
    mask[5:7, 8:10, 30:33] = NODULE
    air = np.full(mask.shape, -1000, np.int16)
    (lesion,) = lesions_of(mask, volume_of(air), {"lung_nodule": NODULE})
    assert lesion.side is None


def test_the_centre_of_a_ring_lies_on_the_ring():
    mask = np.zeros((4, 20, 20), np.uint8)
    y, x = np.ogrid[:20, :20]
    radius = np.hypot(y - 10, x - 10)
    mask[1:3, (radius < 8) & (radius > 5)] = NODULE
    (lesion,) = lesions_of(mask, volume_of(hu_of(mask)), CLASSES)
    assert mask[lesion.centre] == NODULE


def test_specks_and_the_rest_of_very_many_pieces_are_counted():
    mask = np.zeros((4, 40, 40), np.uint8)
    mask[1:3, ::4, ::4] = NODULE
    mask[0, 2, 2] = NODULE
    found = find_lesions(mask, volume_of(hu_of(mask)), CLASSES)
    assert len(found.lesions) == MOST
    assert found.left_out == {"lung_nodule": 100 - MOST + 1}
    assert [lesion.number for lesion in found.lesions] == list(range(1, MOST + 1))
    assert found.cut_short == {"lung_nodule"}


def test_a_speck_is_one_by_its_volume_too():
    mask = np.zeros((4, 8, 8), np.uint8)
    mask[1, 2:4, 2:4] = NODULE
    fine = (LEAST_ML * 1000 / 5) ** (1 / 3)
    found = find_lesions(mask, volume_of(hu_of(mask), (fine,) * 3), CLASSES)
    assert (found.lesions, found.left_out) == ((), {"lung_nodule": 1})
    assert found.cut_short == frozenset()  # specks alone hide no lesion


def test_an_empty_mask_has_no_lesions():
    mask = np.zeros((4, 8, 8), np.uint8)
    assert lesions_of(mask, volume_of(hu_of(mask)), CLASSES) == ()


def test_mask_and_volume_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 8, 9\).*\(4, 8, 8\)"):
        lesions_of(np.zeros((4, 8, 9), np.uint8), volume_of(np.zeros((4, 8, 8))), CLASSES)


@pytest.mark.parametrize("label", ["Lung nodule", "Hiatal hernia"])
def test_the_diameter_a_phantom_was_drawn_with_is_measured_back(label):
    """Edges of voxels lie up to a pixel's diagonal outside of what fills them by half."""
    shape = (48, 96, 96)
    drawn = draw_chest(5, 1, shape, frozenset([label]), size_ranges(shape, "chest"))
    volume = volume_of(drawn.hu, drawn.grid.spacing)
    lesions = lesions_of(drawn.mask, volume, CHEST_CLASSES)
    measured = max(each.diameter_mm for each in lesions if label in labels_of(each.name))
    assert measured == pytest.approx(drawn.findings[0].size_mm, abs=1.5 * drawn.grid.spacing[2])
