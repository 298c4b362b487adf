"""Task 1: organs and lesions, Dice and cross-entropy at every resolution of the decoder.

A study of a partially labelled dataset does not say where classes unknown to it are: there its
background means "background or one of these". Their probabilities are added to the background's,
and the loss is that of the classes the study knows (the marginal loss of Shi et al., Medical Image
Analysis 70, 2021).

Shapes: B batch, C classes with background first, K of them known to a study, D H W voxels along
        z y x.
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

__all__ = ["SegmentationTask", "merge_unknown", "supervision_weights"]


def supervision_weights(levels: int) -> list[float]:
    """1, 1/2, 1/4, ... and 0 for the coarsest level, made to add up to 1, as in nnU-Net."""
    weights = [0.5**level for level in range(levels)]
    if levels > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


def merge_unknown(logits_CDHW: Tensor, known_C: Tensor) -> Tensor:
    """(K, D, H, W): logits of the known classes; the background's take in the unknown ones, so
    that their softmax adds the probabilities."""
    unknown_C = ~known_C
    unknown_C[0] = True  # background itself
    background_DHW = logits_CDHW[unknown_C].float().logsumexp(0)
    return torch.cat((background_DHW[None], logits_CDHW[1:][known_C[1:]].float()))


def _partly_known(batch: Batch) -> Tensor | None:
    """(B, C), which classes each study knows; None where all know all."""
    known_BC: Tensor | None = batch.get("known")
    return None if known_BC is None or bool(known_BC.all()) else known_BC


class SegmentationTask(Task):
    """Batches need `image` and `seg`, and with partially labelled studies `known` (B, C) bool: the
    classes each study's mask was drawn for, background always among them."""

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
        weights, known_BC = supervision_weights(len(levels)), _partly_known(batch)
        for weight, logits_BCDHW in zip(weights, levels, strict=True):
            target_B1DHW = seg_B1DHW
            if logits_BCDHW.shape[2:] != seg_B1DHW.shape[2:]:
                size = logits_BCDHW.shape[2:]
                target_B1DHW = F.interpolate(seg_B1DHW, size, mode="nearest-exact")
            # A level of weight 0 still enters the graph: data-parallel training waits for the
            # gradient of every parameter.
            total = total + weight * (
                self._compare(logits_BCDHW, target_B1DHW, known_BC)
                if weight
                else logits_BCDHW.sum()
            )
        own = self.counts(batch)["samples"]
        return {"loss": total * (own / (counts or self.counts(batch))["samples"])}

    def _compare(
        self, logits_BCDHW: Tensor, target_B1DHW: Tensor, known_BC: Tensor | None
    ) -> Tensor:
        """Dice and cross-entropy, a mean over the samples."""
        if known_BC is None:
            return torch.as_tensor(self.criterion(logits_BCDHW, target_B1DHW))
        parts = []
        for logits_CDHW, target_1DHW, known_C in zip(
            logits_BCDHW, target_B1DHW, known_BC, strict=True
        ):
            # Class -> its place among the known ones.
            places_C = known_C.cumsum(0) - 1
            target_11DHW = places_C[target_1DHW.long()][None].float()
            parts.append(self.criterion(merge_unknown(logits_CDHW, known_C)[None], target_11DHW))
        return torch.stack(parts).mean()

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Dice of each class over all validation voxels of studies that know it, and their mean.

        A fast estimate to watch a run by; `uvlm evaluate` scores study by study.
        """
        overlap, size = torch.zeros(2, 1 + len(self.classes), dtype=torch.long)
        for batch in batches:
            predicted = self._predict(batch)
            truth = batch["seg"][:, 0].long()
            length = len(size)
            for labels in (predicted, truth):
                size += torch.bincount(labels.flatten(), minlength=length).cpu()
            agreed = truth[predicted == truth]
            overlap += torch.bincount(agreed, minlength=length).cpu()
        dice = (2 * overlap / size)[1:]
        scores = {f"dice/{name}": float(v) for name, v in zip(self.classes, dice, strict=True)}
        return {"dice": float(dice.nanmean()), **scores}

    def _predict(self, batch: Batch) -> Tensor:
        """(B, D, H, W): the most likely of the classes each study knows."""
        logits_BCDHW, known_BC = self.model(batch["image"]), _partly_known(batch)
        if known_BC is None:
            return torch.as_tensor(logits_BCDHW.argmax(1))
        maps = [
            known_C.nonzero()[:, 0][merge_unknown(logits_CDHW, known_C).argmax(0)]
            for logits_CDHW, known_C in zip(logits_BCDHW, known_BC, strict=True)
        ]
        return torch.stack(maps)
