"""Slice features that HSENet's lists name, kept as a slice bank."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from uvlm.data.slice_bank import SliceBank, SliceKey
from uvlm.errors import CatalogError
from uvlm.preprocessing.catalog import read_catalog
from uvlm.preprocessing.hsenet_lists import FEATURES, read_features

__all__ = ["ENCODER", "import_features"]

ENCODER = hashlib.sha256(f"{FEATURES} of a list".encode()).hexdigest()[:16]
"""In the place of the weights' fingerprint, which no list gives: such features never pass for those
of an encoder that is at hand."""

WINDOW = (-1000.0, 1000.0)
"""HU of black and white in HSENet's slices."""


def import_features(
    features: Mapping[str, Path], catalog: Path, out: Path, shape: tuple[int, int]
) -> SliceBank:
    """Put the features of every study of `catalog` that has some into the bank `out`.

    Args:
        features: series to its `.npy` file, (S, F)
        out: new folder, or the bank that an earlier run began
        shape: S and F

    Raises:
        CatalogError: the catalog is damaged, or does not say how its volumes were prepared.
        ImageError: a file is missing, damaged, or of another shape.
        InputError: `out` holds something else, or the disk refuses.
    """
    read = read_catalog(catalog)
    if read.spec is None:
        raise CatalogError.about(catalog, "there is no dataset.json beside it", "Prepare it again.")
    rows = [row for row in read.rows if row.series_id in features]
    slices, width = shape
    key = SliceKey(
        encoder=ENCODER, spec_hash=read.spec.hash, slices=slices, width=width, window=WINDOW
    )
    bank = SliceBank.begin(out, key, {row.series_id: row.image.stat().st_size for row in rows})
    for row in rows:
        values_SF = read_features(features[row.series_id], shape)
        bank.write(row.series_id, torch.from_numpy(values_SF))
    return bank
