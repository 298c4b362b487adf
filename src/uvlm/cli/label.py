"""`uvlm label REPORTS --out LABELS.csv`: which abnormalities each report speaks of."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.cli.studies import positive
from uvlm.errors import InputError
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS, REGIONS

if TYPE_CHECKING:
    from uvlm.text.labelling.protocol import Labeller, Labels

__all__ = ["main"]

log = logging.getLogger(__name__)

LABELS = dict(zip(REGIONS, (CT_RATE_LABELS, ABDOMEN_LABELS), strict=True))


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)

    from uvlm.evaluation.labels.files import check_free, read_reports, write_labels

    check_free(args.out, args.evidence)
    reports = read_reports(args.reports, args.id_column, args.report_column or ())
    labeller = _labeller(args, reports.ids)
    labels = labeller.label(reports.texts)
    _warn(reports.texts, args.labeller)
    write_labels(reports, labels, labeller.classes, args.out, args.evidence, labeller.name)
    print(_counts(labeller, labels))
    print(f"\n{args.out}" + (f"\n{args.evidence}" if args.evidence else ""))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uvlm label",
        description="Label reports: one row per report with 0 or 1 for each class, ids and order "
        "as given, classes as in CT-RATE's label files (or liver, kidney and pancreas lesion). "
        "REPORTS is a catalog, CT-RATE's report CSV, AccessionNo,report_text, or any CSV or JSON "
        "lines whose columns are named.",
    )
    parser.add_argument("reports", type=Path, metavar="REPORTS", help="CSV or JSON lines")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="labels, a new file")
    parser.add_argument(
        "--labeller", choices=("rules", "radbert", "llm"), default="rules", help="default: rules"
    )
    parser.add_argument("--region", choices=REGIONS, default="chest", help="default: chest")
    parser.add_argument(
        "--evidence",
        type=Path,
        metavar="JSONL",
        help="also write the words behind each decision, with sentences of the reports",
    )
    parser.add_argument("--id-column", metavar="NAME", help="column of the ids")
    parser.add_argument(
        "--report-column",
        nargs="+",
        metavar="NAME",
        help="column of the reports, or two: findings and impression",
    )
    radbert = parser.add_argument_group("--labeller radbert", "CT-CLIP's classifier, local weights")
    radbert.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder with configuration and tokenizer"
    )
    radbert.add_argument(
        "--checkpoint", type=Path, metavar="PTH", help="default: the .pth file in the folder"
    )
    radbert.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    llm = parser.add_argument_group(
        "--labeller llm", "a language model behind an OpenAI-compatible address"
    )
    llm.add_argument("--address", metavar="URL", help="such as http://localhost:8000/v1")
    llm.add_argument("--model", metavar="NAME", help="the name the server knows it by")
    llm.add_argument(
        "--send-reports", action="store_true", help="allow report text to be sent to the address"
    )
    llm.add_argument("--cache", type=Path, metavar="DIR", help="folder where answers are kept")
    llm.add_argument(
        "--key-variable", metavar="NAME", help="environment variable that holds the server's key"
    )
    llm.add_argument(
        "--workers", type=positive, default=4, metavar="N", help="requests at a time (default 4)"
    )
    return parser


def _labeller(args: argparse.Namespace, ids: Sequence[str]) -> Labeller:
    if args.labeller != "llm" and (args.address or args.send_reports):
        raise InputError(
            f"--address and --send-reports are options of --labeller llm, not of {args.labeller}, "
            "which sends nothing. Give --labeller llm, or leave them out."
        )
    if args.labeller == "rules":
        if args.region == "abdomen":
            from uvlm.text.labelling.abdomen import ABDOMEN

            return ABDOMEN
        from uvlm.text.labelling.chest import CHEST

        return CHEST
    return _radbert(args) if args.labeller == "radbert" else _language_model(args, ids)


def _radbert(args: argparse.Namespace) -> Labeller:
    if args.region != "chest":
        raise InputError("radbert knows the chest only. Use --labeller rules for the abdomen.")
    if args.weights is None:
        raise InputError(
            "radbert needs its weights: give --weights, a folder of zzxslp/RadBERT-RoBERTa-4m with "
            "RadBertClassifier.pth of CT-RATE in it."
        )
    from uvlm.text.labelling.radbert import RadBert

    return RadBert(args.weights, args.checkpoint, device=args.device)


def _language_model(args: argparse.Namespace, ids: Sequence[str]) -> Labeller:
    if not args.address or not args.model:
        raise InputError("llm needs --address URL and --model NAME.")
    key = os.environ.get(args.key_variable) if args.key_variable else None
    if args.key_variable and not key:
        raise InputError(f"the environment variable {args.key_variable} is not set. Set it.")
    from uvlm.text.labelling.language_model import LanguageModel

    return LanguageModel(
        args.address,
        args.model,
        LABELS[args.region],
        send_reports=args.send_reports,
        cache=args.cache,
        key=key,
        workers=args.workers,
        ids=ids,
    )


def _warn(texts: Sequence[str], labeller: str) -> None:
    empty = sum(not text.strip() for text in texts)
    if empty:
        log.warning("reports without text, whose labels are all 0: %d of %d", empty, len(texts))
    if labeller == "rules":
        from uvlm.text.labelling.language import is_english

        foreign = sum(not is_english(text) for text in texts if text.strip())
        if foreign:
            log.warning(
                "reports not in English, whose labels are all 0: %d of %d", foreign, len(texts)
            )


def _counts(labeller: Labeller, labels: Sequence[Labels]) -> str:
    width = max(map(len, labeller.classes))
    rows = [f"{labeller.name}: {len(labels)} reports", ""]
    for name in labeller.classes:
        number = sum(one.values[name] for one in labels)
        rows.append(f"{name:<{width}}  {number:>6}  {number / len(labels):>6.1%}")
    return "\n".join(rows)
