"""Greedy text from a report model: the most probable token, again and again.

With the cache every position passes the decoder once: the whole prompt with its visual plan first,
then one token at a time. Without it the whole sequence is computed anew for each token: slow and
obvious, the oracle of the cached way, whose text must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from uvlm.models.injection import VisualPlan
from uvlm.models.uvlm import ReportModel

__all__ = ["generate", "generate_batch"]

LAST = slice(-1, None)


def generate(
    model: ReportModel,
    plan: VisualPlan,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    eos_id: int,
    cached: bool = True,
) -> list[int]:
    """Ids that follow `prompt_ids` for one study, without the closing `eos_id`.

    Raises:
        ValueError: an empty prompt, or a plan of more than one study.
    """
    if len(plan.prefix) != 1:
        raise ValueError(f"generate takes one study, got {len(plan.prefix)}; use generate_batch")
    (ids,) = generate_batch(
        model, plan, prompt_ids, max_new_tokens=max_new_tokens, eos_id=eos_id, cached=cached
    )
    return ids


def generate_batch(
    model: ReportModel,
    plan: VisualPlan,
    prompt_ids: Sequence[int],
    *,
    max_new_tokens: int,
    eos_id: int,
    cached: bool = True,
) -> list[list[int]]:
    """As `generate`, for every study of `plan` at once under one prompt.

    Each study's text is what it would be alone: rows do not see each other.
    """
    if not prompt_ids:
        raise ValueError("the prompt is empty; at least one token must come before the report")
    step = _cached_tokens if cached else _uncached_tokens
    written: list[list[int]] = [[] for _ in range(len(plan.prefix))]
    ended = [False] * len(written)
    with torch.inference_mode():
        prompt_BT = torch.tensor([list(prompt_ids)], device=plan.prefix.device)
        tokens = step(model, plan, prompt_BT.expand(len(written), -1), max_new_tokens)
        for next_B in tokens:
            for row, token in enumerate(next_B.tolist()):
                ended[row] = ended[row] or token == eos_id
                if not ended[row]:
                    written[row].append(token)
            if all(ended):
                break
    return written


def _cached_tokens(
    model: ReportModel, plan: VisualPlan, prompt_BT: Tensor, count: int
) -> Iterator[Tensor]:
    decoder, num_text = model.decoder, prompt_BT.shape[1]
    cache = decoder.new_cache(len(prompt_BT), len(plan.layout(num_text + count)))
    embeddings_BLE, layout = model.embed(plan, prompt_BT)
    logits_B1V, _ = decoder(embeddings_BLE, layout, plan, cache, LAST)
    for extra in range(1, count + 1):
        next_B1 = logits_B1V.argmax(dim=-1)
        yield next_B1[:, 0]
        if extra < count:
            layout = plan.layout(num_text + extra)
            logits_B1V, _ = decoder(decoder.embedding(next_B1), layout, None, cache, LAST)


def _uncached_tokens(
    model: ReportModel, plan: VisualPlan, prompt_BT: Tensor, count: int
) -> Iterator[Tensor]:
    tokens_BT = prompt_BT
    for _ in range(count):
        next_B1 = model.decode(plan, tokens_BT, logits_at=LAST).argmax(dim=-1)
        yield next_B1[:, 0]
        tokens_BT = torch.cat((tokens_BT, next_B1), dim=1)
