"""How a batch is run: what is loaded, how reports are written, and by which workers.

No torch import: it is handed to new processes and read by command lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from uvlm.errors import BundleError, ConfigError, InputError
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.guided.options import GuideOptions

if TYPE_CHECKING:
    from uvlm.inference.runtime import Precision, Runtime

__all__ = ["Crew", "Setup", "fingerprint_of", "gpu_crew", "parse_gpus"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every worker loads, once, and how it writes reports."""

    bundle: Path
    base: Path | None = None
    device: str = "auto"
    precision: Precision = "fp32"
    runtime: Runtime = "torch"
    """What runs the encoder."""

    series: str | None = None
    options: GenerateOptions = field(default_factory=GenerateOptions)
    guide: GuideOptions = field(default_factory=GuideOptions)
    evidence: bool = True
    """Also what each sentence rests on."""

    def identity(self) -> dict[str, Any]:
        """All that decides the results; not the device, nor who does the work.

        Raises:
            BundleError: the bundle cannot be read.
        """
        options = asdict(self.options) | asdict(self.guide)
        del options["speculative"]  # changes nothing but the time it takes
        return {
            "bundle": fingerprint_of(self.bundle),
            "precision": self.precision,
            "runtime": self.runtime,
            "series": self.series,
            "evidence": self.evidence,
            **{name: list(v) if isinstance(v, tuple) else v for name, v in options.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Crew:
    """Who does the work."""

    workers: int = 1
    """Processes, each with the model loaded."""

    devices: tuple[str, ...] = ()
    """Of each worker; () for `Setup.device`."""

    engine: Literal["process", "ray"] = "process"

    overlap: bool = True
    """Read and prepare the next study while one is encoded and decoded."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}.")

    @property
    def depth(self) -> int:
        """Studies a worker holds at a time."""
        return 2 if self.overlap else 1

    def device(self, number: int, setup: Setup) -> str:
        """Of worker `number`."""
        return self.devices[number] if self.devices else setup.device


_ENTRY = re.compile(r"(\d+)(?::(\d+))?")


def parse_gpus(text: str, available: int | None = None) -> tuple[str, ...]:
    """`"0:2,1:2"`, two workers each on GPUs 0 and 1, to the device of each worker.

    Workers of different GPUs come in turn. A GPU without a number has one worker.

    Args:
        available: GPUs of this machine; None: not asked, as for a cluster

    Raises:
        ConfigError: another form, a GPU named twice or not there, no worker.
    """
    counts: dict[int, int] = {}
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None:
            raise ConfigError(
                f"--gpu-config {text!r}: {entry.strip()!r} is not GPU:WORKERS. Write such as "
                "0:2,1:2 for two workers each on GPUs 0 and 1."
            )
        gpu, workers = int(match[1]), int(match[2] or 1)
        if gpu in counts or workers < 1:
            said = "twice" if gpu in counts else "with no worker"
            raise ConfigError(f"--gpu-config {text!r}: GPU {gpu} {said}. Name each once.")
        counts[gpu] = workers
    if available is not None:
        _check_there(text, counts, available)
    rounds = range(max(counts.values()))
    return tuple(f"cuda:{gpu}" for turn in rounds for gpu in counts if counts[gpu] > turn)


def _check_there(text: str, counts: Mapping[int, int], available: int) -> None:
    if available == 0:
        raise ConfigError(
            f"--gpu-config {text!r}: PyTorch finds no GPU on this machine. Use --workers N for "
            "workers on the processor."
        )
    missing = [str(gpu) for gpu in counts if gpu >= available]
    if missing:
        there = "GPU 0" if available == 1 else f"GPUs 0 to {available - 1}"
        raise ConfigError(
            f"--gpu-config {text!r}: there is no GPU {', '.join(missing)}, only {there}."
        )


def fingerprint_of(bundle: Path) -> str:
    """The bundle's fingerprint, its weights unread; of a checkpoint file, that of its bytes.

    Raises:
        BundleError: it is no bundle, or writes no reports.
        InputError: a checkpoint cannot be read.
    """
    from uvlm.models.bundle import read_bundle_info
    from uvlm.models.bundle_files import sha256_of

    if bundle.suffix == ".pth" and bundle.is_file():
        try:
            return sha256_of(bundle)[:16]
        except OSError as error:
            raise InputError.about(
                bundle, f"cannot be read ({error.strerror})", "Check its permissions."
            ) from None
    info = read_bundle_info(bundle)
    if "report" not in info.parts:
        raise BundleError.about(
            bundle,
            f"the bundle has no report part; it holds {', '.join(info.parts)}",
            "Give a bundle that was trained for report.",
        )
    return info.fingerprint


def gpu_crew(text: str) -> Crew:
    """Workers on GPUs of this machine, as `parse_gpus` reads `text`.

    Raises:
        ConfigError: as `parse_gpus`.
    """
    devices = parse_gpus(text)
    import torch

    parse_gpus(text, torch.cuda.device_count())
    return Crew(workers=len(devices), devices=devices)
