"""The state of a run, written aside and renamed, read back exactly.

    checkpoint/step-00000500/   model.safetensors, optimizer.pt, random-<rank>.pt, state.json,
                                with fp16 scaler.json; the average of the weights and the best ones
                                where the run keeps them: average-<rank>.safetensors,
                                best.safetensors

With FSDP or DeepSpeed a folder `divided` of Accelerate's takes the place of model and optimizer.
A folder under its final name is complete. The previous one goes only after the new one stands.
Order of samples and learning rate follow from the step, so neither needs a state. Weights that
stay as a bundle or a base model gave them are not stored again.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from uvlm.errors import InputError
from uvlm.models.tensor_file import save_tensors
from uvlm.training.memory import out_of_memory
from uvlm.training.weights import Average, divided, read_weights, write_weights

__all__ = ["Running", "latest_checkpoint", "load_checkpoint", "save_checkpoint"]

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

SAME = "Resume with what the run was started with, or start anew in another folder."


@dataclass(kw_only=True)
class Running:
    """Everything a step changes."""

    task: Any
    """As `accelerator.prepare` returned it."""

    model: nn.Module
    """The network inside the task."""

    optimizer: Any
    accelerator: Accelerator

    names: tuple[str, ...]
    """Tensors of the model to store, of `own_names`."""

    average: Average | None = None
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best validation, on the main process; empty before there is one."""


def save_checkpoint(folder: Path, step: int, running: Running, state: Mapping[str, Any]) -> Path:
    """Write the state after step `step`; every process calls this.

    Args:
        state: what the run must have in common with the one that resumes it, and under "progress"
            whatever it wants back; ready for JSON

    Returns:
        the folder
    """
    accelerator = running.accelerator
    final = folder / f"step-{step:08d}"
    partial = folder / f".step-{step:08d}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    _write_own(partial, running)
    if divided(accelerator):
        accelerator.save_state(str(partial / "divided"))
    if accelerator.is_main_process:
        _write_shared(partial, running)
        (partial / "state.json").write_text(json.dumps({**state, "step": step}))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _settle(partial)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for other in (*folder.glob("step-*"), *folder.glob(".step-*.partial")):
            if OURS.fullmatch(other.name) and other != final:
                shutil.rmtree(other)
    return final


def _write_own(partial: Path, running: Running) -> None:
    """What each process has for itself."""
    accelerator = running.accelerator
    rank = accelerator.process_index
    torch.save(_random_state(), partial / f"random-{rank}.pt")
    if running.average is not None and (accelerator.is_main_process or divided(accelerator)):
        # Parts of one flat tensor share memory, which safetensors refuses: clones do not.
        values = {n: v.cpu().clone().contiguous() for n, v in running.average.values.items()}
        save_tensors(values, partial / f"average-{rank}.safetensors")


def _write_shared(partial: Path, running: Running) -> None:
    """What all processes have in common, or the main one keeps."""
    accelerator = running.accelerator
    if not divided(accelerator):
        save_tensors(read_weights(running.model, running.names), partial / "model.safetensors")
        torch.save(running.optimizer.state_dict(), partial / "optimizer.pt")
    if accelerator.scaler is not None:
        (partial / "scaler.json").write_text(json.dumps(accelerator.scaler.state_dict()))
    if running.best:
        save_tensors(running.best, partial / "best.safetensors")


def _settle(folder: Path) -> None:
    """Have the disk hold all of it before its name says so, lest a power cut leave empty files."""
    for path in (*(p for p in folder.rglob("*") if p.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, if there is one."""
    found = sorted(p for p in folder.glob("step-*") if OURS.fullmatch(p.name))
    return found[-1] if found else None


def load_checkpoint(path: Path, running: Running, state: Mapping[str, Any]) -> dict[str, Any]:
    """Restore everything and return what was saved in state.json, with "step".

    Raises:
        InputError: the checkpoint is damaged, or was written by a run that had something else
            under a key of `state`, "progress" aside.
    """
    try:
        saved: dict[str, Any] = json.loads((path / "state.json").read_text())
        for key, value in state.items():
            if key != "progress" and saved.get(key) != value:
                found = f"it was written with {key} {saved.get(key)}, the run has {value}"
                raise InputError.about(path, found, SAME)
        _read(path, running)
    except InputError:
        raise
    except UNREADABLE as error:
        if out_of_memory(error):
            raise
        raise InputError.about(
            path,
            f"the checkpoint cannot be read ({type(error).__name__}: {error})",
            "If it is damaged, delete this folder: --resume then begins at the first step again.",
        ) from error
    return saved


def _read(path: Path, running: Running) -> None:
    accelerator = running.accelerator
    if divided(accelerator):
        accelerator.load_state(str(path / "divided"))
    else:
        weights = load_file(path / "model.safetensors")
        if weights.keys() != set(running.names):
            other = sorted(weights.keys() ^ set(running.names))
            raise InputError.about(path, f"its weights are of another model ({other[0]})", SAME)
        write_weights(running.model, weights)
        running.optimizer.load_state_dict(_load(path / "optimizer.pt"))
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(json.loads((path / "scaler.json").read_text()))
    if running.average is not None:
        rank = accelerator.process_index if divided(accelerator) else 0
        running.average.load(load_file(path / f"average-{rank}.safetensors"))
    best = path / "best.safetensors"
    if best.exists() and accelerator.is_main_process:
        running.best = {name: tensor.clone() for name, tensor in load_file(best).items()}
    _restore_random_state(_load(path / f"random-{accelerator.process_index}.pt"))


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
        # Of this process's device: another machine may have more or fewer of them.
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
