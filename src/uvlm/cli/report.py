"""`uvlm report`: a report, with probabilities and mask, for one CT or for thousands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.cli.generation import add_generation, generation_of
from uvlm.cli.studies import add_common, positive, refuse_batch, run_studies
from uvlm.errors import ConfigError

if TYPE_CHECKING:
    from uvlm.inference.batch.items import Item
    from uvlm.inference.batch.setup import Crew, Setup

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    from uvlm.inference.batch.items import find_items, is_single
    from uvlm.inference.batch.setup import Setup
    from uvlm.inference.guided.options import GuideOptions

    setup = Setup(
        bundle=args.model,
        base=args.base,
        device=args.device,
        precision=args.precision,
        runtime=args.runtime,
        series=args.series,
        options=generation_of(args),
        guide=GuideOptions(candidates=args.candidates, agreement=args.agreement),
        evidence=not args.no_evidence,
    )
    crew = _crew(args)
    items = find_items(args.inputs, args.out)
    if is_single(items, args.inputs) and crew.workers == 1 and crew.engine == "process":
        return _one(items[0], args.out, setup, crew)

    from uvlm.inference.batch.run import report_studies

    summary = report_studies(items, args.out, setup, crew, retry=args.retry)
    print(summary)
    return summary.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uvlm report",
        usage="uvlm report INPUT... --model BUNDLE --out DIR [options]",
        description="Write OUT/<name>.html, .md, .json and _mask.nii.gz for each CT. The mask "
        "lies on the input's own grid. An input may also be a CSV file with a column of paths, as "
        "the catalog of `uvlm prepare`, or a folder of many studies. Of several studies, "
        "each is one line of OUT/results.jsonl as soon as it is done, and OUT/results.csv "
        "is the table of all; the same command again does what is missing. Exit code 3: "
        "some failed.",
    )
    add_common(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    add_generation(parser)
    guide = parser.add_argument_group("what the class head adds")
    guide.add_argument(
        "--no-evidence",
        action="store_true",
        help="leave out what each sentence rests on, and what contradicts it; quicker",
    )
    guide.add_argument(
        "--candidates",
        type=int,
        default=0,
        metavar="N",
        help="write so many reports and keep the one that agrees best with the class head",
    )
    guide.add_argument(
        "--agreement",
        type=float,
        default=1.0,
        metavar="X",
        help="what agreement counts among candidates beside likelihood (default 1)",
    )
    many = parser.add_argument_group("many studies")
    many.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="studies at a time, each in a process that has the model in memory, so N times the "
        "memory of one, and its share of the processor's cores (default 1)",
    )
    many.add_argument(
        "--gpu-config",
        metavar="GPUS",
        help='such as "0:2,1:2" for two workers each on GPUs 0 and 1; the memory of a GPU holds '
        "the model once per worker",
    )
    many.add_argument(
        "--engine",
        choices=("process", "ray"),
        default="process",
        help="ray: workers on the cluster that RAY_ADDRESS names (needs uvlm[cluster]); with "
        "--device cuda each has a GPU",
    )
    many.add_argument(
        "--retry", action="store_true", help="try studies again that failed and have not changed"
    )
    return parser


def _crew(args: argparse.Namespace) -> Crew:
    from uvlm.inference.batch.setup import Crew, gpu_crew

    if args.gpu_config is None:
        return Crew(workers=args.workers, engine=args.engine)
    if args.workers > 1 or args.engine == "ray" or args.device != "auto":
        raise ConfigError(
            "--gpu-config says how many workers there are and where; leave --workers, --device and "
            "--engine out."
        )
    return gpu_crew(args.gpu_config)


def _one(item: Item, out: Path, setup: Setup, crew: Crew) -> int:
    """One study: nothing is recorded, and what is wrong with it is the command's error."""
    from uvlm.inference.batch.results import outputs
    from uvlm.inference.writer import check_free

    refuse_batch(out)
    check_free(out, outputs(out, item.id))

    from uvlm.inference.batch.station import load, report

    pipeline = load(setup, crew.device(0, setup))

    def work(path: Path) -> str:
        findings = report(pipeline, path, setup)
        written = findings.write(out)
        return "\n".join(
            [str(written.markdown), *(f"  WARNING: {flag}" for flag in findings.flags)]
        )

    return run_studies({item.id: item.path}, work).exit_code
