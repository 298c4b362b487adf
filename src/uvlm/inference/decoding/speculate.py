"""Exact speculative decoding: a draft proposes tokens, the decoder verifies them in one call.

Reading several tokens costs a decoder hardly more than reading one: both read all its weights. The
tokens are those of greedy decoding, token by token. Several rows at once are rounded otherwise than
one, so where the two best logits are closer than rounding could move them, everything since the
last such place is read again token by token, as greedy decoding does, and that decides.

Shapes: n tokens of a call, E width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from uvlm.models.injection import VisualPlan
from uvlm.models.low_bit import LowEmbedding, LowLinear, Weights32
from uvlm.models.uvlm import ReportModel

__all__ = ["NARROW", "WIDE", "Proposer", "Steps", "pays", "speculate"]

FEWEST, MOST = 3, 15
"""Tokens asked of the draft after it was wrong at once, and otherwise. Up to four rows cost a
decoder what one does, sixteen twice as much."""

WIDE = 1e-4
"""Of the largest logit: two logits closer than this are a near tie in 32 bits. Chosen, not proved:
it is 25 times what decoding in several rows moved those of the paper's decoder by, 4e-6, as deeper
decoders and other processors will move them further; and still few tokens are read again."""

NARROW = 2**-5
"""The same where weights or products have fewer bits: four steps of bfloat16. Most tokens are then
near ties, so that nothing is won: see `pays`."""

LAST = slice(-1, None)


class Proposer(Protocol):
    """What speculation asks for proposals; they may be wrong."""

    def propose(self, report: Sequence[int], most: int) -> list[int]:
        """Up to `most` ids that may follow those written so far."""


@dataclass(kw_only=True)
class Steps:
    """What a report cost."""

    calls: int = 0
    """Of the decoder, the prompt's included."""

    proposed: int = 0
    accepted: int = 0
    replayed: int = 0
    """Tokens read again because of near ties."""


def speculate(
    model: ReportModel,
    plan: VisualPlan,
    prompt_ids: Sequence[int],
    draft: Proposer,
    *,
    max_new_tokens: int,
    eos_id: int,
) -> tuple[list[int], Steps]:
    """What greedy decoding writes after `prompt_ids` for one study, without the closing `eos_id`.

    Raises:
        ValueError: an empty prompt, or a plan of more than one study.
    """
    if not prompt_ids or len(plan.prefix) != 1:
        raise ValueError(
            f"speculation needs a prompt and one study, got {len(prompt_ids)} tokens and "
            f"{len(plan.prefix)} studies"
        )
    if max_new_tokens < 1:
        return [], Steps()
    with torch.inference_mode():
        reading = _Reading(model, plan, prompt_ids, max_new_tokens)
        written: list[int] = []
        token, length = reading.first, MOST
        while token != eos_id:
            written.append(token)
            room = max_new_tokens - len(written) - 1
            if room < 0:
                break
            proposed = draft.propose(written, min(length, room))
            token, accepted = reading.verify(written, proposed, eos_id)
            length = MOST if accepted or not proposed else FEWEST
    return written, reading.steps


class _Reading:
    """One report on its way through the decoder."""

    def __init__(
        self, model: ReportModel, plan: VisualPlan, prompt_ids: Sequence[int], most: int
    ) -> None:
        self.decoder: Any = model.decoder
        self.plan, self.num_prompt = plan, len(prompt_ids)
        self.device = plan.prefix.device
        self.tolerance = _tolerance(model.decoder)
        self.steps = Steps(calls=1)
        self.single = 0
        """Tokens of the report that were read as greedy decoding reads them, from the first on."""
        layout = plan.layout(self.num_prompt + most)
        self.cache = self.decoder.new_cache(1, len(layout))
        prompt_1T = torch.tensor([list(prompt_ids)], device=self.device)
        embeddings, layout = model.embed(plan, prompt_1T)
        last_11E = self.decoder.states(embeddings, layout, plan, self.cache, LAST)
        self.start = len(layout)
        self.first = int(self.decoder.best(last_11E))

    def verify(self, written: list[int], proposed: list[int], eos_id: int) -> tuple[int, int]:
        """Read the last of `written` and all `proposed` and put those that hold behind `written`.

        Returns:
            the token that follows them, and how many held
        """
        before = len(written)
        states_1nE = self._read([*written[-1:], *proposed], before + len(proposed))
        best_1n, near_1n = self.decoder.ranked(states_1nE, self.tolerance)
        best: list[int] = best_1n[0].tolist()
        held = 0
        while held < len(proposed) and proposed[held] == best[held] != eos_id:
            held += 1
        self.steps.proposed += len(proposed)
        if not proposed and self.single == before - 1:
            self.single = before
            return best[0], 0
        near: list[bool] = near_1n[0, : held + 1].tolist()
        sure = near.index(True) if True in near else None
        held = held if sure is None else sure
        written += proposed[:held]
        self.steps.accepted += held
        self.cache.crop(self.start + len(written))
        return (best[held] if sure is None else self._again(written)), held

    def _read(self, tokens: list[int], report_length: int) -> Tensor:
        """(1, n, E): states after each of `tokens`, the last of a report so long."""
        self.steps.calls += 1
        tokens_1n = torch.tensor([tokens], device=self.device)
        layout = self.plan.layout(self.num_prompt + report_length)
        made = self.decoder.states(self.decoder.embedding(tokens_1n), layout, None, self.cache)
        return torch.as_tensor(made)

    def _again(self, written: list[int]) -> int:
        """The token after `written` as greedy decoding finds it, the cache being as it has it."""
        self.cache.crop(self.start + self.single)
        self.steps.replayed += len(written) - self.single
        for length in range(self.single + 1, len(written) + 1):
            last_11E = self._read(written[length - 1 : length], length)
        self.single = len(written)
        return int(self.decoder.best(last_11E))


def pays(decoder: nn.Module) -> bool:
    """Whether speculation is any sooner: not with fewer bits than 32. In bf16 and int8 four of five
    tokens of held-out reports were read again, which took as long as greedy decoding does."""
    return _tolerance(decoder) == WIDE


def _tolerance(decoder: nn.Module) -> float:
    """Of the largest logit, by the fewest bits anything is computed in."""
    narrow = torch.get_float32_matmul_precision() != "highest"
    low = [each for each in decoder.modules() if isinstance(each, LowEmbedding | LowLinear)]
    narrow = narrow or any(not isinstance(each.weights, Weights32) for each in low)
    narrow = narrow or any(each.itemsize < 4 for each in {p.dtype for p in decoder.parameters()})
    return NARROW if narrow else WIDE
