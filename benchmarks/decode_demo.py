"""The rows of `decode.py` that need a trained demo: its held-out studies and training reports."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from harness import Row, medians
from torch import Tensor, nn

from uvlm.data.config import DataConfig
from uvlm.data.split import split_rows
from uvlm.inference.decoding.speculate import Steps, speculate
from uvlm.inference.generate import generate
from uvlm.inference.study import read_study
from uvlm.models.bundle import load_bundle
from uvlm.models.injection import VisualPlan
from uvlm.models.low_bit import LowPrecision, lower
from uvlm.models.uvlm import ReportModel
from uvlm.preprocessing.catalog import read_catalog
from uvlm.text.draft import Draft
from uvlm.text.prompts import DEFAULT_PROMPT, build_example

__all__ = ["Demo", "changed_rows", "demo_rows", "forced_row"]

MOST = 512
FORCED = 6
"""Held-out reports that the paper's decoder is made to say."""


class Demo:
    """A trained bundle with plans of held-out studies and the draft of its training reports."""

    def __init__(self, bundle: Path, catalog: Path, studies: int) -> None:
        loaded = load_bundle(bundle, task="report")
        part, tokenizer = loaded.parts["report"], loaded.tokenizer
        assert tokenizer is not None
        fraction = part.split.val_fraction if part.split else DataConfig().val_fraction
        train, held_out = split_rows(read_catalog(catalog, need={"report"}).rows, fraction)
        model = loaded.modules["report"]
        assert isinstance(model, ReportModel)
        self.model, self.eos = model, tokenizer.eos_id
        self.prompt = build_example(tokenizer, loaded.prompt or DEFAULT_PROMPT).ids
        self.reports = [[*tokenizer.encode(row.report or ""), self.eos] for row in held_out]
        said = [[*tokenizer.encode(row.report or ""), self.eos] for row in train]
        started = time.perf_counter()
        self.draft = Draft.build(said)
        seconds = time.perf_counter() - started
        size = sum(array.nbytes for array in self.draft.tensors().values())
        print(
            f"draft of {len(train)} reports, {sum(map(len, said))} tokens: {seconds:.2f} s, "
            f"{size / 1e6:.1f} MB; {len(held_out[:studies])} held-out studies"
        )
        with torch.inference_mode():
            self.plans = [
                model.visual_plan(model.encoder(self._tensor(row.image, part.our_spec)))
                for row in held_out[:studies]
            ]

    @staticmethod
    def _tensor(image: Path, spec: Any) -> Tensor:
        return torch.from_numpy(read_study(image).input_for(spec, "report"))[None, None]

    def greedy(self, model: ReportModel | None = None) -> list[list[int]]:
        return [
            generate(model or self.model, plan, self.prompt, max_new_tokens=MOST, eos_id=self.eos)
            for plan in self.plans
        ]

    def speculated(self) -> list[tuple[list[int], Steps]]:
        return [
            speculate(
                self.model, plan, self.prompt, self.draft, max_new_tokens=MOST, eos_id=self.eos
            )
            for plan in self.plans
        ]


def demo_rows(demo: Demo) -> list[Row]:
    """All held-out studies in 32 bits, greedy and with the draft; refused if a token differs."""
    plain, drafted = demo.greedy(), demo.speculated()
    return [_row("speculation, demo", plain, drafted, demo.greedy, demo.speculated)]


def changed_rows(demo: Demo) -> list[Row]:
    """Held-out reports that narrow weights leave as they were, and tokens at their place."""
    wide = demo.greedy()
    rows = []
    precisions: tuple[LowPrecision, ...] = ("bf16", "int8")
    for precision in precisions:
        model = copy.deepcopy(demo.model)
        lower(model.decoder, precision)
        narrow = demo.greedy(model)
        same = sum(a == b for a, b in zip(wide, narrow, strict=True)) / len(wide)
        pairs = zip(wide, narrow, strict=True)
        alike = sum(x == y for a, b in pairs for x, y in zip(a, b, strict=False))
        longest = sum(max(len(a), len(b)) for a, b in zip(wide, narrow, strict=True))
        for what, share in (("unchanged reports", same), ("unchanged tokens", alike / longest)):
            case = f"{precision}, demo, {what}"
            rows.append(Row(case=case, value=share, baseline=1.0, unit="share", ratio=share))
    return rows


class Forced(nn.Module):
    """A decoder with all its work, made to say `text`; for measuring only."""

    def __init__(self, decoder: Any, num_prompt: int) -> None:
        super().__init__()
        self.decoder, self.num_prompt = decoder, num_prompt
        self.embedding, self.new_cache = decoder.embedding, decoder.new_cache
        self.config, self.positions = decoder.config, decoder.positions
        self.text: Sequence[int] = ()
        self.next: Sequence[int] = ()

    def states(
        self, embeddings: Tensor, layout: Any, plan: Any = None, cache: Any = None, at: Any = None
    ) -> Tensor:
        made: Tensor = self.decoder.states(embeddings, layout, plan, cache, at)
        first = layout.num_text - made.shape[1] + 1 - self.num_prompt
        self.next = self.text[first : first + made.shape[1]]
        return made

    def head(self, states: Tensor) -> Tensor:
        logits: Tensor = self.decoder.head(states)
        for row, token in enumerate(self.next):
            logits[:, row, token] += 1000
        return logits

    def ranked(self, states: Tensor, tolerance: float = 0.0) -> tuple[Tensor, Tensor]:
        found, near = self.decoder.ranked(states, tolerance)
        for row, token in enumerate(self.next):
            found[:, row], near[:, row] = token, False
        return found, near

    def best(self, states: Tensor) -> Tensor:
        return self.ranked(states)[0]

    def forward(
        self, embeddings: Tensor, layout: Any, plan: Any = None, cache: Any = None, at: Any = None
    ) -> tuple[Tensor, Any]:
        return self.head(self.states(embeddings, layout, plan, cache, at)), cache


def forced_row(demo: Demo, model: ReportModel, plan: VisualPlan, prompt: list[int]) -> Row:
    """As `demo_rows` at the size of `model`, which says held-out reports whatever its weights."""
    own = model.decoder
    forced = Forced(own, len(prompt))
    model.decoder = forced  # type: ignore[assignment]

    def greedy() -> list[list[int]]:
        written = []
        for forced.text in demo.reports[:FORCED]:
            ids = generate(model, plan, prompt, max_new_tokens=MOST, eos_id=demo.eos)
            assert ids == forced.text[:-1]
            written.append(ids)
        return written

    def drafted() -> list[tuple[list[int], Steps]]:
        options: dict[str, Any] = {"max_new_tokens": MOST, "eos_id": demo.eos}
        return [
            speculate(model, plan, prompt, demo.draft, **options)
            for forced.text in demo.reports[:FORCED]
        ]

    try:
        case = "speculation, text forced"
        return _row(case, greedy(), drafted(), greedy, drafted)
    finally:
        model.decoder = own


def _row(
    case: str, plain: list[list[int]], drafted: list[tuple[list[int], Steps]], slow: Any, fast: Any
) -> Row:
    assert [ids for ids, _ in drafted] == plain, "speculation changed a token"
    tokens = sum(map(len, plain))
    calls, replayed = (sum(getattr(s, n) for _, s in drafted) for n in ("calls", "replayed"))
    print(f"{case}: {tokens} tokens in {calls} calls, {replayed} tokens read again")
    seconds = medians({"plain": slow, "drafted": fast})
    value, baseline = tokens / seconds["drafted"], tokens / seconds["plain"]
    return Row(case=case, value=value, baseline=baseline, unit="tokens/s", ratio=value / baseline)
