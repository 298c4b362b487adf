"""`uvlm report`: a report, with probabilities and mask, for each CT."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uvlm.cli.studies import add_common, positive, run_studies, study_names

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="uvlm report",
        usage="uvlm report INPUT... --model BUNDLE --out DIR [options]",
        description="Write OUT/<name>.json, .md and _mask.nii.gz for each CT. The mask lies on the "
        "input's own grid. Several inputs: failures go to OUT/errors.csv, exit code 3.",
    )
    add_common(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--max-new-tokens", type=positive, default=512, help="limit of the report (default 512)"
    )
    args = parser.parse_args(argv)
    names = study_names(args.inputs)

    from uvlm.inference.writer import Outputs, check_free

    for name in names:
        check_free(args.out, Outputs.of(args.out, name, mask=True).all())

    from uvlm.inference.pipeline import Pipeline

    pipeline = Pipeline.load(args.model, device=args.device, base=args.base)
    pipeline.require("report")

    def work(path: Path) -> str:
        findings = pipeline.report(path, args.series, max_new_tokens=args.max_new_tokens)
        written = findings.write(args.out)
        return "\n".join(
            [str(written.markdown), *(f"  WARNING: {flag}" for flag in findings.flags)]
        )

    return run_studies(names, work, args.out).exit_code
