"""`uvlm phantom make`: synthetic CT studies with masks, labels and reports."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uvlm phantom", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    make = commands.add_parser("make", help="make a set of studies", description=_MAKE)
    make.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder")
    make.add_argument("--studies", type=int, required=True, metavar="N", help="how many")
    make.add_argument("--seed", type=int, default=0, help="equal seeds give equal files (default 0)")
    make.add_argument("--region", choices=["chest", "abdomen"], default="chest", help="default chest")
    make.add_argument("--shape", type=int, nargs=3, default=[64, 96, 96], metavar=("Z", "Y", "X"),
                      help="voxels of every study (default 64 96 96)")
    make.add_argument("--min-prevalence", type=float, default=0.0, metavar="P",
                      help="raise every drawable class to at least this share of the studies")
    return parser


_MAKE = (
    "Writes chest studies in CT-RATE's layout. Abnormalities that voxels of this shape cannot "
    "show are left out, with the reason; their label column stays empty."
)


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    from uvlm.phantom.make import make_chest

    z, y, x = args.shape
    made = make_chest(args.out, studies=args.studies, seed=args.seed, shape=(z, y, x), min_prevalence=args.min_prevalence)
    print(f"{args.out}: {made.studies} studies of {z} x {y} x {x} voxels")
    for name, count in made.counts.items():
        print(f"  {name:<36} {count:>5}  {count / made.studies:6.1%}")
    for lost in made.left_out:
        shape = " ".join(map(str, lost.shape))
        print(f"  {lost.label} left out: {lost.why}. Shown from --shape {shape}.")
    return 0
