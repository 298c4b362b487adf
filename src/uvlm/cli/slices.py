"""`uvlm slices CATALOG`: compute once what a 2D encoder says of each study's axial slices."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from uvlm.models.tower_config import SliceEncoderConfig

__all__ = ["main"]

DESCRIPTION = """\
Cuts axial slices, evenly spread from feet to head, out of every prepared volume of the catalogs,
and keeps what the 2D encoder gives for each, in half precision. A model gated by slices then reads
them with --data.slices BANK and never runs the 2D encoder."""

EPILOG = """\
A killed run goes on where it was when started again; a bank may grow by further catalogs. Several
processes fill one bank together, under torchrun or `accelerate launch`, or each given --rank and
--processes."""


def main(argv: Sequence[str]) -> int:
    default = SliceEncoderConfig()
    parser = argparse.ArgumentParser(
        prog="uvlm slices", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False
    )
    parser.add_argument("catalog", type=Path, nargs="+", help="catalog.csv of `uvlm prepare`")
    parser.add_argument(
        "--encoder",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="2D encoder: open_clip_model.safetensors (or model.safetensors), "
        "open_clip_config.json; such as BiomedCLIP",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="BANK", help="folder to fill")
    parser.add_argument(
        "--slices", type=int, default=default.slices, help="of each study (default %(default)s)"
    )
    low, high = default.window
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        default=default.window,
        metavar=("LOW", "HIGH"),
        help=f"HU of black and white (default {low:g} {high:g})",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that read and cut (default %(default)s)"
    )
    parser.add_argument("--rank", type=int, default=int(os.environ.get("RANK", "0")))
    parser.add_argument("--processes", type=int, default=int(os.environ.get("WORLD_SIZE", "1")))
    args = parser.parse_args(argv)
    from uvlm.training.slices import fill_slice_bank

    low, high = args.window
    made = fill_slice_bank(
        args.catalog,
        args.encoder,
        args.out,
        settings=replace(default, slices=args.slices, window=(low, high)),
        device=args.device,
        workers=args.workers,
        rank=args.rank,
        processes=args.processes,
    )
    print(made)
    return 0
