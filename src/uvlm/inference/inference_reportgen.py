"""`python -m uvlm.inference.inference_reportgen`: the README's command, over `uvlm report`.

--csv-path CSV --checkpoint-path CHECKPOINT --gpu-config "0:2,1:2"
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from uvlm.errors import InputError, UvlmError
from uvlm.inference.batch.items import find_items
from uvlm.inference.batch.run import report_studies
from uvlm.inference.batch.setup import Crew, Setup, gpu_crew
from uvlm.inference.decoding.options import GenerateOptions

__all__ = ["main"]

OUTPUT = "inference_report"


def main(argv: Sequence[str] | None = None) -> int:
    """0 complete, 1 failed, 2 wrong input, 3 partly done."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("uvlm").setLevel(logging.INFO)
    try:
        return _run(args)
    except UvlmError as error:
        print(f"uvlm.inference.inference_reportgen: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uvlm.inference.inference_reportgen",
        description="Reports of the studies in a CSV file, by workers on GPUs. `uvlm report` does "
        "the same and takes more options.",
    )
    default = GenerateOptions()
    add = parser.add_argument
    add("--csv-path", type=Path, required=True, metavar="CSV", help="a column of paths, and ids")
    add(
        "--checkpoint-path",
        type=Path,
        required=True,
        metavar="FILE",
        help="checkpoint *.pth in a folder of nnU-Net or uvlm_train; or a bundle folder",
    )
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument(
        "--gpu-config", metavar="GPUS", help='"0:2,1:2" for two workers each on GPUs 0 and 1'
    )
    workers.add_argument(
        "--workers", type=int, default=1, metavar="N", help="on the processor instead (default 1)"
    )
    add(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help=f"folder to write to (default: {OUTPUT} beside the checkpoint)",
    )
    add("--base", type=Path, metavar="FOLDER", help="language model whose adapters it holds")
    add("--series-id-column", metavar="NAME", help="column of identifiers")
    add("--max-new-tokens", type=int, default=default.max_new_tokens, metavar="N")
    add("--temperature", type=float, default=default.temperature, metavar="X", help="0: greedy")
    add("--top-p", type=float, default=default.top_p, metavar="X")
    add("--top-k", type=int, default=default.top_k, metavar="N")
    add("--random-seed", type=int, default=default.seed, metavar="N")
    add("--debug-max-cases", type=int, metavar="N", help="only the first so many")
    return parser


def _run(args: argparse.Namespace) -> int:
    if not args.csv_path.is_file():
        raise InputError.about(args.csv_path, "no such file", "Check the path.")
    if args.debug_max_cases is not None and args.debug_max_cases < 1:
        raise InputError("--debug-max-cases must be at least 1.")
    crew = Crew(workers=args.workers) if args.gpu_config is None else gpu_crew(args.gpu_config)
    setup = Setup(
        bundle=args.checkpoint_path,
        base=args.base,
        device="cpu",  # of --workers; those of --gpu-config have their own
        options=GenerateOptions(
            max_new_tokens=args.max_new_tokens,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            seed=args.random_seed,
        ),
    )
    out = args.output_dir or args.checkpoint_path.absolute().parent / OUTPUT
    items = find_items([args.csv_path], out, id_column=args.series_id_column)
    summary = report_studies(items[: args.debug_max_cases], out, setup, crew)
    print(summary)
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main())
