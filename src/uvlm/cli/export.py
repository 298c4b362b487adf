"""`uvlm export`: a bundle's networks for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import inf
from pathlib import Path

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="uvlm export",
        usage="uvlm export BUNDLE --to FORMAT --out DIR [--spacing Z Y X]",
        description="nnunet: write the segmentation of a bundle as a results folder, for "
        "`nnUNetv2_predict_from_modelfolder -m DIR -f 0`. DIR/README.md says how nnU-Net's "
        "preparation of a study differs from the bundle's. Encoders whose first stage halves the "
        "volume, such as those of the tiny recipes, have no counterpart in nnU-Net. "
        "onnx, openvino, torch: write the encoder with the pooling after it as one graph, from a "
        "prepared volume to the decoder's visual tokens and the deepest map (torch: `.pt2` of "
        "torch.export). Its outputs are compared with PyTorch's, and DIR/encoder.json says by how "
        "much they differ.",
    )
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="bundle folder with the part to write")
    add("--to", choices=("nnunet", "onnx", "openvino", "torch"), required=True, help="format")
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
    args = parser.parse_args(argv)
    if args.spacing and not all(0 < mm < inf for mm in args.spacing):
        parser.error("--spacing must be above 0 mm")
    if args.spacing and args.to != "nnunet":
        parser.error("--spacing goes with --to nnunet only")

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
