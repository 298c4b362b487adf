"""In which order an epoch visits the studies: shuffled, balanced by label, sorted by length.

Everything follows from seed and epoch, so a resumed run needs no state but its step.

Shapes: N studies, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ConfigError
from uvlm.preprocessing.catalog import Row

__all__ = ["MOST_DRAWS", "epoch_order", "study_weights"]

MOST_DRAWS = 10.0
"""Most draws of one study per epoch when balancing; the only study with a rare finding would
otherwise be learned by heart."""

POOL = 100
"""Groups of similar length are formed among the studies of so many groups, anew in every epoch,
so that who comes together changes."""


def study_weights(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Draws of each study per epoch, 1 on average, that balance the labels (class-aware sampling).

    Each label with a positive study, and having none, is the reason for equally many draws, which
    the group's studies share; no study gets more than `MOST_DRAWS`.

    Returns:
        (N,) float64

    Raises:
        ConfigError: no study has a positive label.
    """
    positive_NC = np.array([[value == 1 for value in row.labels] for row in rows], dtype=bool)
    if not positive_NC.any():
        raise ConfigError(
            "data.balance: no training study has a label of 1, so there is nothing to balance; "
            "leave it out, or give catalogs with labels."
        )
    groups_NG = np.column_stack([positive_NC, ~positive_NC.any(1)])
    groups_NG = groups_NG[:, groups_NG.any(0)]
    return _capped((groups_NG / groups_NG.sum(0)).mean(1) * len(rows))


def _capped(weights_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most `MOST_DRAWS` each; the excess goes to the others in proportion."""
    free_N = np.ones(len(weights_N), dtype=bool)
    while (weights_N > MOST_DRAWS).any():
        free_N &= weights_N < MOST_DRAWS
        left = len(weights_N) - MOST_DRAWS * np.count_nonzero(~free_N)
        scaled_N = weights_N * (left / weights_N[free_N].sum())
        weights_N = np.where(free_N, scaled_N, MOST_DRAWS)
    return weights_N


def epoch_order(
    studies: int,
    seed: int,
    epoch: int,
    *,
    weights: Sequence[float] | NDArray[np.float64] | None = None,
    lengths: Sequence[int] | NDArray[np.int64] | None = None,
    group: int = 1,
) -> NDArray[np.int64]:
    """Indices of the studies in the order of their draws, `studies` of them.

    Args:
        weights: wanted draws of each study per epoch, 1 on average; a study comes as often as the
            whole number below or above. None: each once.
        lengths: of the studies' texts; groups of `group` draws then have similar lengths. Groups
            end where draws, counted from the first epoch on, are divisible by `group`; the draws
            of an epoch beyond whole groups keep their random place.
        group: draws that should be alike in length: those of one optimiser step

    Returns:
        (studies,) int64
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(studies)
    if weights is not None:
        order = _systematic(order, np.asarray(weights, dtype=np.float64), rng)
    if lengths is not None and group > 1:
        first = min(-epoch * studies % group, studies)
        last = first + (studies - first) // group * group
        alike = _alike(order[first:last], np.asarray(lengths), group, rng)
        order = np.concatenate([order[:first], alike, order[last:]])
    return order


def _systematic(
    order: NDArray[np.int64], weights: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw at even distances along the sums of the weights in random order: one random number
    decides all, and no study's number of draws is off its weight by one or more."""
    ends = np.cumsum(weights[order])
    ends *= len(order) / ends[-1]
    points = np.arange(len(order)) + rng.random()
    drawn = np.searchsorted(ends, points, side="right")
    # The last point may lie a rounding error beyond the last sum.
    return rng.permutation(order[np.minimum(drawn, len(order) - 1)])


def _alike(
    order: NDArray[np.int64],
    lengths: NDArray[np.int64],
    group: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Sort within pools of groups, then shuffle the groups."""
    pool = POOL * group
    starts = range(0, len(order), pool)
    sorted_pools = [
        part[np.argsort(lengths[part], kind="stable")]
        for part in (order[start : start + pool] for start in starts)
    ]
    if not sorted_pools:
        return order
    groups = np.concatenate(sorted_pools).reshape(-1, group)
    return rng.permutation(groups, axis=0).ravel()
