"""`uvlm export`: a bundle's segmentation becomes a results folder of nnU-Net."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import inf
from pathlib import Path

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="uvlm export",
        usage="uvlm export BUNDLE --to nnunet --out DIR [--spacing Z Y X]",
        description="Write the segmentation of a bundle as a results folder, for "
        "`nnUNetv2_predict_from_modelfolder -m DIR -f 0`. DIR/README.md says how nnU-Net's "
        "preparation of a study differs from the bundle's. Encoders whose first stage halves the "
        "volume, such as those of the tiny recipes, have no counterpart in nnU-Net.",
    )
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="bundle folder with a segmentation part")
    add("--to", choices=("nnunet",), required=True, help="format to write")
    add("--out", type=Path, required=True, metavar="DIR", help="new folder to write")
    add(
        "--spacing",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="mm per voxel that nnU-Net resamples a study to, for bundles that resize to one shape "
        "(default 1.5 1 1)",
    )
    args = parser.parse_args(argv)
    if args.spacing and not all(0 < mm < inf for mm in args.spacing):
        parser.error("--spacing must be above 0 mm")

    from uvlm.models.bundle import load_bundle
    from uvlm.models.weights.export import export_nnunet

    spacing = tuple(args.spacing) if args.spacing else None
    folder = export_nnunet(load_bundle(args.bundle, task="segmentation"), args.out, spacing=spacing)
    print(f"{folder}: nnUNetv2_predict_from_modelfolder -m {folder} -f 0 -i INPUT -o OUTPUT")
    return 0
