"""Sequences that grow token by token: what the decoder says comes next, and who goes on.

`CachedRows` passes every position through the decoder once: prompts with their visual plan first,
then one token of each row at a time. `UncachedRows` computes each row's whole sequence anew, alone:
slow and obvious, the oracle of the other, whose tokens must be the same.

Shapes: n rows that go on, B rows at the beginning, T text tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from uvlm.models.injection import VisualPlan
from uvlm.models.language import Cache, LanguageDecoder
from uvlm.models.layout import PaddedPrompts
from uvlm.models.uvlm import ReportModel

__all__ = ["CachedRows", "Rows", "UncachedRows", "begin"]

LAST = slice(-1, None)


class Rows(Protocol):
    """Sequences under way."""

    device: torch.device

    @property
    def logits_nV(self) -> Tensor:
        """What comes next in each row."""

    def best(self) -> Tensor:
        """(n,): the most probable token of each row."""

    def advance(self, tokens_n: Tensor) -> None:
        """Append one token to each row."""

    def choose(self, chosen: Sequence[int], *, alike: bool = False) -> None:
        """Row i becomes what row `chosen[i]` was; rows may be repeated and left out.

        Args:
            alike: no row changes its study or prompt, and their number stays
        """


def begin(
    model: ReportModel,
    plan: VisualPlan,
    prompts: Sequence[Sequence[int]],
    *,
    count: int,
    cached: bool = True,
) -> Rows:
    """One row per prompt.

    Args:
        plan: of as many studies as prompts, or of one that all prompts ask about
        count: tokens that will be written at most

    Raises:
        ValueError: an empty prompt, or another number of studies.
    """
    if not prompts or not all(prompts):
        raise ValueError("the prompt is empty; at least one token must come before the report")
    if len(plan.prefix) not in (1, len(prompts)):
        raise ValueError(f"{len(prompts)} prompts do not belong to {len(plan.prefix)} studies")
    if cached:
        return CachedRows(model, plan, prompts, count)
    return UncachedRows(model, plan, prompts)


class CachedRows:
    """Several prompts about one study share its visual positions: they are computed once."""

    _last_nE: Tensor
    """Hidden states of each row's last token."""

    _logits_nV: Tensor | None
    """Of these, once someone asked."""

    def __init__(
        self, model: ReportModel, plan: VisualPlan, prompts: Sequence[Sequence[int]], count: int
    ) -> None:
        self._decoder = model.decoder
        self._plan, self.device = plan, plan.prefix.device
        lengths = [len(prompt) for prompt in prompts]
        self._num_text = longest = max(lengths)
        self._prompts = None
        if min(lengths) < longest:
            self._prompts = PaddedPrompts(lengths_B=self._tensor(lengths), longest=longest)
        # What stands in a padded place is never seen; any token will do.
        tokens_BT = self._tensor([[*ids, *[ids[-1]] * (longest - len(ids))] for ids in prompts])
        studies, self._count = len(plan.prefix), len(prompts)
        self._given = len(plan.layout(longest))
        self._cache: Cache = model.decoder.new_cache(studies, self._given + count)
        if studies == self._count:
            embeddings_BLE, _ = model.embed(plan, tokens_BT)
            seen: VisualPlan | None = plan
        else:
            embeddings_1LE, layout = model.embed(plan, tokens_BT[:1, :0])
            decoder = cast(LanguageDecoder, self._decoder)
            decoder.hidden(embeddings_1LE, layout, plan, self._cache)
            self._cache.choose(self._tensor([0] * self._count))
            embeddings_BLE, seen = self._decoder.embedding(tokens_BT), None
        at: Tensor | slice = LAST
        if self._prompts is not None:
            at = torch.arange(longest, device=self.device) == self._prompts.lengths_B[:, None] - 1
        self._read(embeddings_BLE, seen, at)

    @property
    def logits_nV(self) -> Tensor:
        if self._logits_nV is None:
            self._logits_nV = torch.as_tensor(self._decoder.head(self._last_nE[:, None]))[:, 0]
        return self._logits_nV

    def best(self) -> Tensor:
        return torch.as_tensor(self._decoder.best(self._last_nE[:, None]))[:, 0]

    def advance(self, tokens_n: Tensor) -> None:
        self._num_text += 1
        self._read(self._decoder.embedding(tokens_n[:, None]), None, LAST)

    def choose(self, chosen: Sequence[int], *, alike: bool = False) -> None:
        if list(chosen) == list(range(self._count)):
            return
        chosen_n, self._count = self._tensor(chosen), len(chosen)
        self._cache.choose(chosen_n, self._given if alike else 0)
        self._last_nE, self._logits_nV = self._last_nE[chosen_n], None
        if self._prompts is not None:
            self._prompts = self._prompts.rows(chosen_n)

    def _read(self, embeddings_nTE: Tensor, plan: VisualPlan | None, at: Tensor | slice) -> None:
        layout = self._plan.layout(self._num_text, self._prompts)
        states = self._decoder.states(embeddings_nTE, layout, plan, self._cache, at)
        self._last_nE, self._logits_nV = states.flatten(0, -2), None

    def _tensor(self, values: Sequence[object]) -> Tensor:
        return torch.tensor(values, device=self.device)


class UncachedRows:
    """Every token costs the whole sequence."""

    logits_nV: Tensor

    def __init__(
        self, model: ReportModel, plan: VisualPlan, prompts: Sequence[Sequence[int]]
    ) -> None:
        self._model, self.device = model, plan.prefix.device
        shared = len(plan.prefix) == 1
        self._rows = [
            (plan.rows([0 if shared else row]), list(ids)) for row, ids in enumerate(prompts)
        ]
        self._read()

    def best(self) -> Tensor:
        return self.logits_nV.argmax(dim=-1)

    def advance(self, tokens_n: Tensor) -> None:
        pairs = zip(self._rows, tokens_n.tolist(), strict=True)
        self._rows = [(plan, [*ids, token]) for (plan, ids), token in pairs]
        self._read()

    def choose(self, chosen: Sequence[int], *, alike: bool = False) -> None:
        self._rows = [self._rows[row] for row in chosen]
        self.logits_nV = self.logits_nV[list(chosen)]

    def _read(self) -> None:
        each = [
            self._model.decode(
                plan, torch.tensor([ids], device=plan.prefix.device), logits_at=LAST
            )[0]
            for plan, ids in self._rows
        ]
        self.logits_nV = torch.cat(each)
