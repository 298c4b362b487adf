"""What a run will take before it starts: memory, disk, arithmetic and hours. No torch import.

Peak memory of one process, in bytes, as the sum of

    weights        4 per parameter; 2 where a pretrained model is frozen under adapters
    gradients      4 per trained parameter (once more for the buckets of several processes)
    optimiser      8 per trained parameter with AdamW, 4 with SGD
    average        4 per trained parameter, if one is kept
    16-bit copies  2 per trained parameter, if the precision is mixed
    batch          the volumes, twice: one is being used, the next is on its way
    activations    see below
    process        Python, libraries, on a GPU its context

Activations grow from part to part of the network (`models.sizes`) and shrink again on the way
back. At part s there are together, for each sample,

    what the parts before s keep + what s keeps + what its backward pass needs for a while

and the largest of these sums counts. With activation checkpointing the parts before s keep their
inputs only. A frozen encoder keeps nothing and needs four maps of its largest stage for a while.
Where the logits are, the backward pass needs a chunk of them in 32 bits (in mixed precision as much
again in 16) and a second gradient of the vocabulary's matrix; where a mask is, five copies of its
logits.

A number kept has 4 bytes in 32 bits; in 16 bits 2 on a GPU and about as many as in 32 on the CPU,
where the normalisations return to 32 bits. The constants of this module were measured there;
`benchmarks/memory.py` compares prediction and measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from uvlm.data.config import DataConfig
from uvlm.models.config import (
    EncoderConfig,
    PretrainedConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.sizes import (
    PartSize,
    decoder_size,
)
from uvlm.models.tower_sizes import vision_sizes
from uvlm.training.config import RunConfig
from uvlm.training.estimate_parts import (
    bank_bytes,
    completed,
    others,
    reached,
    report_of,
    width_of,
)

__all__ = ["GB", "REFERENCE_TFLOPS", "TEXT", "Device", "Estimate", "estimate"]

Device = Literal["cpu", "cuda"]

GB = 1e9

TEXT = 400
"""Tokens of prompt and report, if nothing else is known: the paper's size."""

REFERENCE_TFLOPS = 60.0
"""10^12 operations per second that hours are given for where no machine was measured: about a
fifth of what an A100 can do in 16 bits."""

CHUNK = 512
"""Positions with logits at once; see `models.losses`."""

PROCESS = {"cpu": 0.7 * GB, "cuda": 0.8 * GB}
HOST = 3.0 * GB
"""Main memory of a process that computes on a GPU."""

WORKER = 0.5 * GB
PREFETCH = 4
"""Batches each loader process has ready."""

TRANSIENT = {"cpu": 2, "cuda": 4}
"""Maps of a stage that its backward pass needs for a while; on a GPU convolutions lay two of them
out anew."""

FORWARD = {"cpu": 4, "cuda": 6}
"""The same without a backward pass."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one process will take. Memory and disk in GB of 10^9 bytes."""

    parameters: int
    trained: int
    """Parameters that the optimiser changes."""

    memory: tuple[tuple[str, float], ...]
    """(what, GB) on the device that computes."""

    host_gb: float
    """Main memory, which on the CPU is all there is."""

    disk_gb: float
    """Checkpoint while the next one is written, and bundle."""

    bank_mb: float
    """Of one study in a feature bank, 0 where none would serve."""

    tflop: float
    """10^12 operations of one optimiser step, those done twice counted twice."""

    model_tflop: float
    """The same, each counted once: what utilisation is a share of."""

    steps: int

    @property
    def memory_gb(self) -> float:
        """Peak on the device that computes."""
        return sum(size for _, size in self.memory)

    def hours(self, tflops: float = REFERENCE_TFLOPS) -> float:
        """Of all steps, on a machine that does so many 10^12 operations per second; loading and
        validation come on top where they do not keep up."""
        return self.steps * self.tflop / tflops / 3600


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the network with what its backward pass needs for a while, in bytes per sample."""

    size: PartSize
    bytes_each: float
    again: bool = False
    """Computed a second time instead of kept."""

    transient: float = 0.0
    returns: float = 0.0
    """Gradient of its result that waits until the backward pass comes by."""

    samples_at_once: bool = True


def estimate(
    config: RunConfig, *, device: Device = "cuda", processes: int = 1, text: int = TEXT
) -> Estimate:
    """Predict a run from its settings alone.

    Args:
        device: what computes
        processes: that share the work, each with a batch of its own
        text: tokens of prompt and report
    """
    config = replace(config, model=completed(config.model))
    encoder = vision_sizes(config.model.encoder, config.data.patch or config.data.shape)
    rest = others(config, text)
    frozen = config.optim.encoder_lr == 0
    trained = sum(part.trainable for part in rest)
    trained += 0 if frozen else sum(part.parameters for part in reached(config, encoder))
    parameters = sum(part.parameters for part in (*encoder, *rest))
    memory = _states(config, parameters, trained, device, processes)
    memory["batch"] = 2 * config.data.batch_size * _sample_bytes(config)
    memory["activations"] = _activations(config, encoder, rest, device)
    memory["process"] = PROCESS[device]
    loading = _loading(config, device)
    if device == "cpu":
        memory["loading"] = loading
    total = sum(memory.values())
    model_flops, flops = _flops(config, encoder, rest)
    rounds = config.data.batch_size * config.loop.accumulate
    return Estimate(
        parameters=parameters,
        trained=trained,
        memory=tuple((name, size / GB) for name, size in memory.items() if size),
        host_gb=(total if device == "cpu" else HOST + memory["weights"] + loading) / GB,
        disk_gb=_disk(config, parameters, trained) / GB,
        bank_mb=bank_bytes(config) / 1e6,
        tflop=flops * rounds / 1e12,
        model_tflop=model_flops * rounds / 1e12,
        steps=config.loop.steps,
    )


def _states(
    config: RunConfig, parameters: int, trained: int, device: Device, processes: int
) -> dict[str, float]:
    optim = config.optim
    report = report_of(config)
    narrow = 0
    if report is not None and isinstance(report.decoder, PretrainedConfig):
        size = decoder_size(report.decoder, 1, 1)
        narrow = size.parameters - size.trainable
    mixed = config.loop.precision != "no"
    return {
        "weights": 4.0 * parameters - 2.0 * narrow,
        "gradients": 4.0 * trained * (2 if processes > 1 else 1),
        "optimiser": (8.0 if optim.name == "adamw" else 4.0) * trained,
        "average": 4.0 * trained if optim.ema else 0.0,
        "16-bit copies": 2.0 * trained if mixed else 0.0,
    }


def _sample_bytes(config: RunConfig) -> float:
    """A volume or patch in 32 bits, with its mask; the features of a study from a bank."""
    if config.data.bank is not None:
        return 2 * bank_bytes(config)
    voxels = prod(config.data.patch or config.data.shape)
    mask = 2 if isinstance(config.model, SegmentationConfig) else 0
    encoder = config.model.encoder
    channels = encoder.in_channels if isinstance(encoder, EncoderConfig) else 1
    return voxels * (4.0 * channels + mask)


def _activations(
    config: RunConfig, encoder: list[PartSize], rest: list[PartSize], device: Device
) -> float:
    batch = config.loop.chunk or config.data.batch_size
    kept, waiting, most = 0.0, 0.0, 0.0
    for part in _parts(config, encoder, rest, device):
        samples = batch if part.samples_at_once else 1
        own = samples * (part.size.kept * part.bytes_each + part.transient)
        waiting += samples * part.returns
        most = max(most, kept + own + waiting)
        staying = part.size.repeated if part.again else part.size.kept
        kept += samples * staying * part.bytes_each
    return most


def _parts(
    config: RunConfig, encoder: list[PartSize], rest: list[PartSize], device: Device
) -> Iterator[Part]:
    """In the order of the forward pass."""
    loop = config.loop
    mixed = loop.precision != "no"
    volume_bytes = {"cpu": 4.25, "cuda": 2.0}[device] if mixed else 4.0
    segmenting = isinstance(config.model, SegmentationConfig)
    if config.optim.encoder_lr == 0 and config.data.bank is None:
        largest = FORWARD[device] * max(part.out for part in encoder) * volume_bytes
        nothing = PartSize(parameters=0, trainable=0)
        alone = config.task == "report"
        yield Part(size=nothing, bytes_each=0, transient=largest, samples_at_once=not alone)
    elif config.optim.encoder_lr > 0:
        for size in reached(config, encoder):
            yield Part(
                size=size,
                bytes_each=volume_bytes,
                again=loop.activation_checkpointing,
                transient=TRANSIENT[device] * size.out * volume_bytes,
                returns=size.out * volume_bytes if segmenting else 0.0,
            )
    if segmenting:
        yield Part(size=rest[0], bytes_each=volume_bytes, transient=5 * 4 * rest[0].out)
        return
    report = report_of(config)
    for size in rest if report is None else rest[:-1]:
        yield Part(size=size, bytes_each=4.0)
    if report is not None:
        yield _decoder_part(config, report, rest[-1])


def _decoder_part(config: RunConfig, report: ReportConfig, size: PartSize) -> Part:
    decoder = report.decoder
    pretrained = isinstance(decoder, PretrainedConfig)
    vocabulary = decoder.vocab_size or 151_936
    narrow = config.loop.precision != "no" or pretrained
    each = 2.2 if narrow else 4.0
    again = pretrained and config.loop.activation_checkpointing
    batch = config.data.batch_size
    # Chunks and the vocabulary's gradient do not grow with the batch.
    chunk = (8.0 if narrow else 4.0) * CHUNK * vocabulary / batch
    table = 4.0 * vocabulary * width_of(report) / batch
    if isinstance(decoder, PretrainedConfig) and decoder.tuning == "lora":
        table = 0.0
    transient = chunk + table
    if again:
        layers = decoder.layers or 36
        transient = max(transient, size.kept / layers * each)
        size = replace(size, kept=size.repeated)
    return Part(size=size, bytes_each=each, again=again, transient=transient)


def _loading(config: RunConfig, device: Device) -> float:
    """Main memory of the loader's processes and of what they have ready."""
    data: DataConfig = config.data
    if not data.workers:
        return 0.0
    ready = PREFETCH * data.batch_size * _sample_bytes(config)
    changing = 3 * _sample_bytes(config) if data.augment.active and data.bank is None else 0.0
    return data.workers * (WORKER + ready + changing)


def _disk(config: RunConfig, parameters: int, trained: int) -> float:
    """Two checkpoints, of which one is being written, and the bundle."""
    optim, loop = config.optim, config.loop
    report = report_of(config)
    own = parameters
    if report is not None and isinstance(report.decoder, PretrainedConfig):
        size = decoder_size(report.decoder, 1, 1)
        own -= size.parameters - size.trainable
    states = 4 + (8 if optim.name == "adamw" else 4) + 4 * bool(optim.ema) + 4 * loop.best
    return 2.0 * states * trained + 4.0 * own * (2 if loop.best else 1)


def _flops(config: RunConfig, encoder: list[PartSize], rest: list[PartSize]) -> tuple[float, float]:
    """Of one sample: (each counted once, all that is done)."""
    again = config.loop.activation_checkpointing
    once = sum(part.flops for part in reached(config, encoder))
    if config.data.bank is not None:
        once = 0.0
    trained = config.optim.encoder_lr > 0
    model, done = (3 * once, (4 if again else 3) * once) if trained else (once, once)
    report = report_of(config)
    for number, part in enumerate(rest, start=1):
        decoder = report.decoder if report is not None and number == len(rest) else None
        pretrained = isinstance(decoder, PretrainedConfig)
        # Frozen weights need no gradient of their own.
        passes = 2 if isinstance(decoder, PretrainedConfig) and decoder.tuning == "lora" else 3
        model += passes * part.flops
        done += (passes + (again and pretrained)) * part.flops
    if config.loop.chunk:  # each chunk a second time, whether its blocks are repeated or not
        done += model / 3
    return model, done
