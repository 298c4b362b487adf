"""RadGraph F1 by the package `radgraph`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uvlm.evaluation.words.skipped import SkippedError

__all__ = ["scores"]

MODEL = "radgraph-xl"


def scores(
    references: Sequence[str], predictions: Sequence[str], folder: Path
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """((N, 3) simple, partial and complete F1 of each study, notes)."""
    if not (folder / MODEL / "config.json").is_file():
        # The package would fetch the model instead.
        raise SkippedError(f"{folder / MODEL} has no config.json. Unpack {MODEL}.tar.gz there.")
    package = importlib.import_module("radgraph")
    scorer = package.F1RadGraph(reward_level="all", model_type=MODEL, model_cache_dir=str(folder))
    per_study = scorer(refs=list(references), hyps=list(predictions))[1]
    return np.array(per_study, dtype=np.float64).T, ()
