"""Smooth random fields and scanner noise."""

from __future__ import annotations

import numpy as np

from uvlm.phantom.canvas import Box, Floats, Grid

__all__ = ["scanner_noise", "smooth_field"]


def _weights(line: Floats, scale: float) -> tuple[Floats, int]:
    """Interpolation of knots `scale` mm apart at the coordinates `line`: (len(line), knots)."""
    place = (line - line.min()) / np.float32(scale)
    knots = int(place.max()) + 2
    left = place.astype(np.int64)
    t = place - left
    t = t * t * (3 - 2 * t)
    weights = np.zeros((len(line), knots), dtype=np.float32)
    rows = np.arange(len(line))
    weights[rows, left] = 1 - t
    weights[rows, left + 1] = t
    return weights, knots


def smooth_field(
    rng: np.random.Generator, grid: Grid, scale: float, box: Box | None = None
) -> Floats:
    """Random field with structures of about `scale` mm, mean 0, standard deviation near 1.

    The knots depend on the box's extent in mm, so the same patient on a finer grid has the same
    field.
    """
    lines = grid.axes if box is None else grid.local(box)
    z, y, x = (_weights(line.ravel(), scale) for line in lines)
    knots = rng.standard_normal((z[1], y[1], x[1]), dtype=np.float32)
    knots = np.tensordot(z[0], knots, 1)
    knots = np.matmul(y[0], knots)
    return np.asarray(np.matmul(knots, x[0].T) * np.float32(1.55), dtype=np.float32)


def scanner_noise(rng: np.random.Generator, grid: Grid, sigma: float) -> Floats:
    """Gaussian noise, correlated between in-plane neighbours as a soft kernel makes it."""
    z, y, x = grid.shape
    white = rng.standard_normal((z, y + 1, x + 1), dtype=np.float32)
    rows = white[:, :-1] + np.float32(0.4) * white[:, 1:]
    noise = rows[:, :, :-1] + np.float32(0.4) * rows[:, :, 1:]
    return np.asarray(noise * np.float32(sigma / 1.16), dtype=np.float32)
