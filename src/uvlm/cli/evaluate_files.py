"""`uvlm evaluate {report,cls,seg,detect,retrieval,vqa}`: score predictions that lie in files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from uvlm.errors import InputError

__all__ = ["TASKS", "add_task", "run_task"]

TASKS: Mapping[str, tuple[str, str]] = {
    "report": (
        "generated reports: words, and abnormalities read from them",
        "Scores generated reports against true ones. A study without prediction counts as an empty "
        "report. With --training, scores stand beside those of reports that look at no image.",
    ),
    "cls": (
        "probabilities of abnormalities",
        "Scores probabilities against labels of 0, 1 or nothing (unknown). A study without "
        "prediction counts as the opposite of its labels. Thresholds and temperature come from "
        "validation studies only.",
    ),
    "seg": (
        "masks: overlap, surface distances, lesions",
        "Scores predicted masks against true ones, in mm. A study without prediction counts as an "
        "empty mask.",
    ),
    "detect": (
        "whether each organ has a lesion, from masks, probabilities or reports",
        "Scores per organ whether a lesion is there. A study without prediction counts as the "
        "opposite of the truth.",
    ),
    "retrieval": (
        "embeddings: report from volume, volume from report, like volumes",
        "Scores embeddings. PREDICTIONS is an .npz file with `ids`, `image` and, for search by "
        "report, `text`. A study without embedding is always refused.",
    ),
    "vqa": (
        "answers to questions",
        "Scores answers. Questions meet predictions by `question_id`, or by study, type, anatomy "
        "and finding as in the vqa.csv of `uvlm prepare radgenome`. An empty or missing answer is "
        "wrong.",
    ),
}
"""Task -> (one line of help, description)"""


def add_task(commands: Any, task: str) -> None:
    """Add the parser of one task."""
    line, description = TASKS[task]
    parser = commands.add_parser(
        task,
        help=line,
        description=f"{description} Writes result.json, result.md, result.html, studies.csv and "
        "draws.npz to OUT; nothing is overwritten. Intervals are 95 percent, over patients.",
    )
    _add_common(parser, task)
    _OWN[task](parser.add_argument_group(f"options of {task}"))


def _add_common(parser: argparse.ArgumentParser, task: str) -> None:
    add = parser.add_argument
    add("--list", action="store_true", help="explain every protocol with its source, and stop")
    kind = "CSV or JSON lines" + (", or a folder of masks" if task in ("seg", "detect") else "")
    add("--references", type=Path, metavar="FILE", help=f"the truth: {kind}")
    add("--predictions", type=Path, metavar="FILE", help="what was predicted")
    add("--out", type=Path, metavar="DIR", help="folder to write to")
    add(
        "--protocol",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="compute these only; default: all for which everything is there (see --list)",
    )
    if task != "retrieval":  # a smaller gallery is an easier search, so there is no choice
        add(
            "--missing",
            choices=("wrong", "refuse"),
            default="wrong",
            help="a study without prediction counts as wrong (default), or nothing is scored",
        )
    add(
        "--unit",
        choices=("scan", "series"),
        help="scan: of CT-RATE's reconstructions of a scan the one with the lowest number among "
        "the references counts (default where ids are CT-RATE's); series: every row counts",
    )
    add("--split", metavar="NAME", help="only references of this split, as a catalog names it")
    add("--id-column", metavar="NAME", help="study id, in both tables where both have it")
    add("--prediction-id-column", metavar="NAME", help="study id in the predictions")
    add(
        "--patient-column",
        metavar="NAME",
        help="patient, in the references; default: patient_id, or from CT-RATE's ids, else every "
        "study is its own",
    )
    add("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default 1000)")
    add("--seed", type=int, default=0, metavar="N", help="of the resamples (default 0)")


def _report(group: Any) -> None:
    add = group.add_argument
    add(
        "--text-column",
        nargs="+",
        default=[],
        metavar="NAME",
        help="report of the references; two names are findings and impression",
    )
    add("--prediction-text-column", nargs="+", default=[], metavar="NAME", help="the same")
    add("--training", type=Path, metavar="FILE", help="training reports, for the floors")
    add(
        "--labeller",
        choices=("rules", "radbert"),
        default="rules",
        help="what reads abnormalities from reports (default rules); for others label both files "
        "with `uvlm label` and give the tables",
    )
    add(
        "--region",
        choices=("chest", "abdomen"),
        default="chest",
        help="18 classes of CT-RATE (default), or lesions of liver, kidney and pancreas",
    )
    add("--labeller-weights", type=Path, metavar="DIR", help="folder of radbert's weights")
    add(
        "--weights",
        nargs="+",
        type=_named_folder,
        action="extend",
        default=[],
        metavar="PROTOCOL=DIR",
        help="local weights of protocols that need a model (see --list)",
    )
    add("--labels", type=Path, metavar="FILE", help="true labels, instead of labelling references")
    add("--predicted-labels", type=Path, metavar="FILE", help="the same for the predictions")
    _label_columns(add)


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not name or not equals or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not PROTOCOL=DIR")
    return name, Path(folder)


def _organ_limit(text: str) -> tuple[str, float]:
    organ, _, number = text.rpartition("=")
    try:
        return organ, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no NUMBER or ORGAN=NUMBER") from None


def _limit(add: Any, option: str, what: str) -> None:
    add(
        option,
        nargs="+",
        type=_organ_limit,
        action="extend",
        default=[],
        metavar="[ORGAN=]NUMBER",
        help=f"{what}; one number, or ORGAN=NUMBER of liver, kidney, pancreas",
    )


def _others(add: Any) -> None:
    add(
        "--others",
        choices=("refuse", "background"),
        default="refuse",
        help="values of masks that no class has: refused (default), or background",
    )


def _label_columns(add: Any) -> None:
    add("--label-columns", nargs="+", default=[], metavar="NAME", help="classes to score")


def _cls(group: Any) -> None:
    add = group.add_argument
    _label_columns(add)
    add("--logits", action="store_true", help="the predictions are logits")
    _validation(add)


def _validation(add: Any) -> None:
    for what in ("references", "predictions"):
        add(
            f"--validation-{what}",
            type=Path,
            metavar="FILE",
            help=f"{what} of other studies, to choose thresholds on",
        )


def _retrieval(group: Any) -> None:
    add = group.add_argument
    add("--text-column", nargs="+", default=[], metavar="NAME", help="report of the references")
    add("--labels", type=Path, metavar="FILE", help="labels, if the references have none")
    _label_columns(add)


def _vqa(group: Any) -> None:
    add = group.add_argument
    add("--question-column", metavar="NAME", help="id of a question, in both tables")
    add("--type-column", metavar="NAME", help="type of a question")
    add("--answer-column", metavar="NAME", help="valid answers: one, or a JSON list")
    add("--prediction-column", metavar="NAME", help="the predicted answer")
    add("--types", nargs="+", default=[], metavar="TYPE", help="score these types only")
    add("--training", type=Path, metavar="FILE", help="training questions, for the floor")


def _seg(group: Any) -> None:
    add = group.add_argument
    add("--mask-column", metavar="NAME", help="paths of the masks, where tables are given")
    add(
        "--classes",
        type=Path,
        metavar="JSON",
        help='{"liver": 1, ...}, or a dataset.json; default: as a .b2nd says, else every value is '
        "a class",
    )
    add("--predicted-classes", type=Path, metavar="JSON", help="if predictions have other numbers")
    _others(add)
    add("--lesions", nargs="+", default=[], metavar="CLASS", help="classes that are lesions")
    add("--tolerance", type=float, default=2.0, metavar="MM", help="of surface Dice (default 2)")
    add("--lesion-iou", type=float, default=0.0, metavar="IOU", help="least overlap of a lesion")
    add("--workers", type=int, default=1, metavar="N", help="processes (default 1)")


def _detect(group: Any) -> None:
    add = group.add_argument
    kinds = ("masks", "reports", "labels")
    add("--truth-from", choices=kinds, help="what the references hold; default: found out")
    add(
        "--predictions-from",
        choices=kinds,
        help="the same of the predictions, whose labels are probabilities",
    )
    add("--text-column", nargs="+", default=[], metavar="NAME", help="report of the references")
    add("--prediction-text-column", nargs="+", default=[], metavar="NAME", help="the same")
    add("--mask-column", metavar="NAME", help="paths of the masks, where tables are given")
    add("--classes", type=Path, metavar="JSON", help="class names and values of the masks")
    add("--predicted-classes", type=Path, metavar="JSON", help="if predictions have other numbers")
    _others(add)
    add("--logits", action="store_true", help="the predictions are logits")
    _limit(add, "--minimum", "mm^3 of a lesion for detect@masks-radgpt (default 30)")
    _limit(add, "--threshold", "for detect@probabilities (default 0.5)")
    _validation(add)
    add("--workers", type=int, default=1, metavar="N", help="processes (default 1)")


_OWN = {
    "report": _report,
    "cls": _cls,
    "seg": _seg,
    "detect": _detect,
    "retrieval": _retrieval,
    "vqa": _vqa,
}


def run_task(args: argparse.Namespace) -> int:
    """Score, write, print; 3 if a protocol that was named could not be computed."""
    from uvlm.evaluation.protocols import explain

    if args.list:
        print(explain(args.what))
        return 0
    for name in ("references", "predictions", "out"):
        if getattr(args, name) is None:
            raise InputError(f"{args.what} needs --{name}; --help explains it.")
    return _write_and_print(args.what, _options(args), args.out, asked=args.protocol)


def _write_and_print(task: str, options: Any, out: Path, asked: Sequence[str]) -> int:
    """The work itself, from the options of a task."""
    from uvlm.evaluation.rendering.words import summary
    from uvlm.evaluation.result_files import file_names, write_result
    from uvlm.evaluation.tasks.table import evaluate_files
    from uvlm.evaluation.written import check_free

    check_free(out, file_names())
    result = evaluate_files(task, options)
    written = write_result(result, out)
    print(summary(result))
    print("\n" + "\n".join(str(path) for path in written))
    return 3 if set(asked) & set(result.skipped) else 0


def _options(args: argparse.Namespace) -> Any:
    """The task's own options, filled from arguments of the same names."""
    from uvlm.evaluation.tasks.table import options_of

    kind = options_of(args.what)
    values: dict[str, Any] = {"protocols": tuple(args.protocol)}
    for field in fields(kind):
        if hasattr(args, field.name):
            given = getattr(args, field.name)
            values[field.name] = tuple(given) if isinstance(given, list) else given
    if "weights" in values:
        values["weights"] = dict(values["weights"])
    return kind(**values)
