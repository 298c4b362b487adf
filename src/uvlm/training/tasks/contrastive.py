"""Contrastive pretraining: an image finds its report among others, and a report its image.

In a batch of n studies each has n - 1 wrong answers, so batches should be large. Accumulation
rounds do not see each other's studies; `chunk` does the same step with the activations of a few
studies at a time (gradient caching, arXiv 2101.06983, by computing each chunk a second time).

Stage 2 may have a frozen teacher whose cosines it stays near for its first steps.

Shapes: B batch, T tokens, W width of the embeddings, N validation studies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from uvlm.data.batching import Batch
from uvlm.errors import ConfigError
from uvlm.evaluation.retrieval import blocks, ranks
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.contrastive_config import ConsistencyConfig
from uvlm.models.contrastive_loss import Cosines, consistency_loss, cosines, info_nce, unlike
from uvlm.models.vision import vision_input
from uvlm.training.task import Task

__all__ = ["ContrastiveTask"]

RECALL_AT = (1, 5, 10)


class ContrastiveTask(Task):
    """Batches need `image`, `text` (B, T), `text_mask` (B, T) and `group` (B,), equal for equal
    reports, and `slices` for an encoder that is gated by them.

    Gradients do not depend on `chunk`, nor on how studies are divided over processes, unless a base
    brings dropout, whose draws do.

    Args:
        chunk: studies whose activations exist at once; 0 for the whole batch
        teacher: stage 1, frozen; no part of the task's weights
        consistency: how near to the teacher, and until when
        accumulate: calls of `losses` that make an optimiser's step

    Raises:
        ConfigError: the teacher has another vocabulary, or `chunk` is negative.
    """

    model: ContrastiveModel
    need = ("report",)
    best_by = ("mrr", "max")
    rounds: Tensor

    def __init__(
        self,
        model: ContrastiveModel,
        *,
        chunk: int = 0,
        teacher: ContrastiveModel | None = None,
        consistency: ConsistencyConfig | None = None,
        accumulate: int = 1,
    ) -> None:
        super().__init__(model)
        if chunk < 0:
            raise ConfigError(f"chunk must be 0 (the whole batch) or more, got {chunk}.")
        self.chunk = chunk
        self.masked = model.config.duplicates == "masked"
        self.consistency = consistency or ConsistencyConfig()
        self.accumulate = accumulate
        # A tuple, which registers nothing: the teacher's weights are never trained nor stored.
        self._teacher: tuple[ContrastiveModel, ...] = (
            () if teacher is None else (_frozen(teacher, model),)
        )
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))

    def resume(self, step: int) -> None:
        """Go on at `step`, counted from 1, as the loop does after a checkpoint."""
        self.rounds.fill_((step - 1) * self.accumulate)

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"pairs": float(len(batch["image"]))}

    def losses(self, batch: Batch, counts: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        if self.training:
            self.model.limit_scale()
        count = (counts or self.counts(batch))["pairs"]
        own, scale = self._cosines(self.model, batch), self.model.logit_scale()
        left_out_BN = unlike(batch["group"]) if self.masked else None
        found = info_nce(own, scale, left_out_BN, count)
        losses = {"loss": found}
        if weight := self._teacher_weight():
            near = self._consistency(own, scale, batch, count)
            losses = {"loss": found + weight * near, "contrastive": found, "consistency": near}
        if self.training:
            self.rounds += 1
        return losses

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Recall at 1, 5 and 10 and mean reciprocal rank of image to report (i2t), report to image
        (t2i) and their mean, as `retrieval@groups`, and the loss, all over one gallery of every
        validation study; chance has the loss ln N. A recall at K of N studies or more is NaN."""
        images, texts, groups = [], [], []
        for batch in batches:
            image_BW, text_BW = self._embed(self.model, batch)
            images.append(image_BW.float().cpu())
            texts.append(text_BW.float().cpu())
            groups.append(batch["group"].cpu())
        image_NW, text_NW, group_N = torch.cat(images), torch.cat(texts), torch.cat(groups)
        metrics = _retrieval(image_NW.double().numpy(), text_NW.double().numpy(), group_N.numpy())
        return {"loss": self._gallery_loss(image_NW, text_NW, group_N), **metrics}

    def _cosines(self, model: ContrastiveModel, batch: Batch) -> Cosines:
        return cosines(*self._embed(model, batch))

    def _embed(self, model: ContrastiveModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, W) of the images and of the reports."""
        size = len(batch["image"])
        step = self.chunk or size
        images, texts = [], []
        for start in range(0, size, step):
            rows = slice(start, start + step)
            part: Batch = {key: batch[key][rows] for key in ("image", "slices") if key in batch}
            # Image and text apart: the activations of one of them exist at once.
            images.append(self._run(model.embed_image, vision_input(part)))
            texts.append(self._run(model.embed_text, batch["text"][rows], batch["text_mask"][rows]))
        return torch.cat(images), torch.cat(texts)

    def _run(self, embed: Callable[..., Tensor], *inputs: Any) -> Tensor:
        if not self.chunk or not torch.is_grad_enabled():
            return embed(*inputs)
        again: Tensor = checkpoint(embed, *inputs, use_reentrant=False)
        return again

    def _teacher_weight(self) -> float:
        """Of the consistency term in this step; 0 without a teacher, and in validation."""
        if not self._teacher or not self.training:
            return 0.0
        return self.consistency.weight_at(int(self.rounds) // self.accumulate)

    def _consistency(self, own: Cosines, scale: Tensor, batch: Batch, count: float) -> Tensor:
        (teacher,) = self._teacher
        teacher.to(batch["image"].device)  # nobody else moves it
        with torch.no_grad():
            wanted = self._cosines(teacher, batch)
            teacher_scale = teacher.logit_scale()
        if self.consistency.scale == "student":
            teacher_scale = scale
        return consistency_loss(own, wanted, scale, teacher_scale, count)

    def _gallery_loss(self, image_NW: Tensor, text_NW: Tensor, group_N: Tensor) -> float:
        """Of one process: the main one validates alone."""
        scale, total = self.model.logit_scale().float().cpu(), 0.0
        own_N = torch.arange(len(image_NW))
        for queries_NW, gallery_NW in ((image_NW, text_NW), (text_NW, image_NW)):
            for rows in blocks(len(queries_NW)):
                logits_nN = scale * (queries_NW[rows] @ gallery_NW.T)
                if self.masked:
                    same_nN = group_N[rows, None] == group_N[None, :]
                    same_nN &= own_N[rows, None] != own_N[None, :]
                    logits_nN = logits_nN.masked_fill(same_nN, -torch.inf)
                total += float(F.cross_entropy(logits_nN, own_N[rows], reduction="sum"))
        return total / 2 / len(image_NW)


def _retrieval(
    image_NW: NDArray[np.float64], text_NW: NDArray[np.float64], group_N: NDArray[np.int64]
) -> dict[str, float]:
    """NaN where nothing can be said: a gallery of one, embeddings that are not finite."""
    total = len(image_NW)
    names = ("mrr", *(f"r@{k}" for k in RECALL_AT))
    found = {f"{way}/{name}": float("nan") for way in ("i2t", "t2i") for name in names}
    if total > 1 and np.isfinite(image_NW).all() and np.isfinite(text_NW).all():
        for way, a_NW, b_NW in (("i2t", image_NW, text_NW), ("t2i", text_NW, image_NW)):
            rank_N = ranks(a_NW, b_NW, group_N)
            found[f"{way}/mrr"] = float((1 / rank_N).mean())
            for k in (k for k in RECALL_AT if k < total):
                found[f"{way}/r@{k}"] = float((rank_N <= k).mean())
    both = {name: (found[f"i2t/{name}"] + found[f"t2i/{name}"]) / 2 for name in names}
    return {**both, **found}


def _frozen(teacher: ContrastiveModel, student: ContrastiveModel) -> ContrastiveModel:
    mine, other = student.config.text, teacher.config.text
    if (mine.vocab_size, mine.fingerprint) != (other.vocab_size, other.fingerprint):
        raise ConfigError(
            f"the teacher reads a vocabulary of {other.vocab_size} entries (base "
            f"{other.fingerprint or 'none'}), the model one of {mine.vocab_size} (base "
            f"{mine.fingerprint or 'none'}). Train stage 2 with the text base and tokenizer of "
            "stage 1."
        )
    return teacher.requires_grad_(False).eval()
