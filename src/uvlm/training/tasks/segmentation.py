"""Task 1: organs and lesions, Dice and cross-entropy at every resolution of the decoder.

Shapes: B batch, C classes with background first, D H W voxels along z y x.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor

from uvlm.data.batching import Batch
from uvlm.models.unet import SegmentationModel
from uvlm.training.task import Task

__all__ = ["SegmentationTask", "supervision_weights"]


def supervision_weights(levels: int) -> list[float]:
    """1, 1/2, 1/4, ... and 0 for the coarsest level, made to add up to 1, as in nnU-Net."""
    weights = [0.5**level for level in range(levels)]
    if levels > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


class SegmentationTask(Task):
    """Batches need `image` and `seg`."""

    model: SegmentationModel
    need = ("mask",)
    best_by = ("dice", "max")

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__(model)
        self.classes: Sequence[str] = model.config.classes
        self.criterion = DC_and_CE_loss(
            {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False},
            {},
            dice_class=MemoryEfficientSoftDiceLoss,
        )

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"samples": len(batch["image"])}

    def losses(self, batch: Batch, counts: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        levels = self.model(batch["image"])
        seg_B1DHW = batch["seg"].float()
        total = levels[0].new_zeros(())
        weights = supervision_weights(len(levels))
        for weight, logits_BCDHW in zip(weights, levels, strict=True):
            target_B1DHW = seg_B1DHW
            if logits_BCDHW.shape[2:] != seg_B1DHW.shape[2:]:
                size = logits_BCDHW.shape[2:]
                target_B1DHW = F.interpolate(seg_B1DHW, size, mode="nearest-exact")
            # A level of weight 0 still enters the graph: data-parallel training waits for the
            # gradient of every parameter.
            part = self.criterion(logits_BCDHW, target_B1DHW) if weight else logits_BCDHW.sum()
            total = total + weight * part
        own = self.counts(batch)["samples"]
        return {"loss": total * (own / (counts or self.counts(batch))["samples"])}

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Dice of each class over all validation voxels together, and their mean.

        A fast estimate to watch a run by; `uvlm evaluate` scores study by study.
        """
        overlap, size = torch.zeros(2, 1 + len(self.classes), dtype=torch.long)
        for batch in batches:
            predicted = self.model(batch["image"]).argmax(1)
            truth = batch["seg"][:, 0].long()
            length = len(size)
            for labels in (predicted, truth):
                size += torch.bincount(labels.flatten(), minlength=length).cpu()
            agreed = truth[predicted == truth]
            overlap += torch.bincount(agreed, minlength=length).cpu()
        dice = (2 * overlap / size)[1:]
        scores = {f"dice/{name}": float(v) for name, v in zip(self.classes, dice, strict=True)}
        return {"dice": float(dice.nanmean()), **scores}
