"""What a fold's folder holds after a run of ours: nnU-Net's checkpoint names, and the bundle.

fold_0/run/              the run itself: log, checkpoints to continue from
fold_0/bundle/           the model with the best weights, for every command that takes a bundle
fold_0/checkpoint_best.pth   its weights again, where nnU-Net and the published commands look
fold_0/checkpoint_final.pth  the same file: the run is complete
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from uvlm.errors import InputError
from uvlm.models.bundle_files import WEIGHTS

__all__ = ["BUNDLE", "CHECKPOINTS", "RUN", "publish"]

RUN = "run"
BUNDLE = "bundle"
CHECKPOINTS = ("checkpoint_best.pth", "checkpoint_final.pth")


def publish(fold: Path, bundle: Path, trainer: str, arguments: Mapping[str, Any]) -> None:
    """Put the bundle of a finished run and its checkpoints into the fold's folder.

    What is there already stays. The bundle's files are linked, not copied, where the disk can.

    Args:
        fold: folder of the fold
        bundle: what the run has written
        trainer: name of the trainer's class
        arguments: configuration and fold, as nnU-Net stores them

    Raises:
        InputError: the disk refuses.
    """
    try:
        if not (fold / BUNDLE).exists():
            aside = fold / f".{BUNDLE}.{os.getpid()}.tmp"
            try:
                shutil.copytree(bundle, aside, copy_function=_link)
                os.rename(aside, fold / BUNDLE)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        missing = [fold / name for name in CHECKPOINTS if not (fold / name).exists()]
        if missing:
            _write_checkpoint(fold, missing, trainer, arguments)
    except OSError as error:
        raise InputError.about(
            fold, f"the result cannot be written ({error.strerror})", f"It is in {bundle}."
        ) from error


def _write_checkpoint(
    fold: Path, targets: list[Path], trainer: str, arguments: Mapping[str, Any]
) -> None:
    """Tensors and plain values only, so that loading runs no code from the file."""
    content = {
        "network_weights": load_file(fold / BUNDLE / WEIGHTS),
        "trainer_name": trainer,
        "init_args": dict(arguments),
        "inference_allowed_mirroring_axes": None,
    }
    aside = fold / f".checkpoint.{os.getpid()}.tmp"
    try:
        torch.save(content, aside)
        for target in targets:
            _link(str(aside), str(target))
    finally:
        aside.unlink(missing_ok=True)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        partial = f"{target}.{os.getpid()}.tmp"
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    return target
