"""Losses of contrastive pretraining over the studies of all processes.

Every process scores its own images against all reports and its own reports against all images.
Divided by its own number of pairs, the processes' losses have as their mean the loss of all studies
together, and their averaged gradients its gradient.

Shapes: B pairs of this process, N pairs of all processes, W width of the embeddings.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.models.gather import first_row, gather_rows

__all__ = ["consistency_loss", "contrastive_loss", "cosines", "info_nce", "unlike"]

Cosines = tuple[Tensor, Tensor]
"""(B, N) of own images with all reports, (B, N) of own reports with all images."""


def cosines(image_BW: Tensor, text_BW: Tensor) -> Cosines:
    """In 32 bits, for unit vectors; gradients reach the embeddings of every process.

    All processes must call this, with as many pairs.
    """
    # At a temperature of 1/100 the rounding of bfloat16 would move a logit by 0.4.
    with torch.autocast(image_BW.device.type, enabled=False):
        # One message for both, so that no order between two can differ among processes.
        both_N2W = gather_rows(torch.cat((image_BW.float(), text_BW.float()), dim=1))
        image_NW, text_NW = both_N2W.chunk(2, dim=1)
        return image_BW.float() @ text_NW.T, text_BW.float() @ image_NW.T


def unlike(groups_B: Tensor) -> Tensor:
    """(B, N): whether a study of any process is another one with the same report, which is neither
    the right answer nor a wrong one.

    Args:
        groups_B: int64, equal for equal reports
    """
    same_BN = groups_B[:, None] == gather_rows(groups_B)[None, :]
    same_BN[_own(same_BN)] = False
    return same_BN


def info_nce(
    pairs: Cosines, scale: Tensor, left_out_BN: Tensor | None = None, count: float | None = None
) -> Tensor:
    """Symmetric cross-entropy of finding each image's report and each report's image.

    Args:
        pairs: of `cosines`
        scale: cosines are multiplied by it
        left_out_BN: no negatives of each other, of `unlike`
        count: divisor of the sum in place of B
    """
    total = scale.new_zeros(())
    for cosine_BN in pairs:
        logits_BN = scale * cosine_BN
        if left_out_BN is not None:
            logits_BN = logits_BN.masked_fill(left_out_BN, -torch.inf)
        _, target_B = _own(logits_BN)
        total = total + F.cross_entropy(logits_BN, target_B, reduction="sum")
    return total / 2 / (count or len(pairs[0]))


def contrastive_loss(
    image_BW: Tensor,
    text_BW: Tensor,
    scale: Tensor,
    groups_B: Tensor | None = None,
    count: float | None = None,
) -> Tensor:
    """`info_nce` of unit embeddings; with `groups_B`, equal reports are no negatives."""
    left_out_BN = None if groups_B is None else unlike(groups_B)
    return info_nce(cosines(image_BW, text_BW), scale, left_out_BN, count)


def consistency_loss(
    student: Cosines,
    teacher: Cosines,
    student_scale: Tensor,
    teacher_scale: Tensor,
    count: float | None = None,
) -> Tensor:
    """Mean squared difference of the logits, over both directions.

    With the student's scale for both it is the published code's.

    Args:
        teacher: gets no gradient
        teacher_scale: the teacher's own, or the student's for both
        count: pairs to divide by in place of B; each stands for a row of N
    """
    total = student_scale.new_zeros(())
    for own_BN, wanted_BN in zip(student, teacher, strict=True):
        wanted_BN = teacher_scale * wanted_BN.detach()
        total = total + (student_scale * own_BN - wanted_BN).square().mean(dim=1).sum()
    return total / 2 / (count or len(student[0]))


def _own(rows_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Places in (B, N) at which a row meets its own study."""
    own_B = torch.arange(len(rows_BN), device=rows_BN.device)
    return own_B, own_B + first_row(len(rows_BN))
