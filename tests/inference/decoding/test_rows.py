"""Rows of a batch are each what they would be alone, and no work is done twice or for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.inference.decoding.cases import EVERY, NEVER, PROMPTS, case
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.decoding.rows import begin
from uvlm.inference.generate import generate, generate_batch
from uvlm.models.uvlm import ReportModel

OPTIONS = {
    "greedy": GenerateOptions(max_new_tokens=10),
    "drawn": GenerateOptions(max_new_tokens=10, temperature=1.5, top_k=12, top_p=0.9, seed=3),
    "ruled": GenerateOptions(
        max_new_tokens=10, repetition_penalty=1.3, no_repeat_ngram=2, min_new_tokens=4
    ),
    "beams": GenerateOptions(max_new_tokens=6, beams=3, no_repeat_ngram=2),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bases")


def calls_of(model: ReportModel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(rows, positions) of each call of the decoder from now on."""
    calls: list[tuple[int, int]] = []
    hidden = model.decoder.hidden

    def count(embeddings: Any, *args: Any) -> Any:
        calls.append((embeddings.shape[0], embeddings.shape[1]))
        return hidden(embeddings, *args)

    monkeypatch.setattr(model.decoder, "hidden", count)
    return calls


@pytest.mark.parametrize("how", OPTIONS)
@pytest.mark.parametrize("name", EVERY)
def test_prompts_of_different_lengths_are_answered_as_alone_without_a_cache(
    folder: Path, name: str, how: str
) -> None:
    model, plan = case(name, folder)
    together = generate_batch(model, plan, PROMPTS, options=OPTIONS[how], eos_id=NEVER)
    alone = [
        generate(model, plan.rows([i]), ids, options=OPTIONS[how], eos_id=NEVER, cached=False)
        for i, ids in enumerate(PROMPTS)
    ]
    assert together == alone
    assert len({tuple(ids) for ids in together}) == 3


@pytest.mark.parametrize("how", OPTIONS)
@pytest.mark.parametrize("name", ["scratch", "authors", "qwen3"])
def test_rows_that_end_at_different_times_do_not_change_the_others(
    folder: Path, name: str, how: str
) -> None:
    model, plan = case(name, folder)
    endless = generate_batch(model, plan, PROMPTS, options=OPTIONS[how], eos_id=NEVER)
    differed = False
    for eos in {ids[at] for ids in endless for at in (1, 4)}:
        together = generate_batch(model, plan, PROMPTS, options=OPTIONS[how], eos_id=eos)
        alone = [
            generate(model, plan.rows([i]), ids, options=OPTIONS[how], eos_id=eos, cached=False)
            for i, ids in enumerate(PROMPTS)
        ]
        assert together == alone
        differed |= min(map(len, together)) < max(map(len, together))
    assert differed


@pytest.mark.parametrize("name", ["scratch", "many visual tokens", "authors", "gates", "phi3"])
def test_prompts_about_one_study_compute_its_visual_positions_once(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plan = case(name, folder, studies=1)
    alone = [generate(model, plan, ids, max_new_tokens=8, eos_id=NEVER) for ids in PROMPTS]
    calls = calls_of(model, monkeypatch)
    together = generate_batch(model, plan, PROMPTS, max_new_tokens=8, eos_id=NEVER)
    assert together == alone
    assert calls == [(1, len(plan.layout(0))), (3, 6), *[(3, 1)] * 7]


@pytest.mark.parametrize("name", ["scratch", "llama"])
def test_a_row_that_ended_leaves_the_computation(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plan = case(name, folder)
    endless = generate_batch(model, plan, PROMPTS, max_new_tokens=12, eos_id=NEVER)
    eos = endless[1][3]
    lengths = [ids.index(eos) if eos in ids else 12 for ids in endless]
    calls = calls_of(model, monkeypatch)
    written = generate_batch(model, plan, PROMPTS, max_new_tokens=12, eos_id=eos)
    assert [len(ids) for ids in written] == lengths
    expected = [sum(length > step for length in lengths) for step in range(11)]
    assert [rows for rows, _ in calls[1:]] == [rows for rows in expected if rows]
    assert min(expected) < 3


@torch.no_grad()
@pytest.mark.parametrize("name", ["scratch", "qwen3"])
def test_chosen_rows_go_on_as_the_rows_they_were(folder: Path, name: str) -> None:
    model, plan = case(name, folder)
    for chosen in ([2, 0], [1, 1, 2, 0], [2], [0, 1, 2]):
        rows, slow = (begin(model, plan, PROMPTS, count=9, cached=c) for c in (True, False))
        for each in (rows, slow):
            each.advance(torch.tensor([20, 21, 22]))
            each.choose(chosen)
            each.advance(torch.arange(len(chosen)) + 30)
        torch.testing.assert_close(rows.logits_nV, slow.logits_nV, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("prompts", [[], [[7], []]])
def test_empty_prompts_are_refused(folder: Path, prompts: list[list[int]]) -> None:
    model, plan = case("scratch", folder)
    with pytest.raises(ValueError, match="prompt is empty"):
        generate_batch(model, plan, prompts, max_new_tokens=2, eos_id=NEVER)


def test_other_numbers_of_prompts_than_studies_are_refused(folder: Path) -> None:
    model, plan = case("scratch", folder)
    with pytest.raises(ValueError, match="2 prompts do not belong to 3 studies"):
        generate_batch(model, plan, PROMPTS[:2], max_new_tokens=2, eos_id=NEVER)
