"""The draft for speculative decoding, from the reports a run trained on."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from uvlm.text.draft import Draft
from uvlm.text.tokenizer import Tokenizer
from uvlm.training.session import Session

__all__ = ["draft_tensors"]


def draft_tensors(session: Session) -> dict[str, Tensor] | None:
    """What the bundle's extra "draft" holds; None for a run that learns no reports."""
    if session.tokenizer is None or session.encode is None or session.config.data.questions:
        return None
    reports = tuple(row.report for row in session.studies.train if row.report)
    arrays = _draft(session.tokenizer, reports).tensors()
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@lru_cache(maxsize=1)  # a run writes its bundle at its end and whenever validation finds it better
def _draft(tokenizer: Tokenizer, reports: tuple[str, ...]) -> Draft:
    return Draft.build([[*tokenizer.encode(report), tokenizer.eos_id] for report in reports])
