"""CT-RATE for classification and reports, under the U-VLM README's command line.

    python -m uvlm.preprocessing.preprocess_ct_rate_cls_report [--config-path C] COMMAND ...

`all` makes the whole catalog; `resize`, `reports`, `classification` and `merge` make it one step at
a time; `verify` reads it back. `uvlm prepare ct-rate` does the same with more options.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from uvlm.errors import CatalogError, ConfigError, UvlmError
from uvlm.imaging.preprocess import PreprocessSpec, preset
from uvlm.preprocessing.command_config import load_config, tell
from uvlm.preprocessing.sources.ct_rate_files import Places, TableColumns, read_source
from uvlm.registry import CT_RATE_LABELS

__all__ = ["CtRateConfig", "main"]

MERGED = {"train": "train_merged.csv", "valid": "val_merged.csv"}
"""Split -> catalog of it that `all` writes."""

DEFAULT = "ct_rate_config.json"
"""Problems printed one by one."""


@dataclass(frozen=True, kw_only=True)
class CtRateConfig:
    """What `--config-path` may set."""

    name: str = ""
    """Of the dataset, for model cards; empty for `source.txt` beside the volumes, or CT-RATE."""

    preset: Literal["paper", "authors"] = "paper"
    """Preprocessing."""

    shape: tuple[int, int, int] = (192, 256, 256)
    """Voxels (z, y, x) of every volume."""

    reconstructions: Literal["all", "one"] = "all"
    """Whether to keep all reconstructions of a scan or one."""

    volume_column: str = "VolumeName"
    findings_column: str = "Findings_EN"
    impression_column: str = "Impressions_EN"
    label_columns: tuple[str, ...] = CT_RATE_LABELS
    """Columns of the label tables, in the order they have in the catalog."""

    train_reports: str = "train_reports.csv"
    val_reports: str = "validation_reports.csv"
    train_labels: str = "train_predicted_labels.csv"
    val_labels: str = "valid_predicted_labels.csv"
    train_metadata: str = "train_metadata.csv"
    val_metadata: str = "validation_metadata.csv"

    def __post_init__(self) -> None:
        if not self.label_columns or len(set(self.label_columns)) != len(self.label_columns):
            raise ConfigError("label_columns must be names, each given once.")
        self.spec(None)

    @property
    def columns(self) -> TableColumns:
        return TableColumns(
            volume=self.volume_column,
            findings=self.findings_column,
            impression=self.impression_column,
            labels=self.label_columns,
        )

    def spec(self, target: Sequence[int] | None) -> PreprocessSpec:
        """The preprocessing, at another `target` size (z, y, x) if given."""
        z, y, x = target or self.shape
        return preset(self.preset, (z, y, x))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uvlm.preprocessing.preprocess_ct_rate_cls_report",
        description="CT-RATE for classification and reports.",
    )
    parser.add_argument(
        "--config-path", type=Path, metavar="JSON", help="settings (default: those that ship)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    whole = commands.add_parser("all", help="volumes, reports and labels into one catalog")
    for name in ("train-input-dir", "val-input-dir"):
        whole.add_argument(f"--{name}", type=Path, help="folder of .nii.gz, at any depth")
    _require(whole, "output-dir", "reports-input-dir", "cls-input-dir")
    resize = commands.add_parser("resize", help="volumes only")
    _require(resize, "input-dir", "output-dir")
    for command in (whole, resize):
        command.add_argument(
            "--metadata-input-dir",
            type=Path,
            help="metadata tables, which version 1 needs (default: `metadata` beside the volumes)",
        )
        command.add_argument("--target-size", type=int, nargs=3, metavar=("Z", "Y", "X"))
        command.add_argument("--num-workers", type=int, default=1, metavar="N", help="processes")
    reports = commands.add_parser("reports", help="a reports table into the catalog's columns")
    _require(reports, "input-csv", "output-csv", "blosc2-dir")
    labels = commands.add_parser("classification", help="a labels table, likewise")
    _require(labels, "input-csv", "output-csv")
    merge = commands.add_parser("merge", help="what reports and classification wrote")
    _require(merge, "reports-csv", "labels-csv", "output-csv")
    verify = commands.add_parser("verify", help="read a catalog and all its stores back")
    _require(verify, "output-dir")
    return parser


def _require(parser: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        parser.add_argument(f"--{name}", type=Path, required=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 complete, 1 failed, 2 wrong input, 3 partly done."""
    args = _parser().parse_args(argv)
    for name, value in vars(args).items():
        if isinstance(value, Path):
            # Paths are remembered: typed in another way, the same study is still the same.
            setattr(args, name, Path(os.path.abspath(value)))
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        return _run(args, load_config(CtRateConfig, args.config_path, DEFAULT))
    except UvlmError as error:
        print(f"{args.command}: {error}", file=sys.stderr)
        return error.exit_code


def _run(args: argparse.Namespace, config: CtRateConfig) -> int:
    if args.command in ("all", "resize"):
        places = _places_of_all(args, config) if args.command == "all" else _bare(args, config)
        return _prepare(args, config, places)
    if args.command == "verify":
        return _verify(args.output_dir)
    from uvlm.preprocessing.ct_rate_steps import classification_step, merge_step, reports_step

    if args.command == "reports":
        step = reports_step(args.input_csv, args.output_csv, args.blosc2_dir, config.columns)
    elif args.command == "classification":
        step = classification_step(args.input_csv, args.output_csv, config.columns)
    else:
        step = merge_step(args.reports_csv, args.labels_csv, args.output_csv, config.name)
    print(f"{step.path}: {step.rows} series")
    return tell(step.left_out)


def _places_of_all(args: argparse.Namespace, config: CtRateConfig) -> Places:
    given = {"train": args.train_input_dir, "valid": args.val_input_dir}
    images = {split: folder for split, folder in given.items() if folder is not None}
    if not images:
        raise ConfigError("give --train-input-dir, --val-input-dir, or both.")
    reports = {"train": config.train_reports, "valid": config.val_reports}
    labels = {"train": config.train_labels, "valid": config.val_labels}
    places = Places(
        images=tuple(images.items()),
        reports=tuple(args.reports_input_dir / reports[split] for split in images),
        labels=tuple(args.cls_input_dir / labels[split] for split in images),
    )
    beside = (*images.values(), args.reports_input_dir)
    return _with_metadata(places, args.metadata_input_dir, beside, config)


def _bare(args: argparse.Namespace, config: CtRateConfig) -> Places:
    places = Places(images=((None, args.input_dir),))
    return _with_metadata(places, args.metadata_input_dir, (args.input_dir,), config)


def _with_metadata(
    places: Places, folder: Path | None, beside: Sequence[Path], config: CtRateConfig
) -> Places:
    """With the tables of `folder`, or of the first `metadata` beside one of `beside`."""
    if folder is None:
        folders = (path.parent / "metadata" for path in beside)
        folder = next((path for path in folders if path.is_dir()), None)
        if folder is None:
            return places
    elif not folder.is_dir():
        raise CatalogError.about(folder, "no such folder", "Check the path.")
    tables = [folder / name for name in (config.train_metadata, config.val_metadata)]
    lists = [folder / f"no_chest_{split}.txt" for split in ("train", "valid")]
    return replace(
        places,
        metadata=tuple(path for path in tables if path.is_file()),
        no_chest=tuple(path for path in lists if path.is_file()),
    )


def _prepare(args: argparse.Namespace, config: CtRateConfig, places: Places) -> int:
    from uvlm.preprocessing.catalog import read_catalog, write_catalog
    from uvlm.preprocessing.ingest import Options, prepare_dataset
    from uvlm.preprocessing.sources.ct_rate import list_places

    for _, folder in places.images:
        if not folder.is_dir():
            raise CatalogError.about(folder, "no such folder", "Check the path.")
    beside = places.images[0][1].parent
    listing = list_places(
        places,
        name=config.name or read_source(beside),
        columns=config.columns,
        reconstructions=config.reconstructions,
    )
    options = Options(
        spec=config.spec(args.target_size),
        workers=args.num_workers,
        # A volume too large for the memory must cost one series, not every run.
        isolated=True,
    )
    if args.command == "all":
        _refuse_other(args.output_dir)
    done = prepare_dataset(listing, args.output_dir, options)
    print(f"{done.catalogs[0]}: {done.prepared} series, {done.excluded} left out on purpose")
    for warning in done.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    if args.command == "all":
        catalog = read_catalog(done.catalogs[0])
        for split, name in MERGED.items():
            rows = tuple(row for row in catalog.rows if row.split == split)
            path = catalog.path.with_name(name)
            write_catalog(replace(catalog, path=path, rows=rows))
            print(f"{path}: {len(rows)} series")
    return tell([f"{each.series_id}: {each.error}" for each in done.rejected])


def _refuse_other(out: Path) -> None:
    """Refuse a folder that holds merged files but no run of ours: they are somebody else's."""
    for name in MERGED.values():
        if (out / name).exists() and not (out / "run.json").exists():
            raise CatalogError.about(
                out / name, "a file that this command did not write", "Choose another --output-dir."
            )


def _verify(folder: Path) -> int:
    from uvlm.preprocessing.verify import verify_catalog

    done = verify_catalog(folder / "catalog.csv")
    print(f"{done.catalog.path}: {len(done.catalog.rows)} series, {done.stores} stores read")
    return tell(done.problems)


if __name__ == "__main__":
    sys.exit(main())
