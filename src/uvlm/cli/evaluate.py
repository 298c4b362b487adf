"""`uvlm evaluate`: score a bundle on held-out studies, or predictions that lie in files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uvlm.cli.evaluate_files import TASKS, add_task, run_task
from uvlm.cli.studies import add_base, positive

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="uvlm evaluate", description="Score a model; every score names its protocol."
    )
    parser.add_argument(
        "--list", dest="list_all", action="store_true", help="explain every protocol, and stop"
    )
    commands = parser.add_subparsers(dest="what", metavar="WHAT")
    _add_bundle(commands)
    for task in TASKS:
        add_task(commands, task)
    args = parser.parse_args(argv)
    if args.list_all:
        from uvlm.evaluation.protocols import explain

        print(explain())
        return 0
    if args.what is None:
        parser.error(f"say what to score: bundle, {', '.join(TASKS)}")
    return _bundle(args) if args.what == "bundle" else run_task(args)


def _add_bundle(commands: Any) -> None:
    bundle = commands.add_parser(
        "bundle",
        help="run a bundle on held-out studies and score all its parts",
        description="Run a bundle on the held-out studies of a catalog. Prints one table (Dice, "
        "AUROC, F1, BLEU beside a constant and a random training report) and writes "
        "OUT/scorecard.json, OUT/scorecard.md and OUT/predictions.csv.",
    )
    bundle.add_argument("--model", type=Path, required=True, metavar="BUNDLE", help="bundle folder")
    add_base(bundle)
    bundle.add_argument("--catalog", type=Path, required=True, metavar="CSV", help="catalog.csv")
    bundle.add_argument(
        "--split", choices=("valid", "test"), default="valid", help="rows to score (default valid)"
    )
    bundle.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    bundle.add_argument("--limit", type=positive, metavar="N", help="only the first N studies")
    bundle.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def _bundle(args: argparse.Namespace) -> int:
    from uvlm.evaluation.run import evaluate, require_metrics
    from uvlm.evaluation.written import check_free, write_results
    from uvlm.inference.pipeline import Pipeline
    from uvlm.preprocessing.catalog import read_catalog

    require_metrics()
    check_free(args.out)
    catalog = read_catalog(args.catalog)
    pipeline = Pipeline.load(args.model, device=args.device, base=args.base)
    card, predictions = evaluate(pipeline, catalog, split=args.split, limit=args.limit)
    written = write_results(args.out, card, predictions)
    print(card.text())
    print("\n" + "\n".join(f"{path}" for path in written))
    return 0
