"""`uvlm import`: a checkpoint of nnU-Net or of the published U-VLM code becomes a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uvlm.registry import REGIONS

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uvlm import",
        usage="uvlm import CHECKPOINT --out BUNDLE [options]",
        description="Turn a checkpoint into a bundle: of nnU-Net (residual encoder), of the "
        "published U-VLM code, or of this package's nnU-Net trainers. Nothing in the file is run, "
        "and every tensor is used or named. The plan is taken from the checkpoint or its folder.",
    )
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="as fold_0/checkpoint_best.pth")
    add("--out", type=Path, required=True, metavar="BUNDLE", help="new folder to write")
    add("--encoder-only", action="store_true", help="take the encoder and leave the rest")
    add(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="tokenizer.json of the decoder that writes reports (Qwen3-4B's), or its folder",
    )
    add("--region", choices=REGIONS, help="body region, where the plan does not name it")
    add("--plans", type=Path, metavar="FILE", help="plans.json, where it lies elsewhere")
    add("--dataset-json", type=Path, metavar="FILE", help="dataset.json, where it lies elsewhere")
    add("--base", type=Path, metavar="FOLDER", help="language model whose adapters it holds")
    return parser


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)

    from uvlm.models.bundle import save_bundle
    from uvlm.models.weights import import_checkpoint

    found = import_checkpoint(
        args.checkpoint,
        tokenizer=args.tokenizer,
        region=args.region,
        plans=args.plans,
        dataset=args.dataset_json,
        only_encoder=args.encoder_only,
        base=args.base,
    )
    bundle, record = found.bundle, found.record
    save_bundle(args.out, bundle.parts, bundle.modules, bundle.tokenizer, bundle.prompt)
    print(f"{args.out}: {', '.join(bundle.parts)}")
    print(f"  {record.used} tensors used, {record.values:,} numbers")
    if record.repeated:
        print(f"  {record.repeated} second copies, equal to the first")
    for reason, names in record.left_out.items():
        print(f"  {len(names)} left out: {reason} ({names[0]}{', ...' if names[1:] else ''})")
    return 0
