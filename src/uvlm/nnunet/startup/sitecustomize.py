"""Let nnU-Net look for a trainer where timm, or its torchvision, is missing or broken.

Asked for any trainer but its default one, nnU-Net imports all files that hold its own. One of them
needs timm, and timm torchvision; without it the search ends before it has come to the folders of
`nnUNet_extTrainer`. The search skips a file that says of itself that it cannot be found, and that
is what this makes the one file say, if timm cannot be imported. Nothing else is changed.

Python imports this module when it starts, from the folder in PYTHONPATH; so every process that
nnU-Net starts has it too. Another `sitecustomize` further on is run as well.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["Skip", "install"]

NEEDS_TIMM = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"


class Skip(importlib.abc.MetaPathFinder):
    """Asked for the one file, says it is not there unless timm can be imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        if name != NEEDS_TIMM:
            return
        try:
            importlib.import_module("timm")
        # A torchvision made for another PyTorch fails with RuntimeError.
        except Exception as error:
            raise ModuleNotFoundError(f"skipped: timm cannot be imported ({error})", name=name)  # noqa: B904


def install() -> None:
    """Put `Skip` first, once."""
    if not any(type(finder).__name__ == "Skip" for finder in sys.meta_path):
        sys.meta_path.insert(0, Skip())


def _run_next() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    others = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "sitecustomize":
    install()
    _run_next()
