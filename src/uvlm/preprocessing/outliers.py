"""Studies that are unlike the rest, and a picture of each.

For every quantity the distance from the median is measured in robust standard deviations (1.4826
times the median absolute deviation), with a floor per quantity so that a dataset of equal studies
has no outliers by rounding. A study counts as an outlier from 6 on. Spacing and extent are
compared as logarithms.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import UvlmError
from uvlm.imaging.landmarks import LANDMARKS
from uvlm.imaging.store import StoredArray
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.entries import Entry, values

__all__ = ["Outlier", "outliers", "thumbnail"]

LIMIT = 6.0
ENOUGH = 8
"""Fewer studies have no usual value."""

THUMBNAIL = 560
"""Width of a picture, pixels."""


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """A study and the quantity that is least usual."""

    entry: Entry
    quantity: str
    unit: str
    value: float
    usual: float
    """Median of all studies."""

    score: float
    """Robust standard deviations away."""


@dataclass(frozen=True)
class _Quantity:
    name: str
    unit: str
    of: Callable[[Mapping[str, Any]], Any]
    floor: float
    """Least robust standard deviation, in the unit, or as a ratio minus 1 if `ratio`."""

    ratio: bool = False


def _quantities() -> Iterator[_Quantity]:
    for axis, name in enumerate(("z", "y", "x")):
        yield _Quantity(f"spacing {name}", "mm", _item("spacing_mm", axis), 0.1, True)
        yield _Quantity(f"extent {name}", "mm", _item("field_of_view_mm", axis), 0.08, True)
    yield _Quantity("mean", "HU", _item("mean"), 15)
    yield _Quantity("standard deviation", "HU", _item("std"), 15)
    yield _Quantity("padding", "of the voxels", _item("padding_share"), 0.03)
    for material, *_ in LANDMARKS:
        yield _Quantity(f"peak of {material}", "HU", _item("landmarks", material), 5)
    for part in ("chest", "abdomen", "head", "pelvis", "extremity"):
        yield _Quantity(f"length of {part}", "mm", _covered(part), 25)


def _item(*keys: str | int) -> Callable[[Mapping[str, Any]], Any]:
    def of(image: Mapping[str, Any]) -> Any:
        value: Any = image
        for key in keys:
            value = value[key]
        return value

    return of


def _covered(part: str) -> Callable[[Mapping[str, Any]], Any]:
    # A part that is not listed is not there: 0 mm, where anything was recognised.
    return lambda image: image["coverage_mm"].get(part, 0.0) if image["coverage_mm"] else None


def outliers(entries: Sequence[Entry], most: int = 12) -> list[Outlier]:
    """The least usual studies, worst first, each with its least usual quantity."""
    worst: dict[int, Outlier] = {}
    for quantity in _quantities():
        found = values(entries, quantity.of)
        known = np.isfinite(found)
        if known.sum() < ENOUGH:
            continue
        usual = float(np.median(found[known]))
        scores = np.where(known, _scores(found, usual, quantity), 0.0)
        for place in np.flatnonzero(scores >= LIMIT).tolist():
            if place not in worst or scores[place] > worst[place].score:
                worst[place] = Outlier(
                    entry=entries[place],
                    quantity=quantity.name,
                    unit=quantity.unit,
                    value=float(found[place]),
                    usual=usual,
                    score=float(scores[place]),
                )
    return sorted(worst.values(), key=lambda each: -each.score)[:most]


def _scores(found: NDArray[np.float64], usual: float, quantity: _Quantity) -> NDArray[np.float64]:
    """Robust standard deviations from `usual`; NaN where the value is not known."""
    if quantity.ratio:
        found, usual = np.log(np.maximum(found, 1e-6)), float(np.log(max(usual, 1e-6)))
    apart = np.abs(found - usual)
    spread = 1.4826 * float(np.nanmedian(apart))
    return np.asarray(apart / max(spread, quantity.floor))


def thumbnail(path: Path, window: tuple[float, float]) -> bytes:
    """A small PNG with three planes of a stored image.

    Args:
        path: of the `.b2nd`
        window: HU shown from black to white

    Raises:
        UvlmError, OSError: the image cannot be read, or does not say where it lies.
    """
    from PIL import Image

    from uvlm.imaging.picture import three_planes

    stored = StoredArray(path)
    if stored.meta is None:
        raise UvlmError("its geometry is not known")
    volume = Volume(
        array=stored.read(),
        affine=np.array(stored.meta.grid.affine),
        provenance=Provenance(path=path.name, format="b2nd", checksum=""),
    )
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "planes.png"
        three_planes(volume, full, window=window)
        with Image.open(full) as image:
            image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
            small = io.BytesIO()
            image.quantize(96).save(small, format="PNG", optimize=True)
    return small.getvalue()
