"""Partial volume is true: what a voxel shows is the part of it that a structure fills."""

from __future__ import annotations

import numpy as np
import pytest

from uvlm.phantom.canvas import Canvas, Grid, Patch, coverage, sheet
from uvlm.phantom.tubes import polyline, tube_points

GRID = Grid((20, 24, 24), (8.0, 5.0, 5.0), (-76.0, -57.5, -57.5))


@pytest.mark.parametrize("offset", [0.0, 1.0, 2.4])
def test_a_wall_thinner_than_a_voxel_keeps_its_true_share(offset):
    _, _, x = GRID.axes
    filled = sheet(np.broadcast_to(x - 2.5 - offset, GRID.shape).astype(np.float32), 3.0)
    assert filled.sum(axis=2) * 5.0 == pytest.approx(3.0, abs=1e-4)
    if offset <= 1.0:
        assert filled.max() == pytest.approx(3.0 / 5.0)


def test_a_large_sphere_has_its_volume():
    z, y, x = GRID.axes
    filled = coverage(np.sqrt(z**2 + y**2 + x**2).astype(np.float32) - 40)
    assert filled.sum() * GRID.voxel_mm3 == pytest.approx(4 / 3 * np.pi * 40**3, rel=0.02)


@pytest.mark.parametrize("diameter", [4.0, 9.0, 16.0])
def test_a_small_ball_has_its_volume_wherever_it_lies(diameter):
    canvas = Canvas(GRID)
    for centre in ((0.0, 0.0, 0.0), (3.1, 2.2, -1.7)):
        patch = canvas.small_ellipsoid(centre, (diameter / 2,) * 3)
        expected = np.pi / 6 * diameter**3
        assert patch.filled.sum() * GRID.voxel_mm3 == pytest.approx(expected, rel=0.15)


def test_a_thin_tube_keeps_its_volume():
    line = polyline(np.array([[-40.0, -30, -20], [10, 10, 0], [40, 30, 35]]), 1.0)
    length = np.linalg.norm(np.diff(line, axis=0), axis=1).sum()
    patch = Canvas(GRID).splat(*tube_points(line, 0.0, 1.5, 1.0))
    assert patch.filled.sum() * GRID.voxel_mm3 == pytest.approx(np.pi * 1.5**2 * length, rel=0.05)


def test_paint_mixes_by_the_filled_part_and_labels_what_is_mostly_filled():
    canvas = Canvas(GRID, background=-1000.0)
    box = (slice(0, 1), slice(0, 1), slice(0, 2))
    canvas.paint(Patch(box, np.array([[[0.25, 0.75]]], dtype=np.float32)), 0.0, 7)
    assert canvas.hu[0, 0, :3].tolist() == [-750.0, -250.0, -1000.0]
    assert canvas.mask[0, 0, :3].tolist() == [0, 7, 0]


def test_shapes_outside_the_grid_are_empty():
    canvas = Canvas(GRID)
    far = (500.0, 500.0, 500.0)
    assert canvas.ellipsoid(far, (5, 5, 5)).filled.size == 0
    assert canvas.small_ellipsoid(far, (2, 2, 2)).filled.size == 0
    assert canvas.splat(np.array([far]), 1.0).filled.size == 0
