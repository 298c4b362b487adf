"""Sample points of thin tubes: vessels, bronchi, wires.

Points are (z, y, x) in mm; a path is (K, 3), a bundle of paths (P, K, 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["bend", "polyline", "tube_points"]

Points = NDArray[np.float64]


def bend(start: Points, control: Points, end: Points, step: float) -> Points:
    """Quadratic curves from `start` to `end`, each (P, 3), sampled every `step` mm: (P, K, 3)."""
    longest = float(np.linalg.norm(end - start, axis=-1).max())
    t = np.linspace(0, 1, max(3, int(1.25 * longest / step)))[None, :, None]
    a, b, c = start[:, None], control[:, None], end[:, None]
    return np.asarray((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c)


def polyline(corners: Points, step: float) -> Points:
    """Points every `step` mm along straight pieces through `corners` (K, 3)."""
    length = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    reach = np.concatenate([[0.0], np.cumsum(length)])
    at = np.linspace(0, reach[-1], max(3, int(reach[-1] / step)))
    return np.stack([np.interp(at, reach, corners[:, i]) for i in range(3)], axis=1)


def tube_points(
    paths: Points,
    inner: NDArray[np.floating] | float,
    outer: NDArray[np.floating] | float,
    step: float,
) -> tuple[Points, Points]:
    """Sample points of tubes between two radii, and the mm3 each stands for.

    `paths` (..., K, 3); `inner` and `outer` broadcast to (..., K); inner 0 fills the tube.
    """
    ahead = np.gradient(paths, axis=-2)
    ds = np.linalg.norm(ahead, axis=-1)
    ahead = ahead / np.maximum(ds, 1e-9)[..., None]
    # Any vector not along the path will do to span the cross-section.
    helper = np.where(np.abs(ahead[..., :1]) < 0.8, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    u = np.cross(ahead, helper)
    u /= np.linalg.norm(u, axis=-1, keepdims=True)
    v = np.cross(ahead, u)
    inner, outer = np.broadcast_to(inner, ds.shape), np.broadcast_to(outer, ds.shape)
    area = np.pi * (outer**2 - inner**2)
    n = max(1, min(160, int(np.ceil(float(area.max()) / step**2))))
    k = np.arange(n)
    share, angle = (k + 0.5) / n, k * 2.399963  # golden angle: even cover of a disc
    r = np.sqrt(inner[..., None] ** 2 + share * (outer**2 - inner**2)[..., None])
    offset = (r * np.cos(angle))[..., None] * u[..., None, :]
    offset += (r * np.sin(angle))[..., None] * v[..., None, :]
    mm3 = np.broadcast_to((area * ds / n)[..., None], r.shape)
    return paths[..., None, :] + offset, mm3
