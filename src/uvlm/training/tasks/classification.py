"""Task 2: abnormalities of the whole volume, binary cross-entropy over the known labels.

Shapes: B batch, C labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from uvlm.data.batching import Batch
from uvlm.models.uvlm import ClassificationModel
from uvlm.training.task import Task

__all__ = ["ClassificationTask", "auroc", "known_bce"]


def known_bce(logits_BC: Tensor, labels_BC: Tensor, count: float | None = None) -> Tensor:
    """Mean over known labels, or their sum divided by `count`; NaN means unknown and gives neither
    loss nor gradient."""
    known_BC = ~labels_BC.isnan()
    target_BC = torch.where(known_BC, labels_BC, 0.0)
    loss_BC = F.binary_cross_entropy_with_logits(logits_BC.float(), target_BC, reduction="none")
    divisor = float(known_BC.sum()) if count is None else count
    return torch.where(known_BC, loss_BC, 0.0).sum() / max(divisor, 1.0)


def auroc(labels: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """Area under the ROC curve from ranks, ties counted half; NaN with one class only."""
    known = ~np.isnan(labels)
    positive = labels[known] == 1
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if not n1 or not n0:
        return float("nan")
    ranks = rankdata(scores[known])
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


class ClassificationTask(Task):
    """Batches need `image` and `labels`."""

    model: ClassificationModel
    need = ("labels",)
    best_by = ("auroc", "max")

    def __init__(self, model: ClassificationModel) -> None:
        super().__init__(model)
        self.classes = model.config.classes

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"labels": float((~batch["labels"].isnan()).sum())}

    def losses(self, batch: Batch, counts: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        count = (counts or self.counts(batch))["labels"]
        return {"loss": known_bce(self.model(batch["image"]), batch["labels"], count)}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """BCE, AUROC of each label and their mean over labels with both values."""
        logits, labels = [], []
        for batch in batches:
            logits.append(self.model(batch["image"]).float().cpu())
            labels.append(batch["labels"].cpu())
        logits_NC, labels_NC = torch.cat(logits), torch.cat(labels)
        columns = zip(labels_NC.numpy().T, logits_NC.numpy().T, strict=True)
        scores = [auroc(truth, score) for truth, score in columns]
        found = [score for score in scores if score == score]
        return {
            "bce": float(known_bce(logits_NC, labels_NC)),
            "auroc": sum(found) / len(found) if found else float("nan"),
            **{f"auroc/{name}": s for name, s in zip(self.classes, scores, strict=True)},
        }
