"""A stack of findings ends where its lesions are, or is refused; nothing is guessed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.preprocessing.rexgrounding_factory import AFFINE, ball, body
from uvlm.errors import ImageError
from uvlm.imaging.geometry import to_lps
from uvlm.imaging.nifti_stack import MaskStack
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.sources.rexgrounding_findings import Finding
from uvlm.preprocessing.sources.rexgrounding_place import left_shares, place

RIGHT = ball(8, 15, 16, 3)
"""In the front of the right lung."""
NODULE = Finding(0, "A nodule is seen in the right lung.", "2d")


def stack(*masks, affine=None, turned=False):
    bits = np.zeros(masks[0].shape, np.uint8)
    for n, mask in enumerate(masks):
        bits |= mask.astype(np.uint8) << n
    if turned:
        bits = bits[:, ::-1, ::-1]
    return MaskStack(
        bits=bits,
        count=len(masks),
        affine=np.diag([-1.0, -1, 1, 1]) if affine is None else affine,
        placed=affine is not None,
        checksum="0",
    )


def placed(found, image, findings=(NODULE,), flip="auto"):
    return place(found, image, findings, flip, "masks.nii.gz")


@pytest.fixture(scope="module")
def image():
    return body(nodule=(RIGHT, 40.0))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("affine", [None, AFFINE])
@pytest.mark.parametrize("text", ["A nodule is seen in the right lung.", "A nodule is seen."])
def test_a_nodule_is_found_where_it_is(image, turned, affine, text):
    finding = Finding(0, text, "2d")
    bits, notes = placed(stack(RIGHT, affine=affine, turned=turned), image, [finding])
    np.testing.assert_array_equal(bits > 0, RIGHT)
    assert f"Mask flip {'xy' if turned else 'none'!r} by" in notes[0]
    assert text not in " ".join(notes)


@pytest.mark.parametrize(
    ("code", "value", "inside"),
    [
        ("2b", 20.0, ball(6, 34, 43, 4)),
        ("1c", -980.0, ball(16, 20, 43, 4)),
        ("2c", -550.0, ball(10, 20, 16, 4)),
        ("2g", -1000.0, ball(14, 17, 43, 3)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_what_is_seen_tells_where_the_text_does_not(code, value, inside, turned):
    image = body(lesion=(inside, value))
    bits, _ = placed(stack(inside, turned=turned), image, [Finding(0, "", code)])
    np.testing.assert_array_equal(bits > 0, inside)


def test_axes_stored_otherwise_are_turned_by_the_affine(image):
    turned = AFFINE.copy()
    turned[:, 0] *= -1
    turned[:, 3] += AFFINE[:, 0] * (RIGHT.shape[2] - 1)
    bits, notes = placed(stack(RIGHT[:, :, ::-1], affine=turned), image)
    np.testing.assert_array_equal(bits > 0, RIGHT)
    assert "axes (RPS) were turned" in notes[0]


def test_an_affine_that_is_not_the_images_is_not_believed(image):
    elsewhere = np.diag([-3.0, -3.0, 1.0, 1.0])
    bits, notes = placed(stack(RIGHT, affine=elsewhere), image)
    np.testing.assert_array_equal(bits > 0, RIGHT)
    assert "is not the image's" in notes[0]


def test_the_image_may_have_its_axes_in_any_order(image):
    order = image.array[::-1].transpose(1, 2, 0)
    affine = AFFINE[:, [2, 0, 1, 3]].copy()
    affine[:, 0] *= -1
    affine[:, 3] += AFFINE[:, 2] * (RIGHT.shape[0] - 1)
    other = Volume(array=order, affine=affine, provenance=image.provenance)
    inside = RIGHT[::-1].transpose(1, 2, 0)
    bits, _ = placed(stack(inside), other)
    np.testing.assert_array_equal(bits > 0, inside)
    wrong = stack(RIGHT[:, ::-1, ::-1][::-1].transpose(1, 2, 0))
    np.testing.assert_array_equal(placed(wrong, other)[0] > 0, inside)


def test_what_no_witness_can_tell_is_refused():
    """In the middle of the body both positions are the same."""
    inside = ball(12, 23.5, 29.5, 3)
    with pytest.raises(ImageError, match="do not differ clearly") as error:
        placed(stack(inside), body(lesion=(inside, 60.0)), [Finding(0, "A lesion.", "2h")])
    assert "--mask-flip none or xy" in str(error.value)


def test_witnesses_that_contradict_each_other_are_refused(image):
    """The text says left, but the nodule is visible on the right."""
    finding = Finding(0, "A nodule is seen in the left lung.", "2d")
    with pytest.raises(ImageError, match="contradict each other") as error:
        placed(stack(RIGHT), image, [finding])
    assert "nodule" not in str(error.value)


EFFUSIONS = (ball(6, 38, 16, 3), ball(18, 38, 16, 3))
"""Behind the right lung, where nothing that is seen tells the two positions apart."""


def test_one_sentence_alone_does_not_turn_a_mask():
    """It may be wrong, and a mask turned after it would agree with it for good."""
    image = body(one=(EFFUSIONS[0], 10.0), two=(EFFUSIONS[1], 10.0))
    texts = [Finding(n, f"Effusion {n} on the right.", "2e") for n in (0, 1)]
    for turned in (False, True):
        with pytest.raises(ImageError, match="do not differ clearly"):
            placed(stack(EFFUSIONS[0], turned=turned), image, texts[:1])
        bits, notes = placed(stack(*EFFUSIONS, turned=turned), image, texts)
        np.testing.assert_array_equal(bits > 0, EFFUSIONS[0] | EFFUSIONS[1])
        assert "by sides:" in notes[0]


@pytest.mark.parametrize("turned", [False, True])
def test_what_is_seen_contradicts_the_texts_before_it_is_clear(turned):
    """A part of each nodule stands out, which is enough to doubt two sentences."""
    whole = [ball(z, 15, 16, 3) for z in (6, 18)]
    seen = [each & (np.arange(60) < 18) for each in whole]
    image = body(one=(seen[0], -600.0), two=(seen[1], -600.0))
    right = [Finding(n, "A nodule on the right.", "2d") for n in (0, 1)]
    bits, notes = placed(stack(*whole, turned=turned), image, right)
    np.testing.assert_array_equal(bits > 0, whole[0] | whole[1])
    assert "by sides, edges:" in notes[0]
    with pytest.raises(ImageError, match="do not differ clearly"):
        placed(stack(*whole, turned=turned), image, [Finding(n, "", "2d") for n in (0, 1)])
    left = [Finding(n, "A nodule on the left.", "2d") for n in (0, 1)]
    with pytest.raises(ImageError, match="contradict each other"):
        placed(stack(*whole, turned=turned), image, left)


@pytest.mark.parametrize("turned", [False, True])
def test_a_user_may_decide(image, turned):
    expected = RIGHT[:, ::-1, ::-1] if turned else RIGHT
    bits, notes = placed(stack(RIGHT), image, flip="xy" if turned else "none")
    np.testing.assert_array_equal(bits > 0, expected)
    assert "as asked" in notes[0]


def test_another_grid_is_refused(image):
    with pytest.raises(ImageError, match="masks"):
        placed(stack(RIGHT[1:]), image)
    with pytest.raises(ImageError, match="masks"):
        placed(stack(RIGHT[1:], affine=AFFINE), image)


def test_shares_are_of_the_bodys_middle_not_of_the_pictures():
    """The body moved to one side of the picture keeps its sides."""
    found = body()
    moved = np.roll(found.array, 3, axis=2)
    moved[:, :, :3] = -1000
    image = Volume(array=moved, affine=AFFINE, provenance=found.provenance)
    near_middle = ball(12, 24, 31.5, 1)
    bits = stack(near_middle, ball(12, 24, 46, 3), ball(12, 24, 33, 4), near_middle & False).bits
    right, left, both, empty = left_shares(bits, 4, image)
    assert (right, left, empty) == (0.0, 1.0, None)
    assert both == pytest.approx(0.5, abs=0.06)


def test_a_mask_in_a_format_of_its_own_keeps_the_voxels(image):
    source = Provenance(path="x", format="nifti", checksum="")
    nothing = Volume(array=image.array, affine=image.affine, provenance=source)
    bits, notes = placed(stack(RIGHT & False), nothing)
    assert not bits.any()
    assert len(notes) == 1


@pytest.mark.parametrize("file", ["cip/ct-64.nii.gz", "totalsegmentator/example_ct_sm.nii.gz"])
def test_dense_spots_of_real_lungs_are_never_put_elsewhere(real_data, file):
    image = to_lps(read_volume(real_data / file))[0]
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    air, _ = ndimage.label(image.array < -500, in_plane)
    outside = np.unique(np.concatenate([air[:, [0, -1]].ravel(), air[:, :, [0, -1]].ravel(), [0]]))
    lung = ndimage.binary_opening(~np.isin(air, outside))
    spots, _ = ndimage.label(ndimage.binary_closing(lung, iterations=3) & (image.array > -400))
    sizes = np.bincount(spots.ravel())[1:]
    right = 0
    for label in np.flatnonzero((sizes >= 20) & (sizes <= 5000)) + 1:
        spot = spots == label
        for turned in (False, True):
            try:
                bits, _ = placed(stack(spot, turned=turned), image, [Finding(0, "", "2d")])
            except ImageError:
                continue
            np.testing.assert_array_equal(bits > 0, spot)
            right += 1
    assert right >= 4
