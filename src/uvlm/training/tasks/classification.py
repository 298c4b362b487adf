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
from uvlm.training.config import LossConfig
from uvlm.training.task import Task

__all__ = ["ClassificationTask", "auroc", "known_bce"]


def known_bce(
    logits_BC: Tensor,
    labels_BC: Tensor,
    count: float | None = None,
    *,
    smoothing: float = 0.0,
) -> Tensor:
    """Binary cross-entropy; NaN means unknown and gives neither loss nor gradient.

    Args:
        count: divisor of the sum in place of the number of known labels
        smoothing: targets are drawn towards 1/2 by this share
    """
    known_BC = ~labels_BC.isnan()
    target_BC = torch.where(known_BC, labels_BC, 0.0)
    target_BC = target_BC * (1 - smoothing) + smoothing / 2
    loss_BC = F.binary_cross_entropy_with_logits(logits_BC.float(), target_BC, reduction="none")
    divisor = float(known_BC.sum()) if count is None else count
    return torch.where(known_BC, loss_BC, 0.0).sum() / (divisor or 1.0)


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

    def __init__(self, model: ClassificationModel, loss: LossConfig | None = None) -> None:
        super().__init__(model)
        self.classes = model.config.classes
        self.smoothing = (loss or LossConfig()).label_smoothing

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"labels": float((~batch["labels"].isnan()).sum())}

    def losses(self, batch: Batch, counts: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        return {"loss": self.bce(self.model(batch["image"]), batch, counts)}

    def bce(
        self, logits_BC: Tensor, batch: Batch, counts: Mapping[str, float] | None = None
    ) -> Tensor:
        """The loss from the logits on."""
        count = (counts or self.counts(batch))["labels"]
        return known_bce(logits_BC, batch["labels"], count, smoothing=self.smoothing)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """See `scores`."""
        logits, labels = [], []
        for batch in batches:
            logits.append(self.model(batch["image"]).float().cpu())
            labels.append(batch["labels"].cpu())
        return self.scores(torch.cat(logits), torch.cat(labels))

    def scores(self, logits_NC: Tensor, labels_NC: Tensor) -> dict[str, float]:
        """BCE without smoothing, AUROC of each label and their mean over labels with both values;
        N studies."""
        columns = zip(labels_NC.numpy().T, logits_NC.numpy().T, strict=True)
        scores = [auroc(truth, score) for truth, score in columns]
        found = [score for score in scores if score == score]
        return {
            "bce": float(known_bce(logits_NC, labels_NC)),
            "auroc": sum(found) / len(found) if found else float("nan"),
            **{f"auroc/{name}": s for name, s in zip(self.classes, scores, strict=True)},
        }
