"""`uvlm classify`: the probability of each label for each CT."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.cli.studies import add_common, refuse_batch, run_studies, study_names

if TYPE_CHECKING:
    from uvlm.inference.findings import Findings

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="uvlm classify",
        usage="uvlm classify INPUT... --model BUNDLE [--out DIR | --json] [options]",
        description="Print the probability of each label for each CT, most likely first.",
    )
    add_common(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--out", type=Path, metavar="DIR", help="write DIR/<name>.json and .md instead"
    )
    where.add_argument(
        "--json", action="store_true", help="print one JSON object per line and study"
    )
    args = parser.parse_args(argv)
    names = study_names(args.inputs)

    from uvlm.inference.writer import Outputs, check_free

    if args.out is not None:
        refuse_batch(args.out)
        for name in names:
            check_free(args.out, Outputs.of(args.out, name, mask=False).all())

    from uvlm.inference.pipeline import Pipeline

    pipeline = Pipeline.load(
        args.model,
        args.device,
        args.base,
        task="classification",
        precision=args.precision,
        runtime=args.runtime,
    )
    pipeline.require("classification")

    def work(path: Path) -> str:
        findings = pipeline.classify(path, args.series)
        if args.out is not None:
            return str(findings.write(args.out).markdown)
        if args.json:
            return json.dumps(findings.to_dict(), ensure_ascii=False, allow_nan=False)
        return _table(findings)

    outcome = run_studies(names, work, args.out)
    if args.json:
        for failure in outcome.failures:
            print(json.dumps({"study": failure.study, "error": failure.error}))
    return outcome.exit_code


def _table(findings: Findings) -> str:
    values = findings.probabilities or {}
    width = max(map(len, values), default=0)
    ranked = sorted(values.items(), key=lambda item: -item[1])
    return "\n".join(
        [
            findings.study,
            *(f"  warning: {text}" for text in findings.warnings),
            *(f"  {name:<{width}}  {value:.2f}" for name, value in ranked),
            f"  {findings.disclaimer} {findings.trained_on}",
        ]
    )
