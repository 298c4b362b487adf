"""Build an index of studies, and bring a query to it: see `Index`.

>>> index = build_index(embedder(bundle), list_studies(catalog))  # doctest: +SKIP
>>> index.search(embedder(bundle).embed_text("pleural effusion"), 5)  # doctest: +SKIP
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from uvlm.errors import InputError, UvlmError
from uvlm.imaging.preprocess import prepare
from uvlm.inference.batch.ahead import read_ahead
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.listed import Listed
from uvlm.inference.embedder import Array, Embedder, Vector
from uvlm.inference.faults import describe
from uvlm.inference.index import Index
from uvlm.inference.study import read_study

__all__ = ["Slices", "build_index", "embed_study"]

log = logging.getLogger(__name__)

Slices = Callable[[str], Array]
"""Id of a study -> features (S, F) of its slices."""


def build_index(
    embedder: Embedder,
    studies: Sequence[Listed],
    *,
    series: str | None = None,
    slices: Slices | None = None,
) -> Index:
    """One vector per study, and one per report if every study has one.

    A study that cannot be read is no part of the index, which says why.

    Args:
        series: DICOM series to read; None follows the documented rule
        slices: for an encoder that is gated by them; None: as its own 2D encoder says

    Raises:
        InputError: no study can be embedded.
        BundleError: slices are needed, and the bundle has no 2D encoder.
    """
    kept: list[Listed] = []
    image: list[Vector] = []
    failed: dict[str, str] = {}

    def read(each: Listed) -> _Volume | Exception:
        try:
            return _volume(embedder, each.item, series, cut=slices is None)
        except Exception as error:  # one study must not stop the others
            return error

    with logging_redirect_tqdm():
        ahead = read_ahead(studies, read)
        for each, found in tqdm(ahead, total=len(studies), unit="study", disable=None):
            vector = found if isinstance(found, Exception) else _try(embedder, each, found, slices)
            if isinstance(vector, Exception):
                failed[each.item.id] = _said(each.item, vector)
                log.error("%s: %s", each.item.id, failed[each.item.id])
            else:
                kept.append(each)
                image.append(vector)
    if not kept:
        reason = next(iter(failed.values()), "there is none")
        raise InputError(f"no study can be embedded. The first: {reason}")
    texts = [embedder.embed_text(each.report) for each in kept if each.report.strip()]
    lacking = len(kept) - len(texts)
    if texts and lacking:
        log.warning("%d studies have no report, so the index holds none", lacking)
    return Index(
        ids=tuple(each.item.id for each in kept),
        image=np.stack(image).astype(np.float64),
        text=None if lacking else np.stack(texts).astype(np.float64),
        fingerprint=embedder.fingerprint,
        spec_hash=embedder.spec.hash,
        signatures=tuple(each.item.signed().signature for each in kept),
        failed=failed,
    )


def embed_study(
    embedder: Embedder, path: Path, series: str | None = None, slices: Array | None = None
) -> Vector:
    """The vector of one CT.

    Args:
        slices: (S, F) of an encoder that is gated; None: as its own 2D encoder says

    Raises:
        ImageError: the file is not a usable CT.
        BundleError: it was prepared in another way than the bundle's; or slices are needed and
            the bundle has no 2D encoder.
    """
    volume = _volume(embedder, Item(id="", path=path), series, cut=slices is None)
    return _embed(embedder, volume, slices)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Volume:
    """A study read and prepared."""

    array: Array
    """(z, y, x) with the model's values."""

    hu: NDArray[np.int16] | None
    """The same in HU, where slices are to be cut of it."""


def _volume(embedder: Embedder, item: Item, series: str | None, *, cut: bool) -> _Volume:
    if item.fault:
        raise InputError(item.fault)
    study = read_study(item.path, series)
    array = study.input_for(embedder.spec, "contrastive")
    hu = None
    if embedder.gated and cut:
        volume = study.volume
        hu = volume.array if study.prepared else prepare(volume, embedder.spec).array
    return _Volume(array=array, hu=hu)


def _embed(embedder: Embedder, volume: _Volume, slices: Array | None) -> Vector:
    if slices is None and volume.hu is not None:
        slices = embedder.slice_features(volume.hu)
    return embedder.embed_volume(volume.array, slices)


def _try(
    embedder: Embedder, each: Listed, volume: _Volume, slices: Slices | None
) -> Vector | Exception:
    """The vector, or why the bank has no features of the study; any other failure is of the model
    and would be that of every study."""
    try:
        features = None if slices is None else slices(each.item.id)
    except InputError as error:
        return error
    return _embed(embedder, volume, features)


def _said(item: Item, error: Exception) -> str:
    said = describe(error)
    return said if isinstance(error, UvlmError) else f"{item.name}: {said}"
