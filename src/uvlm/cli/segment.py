"""`uvlm segment`: a mask on each CT's own grid."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from uvlm.cli.studies import add_common, refuse_batch, run_studies, study_names

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="uvlm segment",
        usage="uvlm segment INPUT... --model BUNDLE --out DIR [--statistics] [options]",
        description="Write OUT/<name>_mask.nii.gz on the input's own grid, with its class names, "
        "volumes and provenance in OUT/<name>.json and .md. Several inputs: failures go to "
        "OUT/errors.csv, exit code 3.",
    )
    add_common(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--statistics",
        action="store_true",
        help="also write OUT/<name>_statistics.json: ml and mean HU per class",
    )
    args = parser.parse_args(argv)
    names = study_names(args.inputs)

    from uvlm.inference.writer import Outputs, check_free

    refuse_batch(args.out)
    for name in names:
        targets = Outputs.of(args.out, name, mask=True, statistics=args.statistics)
        check_free(args.out, targets.all())

    from uvlm.inference.pipeline import Pipeline

    pipeline = Pipeline.load(
        args.model,
        args.device,
        args.base,
        task="segmentation",
        precision=args.precision,
        runtime=args.runtime,
    )
    pipeline.require("segmentation")

    def work(path: Path) -> str:
        findings = pipeline.segment(path, args.series)
        written = findings.write(args.out, statistics=args.statistics)
        return "\n".join([str(written.mask), *(f"  WARNING: {flag}" for flag in findings.flags)])

    return run_studies(names, work, args.out).exit_code
