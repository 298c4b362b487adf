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
from uvlm.models.shortlist import Shortlist, best, worthwhile
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
    found = best(Shortlist(weight), h, rows_of(weight), lambda h: h @ weight.T)
    assert found.equal((h.double() @ weight.double().T).argmax(dim=1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_all_that_are_as_good_as_the_best_are_candidates(seed: int, n: int) -> None:
    weight, h = drawn(ENTRIES, WIDTH, seed=seed), drawn(n, WIDTH, seed=seed + 1)
    weight[[17, 1700, 2999]] = 3 * h.sum(dim=0)
    candidates = Shortlist(weight).candidates(h)
    assert candidates is not None
    logits = h.double() @ weight.double().T
    winners = (logits >= logits.amax(dim=1, keepdim=True) * (1 - 1e-9)).any(dim=0).nonzero()[:, 0]
    assert set(winners.tolist()) <= set(candidates.tolist())
    assert candidates.equal(candidates.sort().values)


def test_few_are_computed() -> None:
    weight, h = drawn(20_000, 512) * 0.02, drawn(1, 512, seed=1)
    candidates = Shortlist(weight).candidates(h)
    assert candidates is not None
    assert len(candidates) < 100


def test_of_equal_logits_the_first_wins() -> None:
    weight, h = drawn(ENTRIES, WIDTH), drawn(1, WIDTH, seed=1)
    weight[[40, 80]] = h * 2
    found = Shortlist(weight).best(h, rows_of(weight))
    assert found is not None
    assert found.tolist() == [40]


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_states_that_say_nothing_are_left_to_the_product(value: float) -> None:
    weight, h = drawn(ENTRIES, WIDTH), torch.full((2, WIDTH), value)
    shortlist = Shortlist(weight)
    assert shortlist.best(h, rows_of(weight)) is None
    logits = h @ weight.T
    assert best(shortlist, h, rows_of(weight), lambda h: h @ weight.T).equal(logits.argmax(dim=1))


def test_tokens_too_much_alike_are_left_to_the_product() -> None:
    weight = drawn(1, WIDTH) + 1e-4 * drawn(ENTRIES, WIDTH, seed=1)
    assert Shortlist(weight).best(drawn(1, WIDTH, seed=2), rows_of(weight)) is None


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
