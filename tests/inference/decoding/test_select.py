"""Rules are those of transformers, draws follow the probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.inference.decoding.cases import NEVER, PROMPTS, log_chances, spoken
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.decoding.select import draw, ruled, uniforms
from uvlm.inference.generate import candidates, generate

SCORES = 3 * torch.randn(4, 40, generator=torch.Generator().manual_seed(0))
WRITTEN = torch.tensor([[5, 6, 7, 5, 6], [1, 1, 1, 1, 1], [0, 1, 2, 3, 4], [9, 8, 9, 7, 9]])
EOS = 2


def theirs(processors: list[Any], scores: Tensor) -> Tensor:
    for processor in processors:
        scores = processor(WRITTEN, scores.clone())
    return scores


@pytest.mark.parametrize("scores", [SCORES, SCORES.log_softmax(-1)], ids=["logits", "log"])
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_rules_are_those_of_transformers(scores: Tensor, size: int) -> None:
    from transformers.generation import logits_process as process

    expected = theirs(
        [
            process.RepetitionPenaltyLogitsProcessor(1.7),
            process.NoRepeatNGramLogitsProcessor(size),
            process.MinLengthLogitsProcessor(6, EOS),
        ],
        scores,
    )
    options = GenerateOptions(repetition_penalty=1.7, no_repeat_ngram=size, min_new_tokens=6)
    before = scores.clone()
    torch.testing.assert_close(ruled(scores, WRITTEN, options, EOS), expected)
    assert torch.equal(scores, before)


def test_rules_that_are_not_asked_change_nothing() -> None:
    options = GenerateOptions(min_new_tokens=5)
    assert ruled(SCORES, WRITTEN, options, EOS) is SCORES
    none = torch.empty(4, 0, dtype=torch.long)
    strict = GenerateOptions(repetition_penalty=2.0, no_repeat_ngram=1)
    assert ruled(SCORES, none, strict, EOS) is SCORES


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (0.5, 0, 1.0), (1.0, 5, 1.0), (1.0, 0, 0.6), (2.0, 9, 0.8), (1.0, 99, 0.01)],
)
def test_draws_follow_the_probabilities_left_by_transformers(
    temperature: float, top_k: int, top_p: float
) -> None:
    """Every token's share of evenly spaced draws is its probability, to the spacing."""
    from transformers.generation import logits_process as process

    warpers: list[Any] = [process.TemperatureLogitsWarper(temperature)]
    warpers += [process.TopKLogitsWarper(top_k)] if top_k else []
    warpers += [process.TopPLogitsWarper(top_p)] if top_p < 1 else []
    expected = theirs(warpers, SCORES).softmax(-1)
    options = GenerateOptions(temperature=temperature, top_k=top_k, top_p=top_p)
    count = 4000
    even = (torch.arange(count) + 0.5) / count
    for row, chances in zip(SCORES, expected, strict=True):
        tokens = draw(row.expand(count, -1), even, options)
        shares = tokens.bincount(minlength=40) / count
        torch.testing.assert_close(shares, chances, atol=1.5 / count, rtol=0)


@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_no_draw_falls_behind_the_last_token_or_on_a_forbidden_one(top_p: float) -> None:
    scores = torch.full((2, 50), -torch.inf)
    scores[:, 10:20] = 0.0
    ends = torch.tensor([0.0, 1 - 2**-24])
    tokens = draw(scores, ends, GenerateOptions(temperature=1e-3, top_p=top_p))
    assert tokens.tolist() == ([10, 19] if top_p == 1 else tokens.tolist())
    assert all(10 <= token < 20 for token in tokens.tolist())


def test_a_rows_numbers_are_its_seeds_alone() -> None:
    device = torch.device("cpu")
    together = uniforms([3, 4, 3], 6, device)
    assert torch.equal(together[0], together[2])
    assert torch.equal(together[1], uniforms([4], 9, device)[0, :6])
    assert not torch.equal(together[0], together[1])


def test_a_cold_draw_is_the_greedy_text_and_seeds_give_different_ones() -> None:
    model, plan, _ = spoken()
    plan = plan.rows([0])

    def text(**how: Any) -> list[int]:
        options = GenerateOptions(max_new_tokens=12, **how)
        return generate(model, plan, PROMPTS[0], options=options, eos_id=NEVER)

    assert text(temperature=1e-4) == text(temperature=1.0, top_k=1) == text()
    assert text(temperature=2.0, seed=1) == text(temperature=2.0, seed=1)
    assert len({tuple(text(temperature=2.0, seed=seed)) for seed in range(4)}) == 4


@pytest.mark.parametrize("how", [{"temperature": 1.3, "top_k": 20, "seed": 5}, {"beams": 3}])
@pytest.mark.parametrize("cached", [True, False])
def test_candidates_tell_what_the_model_says_of_them(how: dict[str, Any], cached: bool) -> None:
    model, plan, tokenizer = spoken()
    plan, prompt = plan.rows([0]), PROMPTS[0]
    options = GenerateOptions(max_new_tokens=8, repetition_penalty=1.2, **how)
    eos = generate(model, plan, prompt, max_new_tokens=3, eos_id=NEVER)[-1]
    found = candidates(
        model, plan, prompt, options, eos_id=eos, tokenizer=tokenizer, count=3, cached=cached
    )
    assert len({tuple(each.ids) for each in found}) == 3
    for each in found:
        whole = each.ids if each.cut else [*each.ids, eos]
        logs = log_chances(model, plan, prompt + whole)[len(prompt) - 1 : -1]
        expected = logs.gather(1, torch.tensor(whole)[:, None]).sum().item()
        assert each.log_probability == pytest.approx(expected, abs=1e-3)
        assert each.text == tokenizer.decode(each.ids)
        assert each.cut == (len(whole) == 8 and whole[-1] != eos)


def test_drawn_candidates_are_the_texts_of_their_seeds() -> None:
    model, plan, _ = spoken()
    plan = plan.rows([1])
    options = GenerateOptions(max_new_tokens=8, temperature=1.3, seed=5)
    found = candidates(model, plan, PROMPTS[1], options, eos_id=NEVER, count=3)
    for number, each in enumerate(found):
        alone = GenerateOptions(max_new_tokens=8, temperature=1.3, seed=5 + number)
        assert each.ids == generate(model, plan, PROMPTS[1], options=alone, eos_id=NEVER)


@pytest.mark.parametrize(("how", "count"), [({}, 2), ({"beams": 2}, 3), ({"temperature": 1.0}, 0)])
def test_more_candidates_than_there_can_be_are_refused(how: dict[str, Any], count: int) -> None:
    from uvlm.errors import ConfigError

    model, plan, _ = spoken()
    with pytest.raises(ConfigError, match=f"cannot give {count} candidates"):
        candidates(model, plan.rows([0]), [7], GenerateOptions(**how), eos_id=NEVER, count=count)
    with pytest.raises(ValueError, match="of one study, got 2"):
        candidates(model, plan, [7], GenerateOptions(), eos_id=NEVER, count=1)
