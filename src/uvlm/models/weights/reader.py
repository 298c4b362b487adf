"""Read a checkpoint of nnU-Net, or of a trainer built on it, without running what is inside.

A checkpoint is a pickle, which can hold code. PyTorch's reader for weights refuses all but tensors
and plain values; NumPy's numbers, which nnU-Net's logger keeps, are all that is allowed beyond it.

The plan that describes the network stands in the checkpoint (`init_args`) or in the results folder
above its fold, as `plans.json` and `dataset.json`.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uvlm.errors import BundleError

__all__ = ["Checkpoint", "read_checkpoint"]

KEYS = ("network_weights", "state_dict", "model", "module")
"""Where trainers keep the weights; a file may also be the weights alone."""

NUMBERS = ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A checkpoint's tensors, and what is said about their network."""

    path: Path
    weights: dict[str, Tensor]
    """Names as in the file."""

    plans: Mapping[str, Any]
    """Empty if none were found; so are the next two."""

    dataset: Mapping[str, Any]
    """`dataset.json`."""

    settings: Mapping[str, Any]
    """What the published code's trainer adds to the plan's `arch_kwargs`."""

    configuration: str | None
    """Name of the plan's configuration, as "3d_fullres"."""

    trainer: str
    epoch: int | None


def read_checkpoint(
    path: Path, *, plans: Path | None = None, dataset: Path | None = None
) -> Checkpoint:
    """Read `path` and what describes it.

    Args:
        plans, dataset: `plans.json` and `dataset.json`, where they do not lie in the usual place

    Raises:
        BundleError: no such file, no checkpoint, or it holds more than tensors and plain values.
    """
    content = _load(path)
    weights = next((content[key] for key in KEYS if isinstance(content.get(key), dict)), content)
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise BundleError.about(
            path,
            f"it holds no network weights, but {', '.join(map(str, [*content][:6])) or 'nothing'}",
            f"Give a checkpoint that keeps them under {KEYS[0]}.",
        )
    init = _table(content.get("init_args"))
    return Checkpoint(
        path=path,
        weights={str(name): tensor for name, tensor in weights.items()},
        plans=_described(path, plans, init, "plans"),
        dataset=_described(path, dataset, init, "dataset", "dataset_json"),
        settings=_table(init.get("network_arch_init_kwargs")),
        configuration=init.get("configuration"),
        trainer=str(content.get("trainer_name", "an unnamed trainer")),
        epoch=content.get("current_epoch") if content is not weights else None,
    )


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        found = "it is a folder" if path.is_dir() else "no such file"
        raise BundleError.about(path, found, "Give a checkpoint, as checkpoint_final.pth.")
    try:
        with torch.serialization.safe_globals(_numbers()), warnings.catch_warnings():
            # Of pickles in a later protocol, which fail below where they are not understood.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        found = f"it holds {named[1]}, which is code" if named else "it is not a PyTorch checkpoint"
        raise BundleError.about(
            path,
            f"{found}; nothing of it was run",
            "Give a checkpoint that holds tensors and plain values only.",
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise BundleError.about(
            path,
            f"it is not a PyTorch checkpoint ({type(error).__name__})",
            "Copy it again from where it was trained.",
        ) from error
    if not isinstance(content, dict):
        raise BundleError.about(
            path, f"it holds a {type(content).__name__}", "Give a checkpoint of a trainer."
        )
    return content


def _numbers() -> list[Any]:
    """NumPy's scalars, under the names of both NumPy 1 and 2."""
    scalar = np.float64(0).__reduce__()[0]
    old, new = "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"
    types = [type(np.dtype(name)) for name in NUMBERS]
    return [(scalar, old), (scalar, new), np.dtype, *types]


def _described(
    path: Path, given: Path | None, init: Mapping[str, Any], name: str, key: str | None = None
) -> dict[str, Any]:
    """The table that was given, stands in the checkpoint, or lies beside or above it."""
    if given is None:
        if found := _table(init.get(key or name)):
            return found
        folders = (path.parent, path.parent.parent)
        given = next((f for f in (d / f"{name}.json" for d in folders) if f.is_file()), None)
    if given is None:
        return {}
    try:
        content = json.loads(given.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError.about(given, f"it cannot be read ({error})", "Give another.") from error
    if not isinstance(content, dict):
        raise BundleError.about(given, "it is not a table of settings", f"Give a {name}.json.")
    return content


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
