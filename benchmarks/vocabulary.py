"""A decoder step with the package's own vocabulary, against Qwen3's with logits everywhere.

Ours: 8,192 entries, logits at the answer's positions, in chunks. Baseline: 151,669 entries, logits
at every position of the sequence and PyTorch's cross-entropy. 8 layers, 384 visual and 400 text
tokens, no encoder. Time in one process, in turn; peak resident memory of each in a process of its
own, with all that Python and PyTorch hold.

    python benchmarks/vocabulary.py [--small] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import Row, machine, medians, publish
from torch import Tensor, nn
from training_case import child, peak_of, report_config, text_batch, training_step

from uvlm.models.align import AlignStages
from uvlm.models.config import ReportConfig
from uvlm.models.decoder import Decoder
from uvlm.models.uvlm import ReportModel
from uvlm.training.config import OptimConfig
from uvlm.training.tasks.report import ReportTask

VOCABULARIES = {"ours": 8192, "baseline": 151_669}


def step_of(name: str, args: argparse.Namespace, device: str) -> Callable[[], None]:
    config = report_config(VOCABULARIES[name], args.small)
    torch.manual_seed(0)
    model = without_encoder(config).to(device).train()
    features = {
        stage: torch.randn(args.batch, config.num_visual_tokens, width, device=device)
        for stage, width in enumerate(config.encoder.features, start=1)
    }
    text = text_batch(config, args.batch, device)
    task = ReportTask(model, frozen=True)

    def ours() -> Tensor:
        return task({**text, "features": features})["loss"]

    def baseline() -> Tensor:
        """Every position, of which those before the report are left out of the loss."""
        plan = model.align.project(features)
        embeddings, layout = model.embed(plan, text["tokens"][:, :-1])
        logits = model.decoder.head(model.decoder.hidden(embeddings, layout, plan))
        wanted = text["tokens"].new_full(logits.shape[:2], -100)
        learned = torch.where(text["answer"][:, 1:], text["tokens"][:, 1:], -100)
        wanted[:, layout.text] = learned
        return F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=-100)

    loss = ours if name == "ours" else baseline
    return training_step(model, OptimConfig(encoder_lr=0.0), loss, device)


def without_encoder(config: ReportConfig) -> ReportModel:
    """A report model whose encoder takes no memory."""
    with torch.device("meta"):
        model = ReportModel(config)
    model.encoder = nn.Identity()  # type: ignore[assignment]
    model.align, model.decoder = AlignStages(config), Decoder(config.decoder)
    return model


def measure(args: argparse.Namespace, device: str) -> list[Row]:
    options = ["--batch", str(args.batch), *(["--small"] if args.small else [])]
    peaks = {name: child(__file__, "--part", name, *options)["peak_gb"] for name in VOCABULARIES}
    steps = {name: step_of(name, args, device) for name in VOCABULARIES}
    for step in steps.values():
        step()
    seconds = medians(steps)
    return [row("time", seconds, "s/step"), row("peak memory", peaks, "GB")]


def row(case: str, found: dict[str, float], unit: str) -> Row:
    value, baseline = found["ours"], found["baseline"]
    return Row(case=case, value=value, baseline=baseline, unit=unit, ratio=baseline / value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1, help="studies per step")
    parser.add_argument("--small", action="store_true", help="try it at a small size")
    parser.add_argument("--part", choices=tuple(VOCABULARIES), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.part:
        print(json.dumps(peak_of(step_of(args.part, args, device), device, steps=2)))
        return
    described = machine() | {"batch": args.batch}
    publish(measure(args, device), args.json, described)


if __name__ == "__main__":
    main()
