"""The loop that writes one token of every row at a time, greedy or drawn.

Shapes: n rows that go on, S tokens written so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.decoding.rows import Rows
from uvlm.inference.decoding.select import select, uniforms
from uvlm.inference.decoding.stopping import Candidate, Ending

__all__ = ["Row", "follow"]


@dataclass(kw_only=True, eq=False)
class Row:
    """One text under way."""

    seed: int = 0
    """Of its drawing."""

    ids: list[int] = field(default_factory=list)
    """Written so far."""

    log_probability: float = 0.0
    """Of these, if asked."""

    done: Candidate | None = None
    """The text, once it is complete."""


@torch.inference_mode()
def follow(
    rows: Rows, texts: Sequence[Row], options: GenerateOptions, ending: Ending, scored: bool = False
) -> Iterator[None]:
    """Each iteration writes one token of every text that is not `done`, until all are.

    A row that ended leaves the computation at once: copying the others' keys costs about what one
    step reads of them, and is done at most once per row.

    Args:
        rows: one for each of `texts`
        scored: add up log-probabilities
    """
    device, active = rows.device, list(texts)
    written_nS = torch.empty(len(active), 0, dtype=torch.long, device=device)
    drawn = None
    if options.temperature > 0:
        drawn = uniforms([text.seed for text in active], options.max_new_tokens, device)
    for step in range(options.max_new_tokens):
        uniform_n = None if drawn is None else drawn[:, step]
        if options.greedy:
            tokens_n = rows.best()
        else:
            tokens_n = select(rows.logits_nV, written_nS, uniform_n, options, ending.eos_id)
        if scored:
            _score(active, rows.logits_nV, tokens_n)
        for text, token in zip(active, tokens_n.tolist(), strict=True):
            text.ids.append(token)
            text.done = ending.of(text.ids, text.log_probability if scored else None)
        yield
        going = [place for place, text in enumerate(active) if text.done is None]
        if not going:
            return
        written_nS = torch.cat((written_nS, tokens_n[:, None]), dim=1)
        if len(going) < len(active):
            rows.choose(going)
            active = [active[place] for place in going]
            tokens_n, written_nS = tokens_n[going], written_nS[going]
            drawn = None if drawn is None else drawn[going]
        rows.advance(tokens_n)


def _score(texts: Sequence[Row], logits_nV: Tensor, tokens_n: Tensor) -> None:
    log_nV = logits_nV.float().log_softmax(dim=-1)
    added = log_nV.gather(1, tokens_n[:, None])[:, 0].tolist()
    for text, value in zip(texts, added, strict=True):
        text.log_probability += value
