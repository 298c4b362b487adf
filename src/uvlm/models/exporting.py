"""A bundle's encoder and pooling as one graph, for ONNX, OpenVINO and torch.export.

DIR/encoder.onnx, encoder.xml or encoder.pt2    and the data files beside it, if any
DIR/encoder.json                                the bundle, inputs, outputs, and by how much the
                                                outputs differ from PyTorch's on a random volume

The graph takes one z-scored volume of the bundle's shape and gives what the heads read: the pooled
tokens of each stage the decoder receives, and the deepest map.

Shapes: K visual tokens, C channels of a stage, D H W voxels along z y x.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from uvlm import __version__
from uvlm.errors import BundleError, ConfigError, MissingExtraError, UvlmError
from uvlm.models.bridge import Bridge
from uvlm.models.bundle import Bundle
from uvlm.models.stages import StageEncoder
from uvlm.models.uvlm import ReportModel

__all__ = [
    "EncoderGraph",
    "Format",
    "export_encoder",
    "graph_of",
    "load_graph",
    "openvino",
    "write_graph",
]

Format = Literal["onnx", "openvino", "torch"]
Run = Callable[[Tensor], list[Tensor]]

FILES: dict[str, str] = {"onnx": "encoder.onnx", "openvino": "encoder.xml", "torch": "encoder.pt2"}

TOLERANCE = 1e-3
"""Largest difference allowed, as a share of an output's largest value. Measured 1e-6 to 1e-4: the
formats sum moments of millions of voxels in other orders."""


class EncoderGraph(nn.Module):
    """A volume in; the tokens of `stages`, `maps` unpooled, then the deepest map, out.

    Shape:
        x: (1, 1, D, H, W)
        result: (1, K, C) per stage, and (1, C, d, h, w) per map
    """

    def __init__(
        self,
        encoder: StageEncoder,
        align: Bridge | None,
        shape: tuple[int, int, int],
        maps: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        # Its projections are the decoder's matter; in a tuple they are not exported.
        self._align = (align,)
        self.stages = () if align is None else align.stages_used
        last = encoder.config.num_stages
        self.maps = (*(stage for stage in maps if stage < last), last)
        self.shape = shape

    @property
    def align(self) -> Bridge | None:
        """Of the report part."""
        return self._align[0]

    @property
    def names(self) -> list[str]:
        """Of the outputs."""
        maps = [f"map_{stage}" for stage in self.maps[:-1]]
        return [*(f"tokens_{stage}" for stage in self.stages), *maps, "deepest"]

    def forward(self, x_11DHW: Tensor) -> tuple[Tensor, ...]:
        made = self.encoder(x_11DHW)
        maps = tuple(made[stage - 1] for stage in self.maps)
        if self.align is None:
            return maps
        return (*(self.align.pool_stage(made[i - 1], i) for i in self.stages), *maps)


def graph_of(bundle: Bundle, task: str, maps: tuple[int, ...] = ()) -> EncoderGraph:
    """Of part `task`; with the decoder's tokens where the report part reads the same encoder."""
    module, part = bundle.modules[task], bundle.parts[task]
    align, report = None, bundle.modules.get("report")
    if report is not None and report.encoder is module.encoder:
        align = cast(ReportModel, report).align
    return EncoderGraph(cast(StageEncoder, module.encoder), align, part.our_spec.shape, maps).eval()


def export_encoder(bundle: Bundle, folder: Path | str, to: Format) -> float:
    """Write the encoder into a new `folder`, whole or not at all; the largest difference.

    Of the report part; of the classification part in a bundle without.

    Raises:
        BundleError: `folder` exists, the bundle has neither part, or the file written does not
            give PyTorch's numbers.
        MissingExtraError: the format's library is not installed.
    """
    folder = Path(folder)
    if folder.exists():
        raise BundleError.about(folder, "it exists already", "Choose a new folder.")
    task = next((t for t in ("report", "classification") if t in bundle.parts), None)
    if task is None:
        raise BundleError.about(
            bundle.path,
            "it has no report or classification part",
            "Only their encoder is exported; a segmentation becomes a results folder of nnU-Net "
            "with --to nnunet.",
        )
    graph = graph_of(bundle, task)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write_graph(graph, aside, to)
        worst = compare(graph, load_graph(aside, to))
        if not worst <= TOLERANCE:
            raise BundleError.about(
                folder,
                f"the {to} export differs from PyTorch by {worst:.2g} of the largest value, more "
                f"than {TOLERANCE:g}; nothing was written",
                "Use another format, or the bundle itself.",
            )
        described = {
            "format": to,
            "bundle": bundle.fingerprint,
            "task": task,
            "preprocessing": bundle.parts[task].our_spec.hash,
            "input": {"name": "volume", "shape": [1, 1, *graph.shape], "type": "float32"},
            "outputs": graph.names,
            "largest_difference": worst,
            "tolerance": TOLERANCE,
            "uvlm": __version__,
            "torch": torch.__version__,
        }
        text = json.dumps(described, indent=2) + "\n"
        (aside / "encoder.json").write_text(text, encoding="utf-8")
        os.chmod(aside, 0o755)
        os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return worst


def compare(graph: EncoderGraph, run: Run) -> float:
    """Largest difference of any output on a random volume, as a share of its largest value."""
    volume = torch.randn(1, 1, *graph.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = graph(volume), run(volume)
    if [tuple(t.shape) for t in found] != [tuple(t.shape) for t in expected]:
        return float("inf")
    pairs = zip(found, expected, strict=True)
    apart = [(a - b).abs().max() / b.abs().max().clamp(min=1e-6) for a, b in pairs]
    return float(torch.stack(apart).max())  # of which one may be no number


def write_graph(graph: EncoderGraph, folder: Path, to: Format) -> None:
    """Trace and write.

    Raises:
        ConfigError: the library cannot express the network.
        MissingExtraError: it is not installed.
    """
    try:
        _write(graph, folder, to)
    except (UvlmError, MemoryError, OSError):
        raise
    except Exception as error:  # each library has exceptions of its own
        reason = str(error).strip().splitlines() or [""]
        raise ConfigError(
            f"the encoder cannot be turned into {to} ({type(error).__name__}: {reason[0]}). Use "
            "--runtime torch, or another format."
        ) from error


def _write(graph: EncoderGraph, folder: Path, to: Format) -> None:
    target, example = folder / FILES[to], (torch.zeros(1, 1, *graph.shape),)
    if to == "onnx":
        _require("onnxscript", "onnx")
        with _quiet():
            torch.onnx.export(
                graph,
                example,
                target,
                dynamo=True,
                verbose=False,
                input_names=["volume"],
                output_names=graph.names,
            )
        return
    if to == "openvino":
        openvino()  # before the tracing, which takes longer
    with _quiet(), torch.no_grad():
        program = torch.export.export(graph, example)
        if to == "torch":
            program.example_inputs = None  # a volume of zeros
            torch.export.save(program, target)
            return
        ov = openvino()
        model = ov.convert_model(program)
    for port, name in zip([*model.inputs, *model.outputs], ["volume", *graph.names], strict=True):
        port.get_tensor().set_names({name})
    ov.save_model(model, target, compress_to_fp16=False)


def load_graph(folder: Path, to: Format, *, narrow: bool = False) -> Run:
    """A file of `write_graph` as a function of a volume.

    Args:
        narrow: let OpenVINO calculate in bfloat16
    """
    source = folder / FILES[to]
    if to == "torch":
        with _quiet():
            module = torch.export.load(source).module()
        return lambda x: list(module(x))
    if to == "onnx":
        _require("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            str(source), options, providers=["CPUExecutionProvider"]
        )
        return lambda x: [torch.from_numpy(y) for y in session.run(None, {"volume": x.numpy()})]
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if narrow else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino().compile_model(source, "CPU", settings)

    def run(x: Tensor) -> list[Tensor]:
        made = compiled([x.numpy()])
        return [torch.from_numpy(made[port].copy()) for port in compiled.outputs]

    return run


def openvino() -> Any:
    """The library, kept from telling its makers of its use: it sends on import, and here are
    hospitals.

    Raises:
        MissingExtraError: it is not installed.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", cast(Any, None))  # importing it then fails
    _require("openvino")
    import openvino as ov

    return ov


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn of the future of their own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _require(*names: str) -> None:
    for name in names:
        try:
            __import__(name)
        except ImportError as error:
            raise MissingExtraError(name, "runtime") from error
