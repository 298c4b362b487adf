"""`uvlm prepare`: turn a raw dataset into a catalog and a store that training reads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uvlm prepare", description=__doc__)
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    ct_rate = sources.add_parser(
        "ct-rate",
        help="CT-RATE version 2, and synthetic chest studies",
        description="Writes catalog.csv, dataset.json, imagesTr, labelsTr and errors.csv, which "
        "says which series cannot be used and why. Run again, it keeps what is done.",
    )
    ct_rate.add_argument(
        "input", type=Path, metavar="INPUT", help="the folder that holds `dataset`"
    )
    ct_rate.add_argument("--out", type=Path, required=True, help="where to write")
    ct_rate.add_argument(
        "--preset",
        choices=("paper", "authors"),
        default="paper",
        help="preprocessing (default paper; authors: not antialiased, not clipped)",
    )
    ct_rate.add_argument(
        "--shape", type=int, nargs=3, metavar=("Z", "Y", "X"), help="default 192 256 256"
    )
    ct_rate.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (default 1)"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Exit code 0; 3 if some series were rejected."""
    args = _parser().parse_args(argv)
    from uvlm.imaging.preprocess import preset
    from uvlm.preprocessing.ct_rate import prepare_ct_rate

    spec = preset(args.preset, tuple(args.shape) if args.shape else None)
    done = prepare_ct_rate(args.input, args.out, spec, args.workers)
    kept = f", {done.kept} of them kept from an earlier run" if done.kept else ""
    print(f"{done.catalog}: {done.prepared} series{kept}")
    if done.excluded:
        print(f"{done.excluded} series left out: listed as not of the chest")
    if not done.rejected:
        return 0
    errors = done.catalog.with_name("errors.csv")
    print(f"{len(done.rejected)} series cannot be used: see {errors}", file=sys.stderr)
    return 3
