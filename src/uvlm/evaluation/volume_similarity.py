"""Do volumes that look alike to the model show the same abnormalities?

For every volume the n nearest others by the cosine are found, and the Jaccard index of their labels
with its own is averaged. Places that equal cosines compete for are shared among them, so that the
order of the file does not matter.

Shapes: N volumes, C labels, D numbers per embedding, M values of n, B volumes of a block.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.embeddings import unit_rows
from uvlm.evaluation.measure import Measure, mean_measure
from uvlm.evaluation.protocol_info import ProtocolInfo
from uvlm.evaluation.retrieval import TIE, blocks

__all__ = ["NEAREST", "PROTOCOLS", "volume_floors", "volume_measures"]

NEAREST = (1, 5, 10, 50)
_NAMES = tuple(f"v2v Jaccard@{n}" for n in NEAREST)

PROTOCOLS: tuple[ProtocolInfo, ...] = (
    ProtocolInfo(
        name="v2v@jaccard",
        task="retrieval",
        about=(
            "Volume to volume: the mean Jaccard index (labels in common / labels in either) of a "
            "volume's labels with those of its n nearest by cosine, n of 1, 5, 10 and 50. The "
            "volume itself, and volumes of the same scan where scans are named, are not in its "
            "gallery. Volumes without any positive label neither ask nor are found: their index "
            "with each other does not exist. Equal cosines share the places. Beside it stands the "
            "mean over the whole gallery, which a random order gives. Resamples weight the "
            "queries; the gallery stays whole."
        ),
        source="after CT-CLIP (arXiv 2403.17834), without the faults of its script",
        needs="embeddings of images and labels",
    ),
    ProtocolInfo(
        name="v2v@ctclip-legacy",
        task="retrieval",
        about=(
            "As published by CT-CLIP and HSENet, faults included: the volume itself is in the "
            "gallery, so n = 1 compares it with itself; the values for 5, 10 and 50 are running "
            "averages with those of all smaller n, because a list is never emptied; volumes "
            "without a positive label ask and score 0. For comparison with published numbers only."
        ),
        source="CT-CLIP scripts/volume_to_volume_new.py; HSENet image_text_retrieval_stage1.py",
        needs="embeddings of images and labels",
        default=False,
    ),
)


def volume_measures(
    image: NDArray[Any],
    labels: NDArray[Any],
    protocols: Collection[str] | None = None,
    *,
    scans: Sequence[Hashable] | None = None,
    ids: Sequence[str] = (),
) -> list[Measure]:
    """Volume-to-volume similarity under each protocol; None: those that are default.

    Args:
        image: (N, D)
        labels: (N, C) of 0 and 1
        scans: (N,) scan (or patient) of each volume, others of which its gallery leaves out
        ids: of the volumes, for messages

    Raises:
        InputError: the rows do not match, or a label is neither 0 nor 1.
    """
    wanted = _wanted(protocols)
    if not wanted:
        return []
    vectors = unit_rows(image, ids, "image embeddings")
    truth = _checked(labels, len(vectors), ids)
    found = []
    if "v2v@jaccard" in wanted:
        table = _similarity(vectors, truth, _scan_numbers(scans, len(vectors)))
        notes = _notes(truth, scans is not None)
        found.append(mean_measure("v2v@jaccard", _NAMES, table, notes=notes))
    if "v2v@ctclip-legacy" in wanted:
        found.append(_legacy(vectors, truth))
    return found


def volume_floors(
    labels: NDArray[Any],
    protocols: Collection[str] | None = None,
    *,
    scans: Sequence[Hashable] | None = None,
) -> dict[str, list[Measure]]:
    """{"chance": the same for a gallery in random order}; arguments as for `volume_measures`.

    `v2v@ctclip-legacy` has none: a volume finds itself.
    """
    if "v2v@jaccard" not in _wanted(protocols):
        return {"chance": []}
    truth = _checked(labels, len(labels), ())
    scan = _scan_numbers(scans, len(truth))
    asks = np.flatnonzero(truth.sum(axis=1))
    table = np.full((len(truth), len(NEAREST)), np.nan)
    for rows in blocks(len(asks)):
        allowed = scan[asks[rows], None] != scan[None, asks]
        jaccard = np.where(allowed, _jaccard(truth[asks[rows]], truth[asks]), 0.0)
        sizes = allowed.sum(axis=1)
        for column, n in enumerate(NEAREST):
            enough = sizes >= n
            table[asks[rows][enough], column] = jaccard[enough].sum(axis=1) / sizes[enough]
    return {"chance": [mean_measure("v2v@jaccard", _NAMES, table)]}


def _wanted(protocols: Collection[str] | None) -> set[str]:
    known = {info.name: info.default for info in PROTOCOLS}
    if protocols is None:
        return {name for name, default in known.items() if default}
    return set(protocols) & set(known)


def _checked(labels: NDArray[Any], total: int, ids: Sequence[str]) -> NDArray[np.float64]:
    truth = np.asarray(labels, dtype=np.float64)
    if truth.ndim != 2 or len(truth) != total or not truth.shape[1]:
        raise InputError(
            f"labels are {truth.shape} for {total} image embeddings; give one row per volume, "
            "(volumes, labels)."
        )
    wrong = np.argwhere((truth != 0) & (truth != 1))
    if len(wrong):
        row, column = wrong[0]
        name = repr(ids[row]) if ids else f"number {row + 1}"
        raise InputError(
            f"labels that are neither 0 nor 1: {len(wrong)}; the first is column {column + 1} of "
            f"volume {name}. The Jaccard index needs every label: leave out volumes with unknown "
            "ones."
        )
    return truth


def _scan_numbers(scans: Sequence[Hashable] | None, total: int) -> NDArray[np.int64]:
    if scans is None:
        return np.arange(total)
    if len(scans) != total:
        raise InputError(f"{len(scans)} scans are named for {total} volumes.")
    index = {scan: number for number, scan in enumerate(dict.fromkeys(scans))}
    return np.array([index[scan] for scan in scans], dtype=np.int64)


def _similarity(
    vectors: NDArray[np.float64], truth: NDArray[np.float64], scan: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N, M) mean index of the nearest; nan for volumes that do not ask or find too few."""
    asks = np.flatnonzero(truth.sum(axis=1))
    table = np.full((len(vectors), len(NEAREST)), np.nan)
    gallery, marks, scans = vectors[asks], truth[asks], scan[asks]
    for rows in blocks(len(asks)):
        allowed = scans[rows, None] != scans[None, :]
        cosine = np.where(allowed, gallery[rows] @ gallery.T, -np.inf)
        jaccard = _jaccard(marks[rows], marks)
        sizes = allowed.sum(axis=1)
        for column, n in enumerate(NEAREST):
            enough = sizes >= n
            if enough.any():
                table[asks[rows][enough], column] = _top_mean(cosine[enough], jaccard[enough], n)
    return table


def _jaccard(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, C) and (N, C) -> (B, N); nan never, for `other` has a positive label in every row."""
    common = one @ other.T
    either = one.sum(axis=1)[:, None] + other.sum(axis=1)[None, :] - common
    return np.asarray(common / either, dtype=np.float64)


def _top_mean(
    cosine: NDArray[np.float64], jaccard: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """(B,) mean index of the n nearest; the last places are shared by all that tie for them."""
    last = -np.partition(-cosine, n - 1, axis=1)[:, n - 1 : n]
    ahead = cosine > last + TIE
    tied = np.abs(cosine - last) <= TIE
    share = (n - ahead.sum(axis=1)) / tied.sum(axis=1)
    total = (jaccard * ahead).sum(axis=1) + share * (jaccard * tied).sum(axis=1)
    return np.asarray(total / n, dtype=np.float64)


def _legacy(vectors: NDArray[np.float64], truth: NDArray[np.float64]) -> Measure:
    """CT-CLIP's script; only equal cosines are treated otherwise, which it ranks by file order."""
    found = np.flatnonzero(truth.sum(axis=1))
    if not len(found):
        raise InputError("no volume has a positive label, so that nothing can be found.")
    gallery, marks = vectors[found], truth[found]
    table = np.empty((len(vectors), len(NEAREST)))
    for rows in blocks(len(vectors)):
        cosine, jaccard = vectors[rows] @ gallery.T, _jaccard(truth[rows], marks)
        for column, n in enumerate(NEAREST):
            table[rows, column] = _top_mean(cosine, jaccard, min(n, len(found)))
    running = np.cumsum(table, axis=1) / np.arange(1, len(NEAREST) + 1)
    return mean_measure(
        "v2v@ctclip-legacy",
        _NAMES,
        running,
        notes=(
            "Faulty on purpose, to stand beside published numbers: the volume itself is in the "
            "gallery, and values from 5 on are averaged with those of smaller n.",
            f"{len(vectors) - len(found)} volumes without a positive label ask and score 0.",
        ),
    )


def _notes(truth: NDArray[np.float64], scans: bool) -> tuple[str, ...]:
    asks = int((truth.sum(axis=1) > 0).sum())
    others = "volumes of the same scan are" if scans else "the volume itself is"
    notes = [
        f"Volumes that ask and are the gallery, of which {others} left out: {asks}; without a "
        f"positive label, which take no part: {len(truth) - asks}.",
        "Resamples weight the queries; the gallery stays whole.",
    ]
    small = [str(n) for n in NEAREST if n > asks - 1]
    if small:
        notes.append(f"Not given for n = {', '.join(small)}: the gallery is smaller.")
    return tuple(notes)
