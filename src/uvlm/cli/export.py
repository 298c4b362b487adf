"""`uvlm export`: a bundle's networks, or a catalog's studies, for other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path

__all__ = ["main"]

FORMATS = ("nnunet", "onnx", "openvino", "torch", "hsenet")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uvlm export",
        usage="uvlm export BUNDLE --to FORMAT --out DIR [--spacing Z Y X]\n"
        "       uvlm export CATALOG --to hsenet --out DIR [--slices BANK] [--axes zyx]",
        description="nnunet: write the segmentation of a bundle as a results folder, for "
        "`nnUNetv2_predict_from_modelfolder -m DIR -f 0`. DIR/README.md says how nnU-Net's "
        "preparation of a study differs from the bundle's. Encoders whose first stage halves the "
        "volume, such as those of the tiny recipes, have no counterpart in nnU-Net. "
        "onnx, openvino, torch: write the encoder with the pooling after it as one graph, from a "
        "prepared volume to the decoder's visual tokens and the deepest map (torch: `.pt2` of "
        "torch.export). Its outputs are compared with PyTorch's, and DIR/encoder.json says by how "
        "much they differ. hsenet: write a catalog's studies as the JSON lists and .npy files that "
        "HSENet's scripts read.",
    )
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="bundle folder with the part to write")
    add("--to", choices=FORMATS, required=True, help="format")
    add("--out", type=Path, required=True, metavar="DIR", help="new folder to write")
    add(
        "--spacing",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="with nnunet: mm per voxel that it resamples a study to, for bundles that resize to "
        "one shape (default 1.5 1 1)",
    )
    add(
        "--base",
        type=Path,
        metavar="FOLDER",
        help="the pretrained language model whose adapters the bundle holds",
    )
    add("--slices", type=Path, metavar="BANK", help="with hsenet: slice bank of the studies")
    add(
        "--axes",
        choices=("zxy", "zyx"),
        help="with hsenet: axes of the volumes' files (default zxy, as HSENet's scripts write)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    if args.spacing and not all(0 < mm < inf for mm in args.spacing):
        parser.error("--spacing must be above 0 mm")
    if args.spacing and args.to != "nnunet":
        parser.error("--spacing goes with --to nnunet only")
    if args.to == "hsenet":
        return _lists(args)
    if args.slices or args.axes:
        parser.error("--slices and --axes go with --to hsenet only")

    from uvlm.models.bundle import load_bundle

    if args.to == "nnunet":
        from uvlm.models.weights.export import export_nnunet

        spacing = tuple(args.spacing) if args.spacing else None
        bundle = load_bundle(args.bundle, task="segmentation")
        folder = export_nnunet(bundle, args.out, spacing=spacing)
        print(f"{folder}: nnUNetv2_predict_from_modelfolder -m {folder} -f 0 -i INPUT -o OUTPUT")
        return 0

    from uvlm.models.exporting import export_encoder

    worst = export_encoder(load_bundle(args.bundle, base=args.base), args.out, args.to)
    print(f"{args.out}: outputs differ from PyTorch's by at most {worst:.1g} of the largest value")
    return 0


def _lists(args: argparse.Namespace) -> int:
    from uvlm.data.hsenet_export import export_lists
    from uvlm.data.slice_bank import SliceBank

    bank = SliceBank.open(args.slices) if args.slices else None
    done = export_lists(args.bundle, args.out, bank=bank, axes=args.axes or "zxy")
    for path in done.lists:
        print(f"{path}: of {done.volumes} volumes")
    for note in done.notes:
        print(f"WARNING: {note}", file=sys.stderr)
    return 0
