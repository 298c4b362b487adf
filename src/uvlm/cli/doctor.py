"""`uvlm doctor [RECIPE]`: is the installation sound, and what will a run take?"""

# No postponed annotations here: tyro reads those of a class inside a function.
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from uvlm.errors import ConfigError
from uvlm.registry import RECIPES
from uvlm.training.config import RunConfig
from uvlm.training.estimate import REFERENCE_TFLOPS, TEXT, Device, Estimate, estimate
from uvlm.training.fitting import Room, advice, knobs, room, shortages

__all__ = ["main"]

USAGE = """\
usage: uvlm doctor [RECIPE] [--device auto|cpu|cuda] [--gpu-gb GB] [--processes N] [--text TOKENS]
                   [--any.field value ...]

Checks the installation: libraries, GPU, memory, disk. With a recipe, says also what that run
takes at its peak, how much disk and how many hours, whether it fits here, and which settings
would make it fit. --gpu-gb predicts for a GPU of that memory, whether or not one is here.

`uvlm doctor RECIPE --help` lists every field with the recipe's value. Exit code 1: something does
not work, or the run does not fit."""

WORTH = 0.98
"""Of the memory; a setting that leaves more than that is not shown."""

MARKS = {"ok": "ok  ", "note": "note", "wrong": "BAD "}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be predicted, and where."""

    config: RunConfig
    device: str
    gpu_gb: float | None
    processes: int
    text: int

    def __post_init__(self) -> None:
        given = (("--gpu-gb", self.gpu_gb), ("--processes", self.processes), ("--text", self.text))
        for option, value in given:
            if value is not None and value <= 0:
                raise ConfigError(f"{option} must be above 0, got {value}.")


def _parse(name: str, arguments: Sequence[str]) -> Request:
    import tyro

    from uvlm.training.recipes import recipe

    default = recipe(name)

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        run: Annotated[RunConfig, tyro.conf.arg(name="")]

        device: Literal["auto", "cpu", "cuda"] = "auto"
        """What computes; "auto" takes the GPU if there is one."""

        gpu_gb: float | None = None
        """Free memory of the GPU to predict for, GB of 10^9 bytes; None asks this machine's."""

        processes: int = 1
        """Processes that share the work, each with a batch of its own."""

        text: int = TEXT
        """Tokens of prompt and report together."""

    parsed = tyro.cli(
        Arguments,
        prog=f"uvlm doctor {name}",
        description=f"What it takes: {RECIPES[name][1]}.",
        args=list(arguments),
        default=Arguments(run=default),
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
    )
    device = "cpu" if parsed.run.loop.device == "cpu" else parsed.device
    return Request(
        config=parsed.run,
        device=device,
        gpu_gb=parsed.gpu_gb,
        processes=parsed.processes,
        text=parsed.text,
    )


def main(argv: Sequence[str]) -> int:
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    request = None
    if argv:
        try:
            request = _parse(argv[0], argv[1:])
        except SystemExit as stop:  # tyro has printed help or what is wrong with the arguments
            return int(stop.code or 0)
    from uvlm.cli.installation import findings

    found = findings()
    print("installation")
    for finding in found:
        print(f"  {MARKS[finding.state]}  {finding.what}")
    sound = all(finding.state != "wrong" for finding in found)
    fits = _predict(argv[0], request) if request is not None else True
    return 0 if sound and fits else 1


def _predict(name: str, request: Request) -> bool:
    """Print what the run takes; whether it fits."""
    config = _with_base(request.config)
    device, free = _where(request, config)
    found = estimate(config, device=device, processes=request.processes, text=request.text)
    missing = shortages(found, free)
    print(f"\n{name} on {'the CPU' if device == 'cpu' else 'a GPU'}")
    for label, text in _rows(found, free, _speed(request, config, device)):
        print(f"  {label:<12}{text}")
    if free.memory_gb is None:
        print("  no GPU is here to compare with; --gpu-gb GB says what one has free")
    elif not missing:
        print("  fits, by prediction")
    for text in missing:
        print(f"  DOES NOT FIT: {text}")
    if missing:
        print(f"  {advice(config, free, processes=request.processes, text=request.text)}")
    savings = _savings(config, device, found, request)
    if savings:
        print("\nwhat each of these alone would save")
    for line in savings:
        print(f"  {line}")
    return not missing


def _with_base(config: RunConfig) -> RunConfig:
    """What only the folder of a pretrained decoder knows, if it was given."""
    from uvlm.models.config import JointConfig, PretrainedConfig, ReportConfig

    report = config.model.report if isinstance(config.model, JointConfig) else config.model
    if not isinstance(report, ReportConfig) or not isinstance(report.decoder, PretrainedConfig):
        return config
    if report.decoder.base is None:
        return config
    from uvlm.models.pretrained_base import read_base

    report = replace(report, decoder=read_base(report.decoder))
    if isinstance(config.model, JointConfig):
        return replace(config, model=replace(config.model, report=report))
    return replace(config, model=report)


def _where(request: Request, config: RunConfig) -> tuple[Device, Room]:
    import torch

    gpu = request.device == "cuda" or request.gpu_gb is not None
    if request.device == "auto":
        gpu = gpu or torch.cuda.is_available()
    device: Device = "cuda" if gpu else "cpu"
    free = room(config, device)
    if request.gpu_gb is not None and device == "cuda":
        free = replace(free, memory_gb=request.gpu_gb)
    return device, free


def _speed(request: Request, config: RunConfig, device: Device) -> tuple[float, str]:
    """(10^12 operations per second, where the number is from)."""
    import torch

    if device == "cuda" and not (torch.cuda.is_available() and request.gpu_gb is None):
        return REFERENCE_TFLOPS, "assumed, about a fifth of an A100's peak"
    from uvlm.training.probe import measured_tflops

    return measured_tflops(device, config.loop.precision), "measured here on a small step"


def _rows(found: Estimate, free: Room, speed: tuple[float, str]) -> list[tuple[str, str]]:
    memory = ", ".join(f"{name} {gb:.1f}" for name, gb in found.memory if gb >= 0.05)
    tflops, source = speed
    hours = found.hours(tflops)
    rows = [
        ("parameters", f"{found.parameters / 1e6:,.1f} M, {found.trained / 1e6:,.1f} M trained"),
        ("memory", f"{found.memory_gb:.1f} GB{_free(free.memory_gb)}: {memory}"),
    ]
    if free.device != "cpu":
        rows.append(("main memory", f"{found.host_gb:.1f} GB{_free(free.host_gb)}"))
    rows += [
        ("disk", f"{found.disk_gb:.1f} GB{_free(free.disk_gb)}"),
        (
            "time",
            f"{hours:,.{0 if hours >= 10 else 1}f} h for {found.steps:,} steps of "
            f"{found.tflop:.2f} TFLOP at {tflops:.2f} TFLOP/s ({source})",
        ),
    ]
    if found.bank_mb:
        rows.append(("bank", f"{found.bank_mb:.2f} MB per study and view, written once"))
    return rows


def _free(gb: float | None) -> str:
    return "" if gb is None else f" ({gb:.1f} free)"


def _savings(config: RunConfig, device: Device, found: Estimate, request: Request) -> list[str]:
    lines = []
    for knob in knobs(config):
        other = estimate(knob.config, device=device, processes=request.processes, text=request.text)
        if other.memory_gb < WORTH * found.memory_gb:
            lines.append(f"{knob.option}: {other.memory_gb:.1f} GB ({knob.effect})")
        elif other.host_gb < WORTH * found.host_gb:
            lines.append(f"{knob.option}: {other.host_gb:.1f} GB of main memory ({knob.effect})")
    return lines
