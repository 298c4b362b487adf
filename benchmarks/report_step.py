"""A training step of the report task: features from the bank, against running the encoder.

8 layers, 384 visual and 400 text tokens, frozen encoder, volumes of 192x256x256. Ours reads the
features of its studies from a bank on disk; the baseline runs the plain PyTorch encoder (stock
instance normalisation, channels first, no gradient) on the volumes, which are in memory already,
and then does the same decoder step. One case for the package's own 8,192-entry vocabulary and one
for Qwen3's 151,669.

    python benchmarks/report_step.py [--batch N] [--precision bf16] [--small] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch
from harness import Row, machine, medians, publish
from torch import Tensor, nn
from training_case import random_bank, report_config, text_batch, training_step

from uvlm.data.bank import Bank
from uvlm.models.config import ReportConfig
from uvlm.models.encoder import InstanceNorm
from uvlm.models.uvlm import ReportModel
from uvlm.training.recipes import recipe
from uvlm.training.tasks.report import ReportTask

VOCABULARIES = (8192, 151_669)
STUDIES = 64


def measure(vocabulary: int, args: argparse.Namespace, device: str) -> Row:
    config = report_config(vocabulary, args.small)
    torch.manual_seed(0)
    model = ReportModel(config).to(device).train()
    task = ReportTask(model, frozen=True)
    with tempfile.TemporaryDirectory() as folder:
        bank = random_bank(Path(folder) / "bank", config, STUDIES)
        ours, baseline = steps(task, bank, config, args, device)
        ours()
        # The baseline takes minutes and so runs once; ours is a median all the same.
        plain = medians({"baseline": baseline})["baseline"]
        value = medians({"ours": ours})["ours"]
    case = f"bank {vocabulary}"
    return Row(case=case, value=value, baseline=plain, unit="s/step", ratio=plain / value)


def steps(
    task: ReportTask,
    bank: Bank,
    config: ReportConfig,
    args: argparse.Namespace,
    device: str,
) -> tuple[Callable[[], None], Callable[[], None]]:
    """(a step from the bank, one that runs the encoder), over the same weights."""
    text = text_batch(config, args.batch, device)
    volumes = torch.randn(args.batch, config.encoder.in_channels, *config.shape, device=device)
    encoder, align = plain_encoder(task.model), task.model.align
    names = cycle(bank.index.views)

    def from_bank() -> Tensor:
        read = [bank.read(next(names)) for _ in range(args.batch)]
        with torch.autocast(device, enabled=False):  # the loader's part
            features = {s: torch.stack([each[s] for each in read]).to(device) for s in read[0]}
        return task({**text, "features": features})["loss"]

    def from_encoder() -> Tensor:
        with torch.no_grad():
            studies = [align.pool(encoder(volume[None])) for volume in volumes]
            features = {stage: torch.cat([s[stage] for s in studies]) for stage in studies[0]}
        return task({**text, "features": features})["loss"]

    optim = recipe("report").optim
    ours = training_step(task.model, optim, from_bank, device, args.precision)
    return ours, training_step(task.model, optim, from_encoder, device, args.precision)


def plain_encoder(model: ReportModel) -> nn.Module:
    """The encoder without our normalisation, which also lays maps out as the CPU prefers."""
    for module in model.encoder.modules():
        if isinstance(module, InstanceNorm):
            module.__class__ = nn.InstanceNorm3d
    return model.encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2, help="studies per step (paper: 2)")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--small", action="store_true", help="try it at a small size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    described = machine() | {"batch": args.batch, "precision": args.precision}
    rows = [measure(vocabulary, args, device) for vocabulary in VOCABULARIES]
    publish(rows, args.json, described)


if __name__ == "__main__":
    main()
