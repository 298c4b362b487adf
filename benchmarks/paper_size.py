"""The paper-sized model on a full-resolution CT, on the CPU: seconds and peak memory per part.

192x256x256 volume, 90.3 M encoder, 18 labels, 8 decoder layers, 151,669-entry vocabulary, random
weights: time and memory do not depend on them. The encoder runs as in `uvlm report`. Memory is the
peak resident size of the process while the part runs, with all that it holds from before. Only the
whole has a baseline: the limit of 7 GB. With a GPU, then the same there in bf16: time of a report
from the prepared volume on, and the GPU's memory.

    python benchmarks/paper_size.py [--ct FILE] [--precision bf16] [--segmentation] [--json FILE]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import machine

from uvlm.imaging.preprocess import prepare, preset
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Provenance, Volume
from uvlm.inference.generate import generate
from uvlm.inference.runtime import Precision, encode_with
from uvlm.inference.segment import sliding_labels
from uvlm.models.config import ClassificationConfig, ReportConfig, SegmentationConfig
from uvlm.models.exporting import EncoderGraph
from uvlm.models.heads import QueryHead
from uvlm.models.low_bit import lower
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ReportModel
from uvlm.registry import CT_RATE_LABELS

LIMIT_GB = 7.0
DEFAULT_CT = Path(__file__).resolve().parents[2] / "shared/data/crlm/CRLM-CT-1004.nii.gz"
PATCH = (96, 128, 128)
SEGMENTATION_CLASSES = tuple(f"class {i}" for i in range(30))
PROMPT = list(range(100, 140))
QWEN_MARKERS = {"vision_start_id": 151_652, "vision_end_id": 151_653}


class Recorder:
    """Runs parts and keeps (name, seconds, peak GB)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float]] = []

    def __call__(self, name: str, part: Callable[[], Any]) -> Any:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        reset_peak()
        start = time.perf_counter()
        result = part()
        self.rows.append((name, time.perf_counter() - start, peak_gb()))
        print(f"{name:<22} {self.rows[-1][1]:8.2f} s  {self.rows[-1][2]:6.2f} GB", flush=True)
        return result


def reset_peak() -> None:
    """Start the kernel's high-water mark of this process anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_gb() -> float:
    """Peak resident size since `reset_peak`, GB of 10^9 bytes."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def phantom() -> Volume:
    """512x512x41 of noise in the range of HU, for machines without a CT at hand."""
    array = np.random.default_rng(0).normal(0, 300, (41, 512, 512)).astype(np.int16)
    origin = Provenance(path="noise", format="nifti", checksum="")
    return Volume(array=array, affine=np.diag([0.8, 0.8, 5.0, 1.0]), provenance=origin)


def models() -> tuple[ReportModel, EncoderGraph]:
    report = ReportModel(ReportConfig(**QWEN_MARKERS)).eval()
    return report, EncoderGraph(report.encoder, report.align, report.config.shape)


def run(ct: Path | None, precision: Precision, with_segmentation: bool) -> tuple[Recorder, int]:
    """All parts in order; the second value is the number of tokens generated."""
    record = Recorder()
    torch.manual_seed(0)
    report, graph = record("build models", models)
    encode = encode_with(graph, torch.device("cpu"), precision, "torch")
    if precision != "fp32":
        lower(report.decoder, precision)
    head = QueryHead(ClassificationConfig().encoder.features[-1], len(CT_RATE_LABELS), 4).eval()
    volume = record("read", lambda: read_volume(ct) if ct else phantom())
    array = record("prepare", lambda: prepare(volume, preset("paper")).normalised())
    x = torch.from_numpy(array)[None, None]
    with torch.inference_mode():
        encoded = record("encode", partial(encode, x, True, ()))
        record("class head", partial(head, encoded.deepest))
        plan = record("align", partial(report.align.project, encoded.tokens))
        # No token ends the text, so that random weights write all.
        write = partial(generate, report, plan, PROMPT, eos_id=-1)
        record("prefill, 1 token", partial(write, max_new_tokens=1))
        record("32 tokens", partial(write, max_new_tokens=32))
        ids = record("512 tokens", partial(write, max_new_tokens=512))
        if with_segmentation:
            network = SegmentationModel(SegmentationConfig(classes=SEGMENTATION_CLASSES)).eval()
            record("segmentation", partial(sliding_labels, network, x[0, 0], PATCH))
    return record, len(ids)


@torch.inference_mode()
def on_gpu(tokens: int = 512) -> list[dict[str, Any]]:
    """A report of `tokens` in bf16, the second of its kind, and what the GPU held for it."""
    device = torch.device("cuda")
    report, graph = models()
    graph.to(device)
    report.to(device)
    encode = encode_with(graph, device, "bf16", "torch")
    lower(report.decoder, "bf16")
    volume = torch.randn(1, 1, *report.config.shape)
    for _ in range(2):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        encoded = encode(volume.to(device), True, ())
        torch.cuda.synchronize()
        between = time.perf_counter()
        plan = report.align.project(encoded.tokens)
        generate(report, plan, PROMPT, max_new_tokens=tokens, eos_id=-1)
        end = time.perf_counter()
    return [
        row("gpu encode: time", between - start, "s"),
        row(f"gpu {tokens} tokens: time", end - between, "s"),
        row("gpu report: time", end - start, "s", 1.0),
        row("gpu: memory", torch.cuda.max_memory_allocated() / 1e9, "GB"),
    ]


def as_rows(record: Recorder) -> list[dict[str, Any]]:
    """The common JSON form; without a baseline the ratio is None."""
    rows: list[dict[str, Any]] = []
    for name, seconds, peak in record.rows:
        rows += [row(f"{name}: time", seconds, "s"), row(f"{name}: peak", peak, "GB")]
    repeated = ("prefill, 1 token", "32 tokens")  # parts of the 512 tokens, again
    once = [seconds for name, seconds, _ in record.rows if name not in repeated]
    rows.append(row("whole: time", sum(once), "s"))
    rows.append(row("whole: peak", max(peak for _, _, peak in record.rows), "GB", LIMIT_GB))
    return rows


def row(case: str, value: float, unit: str, limit: float | None = None) -> dict[str, Any]:
    """One case; a ratio above 1 means within the limit."""
    ratio = None if limit is None else round(limit / value, 2)
    return {
        "case": case,
        "value": round(value, 3),
        "baseline": limit,
        "unit": unit,
        "ratio": ratio,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ct", type=Path, default=DEFAULT_CT if DEFAULT_CT.exists() else None)
    parser.add_argument("--segmentation", action="store_true", help="also the 30-class mask (slow)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "int8"), default="fp32")
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args()
    described = machine()
    print("  ".join(f"{key}: {value}" for key, value in described.items()))
    record, tokens = run(args.ct, args.precision, args.segmentation)
    rows = as_rows(record)
    whole = rows[-1]
    print(f"{tokens} tokens; peak {whole['value']:.2f} GB of {LIMIT_GB:.0f} GB")
    if torch.cuda.is_available():
        rows += on_gpu()
        for made in rows[-4:]:
            print(f"{made['case']:<22} {made['value']:8.3f} {made['unit']}")
    if args.json:
        content = [row | {"machine": described} for row in rows]
        args.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
