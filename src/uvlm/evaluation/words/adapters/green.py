"""GREEN by the package `green_score`."""

from __future__ import annotations

import importlib
import inspect
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["scores"]


def scores(
    references: Sequence[str], predictions: Sequence[str], folder: Path
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """((N, 1) score of each study, notes); nan where the model's answer could not be read."""
    package = importlib.import_module("green_score")
    # Its summary loads a second model from the hub; later versions can leave it out.
    accepted = inspect.signature(package.GREEN).parameters
    options = {"compute_summary_stats": False} if "compute_summary_stats" in accepted else {}
    with tempfile.TemporaryDirectory(prefix="uvlm-green-") as out:
        scorer = package.GREEN(str(folder), output_dir=out, **options)
        per_study = scorer(list(references), list(predictions))[2]
    found = np.array([np.nan if score is None else score for score in per_study], dtype=np.float64)
    unread = int(np.isnan(found).sum())
    notes = (f"{unread} answers could not be read; their studies are left out.",) if unread else ()
    return found[:, None], notes
