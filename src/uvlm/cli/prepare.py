"""`uvlm prepare SOURCE INPUT --out OUT`: a raw dataset to a catalog and a store for training.

What is particular to a source is in its module: options, layout, description. It is imported when
it is asked for.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvlm.preprocessing.ingest import Options, Summary
    from uvlm.preprocessing.nnunet_dataset import NnunetName
    from uvlm.preprocessing.study import Listing

__all__ = ["main"]

SOURCES: dict[str, tuple[str, str]] = {
    "ct-rate": ("ct_rate", "CT-RATE, versions 1 and 2, and synthetic chest studies"),
    "abdomen-atlas": ("abdomen_atlas", "AbdomenAtlas 3.0 Mini, and synthetic abdominal studies"),
    "rexgrounding": (
        "rexgrounding",
        "ReXGroundingCT: lesion masks of findings, with anatomy where you have it",
    ),
    "bimcv-r": ("bimcv_r", "BIMCV-R: chest CTs with reports translated from Spanish"),
    "radgenome": (
        "radgenome",
        "RadGenome-ChestCT: region reports and questions on the volumes of CT-RATE",
    ),
    "hsenet": ("hsenet", "HSENet's JSON lists of volumes already prepared as .npy"),
    "folder": (
        "folder",
        "your own: a folder of DICOM or NIfTI, with a CSV or Excel table of reports and labels",
    ),
}
"""Name on the command line -> module in `uvlm.preprocessing.sources`, and one line of help."""

NNUNET_ON_REQUEST = ("ct-rate", "folder")
"""Sources whose masks are not what they are for: an nnU-Net dataset only with --nnunet."""

MOST_REASONS = 8

SHAPE_HELP = "default 192 256 256, with --preset hsenet 32 256 256"


def _module(source: str) -> Any:
    return import_module(f"uvlm.preprocessing.sources.{SOURCES[source][0]}")


def _parser(asked: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uvlm prepare",
        description="Turn a raw dataset into a catalog and a store that training reads. Run "
        "again, also after a kill, it does only what is missing. Raw data are never changed.",
    )
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name, (_, line) in SOURCES.items():
        if name == asked:
            module = _module(name)
            one = sources.add_parser(name, help=line, description=module.DESCRIPTION)
            module.add_arguments(one)
            _add_common(one)
        else:
            sources.add_parser(name, help=line)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, metavar="OUT", help="folder to write to; required to prepare")
    add(
        "--preset",
        choices=("paper", "authors", "hsenet"),
        default="paper",
        help="preprocessing (default paper; authors: not antialiased, not clipped; hsenet: -1000 "
        "to 200 HU, cropped to the foreground)",
    )
    add("--shape", type=int, nargs=3, metavar=("Z", "Y", "X"), help=SHAPE_HELP)
    add("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
    add(
        "--engine",
        choices=("process", "ray"),
        default="process",
        help="processes of this machine, or a Ray cluster (RAY_ADDRESS; without it a local one)",
    )
    add(
        "--memory-gb",
        type=float,
        metavar="G",
        help="of one worker (default: its share of what is free)",
    )
    add(
        "--held-out",
        type=Path,
        metavar="FILE",
        help="series, cases or patients, one a line, whose patients become test patients",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--nnunet",
        type=int,
        metavar="ID",
        help="also write an nnU-Net dataset of this number, 1 to 999 (unasked: abdomen-atlas 145, "
        "rexgrounding 141)",
    )
    which.add_argument("--no-nnunet", action="store_true", help="write no nnU-Net dataset")
    add("--plan", action="store_true", help="estimate time, disk and memory; write nothing")


def main(argv: Sequence[str]) -> int:
    """Exit code 0; 3 if some series were rejected."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files need not be text.
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = _parser(argv[0] if argv else "")
    args = parser.parse_args(argv)
    dry = getattr(args, "dry_run", False)
    if args.out is None and not (args.plan or dry):
        parser.error("the following arguments are required: --out")
    # Paths are remembered: typed in another way, the same study is still the same.
    for name, value in vars(args).items():
        if isinstance(value, Path) and name != "out":
            setattr(args, name, Path(os.path.abspath(value)))
    module = _module(args.source)
    listing = module.list_studies(args)
    if dry:
        print(module.describe(listing))
        again = [word for word in argv if word != "--dry-run"]
        words = ["uvlm", "prepare", *again, *(() if args.out else ("--out", "OUT"))]
        print(f"to prepare them\n  {shlex.join(words)}")
        return 0
    for warning in listing.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    options = _options(args, module, listing)
    if args.plan:
        from uvlm.preprocessing.estimate import describe, estimate

        print(describe(estimate(listing, options, out=args.out)))
        return 0
    from uvlm.preprocessing.ingest import prepare_dataset

    done = prepare_dataset(listing, args.out, options)
    if args.source == "hsenet":
        _keep_features(args, listing, done)
    return _tell(done, listing, args.out)


def _keep_features(args: argparse.Namespace, listing: Listing, done: Summary) -> None:
    """Features of slices that a list names, as a slice bank."""
    from uvlm.preprocessing.sources.hsenet import features_of

    features = features_of(listing)
    if not features:
        return
    from uvlm.data.hsenet_features import import_features

    folder = args.slices or args.out / "slices"
    bank = import_features(features, done.catalogs[0], folder, tuple(args.feature_shape))
    print(f"{bank.path}: slice features, {bank.slices} x {bank.width} of each study")


def _options(args: argparse.Namespace, module: Any, listing: Listing) -> Options:
    from uvlm.imaging.preprocess import preset
    from uvlm.preprocessing.admission import read_held_out
    from uvlm.preprocessing.ingest import Options

    shape = tuple(args.shape) if args.shape else None
    return Options(
        # Volumes that are already prepared leave no choice.
        spec=module.spec_of(args) if args.source == "hsenet" else preset(args.preset, shape),
        workers=args.workers,
        engine=args.engine,
        memory_gb=args.memory_gb,
        isolated=True,
        nnunet=_nnunet(args, module, listing),
        held_out=read_held_out(args.held_out) if args.held_out else frozenset(),
    )


def _nnunet(args: argparse.Namespace, module: Any, listing: Listing) -> NnunetName | None:
    """As asked; unasked, of a source for segmentation whose studies have masks."""
    from uvlm.preprocessing.nnunet_dataset import NnunetName

    default: NnunetName | None = module.NNUNET
    if args.nnunet is not None:
        known = default.name if default else "".join(filter(str.isalnum, listing.name))
        return NnunetName(args.nnunet, known)
    masked = any(study.mask is not None for study in listing.studies)
    wanted = masked and not args.no_nnunet and args.source not in NNUNET_ON_REQUEST
    return default if wanted else None


def _tell(done: Summary, listing: Listing, out: Path) -> int:
    kept = f", {done.kept} of them kept from an earlier run" if done.kept else ""
    for catalog in done.catalogs:
        print(f"{catalog}: {done.prepared} series{kept}")
    reasons = Counter(each.reason for each in listing.excluded).most_common()
    for reason, count in reasons[:MOST_REASONS]:
        print(f"{count} series left out: {reason}")
    if len(reasons) > MOST_REASONS:
        print(f"{done.excluded} series left out in all: see {out / 'run.json'}")
    for warning in done.warnings[len(listing.warnings) :]:
        print(f"WARNING: {warning}", file=sys.stderr)
    if not done.rejected:
        return 0
    print(f"{len(done.rejected)} series cannot be used: see {out / 'errors.csv'}", file=sys.stderr)
    return 3
