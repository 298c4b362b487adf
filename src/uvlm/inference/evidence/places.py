"""Which structures a heat map falls in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.inference.evidence.types import Place

__all__ = ["places_of"]

LEAST_SHARE = 0.01
"""Structures with less of the heat are left out."""


def places_of(
    heat: NDArray[np.floating[Any]], mask: NDArray[Any], classes: Mapping[str, int]
) -> tuple[Place, ...]:
    """Structures that `heat` falls in, most first; background has a share too but no place.

    Args:
        heat: (z, y, x) at least 0, on the grid of `mask`; need not sum to 1.
        mask: (z, y, x) integers.
        classes: value in `mask` of each class name.

    Raises:
        ValueError: the shapes differ.
    """
    if heat.shape != mask.shape:
        raise ValueError(f"the heat map has {heat.shape} voxels (z, y, x), the mask {mask.shape}")
    totals = np.zeros(max([int(mask.max()), *classes.values()]) + 1)
    # Slice by slice: at full size the weights alone would be a copy in float64.
    for warmth, labels in zip(heat, mask, strict=True):
        counted = np.bincount(labels.ravel(), weights=warmth.ravel())
        totals[: len(counted)] += counted
    whole = float(totals.sum())
    if whole == 0:
        return ()
    shares = {name: float(totals[value]) / whole for name, value in classes.items()}
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return tuple(Place(structure=n, share=share) for n, share in ranked if share >= LEAST_SHARE)
