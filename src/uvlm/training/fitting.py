"""Whether a run fits this machine, and which settings make it fit. No torch import."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from uvlm.errors import ConfigError
from uvlm.models.config import DecoderConfig, JointConfig, PretrainedConfig, ReportConfig
from uvlm.preprocessing.limits import available_gb
from uvlm.registry import OWN_VOCABULARY
from uvlm.training.config import RunConfig
from uvlm.training.estimate import GB, TEXT, Device, Estimate, estimate

__all__ = ["Knob", "Room", "advice", "check_fits", "check_here", "knobs", "room", "shortages"]

log = logging.getLogger(__name__)

ERROR = 0.3
"""Part of the prediction that it may be wrong by: a run is refused only if it would not fit even
then, and warned of before."""

GIB = 2**30
BANK = Path("BANK")


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a process may use, GB of 10^9 bytes; None where nobody knows."""

    device: Device
    memory_gb: float | None
    """On the device that computes."""

    host_gb: float | None
    disk_gb: float | None


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A change of settings that saves memory."""

    option: str
    """As typed behind `uvlm train RECIPE`."""

    effect: str
    """What it costs."""

    config: RunConfig


def room(config: RunConfig, device: Device) -> Room:
    """What this machine has free for one of its processes."""
    available = available_gb()
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    host = None if available is None else available * GIB / GB / sharing
    folder = (config.out or Path.cwd()).absolute()
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    return Room(
        device=device,
        memory_gb=host if device == "cpu" else _gpu_gb(),
        host_gb=host,
        disk_gb=shutil.disk_usage(existing).free / GB,
    )


def _gpu_gb() -> float | None:
    import torch

    return torch.cuda.mem_get_info()[0] / GB if torch.cuda.is_available() else None


def shortages(found: Estimate, free: Room, scale: float = 1.0) -> list[str]:
    """What does not fit, in words; predictions of memory are multiplied by `scale` first."""
    return [
        f"{need:.1f} GB of {name} are needed, {there:.1f} GB are free"
        for name, need, there in _needs(found, free)
        if need * (1.0 if name == "disk" else scale) > there
    ]


def _needs(found: Estimate, free: Room) -> list[tuple[str, float, float]]:
    """(what, GB needed, GB there), where it is known what is there."""
    memory = "main memory" if free.device == "cpu" else "GPU memory"
    wanted = [(memory, found.memory_gb, free.memory_gb), ("disk", found.disk_gb, free.disk_gb)]
    if free.device != "cpu":
        wanted.append(("main memory", found.host_gb, free.host_gb))
    return [(name, need, there) for name, need, there in wanted if there is not None]


def knobs(config: RunConfig) -> Iterator[Knob]:
    """Changes that save memory, the ones without a price first."""
    loop, data, model = config.loop, config.data, config.model
    report = model.report if isinstance(model, JointConfig) else model
    if config.task == "report" and config.optim.encoder_lr == 0 and data.bank is None:
        yield Knob(
            option="--data.bank BANK",
            effect="a feature bank, written once by `uvlm features`; the encoder never runs",
            config=replace(config, data=replace(data, bank=BANK)),
        )
    if loop.precision == "no":
        yield Knob(
            option="--loop.precision bf16",
            effect="halves activations on a GPU, little on a CPU",
            config=replace(config, loop=replace(loop, precision="bf16")),
        )
    if not loop.activation_checkpointing:
        yield Knob(
            option="--loop.activation-checkpointing",
            effect="a third more time",
            config=replace(config, loop=replace(loop, activation_checkpointing=True)),
        )
    if data.batch_size > 1:
        smaller = replace(data, batch_size=1)
        more = replace(loop, accumulate=loop.accumulate * data.batch_size)
        yield Knob(
            option=f"--data.batch-size 1 --loop.accumulate {more.accumulate}",
            effect="the same steps in smaller pieces",
            config=replace(config, data=smaller, loop=more),
        )
    if data.workers > 2:
        yield Knob(
            option="--data.workers 2",
            effect="loading may fall behind",
            config=replace(config, data=replace(data, workers=2)),
        )
    if isinstance(report, ReportConfig):
        yield from _decoder_knobs(config, report)
    if config.optim.ema:
        yield Knob(
            option="--optim.ema 0",
            effect="no average of the weights",
            config=replace(config, optim=replace(config.optim, ema=0.0)),
        )


def _decoder_knobs(config: RunConfig, report: ReportConfig) -> Iterator[Knob]:
    decoder, prefix = report.decoder, "model."
    if isinstance(config.model, JointConfig):
        prefix = "model.report."
    if isinstance(decoder, DecoderConfig) and decoder.vocab_size > OWN_VOCABULARY:
        smaller = replace(decoder, vocab_size=OWN_VOCABULARY)
        yield Knob(
            option=f"--{prefix}decoder.vocab-size {OWN_VOCABULARY}",
            effect="a vocabulary learned from the reports, without --tokenizer",
            config=_with_report(config, replace(report, decoder=smaller)),
        )
    if isinstance(decoder, PretrainedConfig) and decoder.tuning == "full":
        adapters = replace(decoder, tuning="lora")
        yield Knob(
            option=f"--{prefix}decoder.tuning lora",
            effect="adapters over frozen weights",
            config=_with_report(config, replace(report, decoder=adapters)),
        )


def _with_report(config: RunConfig, report: ReportConfig) -> RunConfig:
    if isinstance(config.model, JointConfig):
        return replace(config, model=replace(config.model, report=report))
    return replace(config, model=report)


def check_fits(config: RunConfig, free: Room, *, processes: int = 1) -> tuple[str, ...]:
    """Refuse a run that cannot fit.

    Args:
        config: as it will run: classes, vocabulary and base filled in where they are known
        processes: of the whole run

    Returns:
        warnings about what may not fit

    Raises:
        ConfigError: something is needed that is not there, even if the prediction is too high by
            as much as it ever was; with the settings that would help.
    """
    found = estimate(config, device=free.device, processes=processes)
    if short := shortages(found, free, 1 / (1 + ERROR)):
        raise ConfigError(
            f"the run does not fit: {'; '.join(short)}. "
            f"{advice(config, free, processes=processes)} "
            "`uvlm doctor RECIPE` shows what needs how much."
        )
    return tuple(
        f"the run may not fit: {text}. {advice(config, free, processes=processes)}"
        for text in shortages(found, free)
    )


def check_here(config: RunConfig, device_type: str, processes: int) -> None:
    """`check_fits` on this machine, its warnings in the log.

    Args:
        device_type: torch's name of what computes; GPUs other than CUDA's do not tell what is free
    """
    if {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"} & set(os.environ):
        return  # weights are divided, by the rules of another library
    free = room(config, "cpu" if device_type == "cpu" else "cuda")
    for warning in check_fits(config, free, processes=processes):
        log.warning("%s", warning)


def advice(config: RunConfig, free: Room, *, processes: int = 1, text: int = TEXT) -> str:
    """The changes, one after another, until it fits."""

    def needed(changed: RunConfig) -> Estimate:
        return estimate(changed, device=free.device, processes=processes, text=text)

    chosen, current = [], config
    while shortages(found := needed(current), free):
        better = _best(current, found, free)
        if better is None:
            break
        chosen.append(better.option)
        current = better.config
    if not chosen:
        return "Use a larger machine."
    enough = "would still not be enough" if shortages(found, free) else "would fit"
    needs = ", ".join(f"{need:.1f} GB of {name}" for name, need, _ in _needs(found, free))
    return f"With {' '.join(chosen)} it {enough}: {needs}."


def _best(config: RunConfig, before: Estimate, free: Room) -> Knob | None:
    """The change that saves most of what is scarcest, if any saves a twentieth."""

    def share(found: Estimate) -> float:
        return max(need / max(there, 0.01) for _, need, there in _needs(found, free))

    tried = [(share(estimate(knob.config, device=free.device)), knob) for knob in knobs(config)]
    least, knob = min(tried, key=lambda pair: pair[0], default=(share(before), None))
    return knob if least < 0.95 * share(before) else None
