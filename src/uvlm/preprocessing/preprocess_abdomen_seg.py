"""AbdomenAtlas 3.0 for segmentation, under the U-VLM README's command line.

    python -m uvlm.preprocessing.preprocess_abdomen_seg [--config-path C] COMMAND ...

`merge` makes an nnU-Net raw dataset of merged masks from the release, `resize` a catalog, its store
and a dataset for stock nnU-Net from that; `all` does both, and `verify` reads the result back.
`uvlm prepare abdomen-atlas` goes from the release to the catalog in one step.

    RAW/Dataset145_AbdomenAtlas3.0Mini/                  imagesTr, labelsTr, dataset.json
    PREPROCESSED/Dataset145_AbdomenAtlas3.0Mini/         for nnU-Net
    PREPROCESSED/Dataset145_AbdomenAtlas3.0Mini/uvlm/    catalog.csv, imagesTr, labelsTr, ...
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from uvlm.preprocessing.abdomen_command import (
    AbdomenConfig,
    Told,
    add_flags,
    command_parser,
    run_command,
)
from uvlm.preprocessing.study import Exclusion, Listing

__all__ = ["main"]

log = logging.getLogger(__name__)


def _parser() -> argparse.ArgumentParser:
    parser, commands = command_parser(
        "preprocess_abdomen_seg", "AbdomenAtlas 3.0 for segmentation."
    )
    whole = commands.add_parser("all", help="merge, then resize; test cases never train")
    folders = ("input-dir", "raw-output-dir", "preprocessed-output-dir")
    add_flags(whole, *folders, workers=True, volumes=True)
    merge = commands.add_parser("merge", help="one mask per case, as an nnU-Net raw dataset")
    add_flags(merge, "input-dir", "output-dir", workers=True)
    resize = commands.add_parser("resize", help="from that to a catalog and an nnU-Net dataset")
    add_flags(resize, "raw-input-dir", "output-dir", workers=True, volumes=True)
    verify = commands.add_parser("verify", help="read the catalogs and all their stores back")
    add_flags(verify, "output-dir")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 complete, 1 failed, 2 wrong input, 3 partly done."""
    return run_command(_parser().parse_args(argv), _run)


def _run(args: argparse.Namespace, config: AbdomenConfig) -> Told:
    if args.command == "verify":
        return _verify(_out(args.output_dir, config))
    if args.command == "merge":
        return _merge(args, args.output_dir, config, None)
    if args.command == "resize":
        return _resize(args, args.raw_input_dir, args.output_dir, config, args.split_dir)
    from uvlm.preprocessing.sources.abdomen_atlas import places_of

    splits = places_of(args.input_dir, split_dir=args.split_dir).splits
    raw = args.raw_output_dir
    merged, lost = _merge(args, raw, config, splits)
    resized, failed = _resize(args, raw, args.preprocessed_output_dir, config, splits)
    return f"{merged}\n{resized}", [*lost, *failed]


def _out(preprocessed: Path, config: AbdomenConfig) -> Path:
    return preprocessed / config.nnunet.folder / "uvlm"


def _merge(args: argparse.Namespace, raw: Path, config: AbdomenConfig, splits: Path | None) -> Told:
    from uvlm.preprocessing.abdomen_steps import merge_cases
    from uvlm.preprocessing.sources.abdomen_atlas import list_places, places_of, source_name

    places = replace(places_of(args.input_dir), metadata=None, splits=splits)
    name = config.name or source_name(args.input_dir)
    listing = list_places(places, name=name, report=None, split=config.split)
    folder = raw / config.nnunet.folder
    records = merge_cases(listing, folder, args.num_workers)
    merged = sum(record.error is None for record in records)
    left_out = f", {len(listing.excluded)} left out on purpose" if listing.excluded else ""
    rejected = [each.error for each in listing.rejected]
    problems = [*rejected, *(record.error for record in records if record.error)]
    return f"{folder}: {merged} cases merged{left_out}", problems


def _resize(
    args: argparse.Namespace,
    raw: Path,
    preprocessed: Path,
    config: AbdomenConfig,
    splits: Path | None,
) -> Told:
    from uvlm.preprocessing.abdomen_steps import merged_name
    from uvlm.preprocessing.ingest import Options, prepare_dataset
    from uvlm.preprocessing.sources.abdomen_classes import VALUES, scopes_of
    from uvlm.preprocessing.sources.nnunet_raw import find_dataset, list_nnunet_raw

    folder = find_dataset(raw, config.dataset_id)
    scopes = scopes_of(args.scopes or config.scopes)
    listing = list_nnunet_raw(folder, scopes, names=VALUES, region="abdomen")
    listing = replace(listing, name=config.name or merged_name(folder))
    listing = _held_out(listing, splits, config)
    options = Options(
        spec=config.spec(args.target_size),
        workers=args.num_workers,
        nnunet=config.nnunet,
        nnunet_dir=preprocessed,
    )
    done = prepare_dataset(listing, _out(preprocessed, config), options)
    for warning in done.warnings:
        log.warning(warning)
    catalogs = ", ".join(map(str, done.catalogs))
    told = f"{catalogs}: {done.prepared} cases, {done.excluded} left out on purpose"
    return told, [each.error for each in done.rejected]


def _held_out(listing: Listing, splits: Path | None, config: AbdomenConfig) -> Listing:
    """The listing with the split of the lists; cases in neither are left out."""
    if splits is None:
        warning = f"{listing.name}: no lists of test cases (--split-dir), so nothing is held out."
        return replace(listing, warnings=(*listing.warnings, warning))
    from uvlm.preprocessing.sources.abdomen_tables import read_split

    parts = read_split(splits, config.split)
    reason = f"in neither list of the {config.split} split"
    return replace(
        listing,
        studies=tuple(
            replace(study, split=parts[study.series_id])
            for study in listing.studies
            if study.series_id in parts
        ),
        excluded=(
            *listing.excluded,
            *(
                Exclusion(series_id=study.series_id, reason=reason)
                for study in listing.studies
                if study.series_id not in parts
            ),
        ),
    )


def _verify(out: Path) -> Told:
    from uvlm.preprocessing.verify import verify_catalog

    catalogs = sorted(out.glob("*/catalog.csv")) or [out / "catalog.csv"]
    done = [verify_catalog(path) for path in catalogs]
    stores = sum(each.stores for each in done)
    problems = [problem for each in done for problem in each.problems]
    return f"{', '.join(map(str, catalogs))}: {stores} stores read", problems


if __name__ == "__main__":
    sys.exit(main())
