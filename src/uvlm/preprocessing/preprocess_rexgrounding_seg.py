"""ReXGroundingCT for segmentation, under the U-VLM README's command line.

    python -m uvlm.preprocessing.preprocess_rexgrounding_seg [--config-path C] COMMAND ...

`all` takes an nnU-Net raw dataset whose masks have the 48 classes already and writes
OUTPUT/Dataset141_ReXGroundingCT for stock nnU-Net, with the catalog in its folder `uvlm`; `verify`
reads it back. `uvlm prepare rexgrounding` makes such masks from the released dataset.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from uvlm.errors import CatalogError, ConfigError, UvlmError
from uvlm.imaging.preprocess import PreprocessSpec, preset
from uvlm.preprocessing.command_config import load_config, tell
from uvlm.preprocessing.sources.rexgrounding_classes import CLASSES, SCOPES

__all__ = ["RexGroundingConfig", "check_names", "main"]

DEFAULT = "rexgrounding_ct_config.json"
DATASET_ID = 141
FOLDER = "uvlm"
"""Of the catalog, in the nnU-Net dataset."""

"""Problems printed one by one."""

ALIASES = {
    "seg_basic": "coarse",
    "seg_basic_lesion": "coarse+lesions",
    "seg_full": "fine+lesions",
}
SPLITS = {"train": ("train",), "val": ("valid",), "both": ("train", "valid")}

MISNAMED = {"liver_right_lobe": 4, "thyroid": 17, "rib": 28, "humerus": 34}
"""Some of the names that the published configuration gives to values of other structures."""


@dataclass(frozen=True, kw_only=True)
class RexGroundingConfig:
    """What `--config-path` may set."""

    name: str = "ReXGroundingCT"
    """Of the dataset, for model cards."""

    preset: Literal["paper", "authors"] = "paper"
    """Preprocessing."""

    shape: tuple[int, int, int] = (192, 256, 256)
    """Voxels (z, y, x) of every volume."""

    scopes: tuple[str, ...] = ("fine+lesions",)
    """Of coarse, coarse+lesions and fine+lesions, or seg_basic, seg_basic_lesion and seg_full."""

    def __post_init__(self) -> None:
        self.scope_names(None)
        self.spec(None)

    def scope_names(self, asked: Sequence[str] | None) -> tuple[str, ...]:
        """The scopes `asked` for, or the configured ones, each once, by its own name.

        Raises:
            ConfigError: none, or an unknown one.
        """
        names = [ALIASES.get(name, name) for name in asked or self.scopes]
        unknown = [name for name in names if name not in SCOPES]
        if unknown or not names:
            known = ", ".join((*SCOPES, *ALIASES))
            raise ConfigError(f"scopes: unknown {unknown[:1]}; known: {known}.")
        return tuple(dict.fromkeys(names))

    def spec(self, target: Sequence[int] | None) -> PreprocessSpec:
        """The preprocessing, at another `target` size (z, y, x) if given."""
        z, y, x = target or self.shape
        return preset(self.preset, (z, y, x))


def check_names(classes: Mapping[str, int], path: Path) -> None:
    """Refuse masks whose classes are not those of Dataset141_ReXGroundingCT.

    Raises:
        CatalogError: naming the first that differs; and where the names are those of the published
            configuration, that they are wrong.
    """
    if any(classes.get(name) == value for name, value in MISNAMED.items()):
        raise CatalogError.about(
            path,
            "the class names of the published rexgrounding_ct_config.json, which are wrong: in the "
            "masks 4 is the gallbladder, not liver_right_lobe, 17 the small bowel, not thyroid",
            "Take the names from the dataset.json of Dataset141_ReXGroundingCT.",
        )
    for name, value in classes.items():
        if CLASSES.get(name) != value:
            meant = next((known for known, number in CLASSES.items() if number == value), "nothing")
            raise CatalogError.about(
                path,
                f"the class {name!r} has the value {value}, where {meant!r} belongs",
                "Number the classes as Dataset141_ReXGroundingCT does, 1 Spleen to 48 Other focal "
                "lung abnormalities.",
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uvlm.preprocessing.preprocess_rexgrounding_seg",
        description="ReXGroundingCT for segmentation.",
    )
    parser.add_argument(
        "--config-path", type=Path, metavar="JSON", help="settings (default: those that ship)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    whole = commands.add_parser("all", help="resize images and masks, write the datasets")
    add = whole.add_argument
    add("--raw-input-dir", type=Path, required=True, help="an nnU-Net raw dataset, or its parent")
    add("--output-dir", type=Path, required=True, help="nnUNet_preprocessed")
    add("--scopes", nargs="+", choices=(*SCOPES, *ALIASES), help="default: fine+lesions")
    add("--split", choices=tuple(SPLITS), default="both", help="what to take (default both)")
    add("--target-size", type=int, nargs=3, metavar=("Z", "Y", "X"))
    add("--num-workers", type=int, default=1, metavar="N", help="processes")
    verify = commands.add_parser("verify", help="read the catalogs and all their stores back")
    verify.add_argument("--output-dir", type=Path, required=True, help="as given to `all`")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 complete, 1 failed, 2 wrong input, 3 partly done."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        config = load_config(RexGroundingConfig, args.config_path, DEFAULT)
        return _prepare(args, config) if args.command == "all" else _verify(args.output_dir)
    except UvlmError as error:
        print(f"{args.command}: {error}", file=sys.stderr)
        return error.exit_code


def _prepare(args: argparse.Namespace, config: RexGroundingConfig) -> int:
    from dataclasses import replace

    from uvlm.preprocessing.ingest import Options, prepare_dataset
    from uvlm.preprocessing.sources.nnunet_raw import (
        find_dataset,
        list_nnunet_raw,
        read_classes,
        series_in,
    )
    from uvlm.preprocessing.sources.rexgrounding import NNUNET
    from uvlm.preprocessing.sources.rexgrounding_classes import scope_named
    from uvlm.preprocessing.sources.rexgrounding_leakage import held_out_table, leakage

    root = find_dataset(args.raw_input_dir.absolute(), DATASET_ID)
    check_names(read_classes(root), root / "dataset.json")
    listing = list_nnunet_raw(
        root,
        [scope_named(name) for name in config.scope_names(args.scopes)],
        names=CLASSES,
        region="chest",
        splits=SPLITS[args.split],
    )
    divided = series_in(root)
    listing = replace(
        listing,
        name=config.name,
        tables={"held_out.csv": held_out_table(divided)},
        warnings=(*listing.warnings, *leakage(divided)),
    )
    options = Options(
        spec=config.spec(args.target_size),
        workers=args.num_workers,
        nnunet=NNUNET,
        nnunet_dir=args.output_dir.absolute(),
    )
    out = args.output_dir.absolute() / NNUNET.folder / FOLDER
    done = prepare_dataset(listing, out, options)
    for catalog in done.catalogs:
        print(f"{catalog}: {done.prepared} series, {done.excluded} left out on purpose")
    for warning in done.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    return tell([f"{each.series_id}: {each.error}" for each in done.rejected])


def _verify(folder: Path) -> int:
    from uvlm.preprocessing.verify import verify_catalog

    found = [path for path in (folder, *sorted(folder.glob("Dataset*/uvlm"))) if path.is_dir()]
    places = [place for path in found for place in (path, *(path / name for name in SCOPES))]
    catalogs = [place / "catalog.csv" for place in places if (place / "catalog.csv").is_file()]
    if not catalogs:
        raise CatalogError.about(folder, "no catalog in it", "Give the --output-dir of `all`.")
    problems: list[str] = []
    for path in catalogs:
        done = verify_catalog(path)
        print(f"{path}: {len(done.catalog.rows)} series, {done.stores} stores read")
        problems += done.problems
    return tell(problems)


if __name__ == "__main__":
    sys.exit(main())
