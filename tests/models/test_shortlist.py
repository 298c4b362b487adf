"""The shortlist never loses the best token, and tells when it cannot tell."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.models.tiny import REPORT, random_stages
from uvlm.inference.generate import generate_batch
from uvlm.models import shortlist as module
from uvlm.models.decoder import TiedEmbedding
from uvlm.models.low_bit import LowEmbedding, lower
from uvlm.models.shortlist import Shortlist, worthwhile
from uvlm.models.uvlm import ReportModel

pytestmark = pytest.mark.skipif(
    not torch.cpu._is_vnni_supported(), reason="this processor's products of 8-bit numbers saturate"
)

WIDTH, ENTRIES = 64, 3000


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows_of(weight: Tensor):
    return lambda ids: weight[ids]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 20),
    size=st.sampled_from([1e-6, 1.0, 1e6]),
    outlier=st.sampled_from([0.0, 30.0]),
    uneven=st.booleans(),
)
def test_it_finds_what_the_whole_product_finds(
    seed: int, n: int, size: float, outlier: float, uneven: bool
) -> None:
    weight, h = drawn(ENTRIES, WIDTH, seed=seed), drawn(n, WIDTH, seed=seed + 1) * size
    h[:, 3] += outlier * size
    if uneven:  # rare tokens are short, frequent ones long
        weight *= torch.logspace(-3, 1, ENTRIES)[torch.randperm(ENTRIES)][:, None]
    found = Shortlist(weight).ranked(h, rows_of(weight))
    if found is not None:
        assert found[0].equal((h.double() @ weight.double().T).argmax(dim=1))
    assert found is not None or uneven or outlier


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_all_that_are_as_good_as_the_best_are_candidates(seed: int, n: int) -> None:
    weight, h = drawn(ENTRIES, WIDTH, seed=seed), drawn(n, WIDTH, seed=seed + 1)
    weight[[17, 1700, 2999]] = 3 * h.sum(dim=0)
    found = Shortlist(weight).candidates(h)
    assert found is not None
    candidates, _ = found
    logits = h.double() @ weight.double().T
    winners = (logits >= logits.amax(dim=1, keepdim=True) * (1 - 1e-9)).any(dim=0).nonzero()[:, 0]
    assert set(winners.tolist()) <= set(candidates.tolist())
    assert candidates.equal(candidates.sort().values)


def test_few_are_computed() -> None:
    weight, h = drawn(20_000, 512) * 0.02, drawn(1, 512, seed=1)
    found = Shortlist(weight).candidates(h)
    assert found is not None
    assert len(found[0]) < 100


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1e-4, 2**-5]))
def test_near_ties_are_told_by_the_candidates_alone(seed: int, tolerance: float) -> None:
    weight, h = drawn(ENTRIES, WIDTH, seed=seed), drawn(4, WIDTH, seed=seed + 1)
    weight[5] = weight[(h[0] @ weight.T).argmax()] * (1 - tolerance / 2)
    found = Shortlist(weight).ranked(h, rows_of(weight), tolerance)
    assert found is not None
    first, second = (h.double() @ weight.double().T).topk(2).values.T
    largest = (h.double() @ weight.double().T).abs().amax(dim=1)
    near = first - second <= tolerance * largest
    assert near[0]
    assert (found[1] | ~near).all()  # told of all, and of few others
    assert (~found[1] | (first - second <= 1.5 * tolerance * largest)).all()


def test_of_equal_logits_the_first_wins() -> None:
    weight, h = drawn(ENTRIES, WIDTH), drawn(1, WIDTH, seed=1)
    weight[[40, 80]] = h * 2
    found = Shortlist(weight).ranked(h, rows_of(weight))
    assert found is not None
    assert found[0].tolist() == [40]
    assert found[1].tolist() == [True]


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_states_that_say_nothing_are_left_to_the_product(value: float) -> None:
    weight, h = drawn(ENTRIES, WIDTH), torch.full((2, WIDTH), value)
    assert Shortlist(weight).ranked(h, rows_of(weight)) is None


def test_tokens_too_much_alike_are_left_to_the_product() -> None:
    weight = drawn(1, WIDTH) + 1e-4 * drawn(ENTRIES, WIDTH, seed=1)
    assert Shortlist(weight).ranked(drawn(1, WIDTH, seed=2), rows_of(weight)) is None


def test_small_matrices_have_none() -> None:
    assert not worthwhile(drawn(ENTRIES, WIDTH))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_decoding_writes_the_same_without_the_output_matrix(precision, monkeypatch) -> None:
    torch.manual_seed(0)
    plain = ReportModel(REPORT).eval()
    with torch.inference_mode():
        plan = plain.visual_plan(random_stages(plain.config, 3))
    quick = copy.deepcopy(plain)
    lower(plain.decoder, precision)
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "MOST", 1)
    lower(quick.decoder, precision)
    expected = generate_batch(plain, plan, [7, 8], max_new_tokens=12, eos_id=-1)

    def refused(self: object, h: Tensor) -> Tensor:
        raise AssertionError("all logits were computed")

    monkeypatch.setattr(TiedEmbedding, "logits", refused)
    monkeypatch.setattr(LowEmbedding, "logits", refused)
    assert generate_batch(quick, plan, [7, 8], max_new_tokens=12, eos_id=-1) == expected


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_rounded_matrix_has_a_bound_of_its_own(precision, monkeypatch) -> None:
    monkeypatch.setattr(module, "LARGE", 0)
    embedding = TiedEmbedding(ENTRIES, WIDTH)
    # Some hundred rows that only rounding tells apart: a bound of the exact ones would lose some.
    like = drawn(1, WIDTH) * 3
    embedding.weight.data[:200] = like * (1 + 1e-5 * drawn(200, 1, seed=1))
    low = LowEmbedding(embedding, precision)
    assert low.shortlist is not None
    rounded = low(torch.arange(ENTRIES)).double()
    whole = Shortlist(rounded.float())
    assert low.shortlist.scale_V.equal(whole.scale_V)
    assert low.shortlist.reach_V.equal(whole.reach_V)
    h = like + 0.01 * drawn(5, WIDTH, seed=2)
    found = low.shortlist.candidates(h)
    assert found is not None
    logits = h.double() @ rounded.T
    assert set(logits.argmax(dim=1).tolist()) <= set(found[0].tolist())
