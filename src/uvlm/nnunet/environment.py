"""What nnU-Net's commands need to find our trainers. No torch import."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from uvlm.errors import ConfigError

__all__ = ["COMMAND_PREFIX", "STARTUP", "TRAINERS", "command_of", "environment", "search_fails"]

TRAINERS = Path(__file__).parent / "external"
"""For nnUNet_extTrainer."""

STARTUP = Path(__file__).parent / "startup"
"""For PYTHONPATH, where timm or torchvision cannot be imported."""

COMMAND_PREFIX = "nnUNetv2_"


def search_fails() -> str | None:
    """Why nnU-Net's search for a trainer would fail in this environment; None if it would not."""
    try:
        importlib.import_module("timm")
    except Exception as error:  # whatever a torchvision for another PyTorch raises
        return f"timm cannot be imported ({error})"
    return None


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """`base` with both folders put before what the user has set."""
    return dict(base) | {
        "nnUNet_extTrainer": _before(str(TRAINERS), base.get("nnUNet_extTrainer")),
        "PYTHONPATH": _before(str(STARTUP), base.get("PYTHONPATH")),
    }


def _before(folder: str, others: str | None) -> str:
    rest = [each for each in (others or "").split(os.pathsep) if each and each != folder]
    return os.pathsep.join([folder, *rest])


def command_of(name: str) -> Path:
    """The command of nnU-Net with that name, beside this Python.

    Raises:
        ConfigError: there is none.
    """
    folder = Path(sys.executable).parent
    known = sorted(path.name for path in folder.glob(f"{COMMAND_PREFIX}*"))
    if name not in known:
        raise ConfigError(
            f"{name!r} is no command of nnU-Net; known in {folder}: {', '.join(known) or 'none'}."
        )
    return folder / name
