"""What `uvlm doctor` finds of the installation. Imports what it looks at when it is asked only."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from uvlm import __version__
from uvlm.preprocessing.limits import available_gb

__all__ = ["Finding", "findings"]

GIB_IN_GB = 2**30 / 1e9
LITTLE_DISK_GB = 10.0
LITTLE_MEMORY_GB = 4.0

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report."""

    state: State
    what: str


def findings() -> list[Finding]:
    """Everything looked at, in the order it is shown."""
    return [
        _ok(f"uvlm {__version__}, Python {platform.python_version()}, {platform.platform()}"),
        *_dependencies(),
        *_torch(),
        _torchvision(),
        _optional("transformers", "pretrained decoders (Qwen3, Phi)", "llm"),
        _optional("peft", "adapters (LoRA)", "llm"),
        *_resources(),
    ]


def _ok(what: str) -> Finding:
    return Finding(state="ok", what=what)


def _dependencies() -> list[Finding]:
    """What the package requires is there in a version it accepts."""
    try:
        required = metadata.requires("uvlm") or []
    except metadata.PackageNotFoundError:
        return [
            Finding(
                state="wrong", what="uvlm is not installed; run `pip install -e .` in its folder"
            )
        ]
    missing, found = [], 0
    for line in required:
        match = re.match(r"([\w.-]+)\s*>=\s*([\d.]+)", line)
        if match is None or "extra ==" in line:
            continue
        name, least = match.groups()
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(f"{name} (not installed)")
            continue
        found += 1
        if _numbers(version) < _numbers(least):
            missing.append(f"{name} {version} (at least {least} is needed)")
    if missing:
        return [Finding(state="wrong", what=f"{'; '.join(missing)}: `pip install -U uvlm`")]
    return [_ok(f"{found} libraries are there, nnU-Net {metadata.version('nnunetv2')} among them")]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _torch() -> list[Finding]:
    import torch

    threads = f"{torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        built = torch.version.cuda or getattr(torch.version, "hip", None)
        why = "no GPU is visible to it" if built else "built without GPU support"
        return [Finding(state="note", what=f"torch {torch.__version__}, {threads}; {why}")]
    rows = [_ok(f"torch {torch.__version__}, {threads}")]
    for index in range(torch.cuda.device_count()):
        free, total = (size / 1e9 for size in torch.cuda.mem_get_info(index))
        narrow = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: --loop.precision fp16"
        name = torch.cuda.get_device_name(index)
        rows.append(_ok(f"GPU {index}: {name}, {free:.1f} of {total:.1f} GB free, {narrow}"))
    return rows


def _torchvision() -> Finding:
    """Not ours, but where it does not fit torch it takes transformers and nnU-Net's trainers with
    it; timm, which needs it, takes the command `accelerate`."""
    if importlib.util.find_spec("torchvision") is None:
        if importlib.util.find_spec("timm") is not None:
            return Finding(
                state="wrong",
                what="timm is installed without torchvision, which it needs, and so stops the "
                "command `accelerate`: `pip uninstall timm`",
            )
        return Finding(
            state="note",
            what="torchvision is not installed; needed only by `nnUNetv2_train -tr`, for which "
            "`uvlm nnunet run` is the way round",
        )
    if error := _error_of("torchvision"):
        return Finding(
            state="wrong",
            what=f"torchvision does not fit this torch ({error}) and breaks what imports it, timm "
            "and with it the command `accelerate` too: `pip uninstall torchvision timm`, or "
            "install the one made for it",
        )
    return _ok(f"torchvision {metadata.version('torchvision')}")


def _optional(name: str, purpose: str, extra: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        what = f"{name} is not installed; for {purpose}: pip install 'uvlm[{extra}]'"
        return Finding(state="note", what=what)
    if error := _error_of(name):
        return Finding(state="wrong", what=f"{name} cannot be imported ({error})")
    return _ok(f"{name} {metadata.version(name)}, for {purpose}")


def _error_of(name: str) -> str:
    """Why a module cannot be imported, in one line; empty if it can."""
    try:
        importlib.import_module(name)
    except Exception as error:  # any: a library built for another one fails in any way
        sys.modules.pop(name, None)
        return (str(error).splitlines() or [type(error).__name__])[0][:120]
    return ""


def _resources() -> list[Finding]:
    disk = shutil.disk_usage(Path.cwd()).free / 1e9
    rows = [_room(disk, LITTLE_DISK_GB, "of the disk of this folder")]
    memory = available_gb()
    if memory is not None:
        rows.append(_room(memory * GIB_IN_GB, LITTLE_MEMORY_GB, "of main memory"))
    return rows


def _room(gb: float, little: float, what: str) -> Finding:
    return Finding(state="ok" if gb >= little else "note", what=f"{gb:.1f} GB {what} are free")
