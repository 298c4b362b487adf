"""Beams find what a slow search over whole sequences, and what transformers, finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.inference.decoding.cases import EVERY, NEVER, PRETRAINED, PROMPTS, case, log_chances
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.generate import candidates, generate, generate_batch
from uvlm.models.injection import VisualPlan
from uvlm.models.uvlm import ReportModel

MOST = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bases")


@dataclass
class Search:
    """Beam search as one reads it in a book: every continuation of every beam, sorted."""

    model: ReportModel
    plan: VisualPlan
    width: int
    penalty: float
    eos: int

    def best(self, prompt: list[int]) -> list[tuple[float, list[int]]]:
        running, finished = [(0.0, list[int]())], list[tuple[float, list[int]]]()
        for length in range(1, MOST + 1):
            grown = [
                (score + value, [*ids, token])
                for score, ids in running
                for token, value in enumerate(
                    log_chances(self.model, self.plan, prompt + ids)[-1].tolist()
                )
            ]
            grown = sorted(grown, key=lambda pair: -pair[0])[: 2 * self.width]
            over = [ids[-1] == self.eos or length == MOST for _, ids in grown]
            finished += [
                (score / length**self.penalty, ids)
                for (score, ids), done in list(zip(grown, over, strict=True))[: self.width]
                if done
            ]
            finished = sorted(finished, key=lambda pair: -pair[0])[: self.width]
            running = [pair for pair, done in zip(grown, over, strict=True) if not done]
            running = running[: self.width]
            if not running:
                break
            hopeless = running[0][0] / length**self.penalty <= finished[-1][0] if finished else True
            if len(finished) == self.width and hopeless:
                break
        return [(score, [t for t in ids if t != self.eos]) for score, ids in finished]


def frequent(model: ReportModel, plan: VisualPlan) -> int:
    """A token that beams come upon early."""
    chances = log_chances(model, plan, PROMPTS[0])[-1]
    return int(chances.topk(3).indices[2])


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("name", ["scratch", "authors", "gates", "llama"])
def test_beams_are_those_of_the_slow_search(folder: Path, name: str, penalty: float) -> None:
    model, plan = case(name, folder, studies=1)
    eos = frequent(model, plan)
    options = GenerateOptions(max_new_tokens=MOST, beams=3, length_penalty=penalty)
    found = candidates(model, plan, PROMPTS[0], options, eos_id=eos, count=3)
    slow = Search(model, plan, 3, penalty, eos).best(PROMPTS[0])
    assert [each.ids for each in found] == [ids for _, ids in slow]
    for each, (score, _) in zip(found, slow, strict=True):
        length = len(each.ids) + (not each.cut)
        assert each.log_probability == pytest.approx(score * length**penalty, abs=1e-3)
    if penalty == 0:  # short texts are preferred
        assert any(len(each.ids) < MOST for each in found)


@pytest.mark.parametrize("name", EVERY)
def test_cached_beams_equal_uncached_ones(folder: Path, name: str) -> None:
    model, plan = case(name, folder)
    options = GenerateOptions(max_new_tokens=MOST, beams=4, repetition_penalty=1.1)
    eos = frequent(model, plan.rows([0]))
    cached, uncached = (
        generate_batch(model, plan, PROMPTS, options=options, eos_id=eos, cached=cached)
        for cached in (True, False)
    )
    assert cached == uncached


@pytest.mark.filterwarnings("ignore:Passing `.*` with `inputs_embeds`")
@pytest.mark.parametrize("penalty", [0.5, 1.0])
@pytest.mark.parametrize("kind", PRETRAINED)
def test_beams_are_those_of_transformers(folder: Path, kind: str, penalty: float) -> None:
    model, plan = case(kind, folder)
    prompt, eos = PROMPTS[0], frequent(model, plan.rows([0]))
    rules = {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "min_new_tokens": 2}
    with torch.no_grad():
        embeddings, layout = model.embed(plan, torch.tensor([prompt] * 3))
        with model.decoder.seeing(layout, plan):
            theirs = model.decoder.model.generate(
                inputs_embeds=embeddings,
                attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
                do_sample=False,
                num_beams=3,
                max_new_tokens=MOST,
                length_penalty=penalty,
                eos_token_id=eos,
                pad_token_id=0,
                **rules,
            ).tolist()
    options = GenerateOptions(
        max_new_tokens=MOST,
        min_new_tokens=2,
        beams=3,
        length_penalty=penalty,
        repetition_penalty=1.2,
        no_repeat_ngram=2,
    )
    ours = generate_batch(model, plan, prompt, options=options, eos_id=eos)
    assert ours == [ids[: ids.index(eos)] if eos in ids else ids for ids in theirs]


def test_one_beam_is_greedy_and_more_are_no_less_probable(folder: Path) -> None:
    model, plan = case("scratch", folder, studies=1)

    def best(beams: int) -> float:
        # Log-probabilities are compared, not those per token; one beam compares nothing.
        penalty = 0.0 if beams > 1 else 1.0
        options = GenerateOptions(max_new_tokens=MOST, beams=beams, length_penalty=penalty)
        (found,) = candidates(model, plan, PROMPTS[0], options, eos_id=NEVER, count=1)
        if beams == 1:
            greedy = generate(model, plan, PROMPTS[0], max_new_tokens=MOST, eos_id=NEVER)
            assert found.ids == greedy
        assert found.log_probability is not None
        return found.log_probability

    assert best(1) < best(8)
