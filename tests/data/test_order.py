"""Every study comes as often as it should, and the order follows from seed and epoch alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from uvlm.data.order import MOST_DRAWS, POOL, epoch_order, study_weights
from uvlm.errors import ConfigError
from uvlm.preprocessing.catalog import Row


def rows_with(labels: list[tuple[float | None, ...]]) -> list[Row]:
    return [
        Row(
            series_id=f"s{i}",
            case_id=f"s{i}",
            patient_id=f"s{i}",
            split=None,
            image=Path("x.b2nd"),
            mask=None,
            labels=known,
            report=None,
        )
        for i, known in enumerate(labels)
    ]


COMMON, RARE, NONE = (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)
SKEWED = rows_with([COMMON] * 60 + [RARE] * 20 + [NONE] * 40)


def test_without_options_an_epoch_is_a_permutation():
    orders = [epoch_order(20, seed=3, epoch=e) for e in range(3)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_each_label_and_having_none_share_the_draws():
    weights = study_weights(SKEWED)
    assert weights.sum() == pytest.approx(120)
    assert [weights[a:b].sum() for a, b in ((0, 60), (60, 80), (80, 120))] == pytest.approx(
        [40] * 3
    )


def test_a_study_with_two_labels_is_drawn_for_both():
    weights = study_weights(rows_with([(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (1.0, 0.0)]))
    # Label 1 has three studies, label 2 two; without anyone who has none there are two groups.
    assert weights == pytest.approx(np.array([1 / 3 + 1 / 2, 1 / 3, 1 / 2, 1 / 3]) * 4 / 2)


def test_unknown_is_not_positive():
    weights = study_weights(rows_with([(1.0,), (None,), (0.0,)]))
    assert weights == pytest.approx([1.5, 0.75, 0.75])


def test_no_study_is_learned_by_heart():
    weights = study_weights(rows_with([RARE, *[COMMON] * 99, *[NONE] * 100]))
    assert weights[0] == MOST_DRAWS
    assert weights.sum() == pytest.approx(200)
    # What the rare one may not have goes to the others, in their proportion.
    assert weights[1:100].sum() == pytest.approx(weights[100:].sum())


def test_balancing_without_a_positive_label_is_refused():
    with pytest.raises(ConfigError, match=r"data\.balance: no training study has a label of 1"):
        study_weights(rows_with([(0.0, None), (0.0, 0.0)]))


@pytest.mark.parametrize("epoch", range(5))
def test_a_study_comes_as_often_as_its_weight_rounded_either_way(epoch: int):
    weights = study_weights(SKEWED)
    order = epoch_order(120, seed=1, epoch=epoch, weights=weights)
    drawn = np.bincount(order, minlength=120)
    assert len(order) == 120
    assert (np.abs(drawn - weights) < 1).all()
    rare = np.count_nonzero((order >= 60) & (order < 80))
    assert rare == 40  # weight 2 each, so exactly twice each


def test_fractions_of_a_weight_are_made_up_over_epochs():
    weights = study_weights(SKEWED)
    counts = sum(
        np.bincount(epoch_order(120, 1, e, weights=weights), minlength=120) for e in range(200)
    )
    assert np.asarray(counts) / 200 == pytest.approx(weights, abs=0.15)


LENGTHS = np.random.default_rng(0).integers(50, 800, 103)


@pytest.mark.parametrize("studies", [1, 3, 4, 7, 64, 103])
@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_bucketing_keeps_the_studies_of_an_epoch(studies: int, epoch: int):
    order = epoch_order(studies, 5, epoch, lengths=LENGTHS[:studies], group=4)
    assert sorted(order) == list(range(studies))


def padding(order: np.ndarray, group: int, first: int) -> int:
    """Filler tokens of the whole groups of an epoch whose draws begin at number `first`."""
    start = -first % group
    whole = order[start : start + (len(order) - start) // group * group].reshape(-1, group)
    lengths = LENGTHS[whole]
    return int((lengths.max(1, keepdims=True) - lengths).sum())


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_bucketed_groups_waste_a_fraction_of_the_padding(epoch: int):
    """Groups follow the count of draws over epochs: 103 studies are no multiple of 4."""
    plain = epoch_order(103, 5, epoch)
    alike = epoch_order(103, 5, epoch, lengths=LENGTHS, group=4)
    assert padding(alike, 4, epoch * 103) < padding(plain, 4, epoch * 103) / 8


def test_groups_come_in_random_order_and_change_their_members():
    lengths = np.arange(2000)
    means, pairs = [], []
    for epoch in range(2):
        groups = epoch_order(2000, 0, epoch, lengths=lengths, group=4).reshape(-1, 4)
        means.append(groups.mean(1))
        pairs.append({frozenset(group) for group in groups.tolist()})
        # Sorted steps would correlate fully with their place.
        assert abs(np.corrcoef(np.arange(500), means[-1])[0, 1]) < 0.2
    assert len(pairs[0] & pairs[1]) < 100
    assert POOL * 4 < 2000


def test_balance_and_bucket_together():
    weights = study_weights(SKEWED)
    plain = epoch_order(120, 1, 2, weights=weights)
    both = epoch_order(120, 1, 2, weights=weights, lengths=np.resize(LENGTHS, 120), group=4)
    assert Counter(both.tolist()) == Counter(plain.tolist())
    assert both.tolist() != plain.tolist()
