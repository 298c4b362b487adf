"""`python -m uvlm.evaluation.evaluate`: the command of the U-VLM README, over `uvlm evaluate`.

    --task cls|report --gt-csv TRUTH --pred-csv PREDICTIONS --output-dir DIR

Files are named after the task, so that both tasks can write into one folder, as the README does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uvlm.errors import UvlmError

__all__ = ["main"]

TASKS = ("cls", "report")


def main(argv: Sequence[str] | None = None) -> int:
    """0 complete, 1 failed, 2 wrong input."""
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except UvlmError as error:
        print(f"uvlm.evaluation.evaluate: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uvlm.evaluation.evaluate",
        description="Score predictions that lie in files. `uvlm evaluate` does the same and takes "
        "more options.",
    )
    add = parser.add_argument
    add("--task", choices=TASKS, required=True, help="probabilities, or generated reports")
    add("--gt-csv", type=Path, required=True, metavar="CSV", help="the truth")
    add("--pred-csv", type=Path, required=True, metavar="CSV", help="what was predicted")
    add("--output-dir", type=Path, required=True, metavar="DIR", help="folder to write to")
    add("--id-col", metavar="NAME", help="study id")
    add("--cls-columns", nargs="+", default=[], metavar="NAME", help="labels to score")
    add("--logits", action="store_true", help="predictions are logits, not probabilities")
    add("--gt-report-col", metavar="NAME", help="report of the truth")
    add("--pred-report-col", metavar="NAME", help="report of the predictions")
    return parser


def _run(args: argparse.Namespace) -> int:
    from uvlm.evaluation.rendering.words import summary
    from uvlm.evaluation.result_files import file_names, write_result
    from uvlm.evaluation.tasks.table import evaluate_files, options_of
    from uvlm.evaluation.written import check_free

    prefix = f"{args.task}_"
    check_free(args.output_dir, file_names(prefix))
    values: dict[str, Any] = {
        "references": args.gt_csv,
        "predictions": args.pred_csv,
        "id_column": args.id_col,
        "label_columns": tuple(args.cls_columns),
    }
    if args.task == "cls":
        values["logits"] = args.logits
    if args.task == "report":
        values["text_column"] = _named(args.gt_report_col)
        values["prediction_text_column"] = _named(args.pred_report_col)
    result = evaluate_files(args.task, options_of(args.task)(**values))
    written = write_result(result, args.output_dir, prefix)
    print(summary(result))
    print("\n" + "\n".join(str(path) for path in written))
    return 0


def _named(column: str | None) -> tuple[str, ...]:
    return (column,) if column else ()


if __name__ == "__main__":
    sys.exit(main())
