"""Pictures: orientation, millimetres, what is painted where."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from tests.inference.rendering.studies import (
    NODULE,
    SPEC,
    heat_at,
    make_findings,
    make_grids,
    make_mask,
    make_volume,
)
from uvlm.imaging.preprocess import prepare_labels
from uvlm.imaging.volume import Volume
from uvlm.inference.evidence.lesions import lesions_of
from uvlm.inference.rendering.colours import PALETTE, Mark, ink_on, marks_of, organ_colour
from uvlm.inference.rendering.keys import key_images, scene_of
from uvlm.inference.rendering.views import (
    AXIAL,
    CORONAL,
    Layer,
    Plane,
    body_box,
    draw,
    plane_of,
)
from uvlm.inference.rendering.warmth import warmth_of

RED = (255, 0, 0)
WINDOW = (-1000.0, 1000.0)


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"), int)


def whole(volume: Volume, axis: int, index: int) -> Plane:
    full = slice(0, volume.shape[0]), slice(0, volume.shape[1]), slice(0, volume.shape[2])
    return plane_of(volume, axis, index, full)


@pytest.mark.parametrize(("axis", "size"), [(AXIAL, (320, 192)), (CORONAL, (320, 240))])
def test_pictures_are_true_in_millimetres(axis, size):
    volume = make_volume()
    jpeg = draw(volume, whole(volume, axis, 5), WINDOW, 320)
    assert Image.open(BytesIO(jpeg)).size == size


@pytest.mark.parametrize(
    ("axis", "index", "place"),
    [(AXIAL, 11, (21.5 * 4 + 2, 62.5 * 4 + 2)), (CORONAL, 21, ((24 - 11.5) * 10, 62.5 * 4 + 2))],
)
def test_a_lesion_is_painted_where_it_is_with_left_on_the_right(axis, index, place):
    """At 2 pixels per mm; a voxel is 2 x 2 x 5 mm."""
    volume, mask = make_volume(), make_mask()
    plane = whole(volume, axis, index)
    layer = Layer(inside=mask[plane.cut] == 4, colour=RED, opacity=1.0, outlined=False)
    red = pixels(draw(volume, plane, WINDOW, 320, layers=[layer]))
    rows, columns = np.nonzero((red[..., 0] > 200) & (red[..., 1] < 60))
    assert (rows.mean(), columns.mean()) == pytest.approx(place, abs=3)
    scale = 320 / 160
    middle = plane.place((11, 21.5, 62.5), scale)
    assert (columns.mean(), rows.mean()) == pytest.approx(middle, abs=3)


def test_outline_leaves_the_inside_as_it_is():
    volume, mask = make_volume(), make_mask()
    plane = whole(volume, AXIAL, 11)
    plain = pixels(draw(volume, plane, WINDOW, 320))
    layer = Layer(inside=mask[plane.cut] == 3, colour=RED)
    outlined = pixels(draw(volume, plane, WINDOW, 320, layers=[layer]))
    inside = slice(60, 110), slice(140, 180)
    assert np.abs(plain[inside] - outlined[inside]).max() <= 6
    assert np.abs(plain - outlined).max() > 100


def test_a_lesion_of_one_voxel_does_not_vanish():
    volume = make_volume()
    plane = whole(volume, AXIAL, 3)
    inside = np.zeros(volume.shape[1:], bool)
    inside[20, 30] = True
    layer = Layer(inside=inside, colour=RED, opacity=1.0, outlined=False)
    red = pixels(draw(volume, plane, WINDOW, 80, layers=[layer]))
    assert ((red[..., 0] > 150) & (red[..., 1] < 110)).sum() >= 1


def test_the_body_is_cut_out_of_the_air_but_no_slice_is():
    box = body_box(make_volume())
    assert box[0] == slice(0, 24)
    for part, n in ((box[1], 48), (box[2], 80)):
        assert 1 <= part.start <= 3
        assert n - 3 <= part.stop <= n - 1


def test_the_heat_of_a_prepared_cell_is_found_where_prepare_took_it_from():
    """A cell's place on the CT, against the labels that preparing brings into the cell."""
    volume = make_volume()
    heat = heat_at((2, 5, 9))
    warmth = warmth_of(heat, make_grids(volume)[SPEC.hash], volume)
    marked = np.zeros(volume.shape, np.uint8)
    marked[warmth.peak] = 1
    around = tuple(slice(at - 1, at + 2) for at in warmth.peak)
    marked[around] = 1
    prepared = prepare_labels(replace(volume, array=marked), SPEC)
    centre = np.argwhere(prepared).mean(axis=0)
    cell = (np.array((2, 5, 9)) + 0.5) * np.array(SPEC.shape) / heat.values.shape - 0.5
    assert centre == pytest.approx(cell, abs=0.6)
    plane = whole(volume, AXIAL, warmth.peak[0])
    on = warmth.on(plane)
    row, column = np.unravel_index(int(on.argmax()), on.shape)
    assert (row, column) == pytest.approx(warmth.peak[1:], abs=1)
    assert 0.6 < on.max() <= 1


def test_no_heat_is_no_picture_of_it():
    volume = make_volume()
    heat = heat_at((0, 0, 0))
    nothing = replace(heat, values=np.zeros_like(heat.values))
    assert warmth_of(nothing, make_grids(volume)[SPEC.hash], volume) is None


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_the_slice_of_a_lesion_is_counted_from_the_feet_however_the_file_is_stored(flip):
    volume, mask = make_volume(), make_mask()
    steps = tuple(slice(None, None, step) for step in flip)
    affine = volume.affine.copy()
    for axis, step in enumerate(flip):
        if step < 0:
            affine[:, 3] += affine[:, 2 - axis] * (volume.shape[axis] - 1)
            affine[:, 2 - axis] *= -1
    stored = replace(volume, array=volume.array[steps], affine=affine)
    known = make_findings()
    lesions = lesions_of(mask[steps], stored, known.classes)
    findings = make_findings(
        mask=mask[steps],
        grids=make_grids(stored),
        evidence=replace(known.evidence, lesions=lesions),
    )
    ((image,), _) = key_images(findings, scene_of(findings, stored))
    assert image.slice - 1 in range(NODULE[0].start, NODULE[0].stop)
    assert image.heat_slice == key_images(known, scene_of(known, volume))[0][0].heat_slice


def test_numbers_go_on_when_colours_repeat_and_are_readable_on_them():
    marks = [Mark(number, "x") for number in range(1, 12)]
    assert marks[0].colour == marks[10].colour
    assert len({mark.colour for mark in marks}) == len(PALETTE)
    for colour in PALETTE:
        assert abs(sum(ink_on(colour)) - sum(colour)) > 250


def test_organs_of_neighbouring_values_differ():
    colours = [np.array(organ_colour(value)) for value in range(1, 12)]
    assert all(np.abs(a - b).sum() > 60 for a, b in pairwise(colours))


def test_no_evidence_has_no_marks():
    assert marks_of(None) == {}
