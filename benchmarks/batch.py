"""Studies a minute of `uvlm report` on many small studies: two workers, one thread each, or one.

Synthetic chest CTs of 80x128x128 through a small random bundle (class head and report; 96 tokens a
report), with files written as the command does. Counted from the moment every worker has loaded its
model. A worker has one thread: nothing is read ahead in `workers`, since that is a second one.

- workers   two workers against one; the limit is 1.7
- overlap   one worker that reads ahead against one that does not; it needs a free core

    python benchmarks/batch.py [--json FILE]
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# ruff: noqa: E402 - threads are counted when NumPy is imported, and the numbers are for one.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import torch
from harness import Row, arguments, machine, publish
from synthetic_ct import chest_ct, write_ct

from uvlm.imaging.preprocess import preset
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.processes import ProcessPool
from uvlm.inference.batch.results import Result
from uvlm.inference.batch.schedule import Ready, run_items
from uvlm.inference.batch.setup import Crew, Setup
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.models.bundle import Part, save_bundle
from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    EncoderConfig,
    InjectionConfig,
    ReportConfig,
)
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.registry import CT_RATE_LABELS
from uvlm.text.prompts import DEFAULT_PROMPT
from uvlm.text.tokenizer import train_tokenizer

STUDIES = 60
ROUNDS = 3
TOKENS = 96
CT = (80, 128, 128)
SHAPE = (64, 64, 64)
ENCODER = EncoderConfig(features=(16, 32, 64, 128), strides=(1, 2, 2, 2), blocks=(1, 1, 1, 1))
TEXT = "Findings: The lungs are clear. There is no pleural effusion. Impression: Normal chest."


def make_bundle(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([TEXT], vocab_size=300)
    spec = preset("paper", shape=SHAPE)
    report = ReportConfig(
        encoder=ENCODER,
        shape=SHAPE,
        injection=InjectionConfig(hidden=64),
        decoder=DecoderConfig(
            vocab_size=tokenizer.vocab_size, layers=4, width=128, heads=4, ffn=512
        ),
        vision_start_id=tokenizer.vision_start_id,
        vision_end_id=tokenizer.vision_end_id,
    )
    classes = ClassificationConfig(encoder=ENCODER, classes=CT_RATE_LABELS, heads=4)
    models = {"classification": ClassificationModel(classes), "report": ReportModel(report)}
    models["report"].encoder.load_state_dict(models["classification"].encoder.state_dict())
    parts = {
        task: Part(task=task, config=config, spec=spec, region="chest", trained_on="nothing")
        for task, config in (("classification", classes), ("report", report))
    }
    return save_bundle(folder, parts, models, tokenizer, DEFAULT_PROMPT)


def make_studies(folder: Path, count: int) -> list[Item]:
    folder.mkdir()
    write_ct(folder / "s000.nii.gz", chest_ct(CT))
    items = [Item(id=f"s{n:03}", path=folder / f"s{n:03}.nii.gz") for n in range(count)]
    for item in items[1:]:
        item.path.write_bytes(items[0].path.read_bytes())
    return items


class Timed(ProcessPool):
    """Notes when each worker has loaded its model."""

    ready: list[float]

    def wait(self, workers: Sequence[Any]) -> list[tuple[Any, Any]]:
        events = super().wait(workers)
        for _, event in events:
            if isinstance(event, Ready):
                self.ready.append(time.perf_counter())
        return events


def per_minute(items: Sequence[Item], setup: Setup, crew: Crew) -> float:
    """Studies a minute once all workers are ready."""
    with tempfile.TemporaryDirectory() as folder:
        pool = Timed(setup, crew, Path(folder), threads=1)
        pool.ready = []
        times: list[float] = []

        def emit(result: Result) -> None:
            assert result.error is None, result.error
            times.append(time.perf_counter())

        run_items(pool, items, emit, workers=crew.workers, depth=crew.depth)
    # The first of each worker warms it up.
    ready = sorted(times)[crew.workers - 1 :]
    start = max(max(pool.ready), ready[0])
    counted = [moment for moment in times if moment > start]
    return 60 * len(counted) / (max(counted) - start)


def main() -> None:
    args = arguments(__doc__ or "")
    described = machine()
    crews = {
        "one": Crew(workers=1, overlap=False),
        "two": Crew(workers=2, overlap=False),
        "ahead": Crew(workers=1, overlap=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in crews}
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder) / "bundle")
        items = make_studies(Path(folder) / "in", STUDIES)
        options = GenerateOptions(max_new_tokens=TOKENS)
        setup = Setup(bundle=bundle, device="cpu", options=options)
        for _ in range(ROUNDS):
            for name, crew in crews.items():
                rates[name].append(per_minute(items, setup, crew))
    rate = {name: statistics.median(values) for name, values in rates.items()}
    rows = [
        Row(
            case=case,
            value=rate[ours],
            baseline=rate["one"],
            unit="studies/min",
            ratio=rate[ours] / rate["one"],
        )
        for case, ours in (("workers", "two"), ("overlap", "ahead"))
    ]
    publish(rows, args.json, described)


if __name__ == "__main__":
    main()
