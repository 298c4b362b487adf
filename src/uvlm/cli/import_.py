"""`uvlm import`: a checkpoint of nnU-Net or of published U-VLM or HSENet code becomes a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.registry import REGIONS

if TYPE_CHECKING:
    from uvlm.models.weights import Imported

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uvlm import",
        usage="uvlm import CHECKPOINT --out BUNDLE [options]",
        description="Turn a checkpoint into a bundle: of nnU-Net (residual encoder), of the "
        "published U-VLM code, or of this package's nnU-Net trainers; of HSENet's contrastive "
        "stages with --text, of its packers and adapters with --stage2. Nothing in the file is "
        "run, and every tensor is used or named. The plan is taken from the checkpoint or its "
        "folder.",
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
    _add_hsenet(parser)
    return parser


def _add_hsenet(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("HSENet and M3D-CLIP").add_argument
    add("--text", type=Path, metavar="BERT", help="folder of bert-base-uncased, for its words")
    add("--stage2", type=Path, metavar="FILE", help="checkpoint with the towers of a report model")
    add("--slice-encoder", type=Path, metavar="FOLDER", help="2D encoder of its slices, BiomedCLIP")
    add(
        "--axes",
        choices=("zxy", "zyx"),
        default="zxy",
        help="of the volumes it was trained on (default zxy, as HSENet's scripts write CT-RATE; "
        "M3D-CLIP: zyx)",
    )


def _imported(args: argparse.Namespace) -> Imported:
    from uvlm.models.weights import import_checkpoint, import_hsenet, import_hsenet_report

    said = {"region": args.region or "chest", "axes": args.axes}
    if args.text is not None:
        return import_hsenet(args.checkpoint, args.text, **said)
    if args.stage2 is not None:
        return import_hsenet_report(
            args.checkpoint, args.stage2, args.base, args.slice_encoder, **said
        )
    return import_checkpoint(
        args.checkpoint,
        tokenizer=args.tokenizer,
        region=args.region,
        plans=args.plans,
        dataset=args.dataset_json,
        only_encoder=args.encoder_only,
        base=args.base,
    )


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    plain = (args.encoder_only, args.tokenizer, args.plans, args.dataset_json)
    if args.text is not None and any((*plain, args.base, args.stage2, args.slice_encoder)):
        parser.error("only --region and --axes go with --text")
    if args.stage2 is not None and (any(plain) or args.base is None):
        parser.error(
            "--stage2 needs --base; beside it only --slice-encoder, --region and --axes go with it"
        )
    if args.slice_encoder is not None and args.stage2 is None:
        parser.error("--slice-encoder needs --stage2")


def main(argv: Sequence[str]) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    _check(parser, args)

    from uvlm.models.bundle import save_bundle

    found = _imported(args)
    bundle, record = found.bundle, found.record
    save_bundle(
        args.out,
        bundle.parts,
        bundle.modules,
        bundle.tokenizer,
        bundle.prompt,
        text_tokens=bundle.text_tokens,
    )
    print(f"{args.out}: {', '.join(bundle.parts)}")
    print(f"  {record.used} tensors used, {record.values:,} numbers")
    if record.repeated:
        print(f"  {record.repeated} second copies, equal to the first")
    for reason, names in record.left_out.items():
        print(f"  {len(names)} left out: {reason} ({names[0]}{', ...' if names[1:] else ''})")
    return 0
