"""`uvlm nnunet path`, `plans` and `run`: nnU-Net's own commands with the trainers of U-VLM."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uvlm.errors import ConfigError
from uvlm.registry import REGIONS

__all__ = ["main"]

KINDS = ("seg", "seg_coarse", "seg_coarse_lesions", "seg_fine_lesions", "cls", "report", "both")
"""What a plan is for; tested to be those that the generator knows."""

RUN = """\
usage: uvlm nnunet run COMMAND ARGS...

Runs a command of nnU-Net (nnUNetv2_train, nnUNetv2_predict, ...) as it is, in an environment in
which it finds the trainers of U-VLM, also where timm or torchvision cannot be imported.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uvlm nnunet", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    path = commands.add_parser(
        "path",
        help="print the folder for nnUNet_extTrainer",
        description="Prints the folder of the trainers: "
        "export nnUNet_extTrainer=$(uvlm nnunet path)",
    )
    path.add_argument(
        "--startup",
        action="store_true",
        help="print the folder for PYTHONPATH instead, for where timm or torchvision is missing",
    )
    _add_plans(commands.add_parser("plans", help="write a plan and, if absent, dataset.json"))
    commands.add_parser("run", help="run a command of nnU-Net that finds the trainers")
    return parser


def _add_plans(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    parser.description = (
        "Writes a plan into the dataset's folder below nnUNet_preprocessed. Segmentation starts "
        "from the plan that nnU-Net or `uvlm prepare` has made for the dataset; labels and reports "
        "from the catalog."
    )
    add("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    add("--dataset", required=True, metavar="DatasetNNN_NAME", help="folder of the dataset")
    add(
        "--catalog",
        type=Path,
        nargs="+",
        default=[],
        metavar="CSV",
        help="written by `uvlm prepare`; for cls, report and both",
    )
    add("--region", choices=REGIONS, help="body region (default: the catalog's)")
    add("--base", default="nnUNetPlans", metavar="PLANS", help="of seg (default nnUNetPlans)")
    add("--name", metavar="PLANS", help="of the plan (default UVLMPlans_REGION_KIND)")
    add("--patch", type=int, nargs=3, metavar=("Z", "Y", "X"), help="voxels of a seg patch")
    add("--batch-size", type=int, default=2, metavar="N", help="per step over all GPUs (default 2)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of network_arch_init_kwargs; VALUE is JSON or plain text; may be repeated",
    )


def main(argv: Sequence[str]) -> int:
    if list(argv[:1]) == ["run"]:  # everything after it belongs to nnU-Net
        return _run(argv[1:])
    args = _parser().parse_args(argv)
    if args.command == "path":
        return _path(args.startup)
    from uvlm.nnunet.plans import write_plan

    written = write_plan(
        args.kind,
        args.dataset,
        catalogs=args.catalog,
        region=args.region,
        base=args.base,
        name=args.name,
        patch=None if args.patch is None else tuple(args.patch),
        batch_size=args.batch_size,
        changes=dict(_change(text) for text in args.set),
    )
    print(written)
    return 0


def _change(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ConfigError(f"--set {text!r} is not of the form KEY=VALUE.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _path(startup: bool) -> int:
    from uvlm.nnunet.environment import STARTUP, TRAINERS, search_fails

    if startup:
        print(STARTUP)
        return 0
    print(TRAINERS, flush=True)
    if str(STARTUP) not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        reason = search_fails()
        if reason is not None:
            print(
                f"uvlm nnunet: {reason}, so nnU-Net's search for a trainer would fail. Put "
                "`uvlm nnunet run` before its commands, or set "
                'PYTHONPATH="$(uvlm nnunet path --startup)".',
                file=sys.stderr,
            )
    return 0


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(RUN, end="")
        return 0 if argv else 2
    from uvlm.nnunet.environment import command_of, environment

    command = str(command_of(argv[0]))
    sys.stdout.flush()
    # In this process's place: signals, exit code and children are the command's own.
    os.execve(command, [command, *argv[1:]], environment(os.environ))
    return 1  # never reached
