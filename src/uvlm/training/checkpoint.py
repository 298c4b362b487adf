"""The state of a run, written aside and renamed, read back exactly.

    checkpoint/step-00000500/   model.safetensors, optimizer.pt, random-<rank>.pt, state.json,
                                with fp16 scaler.json

A folder under its final name is complete. The previous one goes only after the new one stands.
Order of samples and learning rate follow from the step, so neither needs a state.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from uvlm.errors import InputError

__all__ = ["latest_checkpoint", "load_checkpoint", "save_checkpoint"]

OURS = re.compile(r"step-\d{8,}|\.step-\d{8,}\.partial")
"""Names of folders this module made; whatever else lies beside them is the user's."""

UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    EOFError,
    pickle.PickleError,
    SafetensorError,
)


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    state: dict[str, Any],
) -> Path:
    """Write the state after step `step`; every process calls this. Returns the folder."""
    final = folder / f"step-{step:08d}"
    partial = folder / f".step-{step:08d}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    torch.save(_random_state(), partial / f"random-{accelerator.process_index}.pt")
    if accelerator.is_main_process:
        save_model(model, str(partial / "model.safetensors"))
        torch.save(optimizer.state_dict(), partial / "optimizer.pt")
        if accelerator.scaler is not None:
            (partial / "scaler.json").write_text(json.dumps(accelerator.scaler.state_dict()))
        (partial / "state.json").write_text(json.dumps({**state, "step": step}))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for other in (*folder.glob("step-*"), *folder.glob(".step-*.partial")):
            if OURS.fullmatch(other.name) and other != final:
                shutil.rmtree(other)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, if there is one."""
    found = sorted(p for p in folder.glob("step-*") if OURS.fullmatch(p.name))
    return found[-1] if found else None


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    state: dict[str, Any],
) -> int:
    """Restore everything and return the step it was saved after.

    Raises:
        InputError: the checkpoint is damaged, or was written for other data than `state` says.
    """
    try:
        saved = json.loads((path / "state.json").read_text())
        for key, value in state.items():
            if saved.get(key) != value:
                raise InputError.about(
                    path,
                    f"it was written with {key} {saved.get(key)}, the run has {value}",
                    "Resume with the same studies and processes, or start anew in another folder.",
                )
        load_model(model, str(path / "model.safetensors"))
        optimizer.load_state_dict(_load(path / "optimizer.pt"))
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(json.loads((path / "scaler.json").read_text()))
        _restore_random_state(_load(path / f"random-{accelerator.process_index}.pt"))
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError.about(
            path,
            f"the checkpoint cannot be read ({type(error).__name__}: {error})",
            "Delete this folder and resume from an earlier one, or start anew.",
        ) from error
    return int(saved["step"])


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _random_state() -> dict[str, Any]:
    """As tensors, lists and numbers only: these load without unpickling code."""
    version, internal, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
