"""Turn 3D CT studies into radiology reports, and train the models that do it.

>>> import uvlm
>>> findings = uvlm.load("bundle").report("study.nii.gz")  # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvlm.inference.pipeline import Pipeline

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(bundle: str | Path, device: str = "auto", base: str | Path | None = None) -> Pipeline:
    """Load a bundle for inference; see `uvlm.inference.pipeline.Pipeline`."""
    from uvlm.inference.pipeline import Pipeline

    return Pipeline.load(Path(bundle), device=device, base=base)
