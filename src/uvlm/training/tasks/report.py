"""Task 3: the report, cross-entropy on the answer's tokens only.

A frozen encoder gives the same features for a study in every epoch unless the volume is augmented,
so they are computed once per run and kept, pooled to the decoder's token grid.

Shapes: B batch, T text tokens, K visual tokens, C channels of a stage, V vocabulary, n answer
        tokens of the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.data.batching import Batch
from uvlm.models.injection import VisualPlan
from uvlm.models.uvlm import ReportModel
from uvlm.training.task import Task

__all__ = ["FEATURE_BYTES", "ReportTask"]

FEATURE_BYTES = 2 * 2**30
"""Most memory kept for features, 1,200 studies at the paper's size; studies beyond it are encoded
each time."""

Features = dict[int, Tensor]
"""Stage, counted from 1 -> (B, K, C)."""


class ReportTask(Task):
    """Batches need `image`, `tokens` and `answer`.

    Args:
        frozen: run the encoder without gradient
        keep: remember the features of a frozen encoder by series; only for volumes that come
            unchanged each time
    """

    model: ReportModel
    need = ("report",)
    best_by = ("answer_ce", "min")

    def __init__(self, model: ReportModel, *, frozen: bool, keep: bool = False) -> None:
        super().__init__(model)
        self.frozen = frozen
        self.keep = frozen and keep
        self._kept: dict[str, Features] = {}
        self._kept_bytes = 0

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"tokens": float(batch["answer"][:, 1:].sum())}

    def losses(self, batch: Batch, counts: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        summed, _ = self._cross_entropy(batch)
        return {"loss": summed / (counts or self.counts(batch))["tokens"]}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Mean cross-entropy per answer token."""
        summed, count = 0.0, 0
        for batch in batches:
            batch_sum, batch_count = self._cross_entropy(batch)
            summed += float(batch_sum)
            count += batch_count
        return {"answer_ce": summed / count if count else float("nan")}

    def _cross_entropy(self, batch: Batch) -> tuple[Tensor, int]:
        """(sum over answer tokens, their number); logits are made at these positions only."""
        tokens_BT, answer_BT = batch["tokens"], batch["answer"]
        # Position t predicts token t + 1.
        before_BT = answer_BT[:, 1:]
        logits_nV = self.model.decode(self._plan(batch), tokens_BT[:, :-1], logits_at=before_BT)
        targets_n = tokens_BT[:, 1:][before_BT]
        return F.cross_entropy(logits_nV.float(), targets_n, reduction="sum"), len(targets_n)

    def _plan(self, batch: Batch) -> VisualPlan:
        if not self.frozen:
            return self.model.visual_plan(self.model.encoder(batch["image"]))
        pairs = zip(batch["series_id"], batch["image"], strict=True)
        studies = [self._features(series, image_1DHW[None]) for series, image_1DHW in pairs]
        stages = {stage: torch.cat([study[stage] for study in studies]) for stage in studies[0]}
        return self.model.align.project(stages)

    def _features(self, series: str, image_11DHW: Tensor) -> Features:
        """One study at a time: what a study's features are must not depend on its neighbours."""
        if series in self._kept:
            return self._kept[series]
        with torch.no_grad():
            features = self.model.align.pool(self.model.encoder(image_11DHW))
        size = sum(t.numel() * t.element_size() for t in features.values())
        if self.keep and self._kept_bytes + size <= FEATURE_BYTES:
            self._kept[series] = features
            self._kept_bytes += size
        return features
