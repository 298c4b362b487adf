"""A study while it is being drawn: the canvas, the patient, and where aerated lung is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ConfigError
from uvlm.phantom.body import ChestBody
from uvlm.phantom.canvas import Canvas, Floats, Patch, Triple, around
from uvlm.phantom.classes import CHEST_CLASSES, LOBES, stream

__all__ = ["Scene"]

DIFFUSE = ("emphysema", "mosaic_attenuation_pattern", "interlobular_septal_thickening")

FREE = np.zeros(256, dtype=np.bool_)
"""By mask value: whether a focal lesion may be placed there."""
FREE[[0, *LOBES.values(), *(CHEST_CLASSES[name] for name in DIFFUSE)]] = True


@dataclass(kw_only=True, eq=False)
class Scene:
    """Passed from one drawing function to the next, in painting order."""

    seed: int
    study: int
    body: ChestBody
    canvas: Canvas

    lung: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """Part of each voxel that is lung."""

    tissue: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """HU of what fills the pleural cavities. Lesions of the lungs are painted here, and the
    cavities filled with it once, so that no rim of air is left along the pleura."""

    lobes: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    """Lobe of each voxel, 0 outside the lungs; see `classes.LOBES`."""

    rim: Floats = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """0 in the middle of the chest, 1 at the inside of the rib cage, growing outwards ever faster
    (with the power 2.3 of the distance)."""

    busy: set[int] = field(default_factory=set)
    """Lobes that an extensive lesion has taken; small ones go elsewhere."""

    fluid: dict[str, Floats] = field(default_factory=dict)
    """Side of a pleural effusion -> field negative in the lung that it compresses."""

    def rng(self, what: str) -> np.random.Generator:
        """Random numbers of this study for one purpose."""
        return stream(self.seed, self.study, what)

    def fill(
        self, patch: Patch, hu: float | Floats, label: int | None = None, at_least: float = 0.5
    ) -> None:
        """Paint inside the lungs; voxels filled `at_least` so far, and lung, get the class."""
        region = self.tissue[patch.box]
        region += patch.filled * (hu - region)
        if label is not None:
            here = (patch.filled >= at_least) & (self.lung[patch.box] >= 0.5)
            self.canvas.mask[patch.box][here] = label

    def inside_lobe(self, patch: Patch, lobes: tuple[int, ...]) -> Patch:
        """The part of a shape that lies in the given lobes."""
        keep = np.isin(self.lobes[patch.box], lobes)
        return Patch(patch.box, patch.filled * keep)

    @cached_property
    def _cells(self) -> dict[int, NDArray[np.intp]]:
        """Voxels of each lobe of the patient before any lesion took part of it."""
        flat = self.lobes.ravel()
        return {lobe: np.flatnonzero(flat == lobe) for lobe in LOBES.values()}

    def point_in_lobe(
        self,
        rng: np.random.Generator,
        lobe: int,
        rim: tuple[float, float] = (0.0, 0.9),
        clear: float = 0.0,
    ) -> Triple:
        """A random aerated place (z, y, x) in a lobe, with `rim` in the given range.

        With `clear`, the place whose surroundings up to that many mm are the most free of other
        focal lesions and of the lobe's edge. What cannot be had in 48 tries is dropped.

        Raises:
            ConfigError: the lobe has no voxel, which only the smallest shapes come to.
        """
        inside = self._cells[lobe]
        if not len(inside):
            shape = " x ".join(map(str, self.canvas.grid.shape))
            raise ConfigError(f"a lobe has no voxel in a study of {shape}; use a larger shape.")
        cells = inside[(rng.random(48) * len(inside)).astype(np.int64)]
        depth = self.rim.ravel()[cells]
        aerated = self.lung.ravel()[cells] > 0.9
        score = 2.0 * aerated + ((depth >= rim[0]) & (depth <= rim[1]))
        if clear:
            good = np.flatnonzero(score == score.max())
            score[good] += [self._freedom(self._place(cells[k]), lobe, clear) for k in good]
        return self._place(cells[int(score.argmax())])

    def _place(self, cell: np.intp) -> Triple:
        grid = self.canvas.grid
        index = np.unravel_index(cell, grid.shape)
        z, y, x = (o + s * int(i) for o, s, i in zip(grid.origin, grid.spacing, index, strict=True))
        return z, y, x

    def _freedom(self, place: Triple, lobe: int, clear: float) -> float:
        """Part of the cube around `place` that is this lobe and free of focal lesions."""
        box = self.canvas.grid.box(*around(place, clear))
        free = FREE[self.canvas.mask[box]] & (self.lobes[box] == lobe)
        return float(free.mean()) if free.size else 0.0
