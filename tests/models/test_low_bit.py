"""Narrow weights stay within their rounding, and a decoder of them still decodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.models.tiny import REPORT, random_stages
from tests.models.tiny_base import KINDS, report_config, report_model, tiny_base
from uvlm.inference.decoding.speculate import NARROW, speculate
from uvlm.inference.generate import generate, generate_batch
from uvlm.models import low_bit
from uvlm.models.config import DecoderConfig
from uvlm.models.decoder import Decoder
from uvlm.models.injection import VisualPlan
from uvlm.models.low_bit import LowEmbedding, LowLinear, Weights8, Weights16, lower
from uvlm.models.uvlm import ReportModel
from uvlm.text.draft import Draft

PRECISIONS = ("bf16", "int8")
BF16 = 2**-8
"""Largest relative step of bfloat16, rounded to the nearest."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-6, 1e6), st.integers(1, 40), st.integers(1, 70))
def test_eight_bits_move_a_weight_by_at_most_half_a_step(
    seed: int, size: float, rows: int, columns: int
) -> None:
    weight = drawn(rows, columns, seed=seed) * size
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    moved = (Weights8(weight).dense() - weight).abs()
    assert (moved <= step * 0.51).all()  # the scale itself has 8 bits


def test_rows_of_zeros_stay_zero() -> None:
    weight = torch.zeros(3, 32)
    x = drawn(2, 32)
    assert Weights8(weight).dense().equal(weight)
    assert Weights8(weight).product(x).equal(torch.zeros(2, 3))


def test_sixteen_bits_are_the_nearest_numbers() -> None:
    weight = drawn(40, 24)
    assert Weights16(weight).dense().equal(weight.bfloat16())


@pytest.mark.parametrize("kind", [Weights8, Weights16])
@pytest.mark.parametrize("columns", [24, 32, 80])
@pytest.mark.parametrize("rows", [0, 1, 5, 17, 40])
def test_products_are_those_of_the_widened_weights(kind, columns: int, rows: int) -> None:
    weight, x = drawn(51, columns), drawn(rows, columns, seed=1)
    narrow = kind(weight)
    found = narrow.product(x)
    expected = F.linear(x.bfloat16().double(), narrow.dense().double())
    assert found.dtype == narrow.dtype
    scale = F.linear(x.abs(), weight.abs()).double()
    assert ((found - expected).abs() <= 2 * BF16 * scale).all()


@pytest.mark.parametrize("kind", [Weights8, Weights16])
@pytest.mark.parametrize(("studies", "tokens"), [(1, 1), (24, 1), (40, 1), (5, 7), (3, 16)])
def test_a_study_is_the_same_alone_and_among_others(kind, studies: int, tokens: int) -> None:
    narrow, x = kind(drawn(51, 64)), drawn(studies, tokens, 64, seed=1)
    together = narrow.product(x)
    assert together.shape == (studies, tokens, 51)
    for index in range(studies):
        assert narrow.product(x[index : index + 1]).equal(together[index : index + 1])


def narrow_model(precision: low_bit.LowPrecision, width: int) -> tuple[ReportModel, VisualPlan]:
    """Of several studies, and one whose text does not repeat a token."""
    torch.manual_seed(0)
    config = DecoderConfig(vocab_size=50, layers=5, width=width, heads=2, ffn=32)
    model = ReportModel(replace(REPORT, decoder=config)).eval()
    for p in model.decoder.blocks.parameters():
        p.data.add_(0.5 * torch.randn_like(p))
    with torch.inference_mode():
        plan = model.visual_plan(random_stages(model.config, 20))
    lower(model.decoder, precision)
    return model, plan


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_of_many_reports_is_what_it_would_be_alone(precision) -> None:
    model, plan = narrow_model(precision, 32)
    together = generate_batch(model, plan, [7, 8, 9], max_new_tokens=12, eos_id=-1)
    assert len({tuple(ids) for ids in together}) > 1
    for row, ids in enumerate(together):
        alone = generate(model, plan.rows([row]), [7, 8, 9], max_new_tokens=12, eos_id=-1)
        assert ids == alone


def is_near_tie(model: ReportModel, plan: VisualPlan, tokens: list[int]) -> bool:
    """Whether rounding may decide what follows `tokens`."""
    with torch.inference_mode():
        logits = model.decode(plan, torch.tensor([tokens]))[0, -1]
    first, second = logits.topk(2).values.tolist()
    return first - second <= NARROW * logits.abs().max().item()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("width", [24, 32])
def test_the_cache_and_drafts_leave_the_tokens_as_they_are(precision, width: int) -> None:
    model, plan = narrow_model(precision, width)
    plan = plan.rows([0])
    cached, uncached = (
        generate(model, plan, [7, 8, 9], max_new_tokens=12, eos_id=-1, cached=cached)
        for cached in (True, False)
    )
    assert len(set(cached)) > 3
    same = next((i for i in range(12) if cached[i] != uncached[i]), 12)
    assert same > 3
    assert same == 12 or is_near_tie(model, plan, [7, 8, 9, *cached[:same]])
    wrong = [(token + 1) % 50 for token in cached]
    for text in (cached, wrong, cached[:5] + wrong[5:]):
        draft = Draft.build([text])
        ids, _ = speculate(model, plan, [7, 8, 9], draft, max_new_tokens=12, eos_id=-1)
        assert ids == cached


def test_without_the_processors_own_bfloat16_the_numbers_are_alike(monkeypatch) -> None:
    weight, x = drawn(51, 64), drawn(3, 64, seed=1)
    packed = Weights16(weight).product(x)
    monkeypatch.setattr(low_bit, "_packs", lambda dtype: False)
    torch.testing.assert_close(Weights16(weight).product(x), packed, atol=0.2, rtol=BF16)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_embedding_and_output_matrix_of_a_lowered_decoder_are_one(precision) -> None:
    decoder = Decoder(replace(REPORT.decoder, width=32)).eval()
    wide = decoder.embedding.weight.detach().clone()
    lower(decoder, precision)
    assert isinstance(decoder.embedding, LowEmbedding)
    assert sum(isinstance(each, LowLinear) for each in decoder.modules()) == 4 * 5
    assert not any(isinstance(each, nn.Linear) for each in decoder.modules())
    table = decoder.embedding(torch.arange(50))
    assert table.dtype == torch.float32
    torch.testing.assert_close(table, wide, atol=wide.abs().max().item() / 127, rtol=BF16)
    assert table.equal(decoder.embedding.weights.dense().float())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("width", [24, 32])
def test_a_lowered_decoder_gives_nearly_the_same_logits(precision, width: int) -> None:
    torch.manual_seed(0)
    config = DecoderConfig(vocab_size=50, layers=5, width=width, heads=2, ffn=32)
    model = ReportModel(replace(REPORT, decoder=config)).eval()
    tokens = torch.tensor([[7, 8, 9]])
    with torch.inference_mode():
        plan = model.visual_plan(random_stages(model.config, 1))
        before = model.decode(plan, tokens)
        lower(model.decoder, precision)
        after = model.decode(plan, tokens)
        assert after.dtype == before.dtype
        assert 0 < (after - before).norm() < 0.05 * before.norm()


def test_in_32_bits_only_the_order_of_large_matrices_changes(monkeypatch) -> None:
    torch.manual_seed(0)
    model = ReportModel(REPORT).eval()
    tokens = torch.tensor([[7, 8, 9]])
    with torch.inference_mode():
        plan = model.visual_plan(random_stages(model.config, 2))
        before = model.decode(plan, tokens.expand(2, -1))
        lower(model.decoder, "fp32")
        assert not any(isinstance(each, LowLinear) for each in model.decoder.modules())
        monkeypatch.setattr(low_bit, "CACHED", 0)
        monkeypatch.setattr(low_bit, "_packs", lambda dtype: torch._C._has_mkldnn)
        lower(model.decoder, "fp32")
        assert sum(isinstance(each, LowLinear) for each in model.decoder.modules()) == 4 * 5
        after = model.decode(plan, tokens.expand(2, -1))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_gradients_pass_through_reordered_matrices(monkeypatch) -> None:
    monkeypatch.setattr(low_bit, "CACHED", 0)
    monkeypatch.setattr(low_bit, "_packs", lambda dtype: torch._C._has_mkldnn)
    decoder = Decoder(replace(REPORT.decoder, width=32)).eval()
    wide, x = decoder.blocks[0].ffn, drawn(2, 3, 32).requires_grad_()
    expected = torch.autograd.grad(wide(x).square().sum(), x)
    lower(decoder, "fp32")
    found = torch.autograd.grad(decoder.blocks[0].ffn(x).square().sum(), x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_pretrained_decoders_are_lowered_too(
    tmp_path: Path, kind: str, tuning: str, precision
) -> None:
    model = report_model(report_config(tiny_base(tmp_path / kind, kind), tuning=tuning)).eval()
    tokens = torch.tensor([[7, 8, 9]])
    with torch.inference_mode():
        plan = model.visual_plan(random_stages(model.config, 1))
        before = model.decode(plan, tokens)
        lower(model.decoder, precision)
        after = model.decode(plan, tokens)
    wide = [
        name
        for name, each in model.decoder.named_modules()
        if isinstance(each, nn.Linear) and "lora_" not in name
    ]
    assert wide == []
    assert 0 < (after - before).norm() < 0.1 * before.norm()
