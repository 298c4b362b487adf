"""Does an image find its report, and a report its image?

Studies whose reports are the same text after `clean_report` form a group: any of them is a hit,
for no model can tell them apart by the text. The rank of a query is 1 plus the number of studies
outside its group that are at least as near as the nearest of its group, by the cosine. A tie is
thus a miss: a model that gives all the same embedding finds nothing, and the order of the file does
not matter.

A resample weights the queries; every query still searches the whole gallery, whose size decides how
hard the search is.

Shapes: N studies, D numbers per embedding, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.embeddings import unit_rows
from uvlm.evaluation.measure import Measure, Weights, mean_measure
from uvlm.evaluation.protocol_info import ProtocolInfo
from uvlm.text.cleaning import clean_report

__all__ = [
    "PROTOCOLS",
    "RECALL_AT",
    "blocks",
    "chance_of_misses",
    "group_of_reports",
    "ranks",
    "retrieval_floors",
    "retrieval_measures",
]

RECALL_AT = (1, 5, 10, 50, 100)

TIE = 1e-9
"""Cosines closer than this are equal: a product depends on its place in the block by less."""

BLOCK = 1 << 22
"""Cosines in memory at a time, 32 MB; 50,000 studies have 2,500 million."""

DIRECTIONS = ("i2t", "t2i")
_RANKS = tuple(f"{direction} median rank" for direction in DIRECTIONS)

PROTOCOLS: tuple[ProtocolInfo, ...] = (
    ProtocolInfo(
        name="retrieval@groups",
        task="retrieval",
        about=(
            "Recall at 1, 5, 10, 50 and 100 and mean reciprocal rank by cosine, image to report "
            "(i2t) and report to image (t2i). Studies with one report text after cleaning (white "
            "space, stray quotes, empty sections) are one group and any member is a hit. The rank "
            "is 1 plus the studies outside the group that are at least as near as its nearest "
            "member, so a tie is a miss. A recall at K of N studies or more is not given. Beside "
            "it stands what a gallery in random order gives: for a query with g hits among N, "
            "recall at K is 1 - C(N-g, K) / C(N, K), which is K/N for a single hit. Resamples "
            "weight the queries; the gallery stays whole."
        ),
        source="recall as in CLIP (arXiv 2103.00020); groups and ties are this project's rule",
        needs="embeddings of images and reports",
    ),
    ProtocolInfo(
        name="retrieval@groups-rank",
        task="retrieval",
        about=(
            "Median rank of retrieval@groups, image to report (i2t) and report to image (t2i), "
            "lower is better. In a resample the weighted median: "
            "half the weight lies on either side; between two ranks, their mean."
        ),
        source="as retrieval@groups",
        needs="embeddings of images and reports",
    ),
    ProtocolInfo(
        name="retrieval@paired",
        task="retrieval",
        about=(
            "As retrieval@groups, image to report (i2t) and report to image (t2i), but only the "
            "same study is a hit, and of equal cosines the first by id is nearer. Reconstructions "
            "of a scan share a report, so up to all but one of them count as misses: published "
            "recalls have this fault."
        ),
        source="CT-CLIP scripts/report_to_volume_new.py; HSENet image_text_retrieval_stage1.py",
        needs="embeddings of images and reports",
        default=False,
    ),
)


def group_of_reports(reports: Sequence[str], ids: Sequence[str] = ()) -> NDArray[np.int64]:
    """(N,) number of the group of each report; equal after `clean_report` means one group.

    Raises:
        InputError: a report is empty; nothing could be found by it.
    """
    cleaned = [clean_report(report) for report in reports]
    empty = [row for row, text in enumerate(cleaned) if not text]
    if empty:
        name = repr(ids[empty[0]]) if ids else f"number {empty[0] + 1}"
        raise InputError(
            f"{len(empty)} of {len(cleaned)} reports are empty; the first is that of study {name}. "
            "Leave those studies out of the embeddings and the references."
        )
    return _numbered(cleaned)


def _numbered(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    index = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([index[key] for key in keys], dtype=np.int64)


def retrieval_measures(
    image: NDArray[Any],
    text: NDArray[Any],
    groups: Sequence[Hashable],
    protocols: Collection[str] | None = None,
    ids: Sequence[str] = (),
) -> list[Measure]:
    """Both directions under each protocol; None: those that are default.

    Args:
        image, text: (N, D), of any length but not zero
        groups: (N,) equal for studies that are each other's hits, as from `group_of_reports`
        ids: of the studies, for messages

    Raises:
        InputError: the shapes differ, or a row is zero or not finite.
    """
    images = unit_rows(image, ids, "image embeddings")
    texts = unit_rows(text, ids, "text embeddings")
    if images.shape != texts.shape or len(groups) != len(images):
        raise InputError(
            f"image embeddings are {images.shape}, text embeddings {texts.shape}, and there are "
            f"{len(groups)} groups; all must have one row per study and one width."
        )
    group = _numbered(list(groups))
    wanted = _wanted(protocols)
    found: list[Measure] = []
    if wanted & {"retrieval@groups", "retrieval@groups-rank"}:
        table = np.stack([ranks(images, texts, group), ranks(texts, images, group)], axis=1)
        if "retrieval@groups" in wanted:
            found.append(_recall("retrieval@groups", table, _notes(group)))
        if "retrieval@groups-rank" in wanted:
            found.append(_median_ranks(table))
    if "retrieval@paired" in wanted:
        pair = np.arange(len(images))
        table = np.stack(
            [ranks(images, texts, pair, first=True), ranks(texts, images, pair, first=True)], axis=1
        )
        note = "Only the same study is a hit; others with the same report count as misses."
        found.append(_recall("retrieval@paired", table, (note, *_notes(group))))
    return found


def retrieval_floors(
    groups: Sequence[Hashable], protocols: Collection[str] | None = None
) -> dict[str, list[Measure]]:
    """{"chance": measures of the same protocols and names for a gallery in random order}

    Args:
        groups: (N,) as for `retrieval_measures`
    """
    group = _numbered(list(groups))
    wanted = _wanted(protocols)
    found = []
    if "retrieval@groups" in wanted:
        found.append(_chance_recall("retrieval@groups", group))
    if "retrieval@groups-rank" in wanted:
        found.append(_chance_rank(group))
    if "retrieval@paired" in wanted:
        found.append(_chance_recall("retrieval@paired", np.arange(len(group))))
    return {"chance": found}


def _wanted(protocols: Collection[str] | None) -> set[str]:
    known = {info.name: info.default for info in PROTOCOLS}
    if protocols is None:
        return {name for name, default in known.items() if default}
    return set(protocols) & set(known)


def ranks(
    queries: NDArray[np.float64],
    gallery: NDArray[np.float64],
    groups: NDArray[np.int64],
    *,
    first: bool = False,
) -> NDArray[np.int64]:
    """(N,) rank, from 1, of the nearest of a query's group among the whole gallery.

    Args:
        queries, gallery: (N, D) unit vectors of the same studies in one order
        groups: (N,)
        first: of equal cosines the earlier in the gallery is nearer, else the one outside the group
    """
    total = len(queries)
    place = np.arange(total)
    result = np.empty(total, dtype=np.int64)
    for rows in blocks(total):
        cosine = queries[rows] @ gallery.T
        inside = groups[rows, None] == groups[None, :]
        own = np.where(inside, cosine, -np.inf)
        best = own.max(axis=1, keepdims=True)
        if first:
            at = own.argmax(axis=1)[:, None]
            tied = np.abs(cosine - best) <= TIE
            ahead = ((cosine > best) & ~tied) | (tied & (place[None, :] < at))
        else:
            ahead = cosine >= best - TIE
        result[rows] = 1 + (ahead & ~inside).sum(axis=1)
    return result


def blocks(total: int) -> Iterator[slice]:
    """Slices over `total` rows, each with at most `BLOCK` cosines against as many columns."""
    step = max(1, BLOCK // max(1, total))
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def chance_of_misses(hits: int, total: int) -> NDArray[np.float64]:
    """(N + 1,) probability that the first 0, 1, ..., N of a random order hold none of the hits.

    The entry r is C(N - hits, r) / C(N, r), for N of `total`.
    """
    places = np.arange(total, dtype=np.float64)
    factors = np.maximum(0.0, (total - hits - places) / (total - places))
    return np.concatenate([[1.0], np.cumprod(factors)])


def _names() -> tuple[str, ...]:
    kinds = (*(f"R@{k}" for k in RECALL_AT), "MRR")
    return tuple(f"{direction} {kind}" for direction in DIRECTIONS for kind in kinds)


def _recall(protocol: str, table: NDArray[np.int64], notes: tuple[str, ...]) -> Measure:
    """Measure of (N, 2) ranks."""
    total = len(table)
    columns = []
    for rank in table.T:
        columns += [
            (rank <= k).astype(float) if k < total else np.full(total, np.nan) for k in RECALL_AT
        ]
        # A search among one study finds it, whatever the model does.
        columns.append(1.0 / rank if total > 1 else np.full(total, np.nan))
    return mean_measure(protocol, _names(), np.stack(columns, axis=1), notes=notes)


def _chance_recall(protocol: str, group: NDArray[np.int64]) -> Measure:
    total = len(group)
    sizes, size_of = np.unique(np.bincount(group)[group], return_inverse=True)
    rows = []
    for size in sizes:
        missed = chance_of_misses(int(size), total)
        recall = [1.0 - missed[k] if k < total else np.nan for k in RECALL_AT]
        reciprocal = (missed[:-1] - missed[1:]) @ (1.0 / np.arange(1, total + 1))
        rows.append([*recall, reciprocal if total > 1 else np.nan])
    return mean_measure(protocol, _names(), np.tile(np.array(rows)[size_of], (1, 2)))


def _chance_rank(group: NDArray[np.int64]) -> Measure:
    """The rank that half of the searches in random orders do not exceed."""
    sizes, size_of = np.unique(np.bincount(group)[group], return_inverse=True)
    within = np.stack([1.0 - chance_of_misses(int(size), len(group)) for size in sizes])
    member = np.eye(len(sizes))[size_of]

    def score(weights: Weights) -> NDArray[np.float64]:
        total = weights.sum(axis=1)
        # The guard is for the rounding of a product of up to N factors.
        half = (0.5 - 1e-12) * total[:, None]
        median = ((weights @ member) @ within >= half).argmax(axis=1).astype(np.float64)
        median[total == 0] = np.nan
        return np.stack([median, median], axis=1)

    return Measure(
        protocol="retrieval@groups-rank", names=_RANKS, score=score, higher_is_better=False
    )


def _notes(group: NDArray[np.int64]) -> tuple[str, ...]:
    total, texts = len(group), len(np.unique(group))
    studies = "1 study" if total == 1 else f"{total} studies"
    reports = "1 report" if texts == 1 else f"{texts} different reports"
    notes = [
        f"Gallery of {studies} with {reports}; chance is what a gallery in random order gives."
    ]
    if total == 1:
        return (*notes, "No recall is given: a search among one study always finds it.")
    notes.append("Resamples weight the queries; the gallery stays whole.")
    trivial = [str(k) for k in RECALL_AT if k >= total]
    if trivial:
        notes.append(
            f"Recall at {', '.join(trivial)} is not given: with {total} studies it is 1 whatever "
            "the model does."
        )
    return tuple(notes)


def _median_ranks(table: NDArray[np.int64]) -> Measure:
    """Measure of (N, 2) ranks."""
    scores = [_weighted_median(rank.astype(np.float64)) for rank in table.T]
    return Measure(
        protocol="retrieval@groups-rank",
        names=_RANKS,
        score=lambda weights: np.stack([score(weights) for score in scores], axis=1),
        per_study=table.astype(np.float64),
        notes=(f"Ranks go from 1 to {len(table)}.",),
        higher_is_better=False,
    )


def _weighted_median(values: NDArray[np.float64]) -> Callable[[Weights], NDArray[np.float64]]:
    """(N,) values -> function of (R, N) weights to (R,) medians; nan without any weight."""
    order = np.argsort(values, kind="stable")
    ascending = values[order]

    def score(weights: Weights) -> NDArray[np.float64]:
        medians = np.full(len(weights), np.nan)
        for row, weight in enumerate(weights):
            below = np.cumsum(weight[order])
            half = below[-1] / 2.0
            if half > 0:
                low = ascending[np.searchsorted(below, half, side="left")]
                high = ascending[np.searchsorted(below, half, side="right")]
                medians[row] = (low + high) / 2.0
        return medians

    return score
