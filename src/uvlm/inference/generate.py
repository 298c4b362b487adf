"""Text from a report model: greedy, drawn or by beams, for one study or many.

Whatever is asked, `cached=False` computes it without a cache, row by row: slow and obvious, the
oracle of the cached way, whose tokens must be the same; of a decoder in 16 or 8 bits up to where
two logits are as close as these bits round. Rows do not see each other: each text is what it would
be alone, up to where two logits are as close as rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch

from uvlm.errors import ConfigError
from uvlm.inference.decoding.beams import search
from uvlm.inference.decoding.follow import Row, follow
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.decoding.rows import begin
from uvlm.inference.decoding.stopping import Candidate, Ending
from uvlm.models.injection import VisualPlan
from uvlm.models.uvlm import ReportModel
from uvlm.text.draft import Draft
from uvlm.text.tokenizer import Tokenizer

__all__ = ["Candidate", "candidates", "generate", "generate_batch", "stream", "write"]


def generate(
    model: ReportModel,
    plan: VisualPlan,
    prompt_ids: Sequence[int],
    *,
    eos_id: int,
    max_new_tokens: int | None = None,
    options: GenerateOptions | None = None,
    cached: bool = True,
) -> list[int]:
    """Ids that follow `prompt_ids` for one study, without the closing `eos_id`. Stop strings need a
    tokenizer: see `write`.

    Args:
        max_new_tokens: in the place of the options'; 0 writes nothing

    Raises:
        ValueError: an empty prompt, or a plan of more than one study.
    """
    if len(plan.prefix) != 1:
        raise ValueError(f"generate takes one study, got {len(plan.prefix)}; use generate_batch")
    (ids,) = generate_batch(
        model,
        plan,
        prompt_ids,
        eos_id=eos_id,
        max_new_tokens=max_new_tokens,
        options=options,
        cached=cached,
    )
    return ids


def generate_batch(
    model: ReportModel,
    plan: VisualPlan,
    prompt_ids: Sequence[int] | Sequence[Sequence[int]],
    *,
    eos_id: int,
    max_new_tokens: int | None = None,
    options: GenerateOptions | None = None,
    cached: bool = True,
) -> list[list[int]]:
    """As `generate`, for every study of `plan` at once.

    Args:
        prompt_ids: one prompt for all studies, or one for each; several for a single study are
            each answered for it
    """
    if prompt_ids and isinstance(prompt_ids[0], int):
        prompts = [cast(Sequence[int], prompt_ids)] * len(plan.prefix)
    else:
        prompts = list(cast(Sequence[Sequence[int]], prompt_ids))
    options = options or GenerateOptions()
    if max_new_tokens == 0:
        return [[] for _ in prompts]
    if max_new_tokens is not None:
        options = replace(options, max_new_tokens=max_new_tokens)
    written = write(model, plan, prompts, options, eos_id=eos_id, cached=cached)
    return [candidate.ids for candidate in written]


@torch.inference_mode()
def write(
    model: ReportModel,
    plan: VisualPlan,
    prompts: Sequence[Sequence[int]],
    options: GenerateOptions,
    *,
    eos_id: int,
    tokenizer: Tokenizer | None = None,
    draft: Draft | None = None,
    cached: bool = True,
) -> list[Candidate]:
    """One text per prompt.

    Drawing begins from the options' seed in every row, so that a study reads the same in any
    batch. Log-probabilities are not counted, except by beams.

    Args:
        plan: of as many studies as prompts, or of one that all prompts ask about
        draft: proposes tokens, where decoding is greedy and the decoder in 32 bits; the tokens are
            the same, sooner

    Raises:
        ValueError: an empty prompt, or another number of studies.
        ConfigError: stop strings without a tokenizer.
    """
    ending = Ending(options, eos_id, tokenizer)
    # A stop string is looked for after each token; speculation writes several at a time.
    quick = options.greedy and options.speculative and not options.stop
    if draft is not None and quick and cached and len(prompts) == 1 and prompts[0]:
        from uvlm.inference.decoding.speculate import pays, speculate

        if pays(model.decoder):
            most = options.max_new_tokens
            ids, _ = speculate(model, plan, prompts[0], draft, max_new_tokens=most, eos_id=eos_id)
            return [ending.whole(ids, cut=len(ids) == most)]
    rows = begin(model, plan, prompts, count=options.max_new_tokens, cached=cached)
    if options.beams > 1:
        return [found[0] for found in search(rows, len(prompts), options, ending)]
    texts = [Row(seed=options.seed) for _ in prompts]
    for _ in follow(rows, texts, options, ending):
        pass
    return [_done(text) for text in texts]


@torch.inference_mode()
def candidates(
    model: ReportModel,
    plan: VisualPlan,
    prompt_ids: Sequence[int],
    options: GenerateOptions,
    *,
    eos_id: int,
    tokenizer: Tokenizer | None = None,
    count: int,
    cached: bool = True,
) -> list[Candidate]:
    """Several texts for one study, with their log-probabilities: the best beams, best first, or
    texts drawn from the options' seed and those after it.

    Beams may find fewer where the limit or the rules leave fewer.

    Raises:
        ConfigError: neither beams nor drawing give `count` texts.
        ValueError: an empty prompt, or a plan of more than one study.
    """
    if len(plan.prefix) != 1:
        raise ValueError(f"candidates are of one study, got {len(plan.prefix)}")
    if not 1 <= count <= (options.beams if options.temperature == 0 else count):
        raise ConfigError(
            f"{options.beams} beams cannot give {count} candidates; raise beams, or draw with a "
            "temperature above 0."
        )
    ending = Ending(options, eos_id, tokenizer)
    rows = begin(model, plan, [prompt_ids], count=options.max_new_tokens, cached=cached)
    if options.beams > 1:
        return search(rows, 1, options, ending)[0][:count]
    texts = [Row(seed=options.seed + number) for number in range(count)]
    rows.choose([0] * count)
    for _ in follow(rows, texts, options, ending, scored=True):
        pass
    return [_done(text) for text in texts]


def stream(
    model: ReportModel,
    plan: VisualPlan,
    prompt_ids: Sequence[int],
    options: GenerateOptions,
    *,
    eos_id: int,
    tokenizer: Tokenizer,
    cached: bool = True,
) -> Iterator[str]:
    """The text for one study, piece by piece as it is written; the pieces together are what
    `write` gives.

    A piece ends with a whole character and holds nothing that may yet be a stop string.

    Raises:
        ConfigError: beams, which are known at their end only.
        ValueError: an empty prompt, or a plan of more than one study.
    """
    if options.beams > 1:
        raise ConfigError("beams are known at their end only; stream with beams=1.")
    if len(plan.prefix) != 1:
        raise ValueError(f"stream takes one study, got {len(plan.prefix)}")
    return _pieces(model, plan, prompt_ids, options, Ending(options, eos_id, tokenizer), cached)


def _pieces(
    model: ReportModel,
    plan: VisualPlan,
    prompt_ids: Sequence[int],
    options: GenerateOptions,
    ending: Ending,
    cached: bool,
) -> Iterator[str]:
    text, sent = Row(seed=options.seed), ""
    with torch.inference_mode():
        rows = begin(model, plan, [prompt_ids], count=options.max_new_tokens, cached=cached)
    for _ in follow(rows, [text], options, ending):
        so_far = ending.settled(text.ids) if text.done is None else text.done.text
        assert so_far is not None, "there is a tokenizer"
        if len(so_far) > len(sent) and so_far.startswith(sent):
            yield so_far[len(sent) :]
            sent = so_far


def _done(text: Row) -> Candidate:
    assert text.done is not None, "every text ends at the limit at last"
    return text.done
