"""Is a prepared dataset whole? Every row of its catalog, every store, every checksum.

Nothing is repaired; what is wrong is told, one sentence each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uvlm.errors import ImageError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.imaging.store import StoredArray, StoreMeta
from uvlm.preprocessing.catalog import Catalog, Row, read_catalog

__all__ = ["Verified", "verify_catalog"]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was looked at, and what is wrong."""

    catalog: Catalog
    stores: int
    """Read whole, of series without a problem."""

    problems: tuple[str, ...]


def verify_catalog(path: Path | str) -> Verified:
    """Read a catalog and, whole, every store it names.

    Raises:
        CatalogError: the catalog itself cannot be used, or names a file that is not there.
    """
    catalog = read_catalog(path)
    problems: list[str] = []
    stores = 0
    for row in tqdm(catalog.rows, desc="verify", unit="series", delay=2):
        found = list(_of_row(row, catalog))
        problems += found
        stores += 0 if found else 1 + (row.mask is not None)
    return Verified(catalog=catalog, stores=stores, problems=tuple(problems))


def _of_row(row: Row, catalog: Catalog) -> Iterator[str]:
    try:
        image = StoredArray(row.image)
        image.read()
        yield from _of_meta(image, "image", catalog.spec)
        if row.mask is None:
            return
        mask = StoredArray(row.mask)
        labels = mask.read()
        yield from _of_meta(mask, "labels", catalog.spec)
    except ImageError as error:
        yield str(error)
        return
    if mask.shape != image.shape:
        yield f"{row.mask}: {mask.shape} voxels, its image {image.shape}."
    if mask.meta and image.meta and not _same_place(mask.meta, image.meta):
        yield f"{row.mask}: lies elsewhere than its image {row.image}."
    known = catalog.segmentation
    if known is not None and mask.meta is not None and mask.meta.classes != known:
        yield f"{row.mask}: its classes are not those of dataset.json."
    if known is not None:
        unknown = sorted(set(np.unique(labels).tolist()) - {0, *known.values()})
        if unknown:
            yield f"{row.mask}: holds the values {unknown[:5]}, which no class has."


def _of_meta(stored: StoredArray, kind: str, spec: PreprocessSpec | None) -> Iterator[str]:
    if stored.meta is None:
        yield f"{stored.path}: carries no metadata, so how it was prepared is unknown."
        return
    if stored.meta.kind != kind:
        yield f"{stored.path}: a store of kind {stored.meta.kind} in the column of {kind}."
    if spec is not None and stored.meta.spec_hash != spec.hash:
        yield (
            f"{stored.path}: prepared by specification {stored.meta.spec_hash}, but dataset.json "
            f"has {spec.hash}."
        )
    if stored.shape != stored.meta.grid.spec.shape:
        shape = stored.meta.grid.spec.shape
        yield f"{stored.path}: {stored.shape} voxels, by its specification {shape}."


def _same_place(mask: StoreMeta, image: StoreMeta) -> bool:
    return bool(np.allclose(mask.grid.affine, image.grid.affine, rtol=0, atol=0.05))
