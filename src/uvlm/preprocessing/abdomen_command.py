"""What the two AbdomenAtlas command modules share: settings and flags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from uvlm.imaging.preprocess import PreprocessSpec, preset
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.sources.abdomen_classes import SCOPES, scopes_of
from uvlm.preprocessing.sources.abdomen_tables import Report, Split

__all__ = ["DEFAULT", "AbdomenConfig", "add_flags", "command_parser"]

DEFAULT = "abdomen_atlas_config.json"
"""The settings that ship."""


@dataclass(frozen=True, kw_only=True)
class AbdomenConfig:
    """What `--config-path` may set."""

    name: str = "AbdomenAtlas 3.0 Mini"
    """Of the dataset, for model cards."""

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
        help="the lists of training and test cases (default: TrainTestIDS in --input-dir)",
    )
