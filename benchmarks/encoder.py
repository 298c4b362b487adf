"""The paper's encoder on one volume: lean against PyTorch's modules and other libraries.

90.3 M parameters, random weights. "plain" is the network as dynamic-network-architectures builds
it: instance normalisation, channels first. "eager" is the package's own module, as training runs
it: channels last. The libraries' graphs give the deepest map only,
which spares them copies. All run in this process and with as many threads; graphs are made
before the clock starts. Differences are shares of the norm, against the lean encoder in fp32.

    python benchmarks/encoder.py [--shape 192x256x256] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from harness import Row, machine, medians, publish
from paper_size import peak_gb, reset_peak
from torch import Tensor, nn

from uvlm.errors import MissingExtraError
from uvlm.inference.runtime import has_bf16
from uvlm.models.config import EncoderConfig
from uvlm.models.encoder import Encoder
from uvlm.models.exporting import EncoderGraph, Format, load_graph, write_graph
from uvlm.models.lean import LeanEncoder

LABELS = 18
CPU = torch.device("cpu")
LIBRARIES: tuple[tuple[str, Format, bool], ...] = (
    ("openvino", "openvino", False),
    ("openvino bf16", "openvino", True),
    ("onnx", "onnx", False),
)
AUTOCAST = "plain under bf16 autocast"
CASES = ("eager", "bf16", AUTOCAST, "openvino", "openvino bf16", "onnx", "compile")
USUAL = ("eager", "bf16", "openvino", "compile")
"""Every engine keeps its own memory: all of them together do not fit 24 GB at full size."""
Shape = tuple[int, int, int]


def plain_network(config: EncoderConfig) -> nn.Module:
    """What the paper's trainers build."""
    return ResidualEncoder(
        config.in_channels,
        config.num_stages,
        list(config.features),
        nn.Conv3d,
        3,
        list(config.strides),
        list(config.blocks),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        return_skips=True,
    ).eval()


def networks(config: EncoderConfig) -> tuple[Encoder, nn.Module]:
    """Ours and the plain one with the same weights, no block an identity."""
    torch.manual_seed(0)
    ours = Encoder(config).eval()
    for name, parameter in ours.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.2)
    plain = plain_network(config)
    # Theirs has the blocks of every layer under a second name.
    weights = {key: value for key, value in plain.state_dict().items() if "all_modules" not in key}
    assert list(weights) == list(ours.state_dict())
    plain.load_state_dict(ours.state_dict(), strict=False)
    return ours, plain


@torch.inference_mode()
def through(each_stage: Callable[[Tensor], Iterator[Tensor]], x: Tensor) -> list[Tensor]:
    """The deepest map; others are let go of."""
    deepest = None
    for stage in each_stage(x):
        deepest = stage
    assert deepest is not None
    return [deepest]


@torch.inference_mode()
def called(network: Callable[[Tensor], Any], x: Tensor, narrow: bool = False) -> list[Tensor]:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
        return list(network(x))


def actions(
    shape: Shape, ours: Encoder, plain: nn.Module, chosen: Collection[str]
) -> dict[str, Callable[[], list[Tensor]]]:
    """Case -> one forward pass that ends with the deepest map."""
    x = torch.randn(1, 1, *shape)
    made: dict[str, Callable[[], list[Tensor]]] = {
        "fp32": partial(through, LeanEncoder(ours).each_stage, x),
        "plain": partial(called, plain, x),
        "eager": partial(through, ours.each_stage, x),
    }
    if has_bf16(CPU):
        lean16 = LeanEncoder(ours, torch.bfloat16)
        made["bf16"] = partial(through, lean16.each_stage, x)
        made[AUTOCAST] = partial(called, plain, x, narrow=True)
    graph = EncoderGraph(ours, None, shape)
    for name, to, narrow in LIBRARIES:
        if name not in chosen or (narrow and not has_bf16(CPU)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                write_graph(graph, Path(folder), to)
                made[name] = partial(load_graph(Path(folder), to, narrow=narrow), x)
            except MissingExtraError as error:
                print(f"{name} left out: {error}")
    made["compile"] = partial(called, torch.compile(plain, dynamic=False), x)
    return {name: action for name, action in made.items() if name in chosen}


def peak_of(action: Callable[[], object]) -> float:
    """GB, with all that the process holds."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    reset_peak()
    action()
    return peak_gb()


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm())


def measure(shape: Shape, rounds: int, chosen: Sequence[str]) -> list[Row]:
    ours, plain = networks(EncoderConfig())
    todo = actions(shape, ours, plain, {"fp32", "plain", *chosen})
    deepest = {name: action()[-1] for name, action in todo.items()}  # also compiles
    torch.manual_seed(1)
    head = nn.Linear(deepest["fp32"].shape[1], LABELS)
    with torch.inference_mode():
        likely = {k: head(v.float().mean((2, 3, 4))).sigmoid() for k, v in deepest.items()}
    peaks = {name: peak_of(action) for name, action in todo.items()}
    seconds = medians(todo, rounds)
    base, lean = seconds["plain"], seconds["fp32"]
    rows = []
    for name, time in seconds.items():
        if name != "plain":
            rows.append(
                Row(case=f"cpu {name}", value=time, baseline=base, unit="s", ratio=base / time)
            )
    for name in sorted(set(seconds) - {"plain", "fp32"}):
        case, ratio = f"cpu fp32, against {name}", seconds[name] / lean
        rows.append(Row(case=case, value=lean, baseline=seconds[name], unit="s", ratio=ratio))
    for name, peak in peaks.items():
        if name != "plain":
            ratio = peaks["plain"] / peak
            case = f"cpu {name}, peak memory"
            rows.append(Row(case=case, value=peak, baseline=peaks["plain"], unit="GB", ratio=ratio))
    for name, found in deepest.items():
        apart = difference(found, deepest["fp32"])
        most = float((likely[name] - likely["fp32"]).abs().max())
        print(f"{name}: deepest map differs by {apart:.2g}, a label's probability by {most:.2g}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="192x256x256", help="voxels z x y x x")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", nargs="*", default=USUAL, choices=CASES, help="besides fp32 and plain"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    described = machine()
    z, y, x = (int(n) for n in args.shape.split("x"))
    rows = measure((z, y, x), args.rounds, args.only)
    publish(rows, args.json, described | {"shape": args.shape})


if __name__ == "__main__":
    main()
