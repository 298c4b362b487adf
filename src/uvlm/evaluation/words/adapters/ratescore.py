"""RaTEScore by the package of that name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uvlm.evaluation.words.skipped import SkippedError

__all__ = ["scores"]

ENTITIES, SYNONYMS = "RaTE-NER-Deberta", "BioLORD-2023-C"


def scores(
    references: Sequence[str], predictions: Sequence[str], folder: Path
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """((N, 1) score of each study, notes)."""
    import torch

    for name in (ENTITIES, SYNONYMS):
        if not (folder / name).is_dir():
            raise SkippedError(f"{folder} has no folder {name}. Download that model into it.")
    package = importlib.import_module("RaTEScore")
    scorer = package.RaTEScore(
        bert_model=str(folder / ENTITIES),
        eval_model=str(folder / SYNONYMS),
        use_gpu=torch.cuda.is_available(),
    )
    found = scorer.compute_score(list(predictions), list(references))
    return np.array(found, dtype=np.float64)[:, None], ()
