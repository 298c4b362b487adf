"""A study while it is being drawn: the canvas, the patient, and where aerated lung is left."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from uvlm.phantom.body import ChestBody
from uvlm.phantom.canvas import Canvas, Floats, Patch
from uvlm.phantom.classes import LOBES, stream

__all__ = ["Scene"]


@dataclass(kw_only=True, eq=False)
class Scene:
    """Passed from one drawing function to the next, in painting order."""

    seed: int
    study: int
    body: ChestBody
    canvas: Canvas

    lung: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """Part of each voxel that is inside the pleural cavities."""

    lobes: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    """Lobe of each voxel, 0 outside the lungs; see `classes.LOBES`."""

    rim: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """0 in the middle of the chest, 1 at the inside of the rib cage."""

    busy: set[int] = field(default_factory=set)
    """Lobes that an extensive lesion has taken; small ones go elsewhere."""

    def rng(self, what: str) -> np.random.Generator:
        """Random numbers of this study for one purpose."""
        return stream(self.seed, self.study, what)

    def inside_lung(self, patch: Patch) -> Patch:
        """The part of a shape that lies in the pleural cavities."""
        return Patch(patch.box, patch.filled * self.lung[patch.box])

    def inside_lobe(self, patch: Patch, lobes: tuple[int, ...]) -> Patch:
        """The part of a shape that lies in the given lobes."""
        keep = np.isin(self.lobes[patch.box], lobes)
        return Patch(patch.box, patch.filled * self.lung[patch.box] * keep)

    def point_in_lobe(
        self,
        rng: np.random.Generator,
        lobe: int,
        rim: tuple[float, float] = (0.0, 0.9),
        clear: float = 0.0,
    ) -> tuple[float, float, float]:
        """A random place (z, y, x) in a lobe, with `rim` in the given range where possible.

        With `clear`, also aerated, free of other lesions, and that many mm from the lobe's edge
        where the lobe has such a place.
        """
        grid = self.canvas.grid
        inside = (self.lobes == lobe) & (self.lung > 0.9)
        wanted = inside & (self.rim >= rim[0]) & (self.rim <= rim[1])
        if clear:
            free = inside & (self.canvas.mask <= max(LOBES.values()))
            away = distance_transform_edt(free, sampling=grid.spacing)
            inside = away >= min(clear, 0.99 * float(away.max()))
            wanted &= inside
        cells = np.flatnonzero(wanted if wanted.any() else inside)
        index = np.unravel_index(cells[int(rng.random() * len(cells))], grid.shape)
        z, y, x = (o + s * int(i) for o, s, i in zip(grid.origin, grid.spacing, index, strict=True))
        return z, y, x
