"""Distance to training studies: exact, storable, and kept by new studies at the promised rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from uvlm.inference.guided.typical import RATE, Moments, Typical, pooled

FEATURES = 6


def studies(count: int, seed: int = 0) -> Tensor:
    """(count, F) correlated features of different scale."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(FEATURES, FEATURES))
    return torch.tensor(rng.standard_t(6, size=(count, FEATURES)) @ mixing + 3.0)


def moments_of(values_NF: Tensor) -> Moments:
    moments = Moments(values_NF.shape[1])
    for values_F in values_NF:
        moments.add(values_F)
    return moments


def fitted(train: int = 300, held_out: int = 200) -> Typical:
    return Typical.fit(moments_of(studies(train)), list(studies(held_out, seed=1)))


def test_moments_one_by_one_are_those_of_all_at_once():
    values_NF = studies(50)
    moments = moments_of(values_NF)
    torch.testing.assert_close(moments.mean_F, values_NF.mean(0))
    torch.testing.assert_close(moments.scatter_FF / 50, values_NF.T.cov(correction=0))


def test_with_many_studies_the_precision_is_the_inverse_covariance():
    values_NF = studies(20_000)
    found = moments_of(values_NF).precision() @ values_NF.T.cov(correction=0)
    torch.testing.assert_close(found, torch.eye(FEATURES).double(), atol=0.02, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_studies_and_dead_features_still_give_a_precision(count):
    values_NF = studies(count)
    values_NF[:, 2] = 0.0
    precision_FF = moments_of(values_NF).precision()
    assert precision_FF.isfinite().all()
    assert (torch.linalg.eigvalsh((precision_FF + precision_FF.T) / 2) > 0).all()


def test_new_studies_of_the_same_kind_are_beyond_the_limit_at_the_promised_rate():
    typical = fitted()
    assert typical.rate <= RATE + 1e-9
    beyond = np.mean([typical.distance(v) > typical.limit for v in studies(4000, seed=2)])
    # The rate holds on average over validation sets; of 200 studies one in 20 gives above 2.5 %.
    assert 0.0005 < beyond < 0.025


def test_with_few_validation_studies_a_smaller_promise_is_made_and_said():
    typical = fitted(held_out=19)
    assert typical.rate == pytest.approx(1 / 20)
    largest = max(typical.distance(v) for v in studies(19, seed=1))
    assert typical.limit == pytest.approx(largest)


def test_correlation_counts():
    """A study may be unlike all others though each of its features is common."""
    first = torch.randn(500, 1, generator=torch.Generator().manual_seed(0)).double()
    noise = torch.randn(500, 1, generator=torch.Generator().manual_seed(1)).double()
    typical = Typical.fit(
        moments_of(torch.cat([first, first + 0.1 * noise], 1)[:400]),
        list(torch.cat([first, first + 0.1 * noise], 1)[400:]),
    )
    assert typical.distance(torch.tensor([1.5, 1.5]).double()) < typical.limit
    assert typical.distance(torch.tensor([1.5, -1.5]).double()) > 3 * typical.limit


def test_what_is_stored_measures_the_same():
    typical = fitted()
    again = Typical.of(typical.tensors("report"), "report")
    assert again is not None
    assert (again.limit, again.rate, again.studies) == (typical.limit, typical.rate, 300)
    values_F = studies(1, seed=5)[0]
    assert again.distance(values_F) == typical.distance(values_F)
    assert Typical.of(typical.tensors("report"), "classification") is None


def test_features_are_mean_and_spread_of_each_channel_over_space():
    deepest = torch.arange(16.0).reshape(1, 2, 2, 2, 2)
    expected = [3.5, 11.5, np.arange(8).std(), np.arange(8).std()]
    assert pooled(deepest).tolist() == pytest.approx(expected)
