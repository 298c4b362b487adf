"""Three planes: true shapes, the radiologist's sides, the mask in colour."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.imaging.bodies import make_volume
from uvlm.errors import InputError
from uvlm.imaging.picture import MARGIN, PANEL, three_planes
from uvlm.imaging.volume import Volume

SHAPE, SPACING = (10, 40, 60), (6.0, 1.0, 2.0)
Z, Y, X = (round(n * mm * PANEL / 120) for n, mm in zip(SHAPE, SPACING, strict=True))


def draw(tmp_path, volume: Volume, mask: Volume | None = None, **options):
    """(axial, coronal, sagittal) as arrays (rows, columns, 3)."""
    path = tmp_path / "planes.png"
    three_planes(volume, path, mask, **options)
    with Image.open(path) as picture:
        sheet = np.asarray(picture.convert("RGB")).astype(int)
    panels, left = [], MARGIN
    for rows, columns in ((Y, X), (Z, X), (Z, Y)):
        top = (sheet.shape[0] - rows) // 2
        panels.append(sheet[top : top + rows, left : left + columns])
        left += columns + MARGIN
    assert sheet.shape[:2] == (max(Y, Z) + 2 * MARGIN, left)
    return panels


def with_block(where: tuple[slice, slice, slice]) -> Volume:
    array = np.full(SHAPE, -1000, np.int16)
    array[where] = 1000
    return make_volume(array, SPACING)


def centre_of_light(panel) -> tuple[float, float]:
    """(row, column) in 0..1; the letters at the edges left out."""
    light = panel[:, 20:-20].min(axis=2) > 200
    rows, columns = np.nonzero(light)
    return rows.mean() / panel.shape[0], (columns.mean() + 20) / panel.shape[1]


def test_planes_have_true_proportions(tmp_path):
    """A cube of 24 mm is a square of one size in all planes, whatever the spacing."""
    cube = with_block((slice(3, 7), slice(8, 32), slice(24, 36)))
    for panel in draw(tmp_path, cube):
        rows, columns = np.nonzero(panel[:, 20:-20].min(axis=2) > 127)
        assert np.ptp(rows) == pytest.approx(24 * PANEL / 120, abs=6)
        assert np.ptp(columns) == pytest.approx(24 * PANEL / 120, abs=6)


def test_the_patients_right_is_on_the_left_and_the_front_is_up(tmp_path):
    front_right = with_block((slice(None), slice(0, 20), slice(0, 30)))
    row, column = centre_of_light(draw(tmp_path, front_right)[0])
    assert (row, column) == (pytest.approx(0.25, abs=0.03), pytest.approx(0.25, abs=0.05))


def test_the_head_is_up(tmp_path):
    top = with_block((slice(5, None), slice(None), slice(None)))
    _, coronal, sagittal = draw(tmp_path, top)
    assert centre_of_light(coronal)[0] == pytest.approx(0.25, abs=0.05)
    assert centre_of_light(sagittal)[0] == pytest.approx(0.25, abs=0.05)


def test_a_file_in_another_order_gives_the_same_picture(tmp_path):
    volume = with_block((slice(5, None), slice(0, 20), slice(0, 30)))
    flipped = Volume(
        array=volume.array[::-1, ::-1, ::-1],
        affine=volume.affine
        @ np.array([[-1, 0, 0, 59], [0, -1, 0, 39], [0, 0, -1, 9], [0, 0, 0, 1.0]]),
        provenance=volume.provenance,
    )
    three_planes(volume, tmp_path / "a.png")
    three_planes(flipped, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_mask_is_coloured_and_cut_through_its_middle(tmp_path):
    volume = make_volume(np.full(SHAPE, 40, np.int16), SPACING)
    mask = np.zeros(SHAPE, np.uint8)
    mask[8, 30:34, 40:50] = 1
    axial, *_ = draw(tmp_path, volume, make_volume(mask, SPACING))
    colourful = np.ptp(axial, axis=2) > 60
    expected = 4 * 10 / (40 * 60)
    assert colourful[:, 20:-20].sum() / colourful.size == pytest.approx(expected, rel=0.15)


def test_the_window_sets_black_and_white(tmp_path):
    volume = make_volume(np.full(SHAPE, -600, np.int16), SPACING)
    black = draw(tmp_path, volume)[0]
    grey = draw(tmp_path, volume, window=(-1350, 150))[0]
    assert black[:10].max() == 0
    assert np.unique(grey[:10]).tolist() == [127]


def test_one_slice_and_one_value_are_drawn(tmp_path):
    volume = make_volume(np.zeros((1, 8, 8), np.int16))
    three_planes(volume, tmp_path / "one.png", window=(0, 0))
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.size[0] > 0


def test_nothing_is_left_beside_the_picture(tmp_path):
    three_planes(make_volume(np.zeros((4, 8, 8), np.int16)), tmp_path / "new" / "one.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["one.png"]


def test_a_place_that_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("mine")
    volume = make_volume(np.zeros((4, 8, 8), np.int16))
    for place in (tmp_path / "folder.png", tmp_path / "file" / "a.png"):
        with pytest.raises(InputError, match="cannot be written"):
            three_planes(volume, place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]
    assert (tmp_path / "file").read_text() == "mine"
