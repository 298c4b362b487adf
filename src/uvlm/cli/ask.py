"""`uvlm ask`: answers to questions about one CT, or about the studies of a catalog."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from uvlm.cli.generation import add_generation, generation_of
from uvlm.cli.studies import add_base, add_bundle, add_runtime
from uvlm.errors import ConfigError

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    options = generation_of(args)
    if args.out is None:
        if not args.question:
            raise ConfigError('no question was given. Ask one: uvlm ask STUDY "question" ...')
        if args.questions is not None or args.split is not None:
            raise ConfigError("--questions and --split are for a catalog; name a file with --out.")
    elif args.question or args.json:
        raise ConfigError("with --out the questions are those of a table; leave others and --json.")
    from uvlm.inference.pipeline import Pipeline
    from uvlm.inference.questions import answer_questions, answer_table

    pipeline = Pipeline.load(
        args.model,
        args.device,
        args.base,
        precision=args.precision,
        runtime=args.runtime,
    )
    if args.out is not None:
        done = answer_table(
            pipeline,
            args.study,
            args.out,
            table=args.questions,
            split=args.split,
            series=args.series,
            options=options,
        )
        print(done)
        return done.exit_code
    answers = answer_questions(pipeline, args.study, args.question, options, args.series)
    pairs = list(zip(args.question, answers, strict=True))
    if args.json:
        rows = [{"question": question, "answer": answer} for question, answer in pairs]
        print(json.dumps({"study": args.study.name, "answers": rows}, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(f"{question}\n{answer}" for question, answer in pairs))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uvlm ask",
        usage='uvlm ask STUDY "question"... --bundle BUNDLE [--json]\n'
        "       uvlm ask CATALOG --bundle BUNDLE --out FILE [--questions CSV] [--split NAME]",
        description="Print the answer to each question about a CT, which is read and encoded once. "
        "With --out answer the questions of vqa.csv beside a catalog, or of --questions: one row "
        "each in FILE (.jsonl or .csv), as `uvlm evaluate vqa` reads it. The same command again, "
        "after a run that did not end, does what is missing. Exit code 3: some studies failed. "
        "A model answers well what it was trained to be asked.",
    )
    add = parser.add_argument
    add("study", type=Path, metavar="STUDY", help="a CT as `uvlm report` takes it, or a catalog")
    add("question", nargs="*", metavar="QUESTION", help="in quotation marks, one or more")
    add_bundle(parser, required=True)
    add("--json", action="store_true", help="print JSON")
    add("--out", type=Path, metavar="FILE", help="answer a table of questions; never overwritten")
    add("--questions", type=Path, metavar="CSV", help="the table (default: vqa.csv beside it)")
    add("--split", metavar="NAME", help="only studies of this split of the catalog")
    add_base(parser)
    add_runtime(parser)
    add_generation(parser)
    return parser
