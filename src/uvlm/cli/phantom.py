"""`uvlm phantom make` and `uvlm phantom sheet`: synthetic CT studies, and a picture of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.errors import ConfigError
from uvlm.phantom.layouts import LAYOUTS
from uvlm.registry import REGIONS

if TYPE_CHECKING:
    from uvlm.phantom.make import Made

__all__ = ["main"]

MAKE = """\
Writes synthetic CT studies with masks, labels and reports that are true of the images: chest
studies in the layout of CT-RATE v2 or another chest dataset, abdominal studies in that of
AbdomenAtlas 3.0. Abnormalities that voxels of the given shape cannot show are left out, with the
reason; their labels stay empty.
"""
SHEET = "Draws one picture with every class of a set of studies, outlined, for a person to judge."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uvlm phantom", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    make = commands.add_parser("make", help="make a set of studies", description=MAKE)
    add = make.add_argument
    add("out", type=Path, metavar="OUT", help="a new or empty folder")
    add("--studies", type=int, required=True, metavar="N", help="how many")
    add("--seed", type=int, default=0, help="equal seeds give equal files (default 0)")
    add("--region", choices=REGIONS, default="chest", help="default chest")
    add(
        "--layout",
        choices=("ct-rate", *LAYOUTS),
        help="how chest studies are laid out: as CT-RATE v2 (ct-rate, the default) or another",
    )
    add(
        "--shape",
        type=int,
        nargs=3,
        default=[64, 96, 96],
        metavar=("Z", "Y", "X"),
        help="voxels of every study (default 64 96 96)",
    )
    add(
        "--min-prevalence",
        type=float,
        default=0.0,
        metavar="P",
        help="raise every drawable class to at least this share of the studies (default 0)",
    )
    add("--sheet", type=Path, metavar="PNG", help="also draw the contact sheet")
    sheet = commands.add_parser("sheet", help="draw the contact sheet of a set", description=SHEET)
    sheet.add_argument("out", type=Path, metavar="OUT", help="a folder `make` wrote")
    sheet.add_argument("picture", type=Path, metavar="PNG", help="the picture to write")
    return parser


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    picture = args.picture if args.command == "sheet" else args.sheet
    if picture is not None:
        from uvlm.imaging.picture import png_path

        png_path(picture)
    if args.command == "make":
        _make(args)
    if picture is not None:
        from uvlm.phantom.sheet import draw_sheet

        draw_sheet(args.out, picture)
        print(f"{picture}: contact sheet")
    return 0


def _make(args: argparse.Namespace) -> None:
    from uvlm.phantom.make import make_abdomen, make_chest

    z, y, x = args.shape
    settings = {
        "studies": args.studies,
        "seed": args.seed,
        "shape": (z, y, x),
        "min_prevalence": args.min_prevalence,
    }
    if args.region == "chest":
        made = make_chest(args.out, **settings, layout=args.layout or "ct-rate")
    elif args.layout:
        raise ConfigError(
            f"--layout {args.layout} is of chest studies, but --region is {args.region}. "
            "Leave one of the two out."
        )
    else:
        made = make_abdomen(args.out, **settings)
    print(f"{args.out}: {made.studies} {args.region} studies of {z} x {y} x {x} voxels")
    _describe(made)


def _describe(made: Made) -> None:
    for name, count in made.counts.items():
        print(f"  {name:<36} {count:>5}  {count / made.studies:6.1%}")
    for lost in made.left_out:
        shape = " ".join(map(str, lost.shape))
        print(f"  {lost.label}: left out. {lost.why}. Drawn from --shape {shape}.")
