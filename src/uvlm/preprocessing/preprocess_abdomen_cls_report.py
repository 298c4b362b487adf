"""AbdomenAtlas 3.0 for classification and reports, under the U-VLM README's command line.

    python -m uvlm.preprocessing.preprocess_abdomen_cls_report [--config-path C] COMMAND ...

Volumes are those that `preprocess_abdomen_seg` or `uvlm prepare abdomen-atlas` stored. `reports`
takes the texts from the metadata, `classification` the labels from the masks, `merge` joins them,
`split` divides them by the lists of TrainTestIDS; `all` does everything, `verify` reads it back.
See `abdomen_catalogs` for the files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.preprocessing.abdomen_command import (
    AbdomenConfig,
    Told,
    add_flags,
    command_parser,
    run_command,
)

if TYPE_CHECKING:
    from uvlm.preprocessing.abdomen_catalogs import Step

__all__ = ["main"]

REPORTS, CLASSES, MERGED = "reports.csv", "classification.csv", "merged.csv"


def _parser() -> argparse.ArgumentParser:
    parser, commands = command_parser(
        "preprocess_abdomen_cls_report", "AbdomenAtlas 3.0 for classification and reports."
    )
    masks = ("mask-only-dir", "image-only-dir")
    whole = commands.add_parser("all", help="texts and labels, merged and split")
    add_flags(whole, *masks, "meta-csv", "images-dir", "split-dir", "output-dir", workers=True)
    reports = commands.add_parser("reports", help="texts of the metadata, with their volumes")
    add_flags(reports, "meta-csv", "images-dir", "output-dir")
    classes = commands.add_parser("classification", help="labels and measures from the masks")
    add_flags(classes, *masks, "output-dir", workers=True)
    classes.add_argument(
        "--meta-csv", type=Path, metavar="PATH", help="lesion volumes to compare the masks with"
    )
    merge = commands.add_parser("merge", help="what the two wrote, as a catalog")
    add_flags(merge, "reports-csv", "cls-csv", "output-csv")
    split = commands.add_parser("split", help="that, by the lists of training and test cases")
    add_flags(split, "merged-csv", "split-dir", "output-dir")
    verify = commands.add_parser("verify", help="read the catalogs and all their stores back")
    add_flags(verify, "output-dir")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 complete, 1 failed, 2 wrong input, 3 partly done."""
    return run_command(_parser().parse_args(argv), _run)


def _run(args: argparse.Namespace, config: AbdomenConfig) -> Told:
    steps = {
        "all": _all,
        "reports": _reports,
        "classification": _classification,
        "merge": _merge,
        "split": _split,
        "verify": _verify,
    }
    return steps[args.command](args, config)


def _reports(args: argparse.Namespace, config: AbdomenConfig) -> Told:
    from uvlm.preprocessing.abdomen_catalogs import report_step
    from uvlm.preprocessing.sources.abdomen_atlas import source_name
    from uvlm.preprocessing.sources.abdomen_tables import read_metadata

    cases = read_metadata(args.meta_csv)
    name = config.name or source_name(args.meta_csv.parent)
    step = report_step(
        cases, cases, args.images_dir, config.report, args.output_dir / REPORTS, name
    )
    return str(step), list(step.problems.values())


def _classification(args: argparse.Namespace, config: AbdomenConfig) -> Told:
    step, _ = _classes(args, None)
    return str(step), list(step.problems.values())


def _classes(args: argparse.Namespace, images: Path | None) -> tuple[Step, list[str]]:
    """What was written, and all cases that have an image and masks."""
    from uvlm.preprocessing.abdomen_catalogs import check_output, class_step
    from uvlm.preprocessing.abdomen_steps import measure_cases
    from uvlm.preprocessing.sources.abdomen_atlas import Places, list_places

    places = Places(
        images=args.image_only_dir, masks=args.mask_only_dir, metadata=args.meta_csv, splits=None
    )
    listing = list_places(places, report=None)
    check_output(args.output_dir, CLASSES)
    records = measure_cases(listing.studies, args.output_dir, args.num_workers)
    step = class_step(records, listing.rejected, images, args.output_dir / CLASSES)
    return step, [study.series_id for study in listing.studies]


def _merge(args: argparse.Namespace, config: AbdomenConfig) -> Told:
    from uvlm.preprocessing.abdomen_catalogs import described_name, merge_step

    name = config.name or described_name(args.reports_csv.parent)
    step = merge_step(args.reports_csv, args.cls_csv, args.output_csv, name)
    note = "No case of it is held out; train on the files that `split` writes."
    return f"{step}\n{note}", list(step.problems.values())


def _split(args: argparse.Namespace, config: AbdomenConfig) -> Told:
    from uvlm.preprocessing.abdomen_catalogs import described_name, split_step

    name = config.name or described_name(args.merged_csv.parent)
    steps = split_step(args.merged_csv, args.split_dir, args.output_dir, name)
    return "\n".join(map(str, steps)), []


def _all(args: argparse.Namespace, config: AbdomenConfig) -> Told:
    from uvlm.preprocessing.abdomen_catalogs import (
        check_output,
        merge_step,
        report_step,
        split_step,
    )
    from uvlm.preprocessing.sources.abdomen_atlas import source_name
    from uvlm.preprocessing.sources.abdomen_tables import read_metadata, read_split

    out, images = args.output_dir, args.images_dir
    name = config.name or source_name(args.image_only_dir.parent)
    check_output(out, REPORTS, CLASSES, MERGED)
    metadata, parts = read_metadata(args.meta_csv), read_split(args.split_dir, config.split)
    classes, cases = _classes(args, images)
    reports = report_step(metadata, cases, images, config.report, out / REPORTS, name)
    merged = merge_step(reports.path, classes.path, out / MERGED, name, parts)
    steps = [reports, merged, *split_step(merged.path, args.split_dir, out, name)]
    # A case that could not be measured is also missing in the merge: told once.
    return "\n".join(map(str, steps)), [*classes.problems.values(), *reports.problems.values()]


def _verify(args: argparse.Namespace, config: AbdomenConfig) -> Told:
    from uvlm.errors import CatalogError
    from uvlm.preprocessing.catalog import read_catalog
    from uvlm.preprocessing.verify import verify_catalog

    folder: Path = args.output_dir
    divided = sorted(folder.glob("*_merged.csv"))
    rows = sum(len(read_catalog(path, need=("labels", "report")).rows) for path in divided)
    if not (folder / MERGED).is_file():
        raise CatalogError.about(folder, f"no {MERGED} in it", "Give the output of `all`.")
    done = verify_catalog(folder / MERGED)
    told = f"{done.catalog.path}: {len(done.catalog.rows)} cases, {done.stores} stores read"
    return f"{told}\n{len(divided)} divided catalogs: {rows} rows read", done.problems


if __name__ == "__main__":
    sys.exit(main())
