"""Task 3: the report, cross-entropy on the answer's tokens only.

A frozen encoder gives the same features for a study in every epoch unless the volume is augmented.
They come from a feature bank; without one they are computed once per run and kept, pooled to the
decoder's token grid.

Shapes: B batch, T text tokens, K visual tokens, C channels of a stage, E decoder width, n tokens of
        the batch that count.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from uvlm.data.batching import Batch
from uvlm.evaluation.collapse import ALARM, sameness
from uvlm.inference.generate import generate_batch
from uvlm.models.injection import VisualPlan
from uvlm.models.losses import answer_cross_entropy
from uvlm.models.uvlm import ReportModel
from uvlm.models.vision import vision_input
from uvlm.models.vit import SlicedVolume
from uvlm.text.tokenizer import Tokenizer
from uvlm.training.config import LossConfig
from uvlm.training.task import Task

__all__ = ["ReportTask"]

log = logging.getLogger(__name__)

FEWEST = 8
"""Reports from which sameness is worth an alarm."""

FEATURE_BYTES = 2 * 2**30
"""Most memory kept for features, 1,200 studies at the paper's size; studies beyond it are encoded
each time."""

WRITTEN_TOKENS = 256
"""Longest beginning of a report that is written and compared at a validation."""

Features = Mapping[int, Tensor]
"""Stage, counted from 1 -> (B, K, C)."""


class ReportTask(Task):
    """Batches need `tokens`, `answer`, and `features` (stage -> (B, K, C), of any float type) or
    `image`, and `slices` for an encoder gated by them, with `series_id`.

    Args:
        frozen: run the encoder without gradient
        keep: remember the features of a frozen encoder by series; only for volumes that come
            unchanged each time
        loss: label smoothing, and whether the prompt counts
        tokenizer, limit: write reports for the first `limit` validation studies and compare them
    """

    model: ReportModel
    need = ("report",)
    best_by = ("answer_ce", "min")

    def __init__(
        self,
        model: ReportModel,
        *,
        frozen: bool,
        keep: bool = False,
        loss: LossConfig | None = None,
        tokenizer: Tokenizer | None = None,
        limit: int = 0,
    ) -> None:
        super().__init__(model)
        self.frozen = frozen
        self.keep = frozen and keep
        self.loss = loss or LossConfig()
        self.tokenizer = tokenizer
        self.limit = limit if tokenizer is not None else 0
        self._kept: dict[str, Features] = {}
        self._kept_bytes = 0
        if frozen:
            model.encoder.eval()

    def train(self, mode: bool = True) -> ReportTask:
        """A frozen encoder stays in evaluation: dropout would change what it was trained to
        give."""
        super().train(mode)
        if self.frozen:
            self.model.encoder.eval()
        return self

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"tokens": float(self._learned(batch).sum())}

    def losses(self, batch: Batch, counts: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        # Looked for while nothing is being computed yet: their number makes the device wait.
        learned_n = self._learned(batch).nonzero(as_tuple=True)
        plan = self._plan(batch)
        summed = self._cross_entropy(plan, batch, learned_n, self.loss.label_smoothing)
        return {"loss": summed / ((counts or self.counts(batch))["tokens"] or 1.0)}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Mean cross-entropy per answer token, without smoothing or prompt; and of the reports
        written, which share is identical, or nearly, to another study's."""
        summed, count = 0.0, 0
        written: list[tuple[str, str]] = []
        for batch in batches:
            plan, answer_n = self._plan(batch), batch["answer"][:, 1:].nonzero(as_tuple=True)
            summed += float(self._cross_entropy(plan, batch, answer_n))
            count += len(answer_n[0])
            if len(written) < self.limit:
                written += self._write(plan, batch, self.limit - len(written))
        metrics = {"answer_ce": summed / count if count else float("nan")}
        return metrics | _compared(written) if written else metrics

    def _learned(self, batch: Batch) -> Tensor:
        """(B, T - 1), which of the tokens after the first count."""
        answer_BT: Tensor = batch["answer"]
        if self.loss.prompt:
            # Everything before the answer; what follows it is padding.
            answer_BT = answer_BT | (answer_BT.cumsum(1) == 0)
        return answer_BT[:, 1:]

    def _cross_entropy(
        self,
        plan: VisualPlan,
        batch: Batch,
        learned_n: tuple[Tensor, ...],
        smoothing: float = 0.0,
    ) -> Tensor:
        """Sum over the tokens that count, by their places in (B, T - 1); logits are made at the
        positions before them only."""
        tokens_BT, decoder = batch["tokens"], self.model.decoder
        embeddings_BLE, layout = self.model.embed(plan, tokens_BT[:, :-1])
        hidden_BLE = decoder.hidden(embeddings_BLE, layout, plan)
        hidden_nE = hidden_BLE[:, layout.text][learned_n]
        targets_n = tokens_BT[:, 1:][learned_n]
        return answer_cross_entropy(hidden_nE, decoder.head, targets_n, smoothing=smoothing)

    def _write(self, plan: VisualPlan, batch: Batch, most: int) -> list[tuple[str, str]]:
        """(written, reference) of up to `most` studies, those with one prompt at once; no longer
        than the longest reference."""
        assert self.tokenizer is not None
        longest = min(int(batch["answer"].sum(1).max()), WRITTEN_TOKENS)
        prompts: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, tokens_T in enumerate(batch["tokens"][:most]):
            start = int(batch["answer"][row].int().argmax())
            prompts[tuple(tokens_T[:start].tolist())].append(row)
        pairs = []
        for prompt, rows in prompts.items():
            texts = generate_batch(
                self.model,
                _rows_of(plan, rows),
                prompt,
                max_new_tokens=longest,
                eos_id=self.tokenizer.eos_id,
            )
            for row, ids in zip(rows, texts, strict=True):
                answer = batch["tokens"][row][batch["answer"][row]][:longest].tolist()
                pairs.append((self.tokenizer.decode(ids), self.tokenizer.decode(answer)))
        return pairs

    def _plan(self, batch: Batch) -> VisualPlan:
        return self.model.align.project(self._features(batch))

    def _features(self, batch: Batch) -> Features:
        if "features" in batch:
            # A bank holds half precision; the projections compute in that of the run.
            return {stage: tokens_BKC.float() for stage, tokens_BKC in batch["features"].items()}
        if not self.frozen:
            return self._encode(vision_input(batch))
        seen = [key for key in ("image", "slices") if key in batch]
        studies = [
            self._encode_once(series, {key: batch[key][row : row + 1] for key in seen})
            for row, series in enumerate(batch["series_id"])
        ]
        return {stage: torch.cat([study[stage] for study in studies]) for stage in studies[0]}

    def _encode_once(self, series: str, study: Batch) -> Features:
        """One study at a time: what a study's features are must not depend on its neighbours."""
        if series in self._kept:
            return self._kept[series]
        with torch.no_grad():
            features = self._encode(vision_input(study))
        size = sum(t.numel() * t.element_size() for t in features.values())
        if self.keep and self._kept_bytes + size <= FEATURE_BYTES:
            self._kept[series] = features
            self._kept_bytes += size
        return features

    def _encode(self, x: Tensor | SlicedVolume) -> Features:
        align = self.model.align
        return self.model.encoder.pooled(x, align.pool_stage, align.stages_used)


def _rows_of(plan: VisualPlan, rows: Sequence[int]) -> VisualPlan:
    chosen = list(rows)
    per_layer = {layer: tokens_BKE[chosen] for layer, tokens_BKE in plan.per_layer.items()}
    return replace(plan, prefix=plan.prefix[chosen], per_layer=per_layer)


def _compared(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Sameness of what was written, with a word in the log; a warning where it is suspicious."""
    written, references = (sameness(texts) for texts in zip(*pairs, strict=True))
    metrics = {"reports/identical": written.identical, "reports/similar": written.similar}
    if len(pairs) < 2:
        return metrics
    alarming = len(pairs) >= FEWEST and written.similar > max(ALARM, references.similar)
    log.log(
        logging.WARNING if alarming else logging.INFO,
        "of %d reports written for validation %.0f %% are identical to another's and %.0f %% "
        "nearly so (of their references %.0f and %.0f %%)%s",
        len(pairs),
        100 * written.identical,
        100 * written.similar,
        100 * references.identical,
        100 * references.similar,
        "; the model does not look at the images, or has not learned to yet" if alarming else "",
    )
    return metrics
