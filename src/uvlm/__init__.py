"""Turn 3D CT studies into radiology reports, and train the models that do it.

>>> import uvlm
>>> findings = uvlm.load("bundle").report("study.nii.gz")  # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvlm.inference.pipeline import Pipeline
    from uvlm.inference.runtime import Precision, Runtime

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(
    bundle: str | Path,
    device: str = "auto",
    base: str | Path | None = None,
    *,
    task: str | None = None,
    precision: Precision = "fp32",
    runtime: Runtime = "torch",
) -> Pipeline:
    """Load a bundle for inference; see `uvlm.inference.pipeline.Pipeline.load`."""
    from uvlm.inference.pipeline import Pipeline

    return Pipeline.load(
        bundle, device=device, base=base, task=task, precision=precision, runtime=runtime
    )
