"""Task 2 and 3 at once: labels and report from one pass of the encoder.

The loss is (BCE over known labels + w x cross-entropy over answer tokens) / 2, w being
`LossConfig.report_weight`.

Shapes: B batch, C labels, K visual tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from uvlm.data.batching import Batch
from uvlm.models.joint import JointModel
from uvlm.text.tokenizer import Tokenizer
from uvlm.training.config import LossConfig
from uvlm.training.task import Task
from uvlm.training.tasks.classification import ClassificationTask
from uvlm.training.tasks.report import ReportTask

__all__ = ["JointTask"]


class JointTask(Task):
    """Batches need `image`, `labels`, `tokens` and `answer`.

    Args:
        frozen: run the encoder without gradient
        loss: smoothing serves both terms
        tokenizer, limit: as `ReportTask` takes them, to write reports at validation
    """

    model: JointModel
    need = ("labels", "report")
    best_by = ("loss", "min")

    def __init__(
        self,
        model: JointModel,
        *,
        frozen: bool = False,
        loss: LossConfig | None = None,
        tokenizer: Tokenizer | None = None,
        limit: int = 0,
    ) -> None:
        super().__init__(model)
        loss = loss or LossConfig()
        self.frozen = frozen
        self.report_weight = loss.report_weight
        # A tuple, which registers nothing: their models are parts of `model` already.
        self._tasks = (
            ClassificationTask(model.classification, loss),
            ReportTask(model.report, frozen=frozen, loss=loss, tokenizer=tokenizer, limit=limit),
        )

    def counts(self, batch: Batch) -> dict[str, float]:
        labels, report = self._tasks
        return {**labels.counts(batch), **report.counts(batch)}

    def losses(self, batch: Batch, counts: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        labels, report = self._tasks
        logits_BC, encoded = self._encode(batch)
        bce = labels.bce(logits_BC, batch, counts)
        answer_ce = report.losses(encoded, counts)["loss"]
        return {"loss": self._both(bce, answer_ce), "bce": bce, "answer_ce": answer_ce}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """The metrics of both tasks, and the loss."""
        labels, report = self._tasks
        logits, truth = [], []

        def encoded_batches() -> Iterator[Batch]:
            for batch in batches:
                logits_BC, encoded = self._encode(batch)
                logits.append(logits_BC.float().cpu())
                truth.append(batch["labels"].cpu())
                yield encoded

        written = report.evaluate(encoded_batches())
        scores = labels.scores(torch.cat(logits), torch.cat(truth))
        loss = self._both(torch.tensor(scores["bce"]), torch.tensor(written["answer_ce"]))
        return {"loss": float(loss), **scores, **written}

    def _both(self, bce: Tensor, answer_ce: Tensor) -> Tensor:
        return (bce + self.report_weight * answer_ce) / 2

    def _encode(self, batch: Batch) -> tuple[Tensor, Batch]:
        """Logits (B, C), and the batch with the encoder's pooled stages as `features`."""
        model, align = self.model, self.model.report.align
        features: dict[int, Tensor] = {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            for number, stage_BCDHW in enumerate(model.encoder.each_stage(batch["image"]), 1):
                if number in align.stages_used:
                    features[number] = align.pool_stage(stage_BCDHW, number)
        # The loop leaves the deepest stage.
        return model.classification.head(stage_BCDHW), {**batch, "features": features}
