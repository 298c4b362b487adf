"""What the two AbdomenAtlas command modules share: settings, flags, and how a result is told."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from uvlm.errors import UvlmError
from uvlm.imaging.preprocess import PreprocessSpec, preset
from uvlm.preprocessing.command_config import load_config, tell
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.sources.abdomen_classes import SCOPES, scopes_of
from uvlm.preprocessing.sources.abdomen_tables import Report, Split

__all__ = ["DEFAULT", "AbdomenConfig", "Told", "add_flags", "command_parser", "run_command"]

DEFAULT = "abdomen_atlas_config.json"
"""The settings that ship."""

"""Problems told one by one."""

Told = tuple[str, Sequence[str]]
"""What was done, and what is wrong, one sentence each."""


@dataclass(frozen=True, kw_only=True)
class AbdomenConfig:
    """What `--config-path` may set."""

    name: str = ""
    """Of the dataset, for model cards; empty for what the input says of itself."""

    preset: Literal["paper", "authors"] = "paper"
    """Preprocessing."""

    shape: tuple[int, int, int] = (192, 256, 256)
    """Voxels (z, y, x) of every volume."""

    dataset_id: int = 145
    """Number of the nnU-Net dataset."""

    dataset_name: str = "AbdomenAtlas3.0Mini"
    """Its name: the folder is Dataset145_AbdomenAtlas3.0Mini."""

    scopes: tuple[str, ...] = ("fine+lesions",)
    """How classes are numbered: fine+lesions (41), coarse+lesions (15), coarse (12)."""

    report: Report = "structured"
    """Which of the four reports becomes `report`."""

    split: Split = "IID"
    """Whose test cases are held out of training."""

    def __post_init__(self) -> None:
        self.spec(None)
        scopes_of(self.scopes)

    @property
    def nnunet(self) -> NnunetName:
        return NnunetName(self.dataset_id, self.dataset_name)

    def spec(self, target: Sequence[int] | None) -> PreprocessSpec:
        """The preprocessing, at another `target` size (z, y, x) if given."""
        z, y, x = target or self.shape
        return preset(self.preset, (z, y, x))


def command_parser(
    module: str, description: str
) -> tuple[argparse.ArgumentParser, argparse._SubParsersAction[argparse.ArgumentParser]]:
    """The parser of a command module, and where its commands are added."""
    parser = argparse.ArgumentParser(
        prog=f"python -m uvlm.preprocessing.{module}", description=description
    )
    parser.add_argument(
        "--config-path", type=Path, metavar="JSON", help="settings (default: those that ship)"
    )
    return parser, parser.add_subparsers(dest="command", required=True, metavar="COMMAND")


def add_flags(
    parser: argparse.ArgumentParser, *required: str, workers: bool = False, volumes: bool = False
) -> None:
    """The paths a command needs; `workers` if it reads cases, `volumes` if it prepares them."""
    for name in required:
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="PATH")
    if workers:
        parser.add_argument("--num-workers", type=int, default=1, metavar="N", help="processes")
    if not volumes:
        return
    parser.add_argument(
        "--target-size",
        type=int,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="voxels of every volume (default: the settings' shape)",
    )
    parser.add_argument(
        "--scopes",
        nargs="+",
        metavar="NAME",
        help=f"how to number classes: {', '.join(SCOPES)}; also seg_full, seg_basic_lesion, "
        "seg_basic (default: the settings')",
    )
    parser.add_argument(
        "--split-dir",
        type=Path,
        metavar="PATH",
        help="the lists of training and test cases (`all`: TrainTestIDS in --input-dir, unless "
        "given; `resize`: without it nothing is held out)",
    )


def run_command(
    args: argparse.Namespace, run: Callable[[argparse.Namespace, AbdomenConfig], Told]
) -> int:
    """Run a command, tell what it did and what is wrong; the exit code that means."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    # Paths are remembered: typed in another way, the same case is still the same.
    for name, value in vars(args).items():
        if isinstance(value, Path):
            setattr(args, name, Path(os.path.abspath(value)))
    try:
        done, problems = run(args, load_config(AbdomenConfig, args.config_path, DEFAULT))
    except UvlmError as error:
        sys.stderr.write(f"{args.command}: {error}\n")
        return error.exit_code
    except OSError as error:
        # Above all a full disk, where there is no longer room for the record of a case.
        what = f"{error.filename or 'writing'}: {error.strerror or error}"
        remedy = "Check the disk and its permissions; the same command goes on from there."
        sys.stderr.write(f"{args.command}: {what}. {remedy}\n")
        return 1
    sys.stdout.write(f"{done}\n")
    return tell(problems)
