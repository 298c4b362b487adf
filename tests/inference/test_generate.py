"""Cached decoding writes the same tokens as recomputing everything, and stops where it should."""

from __future__ import annotations

import pytest
import torch

from tests.models.tiny import NEXT_TO_DEEPEST, REPORT, random_stages
from uvlm.inference.generate import generate, generate_batch
from uvlm.models.config import ReportConfig
from uvlm.models.injection import VisualPlan
from uvlm.models.uvlm import ReportModel

PROMPT = [7, 8, 9]
NEVER = -1


def build(config: ReportConfig = REPORT, batch: int = 3) -> tuple[ReportModel, VisualPlan]:
    torch.manual_seed(0)
    model = ReportModel(config).eval()
    for p in model.decoder.blocks.parameters():  # else the text repeats one token
        p.data.add_(0.5 * torch.randn_like(p))
    with torch.no_grad():
        return model, model.visual_plan(random_stages(config, batch))


def row(plan: VisualPlan, index: int) -> VisualPlan:
    at = slice(index, index + 1)
    per_layer = {layer: tokens[at] for layer, tokens in plan.per_layer.items()}
    return VisualPlan(prefix=plan.prefix[at], per_layer=per_layer)


@pytest.mark.parametrize("config", [REPORT, NEXT_TO_DEEPEST])
def test_cached_equals_uncached_token_for_token(config: ReportConfig) -> None:
    model, plan = build(config)
    cached, uncached = (
        generate_batch(model, plan, PROMPT, max_new_tokens=24, eos_id=NEVER, cached=cached)
        for cached in (True, False)
    )
    assert cached == uncached
    assert [len(ids) for ids in cached] == [24] * 3
    assert len({tuple(ids) for ids in cached}) > 1  # the studies differ, and the text with them
    assert len(set(cached[0])) > 3


@pytest.mark.parametrize("cached", [True, False])
def test_a_study_reads_the_same_alone_and_in_a_batch(cached: bool) -> None:
    model, plan = build()
    together = generate_batch(model, plan, PROMPT, max_new_tokens=12, eos_id=NEVER)
    for index, ids in enumerate(together):
        alone = generate(
            model, row(plan, index), PROMPT, max_new_tokens=12, eos_id=NEVER, cached=cached
        )
        assert alone == ids


def test_each_row_stops_before_its_own_end_token() -> None:
    model, plan = build()
    endless = generate_batch(model, plan, PROMPT, max_new_tokens=24, eos_id=NEVER)
    eos = endless[0][5]
    stopped = generate_batch(model, plan, PROMPT, max_new_tokens=24, eos_id=eos)
    assert stopped == [ids[: ids.index(eos)] if eos in ids else ids for ids in endless]
    assert len(stopped[0]) <= 5


def test_greedy_choice_is_the_most_probable_token() -> None:
    model, plan = build(batch=1)
    ids = generate(model, plan, PROMPT, max_new_tokens=5, eos_id=NEVER)
    with torch.no_grad():
        logits = model.decode(plan, torch.tensor([PROMPT + ids]))
    assert logits[0, len(PROMPT) - 1 : -1].argmax(-1).tolist() == ids


def test_it_is_deterministic() -> None:
    model, plan = build()
    runs = [generate_batch(model, plan, PROMPT, max_new_tokens=8, eos_id=NEVER) for _ in range(2)]
    assert runs[0] == runs[1]


def test_no_new_tokens_are_no_tokens() -> None:
    model, plan = build(batch=1)
    assert generate(model, plan, PROMPT, max_new_tokens=0, eos_id=NEVER) == []


def test_an_empty_prompt_is_refused() -> None:
    model, plan = build(batch=1)
    with pytest.raises(ValueError, match="prompt is empty"):
        generate(model, plan, [], max_new_tokens=4, eos_id=NEVER)


def test_one_study_means_one() -> None:
    model, plan = build(batch=2)
    with pytest.raises(ValueError, match="takes one study, got 2"):
        generate(model, plan, PROMPT, max_new_tokens=4, eos_id=NEVER)
