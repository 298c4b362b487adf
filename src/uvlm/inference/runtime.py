"""How the encoder of a loaded bundle is run: precision, and by which library.

"torch" runs a U-Net lean on a CPU, and any encoder as it is on a GPU. The others trace encoder and
pooling to one graph when the bundle is loaded: "compile" for PyTorch's compiler, "openvino" and
"onnx" for libraries of the extra `runtime`, on CPUs. Nothing is read from files, so no graph can
belong to another bundle.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from uvlm.errors import ConfigError
from uvlm.inference.encoding import Encoded, Stages, encode
from uvlm.models.encoder import Encoder
from uvlm.models.exporting import EncoderGraph, load_graph, write_graph
from uvlm.models.lean import LeanEncoder
from uvlm.models.low_bit import Precision
from uvlm.models.stages import StageEncoder
from uvlm.models.vit import SlicedVolume

__all__ = ["Encode", "Precision", "Runtime", "check", "device_named", "encode_with"]

Runtime = Literal["torch", "compile", "openvino", "onnx"]
Encode = Callable[[Tensor | SlicedVolume, bool, Collection[int]], Encoded]
"""(volume (1, 1, D, H, W), whether the decoder's tokens are wanted, stages to keep)."""

log = logging.getLogger(__name__)


def check(device: torch.device, precision: str, runtime: str) -> None:
    """Raise ConfigError where this machine cannot do what is asked, rather than do another thing.

    "int8" is the decoder's weights; the encoder then runs in fp32. On a GPU it is smaller, not
    faster.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision {precision!r} is unknown; it is fp32, bf16 or int8.")
    if runtime not in get_args(Runtime):
        raise ConfigError(f"runtime {runtime!r} is unknown: torch, compile, openvino or onnx.")
    if precision == "bf16" and not has_bf16(device):
        raise ConfigError(
            f"the {'GPU' if device.type == 'cuda' else 'processor'} has no arithmetic in bfloat16. "
            "Use --precision fp32, or int8 for a smaller decoder."
        )
    if runtime in ("openvino", "onnx") and device.type != "cpu":
        raise ConfigError(f"--runtime {runtime} runs on the CPU only. Use --device cpu or torch.")
    if runtime == "onnx" and precision == "bf16":
        raise ConfigError("--runtime onnx calculates in fp32 only. Use torch or openvino for bf16.")
    if runtime == "compile" and device.type == "cpu" and not _compiler():
        raise ConfigError(
            "--runtime compile needs a C++ compiler, and there is neither g++ nor clang++ nor CXX. "
            "Install one, or use --runtime torch."
        )


def device_named(name: str) -> torch.device:
    """The device; "auto" is a GPU if there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} is not available here. Use --device cpu, or auto."
        ) from error
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is calculated with by the device itself, not imitated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return shutil.which(named) if named else shutil.which("g++") or shutil.which("clang++")


def encode_with(
    graph: EncoderGraph, device: torch.device, precision: Precision, runtime: Runtime
) -> Encode:
    """The encoder of `graph`, on `device` already, made ready to run.

    Raises:
        ConfigError: as `check`.
        MissingExtraError: the runtime's library is not installed.
    """
    check(device, precision, runtime)
    narrow = precision == "bf16"
    if runtime == "torch":
        dtype, encoder = torch.bfloat16 if narrow else torch.float32, graph.encoder
        stages: Stages = _Whole(encoder, narrow)
        if device.type == "cpu" and isinstance(encoder, Encoder):
            stages = LeanEncoder(encoder, dtype)
        return lambda x, tokens, keep: encode(stages, x, graph.align if tokens else None, keep)
    if getattr(graph.encoder.config, "gated", False):
        raise ConfigError(
            f"--runtime {runtime} takes volumes alone, and the encoder looks at features of "
            "slices. Use --runtime torch."
        )
    start = time.perf_counter()
    if runtime == "compile":
        run = _compiled(graph, device, narrow)
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_graph(graph, Path(folder), runtime)
            run = load_graph(Path(folder), runtime, narrow=narrow)
    log.info("the encoder was made ready for %s in %.1f s", runtime, time.perf_counter() - start)
    return _of_graph(graph, run, runtime)


def _compiled(
    graph: EncoderGraph, device: torch.device, narrow: bool
) -> Callable[[Tensor], list[Tensor]]:
    compiled = torch.compile(graph, dynamic=False)

    def run(x_11DHW: Tensor) -> list[Tensor]:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=narrow):
            return list(compiled(x_11DHW))

    with torch.inference_mode():  # compiles; a study would wait for it otherwise
        run(torch.zeros(1, 1, *graph.shape, device=device))
    return run


def _of_graph(graph: EncoderGraph, run: Callable[[Tensor], list[Tensor]], name: str) -> Encode:
    def encoded(x: Tensor | SlicedVolume, tokens: bool, keep: Collection[int]) -> Encoded:
        if not set(keep) <= set(graph.maps):
            raise ConfigError(
                f"--runtime {name} keeps the maps of stages {graph.maps}, and {tuple(keep)} are "
                "needed. Use --runtime torch."
            )
        volume = x.volume if isinstance(x, SlicedVolume) else x
        outputs = [made.float() for made in run(volume)]
        count = len(graph.stages)
        maps = dict(zip(graph.maps, outputs[count:], strict=True))
        return Encoded(
            deepest=outputs[-1],
            tokens=dict(zip(graph.stages, outputs[:count], strict=True)) if tokens else {},
            kept={number: maps[number] for number in keep},
        )

    return encoded


class _Whole:
    """An encoder as it is: on a GPU, or one that has no lean form."""

    def __init__(self, encoder: StageEncoder, narrow: bool) -> None:
        self._encoder = encoder
        self._narrow = narrow
        encoder.channels_last = narrow  # 16 bits are faster so there, 32 are not

    def each_stage(self, x: Tensor | SlicedVolume) -> Iterator[Tensor]:
        device = (x.volume if isinstance(x, SlicedVolume) else x).device.type
        stages = self._encoder.each_stage(x)
        while True:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=self._narrow):
                stage = next(stages, None)
            if stage is None:
                return
            yield stage
            del stage
