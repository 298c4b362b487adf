"""What the benchmarks of training share: networks at the paper's size, a feature bank, one step."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from paper_size import peak_gb, reset_peak
from torch import nn

from uvlm.data.bank import Bank
from uvlm.data.bank_files import (
    BankIndex,
    BankKey,
    records_per_shard,
    write_index,
    write_shard,
)
from uvlm.models.config import DecoderConfig, EncoderConfig, ReportConfig
from uvlm.training.config import OptimConfig
from uvlm.training.optim import build_optimizer

__all__ = [
    "PROMPT",
    "TEXT",
    "child",
    "peak_of",
    "random_bank",
    "report_config",
    "sync",
    "text_batch",
    "training_step",
]

TEXT, PROMPT = 400, 40
"""Tokens of prompt and report, and of the prompt alone."""

SMALL_ENCODER = EncoderConfig(features=(8, 16, 32), strides=(1, 2, 2), blocks=(1, 1, 1))
Batch = dict[str, Any]


def report_config(vocabulary: int, small: bool) -> ReportConfig:
    """The paper's report network with another vocabulary; small, to try a benchmark."""
    markers = {"vision_start_id": 3, "vision_end_id": 4}
    if not small:
        return ReportConfig(decoder=DecoderConfig(vocab_size=vocabulary), **markers)
    decoder = DecoderConfig(vocab_size=vocabulary // 16, layers=3, width=64, heads=2, ffn=128)
    return ReportConfig(encoder=SMALL_ENCODER, shape=(32, 32, 32), decoder=decoder, **markers)


def random_bank(folder: Path, config: ReportConfig, studies: int) -> Bank:
    """A bank of random features, one view of each of `studies` series named s0, s1, ..."""
    used = {config.reference_stage, *(stage for _, stage in config.layer_stages)}
    stages = tuple((stage, config.encoder.features[stage - 1]) for stage in sorted(used))
    key = BankKey(
        encoder="0" * 16,
        spec_hash="0" * 16,
        token_grid=config.token_grid,
        padding="end",
        stages=stages,
    )
    names = {f"s{number}": 1 for number in range(studies)}
    index = BankIndex(
        key=key, views=names, image_bytes=dict.fromkeys(names, 0), per_shard=records_per_shard(key)
    )
    write_index(folder, index)
    for number in range(index.shards):
        count = len(index.records[number * index.per_shard : (number + 1) * index.per_shard])
        records = [
            {stage: torch.randn(key.tokens, width).half() for stage, width in stages}
            for _ in range(count)
        ]
        write_shard(folder, number, key, records)
    return Bank.open(folder)


def text_batch(config: ReportConfig, batch: int, device: str = "cpu") -> Batch:
    """Random tokens, of which all but the prompt's are learned."""
    tokens = torch.randint(5, config.decoder.vocab_size, (batch, TEXT), device=device)
    answer = torch.ones(batch, TEXT, dtype=torch.bool, device=device)
    answer[:, :PROMPT] = False
    return {"tokens": tokens, "answer": answer, "series_id": [f"s{i}" for i in range(batch)]}


def training_step(
    model: nn.Module,
    optim: OptimConfig,
    loss: Callable[[], torch.Tensor],
    device: str,
    precision: str = "no",
) -> Callable[[], None]:
    """One optimiser step over `loss()`, as the loop does it."""
    optimizer = build_optimizer(model, replace(optim, warmup=0))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, optim.clip)
        optimizer.step()
        optimizer.zero_grad()
        sync(device)

    return step


def sync(device: str) -> None:
    """Wait for the GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_of(step: Callable[[], None], device: str, steps: int) -> dict[str, float]:
    """Peak memory in GB of 10^9 bytes, and seconds of the last step; run it in a process of its
    own."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        reset_peak()
    seconds = 0.0
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
    peak = peak_gb()
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        # What the process holds on the device: PyTorch's largest reserve, and the context.
        context = total - free - torch.cuda.memory_reserved()
        peak = (torch.cuda.max_memory_reserved() + context) / 1e9
    return {"peak_gb": peak, "seconds": seconds}


def child(script: str, *arguments: str) -> dict[str, float]:
    """Run a part of a benchmark in a process of its own and return what it prints last."""
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
