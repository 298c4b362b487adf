"""Weights of a checkpoint that one of our trainers wrote, whose bundle lies beside it.

The bundle says what the network is; the checkpoint may be an earlier or the best state of it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

from uvlm.models.bundle import Bundle, load_bundle
from uvlm.models.bundle_files import WEIGHTS
from uvlm.models.pretrained import own_state
from uvlm.models.weights.ledger import Ledger, Record
from uvlm.models.weights.reader import Checkpoint

__all__ = ["bundle_beside", "overlay"]


def bundle_beside(path: Path) -> Path | None:
    """Folder of the bundle beside a checkpoint."""
    folder = path.parent / "bundle"
    return folder if (folder / "checksums.json").is_file() else None


def overlay(checkpoint: Checkpoint, folder: Path, **options: Any) -> tuple[Bundle, Record]:
    """The bundle in `folder`, with the checkpoint's weights in the parts it holds.

    Args:
        options: for `load_bundle`, as the folder of a base model

    Raises:
        BundleError: the checkpoint's tensors are not those of one or more of its parts.
    """
    bundle = load_bundle(folder, **options)
    ledger = Ledger(checkpoint.path, checkpoint.weights)
    modules = dict(bundle.modules)
    alone = _alone(bundle, ledger)
    if alone is not None:
        modules[alone] = _filled(modules[alone], lambda name: name, ledger)
    else:
        stored = _stored(folder)
        held = [part for part in bundle.parts if ledger.names(f"{part}.")]
        for part in held:
            modules[part] = _filled(modules[part], partial(_key, part, stored, ledger), ledger)
    record = ledger.close()
    return replace(bundle, path=checkpoint.path, modules=modules), record


def _alone(bundle: Bundle, ledger: Ledger) -> str | None:
    """The part whose network has all of the checkpoint's tensors; the last one trained first."""
    for name in reversed(bundle.parts):
        if set(ledger.tensors) <= set(bundle.modules[name].state_dict()):
            return name
    return None


def _stored(folder: Path) -> dict[str, str]:
    """Keys of tensors that a bundle leaves out -> the key of the equal one that it stores."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        shared: dict[str, str] = json.loads((file.metadata() or {})["shared"])
    return shared


def _key(part: str, stored: Mapping[str, str], ledger: Ledger, name: str) -> str:
    """The checkpoint's name of a part's tensor; a joint model holds one encoder for its parts."""
    full = f"{part}.{name}"
    others = (stored.get(full, full), name if name.startswith("encoder.") else full)
    return next((key for key in (full, *others) if key in ledger), full)


def _filled(module: nn.Module, key: Callable[[str], str], ledger: Ledger) -> nn.Module:
    """A copy of `module` with every weight that is not a frozen base's from the checkpoint."""
    module = copy.deepcopy(module)
    held, own = module.state_dict(), own_state(module)
    state = {
        name: ledger.take(key(name), tensor.shape).to(tensor.dtype)
        for name, tensor in held.items()
        if name in own or key(name) in ledger
    }
    module.load_state_dict({**held, **state})
    return module.eval()
