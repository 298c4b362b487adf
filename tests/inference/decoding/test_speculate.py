"""Speculation writes what greedy decoding writes, in fewer calls of the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.tiny import REPORT, random_stages
from tests.models.tiny_base import report_config, report_model, tiny_base
from uvlm.inference.decoding.speculate import MOST, speculate
from uvlm.inference.generate import generate
from uvlm.models.config import ReportConfig
from uvlm.models.injection import VisualPlan
from uvlm.models.low_bit import lower
from uvlm.models.uvlm import ReportModel
from uvlm.text.draft import Draft

PROMPT = [7, 8, 9]
NEVER = -1


def build(config: ReportConfig = REPORT, seed: int = 0) -> tuple[ReportModel, VisualPlan]:
    torch.manual_seed(seed)
    model = ReportModel(config).eval()
    for p in model.decoder.blocks.parameters():  # else the text repeats one token
        p.data.add_(0.5 * torch.randn_like(p))
    with torch.no_grad():
        return model, model.visual_plan(random_stages(config, 1))


def greedy(model: ReportModel, plan: VisualPlan, most: int = 40, eos: int = NEVER) -> list[int]:
    return generate(model, plan, PROMPT, max_new_tokens=most, eos_id=eos)


class Says:
    """A draft that knows one text, right or wrong."""

    def __init__(self, text: Sequence[int]) -> None:
        self.text = list(text)

    def propose(self, report: Sequence[int], most: int) -> list[int]:
        return self.text[len(report) :][:most]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 49), max_size=40), st.integers(1, 24))
def test_any_draft_leaves_the_tokens_as_they_are(seed: int, nonsense: list[int], most: int) -> None:
    model, plan = build(seed=seed % 5)
    expected = greedy(model, plan, most)
    right = expected[: seed % 24] + nonsense
    eos = expected[seed % most]
    for draft in (Says(nonsense), Says(right), Draft.build([right, nonsense])):
        for end in (NEVER, eos):
            ids, _ = speculate(model, plan, PROMPT, draft, max_new_tokens=most, eos_id=end)
            assert ids == greedy(model, plan, most, end)


def test_a_right_draft_saves_calls_and_a_wrong_one_costs_none() -> None:
    model, plan = build()
    expected = greedy(model, plan)
    ids, steps = speculate(model, plan, PROMPT, Says(expected), max_new_tokens=40, eos_id=NEVER)
    assert ids == expected
    assert steps.calls == 1 + -(-39 // (MOST + 1))
    assert steps.accepted == steps.proposed
    assert steps.replayed == 0
    wrong = [(token + 1) % 50 for token in expected]
    ids, steps = speculate(model, plan, PROMPT, Says(wrong), max_new_tokens=40, eos_id=NEVER)
    assert ids == expected
    assert steps.calls == 40
    assert steps.accepted == 0


def test_no_call_reads_beyond_the_most_tokens_that_are_wanted() -> None:
    model, plan = build()
    expected = greedy(model, plan, 3)
    draft = Says([*expected, 5, 5, 5])
    ids, steps = speculate(model, plan, PROMPT, draft, max_new_tokens=3, eos_id=NEVER)
    assert ids == expected
    assert steps.calls == 2
    ids, steps = speculate(model, plan, PROMPT, draft, max_new_tokens=1, eos_id=NEVER)
    assert ids == expected[:1]
    assert steps.calls == 1


def test_an_end_inside_an_accepted_run_ends_the_report() -> None:
    model, plan = build()
    endless = greedy(model, plan)
    at = next(i for i in range(4, 40) if endless[i] not in endless[:i])
    for text in (endless, [*endless[:at], 0, 0, 0]):
        ids, _ = speculate(model, plan, PROMPT, Says(text), max_new_tokens=40, eos_id=endless[at])
        assert ids == endless[:at]


@pytest.mark.parametrize("size", [0.0, 1e-8, 1e-7, 1e-6])
def test_near_ties_are_decided_as_greedy_decoding_does(size: float) -> None:
    model, plan = build()
    table = model.decoder.embedding.weight.data
    half = len(table) // 2
    torch.manual_seed(1)
    table[half:] = table[:half] * (1 + size * torch.randn(half, 1))
    expected = greedy(model, plan, 24)
    other = [(token + half) % (2 * half) for token in expected]
    for text in (expected, other):
        ids, steps = speculate(model, plan, PROMPT, Says(text), max_new_tokens=24, eos_id=NEVER)
        assert ids == expected
        assert steps.replayed > 0


def test_what_is_not_a_number_counts_as_near() -> None:
    model, plan = build()
    model.decoder.norm.weight.data.fill_(torch.nan)
    expected = greedy(model, plan, 6)
    ids, steps = speculate(model, plan, PROMPT, Says(expected), max_new_tokens=6, eos_id=NEVER)
    assert ids == expected
    assert steps.accepted == 0


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_low_bits_keep_their_own_tokens(precision) -> None:
    model, plan = build()
    lower(model.decoder, precision)
    expected = greedy(model, plan)
    ids, _ = speculate(model, plan, PROMPT, Says(expected), max_new_tokens=40, eos_id=NEVER)
    assert ids == expected


def test_a_pretrained_decoder_keeps_its_tokens(tmp_path) -> None:
    model = report_model(report_config(tiny_base(tmp_path / "base"))).eval()
    with torch.no_grad():
        plan = model.visual_plan(random_stages(model.config, 1))
    expected = greedy(model, plan, 24)
    for text in (expected, expected[:7] + [11] * 20):
        ids, steps = speculate(model, plan, PROMPT, Says(text), max_new_tokens=24, eos_id=NEVER)
        assert ids == expected
        assert steps.calls < 24


def test_several_studies_or_no_prompt_are_refused() -> None:
    model, plan = build()
    two = VisualPlan(prefix=plan.prefix.expand(2, -1, -1))
    for prompt, plans in (([], plan), (PROMPT, two)):
        with pytest.raises(ValueError, match="one study"):
            speculate(model, plans, prompt, Says([]), max_new_tokens=4, eos_id=NEVER)
