"""Memory of a contrastive step in chunks (gradient caching), against the plain step's.

HSENet's stage 1 at batch 24: image and text tower, AdamW left out, as its states are the same in
both. Memory is what the step needs beside weights, batch and libraries: the process's peak minus
its size before. The limit is 40 % of the plain step. Gradients are compared in one process: the
largest difference, as a share of the largest number (those of keys' biases are rounding alone).

The default is a small pair of towers. With --paper they are ViT-B at 32x256x256 and BERT-base with
512 tokens; a CPU seldom holds the plain step of that size, so there its memory follows from those
of one and of two studies.

    python benchmarks/contrastive.py [--paper] [--batch N] [--chunk N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from harness import Row, machine, publish
from training_case import child, peak_of, sync

from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.tower_config import TextTowerConfig, ViTConfig
from uvlm.training.tasks.contrastive import ContrastiveTask

SHARE, CLOSE = 0.4, 1e-5
SMALL = ContrastiveConfig(
    encoder=ViTConfig(shape=(16, 128, 128), patch=(4, 8, 8), width=192, layers=4, heads=4, mlp=768),
    text=TextTowerConfig(vocab_size=2048, width=128, layers=4, heads=4, ffn=512, max_tokens=128),
    width=128,
)
PAPER = ContrastiveConfig(text=TextTowerConfig(vocab_size=30_522))


def network(config: ContrastiveConfig, device: str) -> ContrastiveModel:
    torch.manual_seed(0)
    return ContrastiveModel(config).to(device).train()


def random_batch(config: ContrastiveConfig, size: int, device: str) -> dict[str, Any]:
    assert isinstance(config.encoder, ViTConfig)
    text = config.text
    tokens = torch.randint(5, text.vocab_size, (size, text.max_tokens), device=device)
    return {
        "image": torch.randn(size, 1, *config.encoder.shape, device=device),
        "text": tokens,
        "text_mask": torch.ones_like(tokens, dtype=torch.bool),
        "group": torch.arange(size, device=device),
    }


def resident_gb(device: str) -> float:
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        return (total - free) / 1e9
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e9


def measure_step(config: ContrastiveConfig, batch: int, chunk: int, device: str) -> dict[str, Any]:
    """Peak and seconds of a step in this process."""
    task = ContrastiveTask(network(config, device), chunk=chunk)
    given = random_batch(config, batch, device)
    before = resident_gb(device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = task(given)["loss"]
        loss.backward()
        task.zero_grad()
        sync(device)

    found = peak_of(step, device, steps=1)
    return found | {"peak_gb": found["peak_gb"] - before}


def compare_gradients(config: ContrastiveConfig, batch: int, chunk: int) -> dict[str, float]:
    """Largest difference between both ways, in 32 bits."""
    torch.backends.cuda.matmul.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, given = network(config, device), random_batch(config, batch, device)
    found = []
    for size in (0, chunk):
        model.zero_grad()
        ContrastiveTask(model, chunk=size)(given)["loss"].backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    largest = max(float(gradient.abs().max()) for gradient in found[0])
    differences = [float((a - b).abs().max()) for a, b in zip(*found, strict=True)]
    return {"difference": max(differences) / largest}


def measure(args: argparse.Namespace) -> list[Row]:
    def part(name: str, batch: int, chunk: int) -> dict[str, float]:
        options = ["--part", name, "--batch", str(batch), "--chunk", str(chunk)]
        return child(__file__, *options, *(["--paper"] if args.paper else []))

    chunked = part("step", args.batch, args.chunk)
    extrapolated = args.paper and not torch.cuda.is_available()
    if extrapolated:
        one, two = part("step", 1, 0)["peak_gb"], part("step", 2, 0)["peak_gb"]
        plain = {"peak_gb": one + (args.batch - 1) * (two - one)}
    else:
        plain = part("step", args.batch, 0)
    ours, baseline = chunked["peak_gb"], plain["peak_gb"]
    case = f"batch {args.batch} in chunks of {args.chunk}"
    limit = SHARE * baseline
    rows = [
        Row(
            case=f"{case}, memory", value=ours, baseline=baseline, unit="GB", ratio=baseline / ours
        ),
        Row(case=f"{case}, limit", value=ours, baseline=limit, unit="GB", ratio=limit / ours),
    ]
    if not extrapolated:
        spent, before = chunked["seconds"], plain["seconds"]
        rows.append(
            Row(case=f"{case}, time", value=spent, baseline=before, unit="s", ratio=before / spent)
        )
    # Equal gradients do not depend on the size; of the paper's, three studies are enough.
    compared = min(args.batch, 3) if args.paper else args.batch
    found = part("gradients", compared, min(args.chunk, 2))["difference"]
    ratio = CLOSE / max(found, 1e-12)
    rows.append(
        Row(case="gradients differ by", value=found, baseline=CLOSE, unit="relative", ratio=ratio)
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paper", action="store_true", help="towers of the paper's size")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--chunk", type=int, default=4)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    config = PAPER if args.paper else SMALL
    if args.part == "gradients":
        print(json.dumps(compare_gradients(config, args.batch, args.chunk)))
    elif args.part:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        print(json.dumps(measure_step(config, args.batch, args.chunk, device)))
    else:
        publish(measure(args), args.json, machine())


if __name__ == "__main__":
    main()
