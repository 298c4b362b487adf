"""The rules that label chest reports, against a page of keywords with sentence-level negation.

Scored on hand-labelled reports that the rules were not written with: those whose id hashes
(SHA-256, in hexadecimal) to a first digit of "d" or above; reading them would spoil the figure. The
speed is that of all reports of the file on one core, with nothing remembered from before. FILE is
CT-CLIP's `train.csv` of 800 reports: AccessionNo, report_text, and a column of 0 and 1 for each
class.

    python benchmarks/labeller.py [--reports FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import Row, machine, medians, publish

from uvlm.registry import CT_RATE_LABELS
from uvlm.text.cleaning import split_sentences
from uvlm.text.labelling.chest import CHEST, CHEST_RULES
from uvlm.text.labelling.devices import DEVICE_RULES
from uvlm.text.labelling.lung import LUNG_RULES
from uvlm.text.labelling.rules import RuleLabeller

REPORTS = Path("../shared/data/chest_ct_reports/train.csv")

KEYWORDS = {
    "Medical material": r"catheter|stent|pacemaker|suture|prosthe|surgical material|clips?\b"
    r"|\bport\b|tube\b|cannula|metallic|implant|screw|fixation",
    "Arterial wall calcification": r"(?=.*(?:calcif|athero|plaque))(?=.*(?:aort|vascular|arch))",
    "Cardiomegaly": r"cardiomegaly|(?:heart|cardiothoracic).*(?:increased|enlarged|larger)",
    "Pericardial effusion": r"pericardial.*(?:effusion|fluid)",
    "Coronary artery wall calcification": r"(?=.*(?:calcif|athero|plaque))"
    r"(?=.*(?:coronary|\blad\b))",
    "Hiatal hernia": r"hiatal hernia|hiatus hernia|sliding",
    "Lymphadenopathy": r"lymph ?node|lymphadenopath|\blaps?\b",
    "Emphysema": r"emphysem|bull(?:a|ous)|bleb",
    "Atelectasis": r"atelecta",
    "Lung nodule": r"nodul",
    "Lung opacity": r"ground.?glass|opacit|frosted glass",
    "Pulmonary fibrotic sequela": r"sequela|fibro(?:sis|tic)|pleuroparenchymal",
    "Pleural effusion": r"pleural.*(?:effusion|fluid)|hydrothorax",
    "Mosaic attenuation pattern": r"mosaic",
    "Peribronchial thickening": r"peribronchial.*thick|thick.*peribronchial",
    "Consolidation": r"consolidat",
    "Bronchiectasis": r"bronchiecta",
    "Interlobular septal thickening": r"sept(?:al|a|um).*thick|thick.*sept",
}
PATTERNS = {label: re.compile(KEYWORDS[label], re.I) for label in CT_RATE_LABELS}
DENIAL = re.compile(r"\b(?:no|not|without|nor|free of|absent|none)\b", re.I)

Values = list[dict[str, int]]


def keywords(reports: Sequence[str]) -> Values:
    """The baseline: a word of the class in a sentence without a word of denial."""
    answers = []
    for report in reports:
        said = [s for s in split_sentences(report) if not DENIAL.search(s)]
        answers.append(
            {label: int(any(map(word.search, said))) for label, word in PATTERNS.items()}
        )
    return answers


def rules(reports: Sequence[str]) -> Values:
    table = (*DEVICE_RULES, *CHEST_RULES, *LUNG_RULES)
    fresh = RuleLabeller(CHEST.name, CHEST.classes, table)
    return [dict(labels.values) for labels in fresh.label(reports)]


def f1_scores(answers: Values, rows: Sequence[dict[str, str]]) -> dict[str, float]:
    scores = {}
    for label in CT_RATE_LABELS:
        pairs = [(said[label], int(row[label])) for said, row in zip(answers, rows, strict=True)]
        hits = sum(said and true for said, true in pairs)
        scores[label] = 2 * hits / max(1, sum(said + true for said, true in pairs))
    return scores


def unseen(row: dict[str, str]) -> bool:
    return hashlib.sha256(row["AccessionNo"].encode()).hexdigest()[0] >= "d"


def measure(rows: Sequence[dict[str, str]]) -> list[Row]:
    held_out = [row for row in rows if unseen(row)]
    texts = [row["report_text"] for row in held_out]
    ours, baseline = (f1_scores(label(texts), held_out) for label in (rules, keywords))
    found = [compared("macro-F1", mean(ours), mean(baseline), "F1")]
    found += [compared(label, ours[label], baseline[label], "F1") for label in CT_RATE_LABELS]
    return [*found, speed([row["report_text"] for row in rows])]


def speed(texts: Sequence[str]) -> Row:
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: rules(texts),
        "baseline": lambda: keywords(texts),
    }
    per_minute = {name: 60 * len(texts) / seconds for name, seconds in medians(ways).items()}
    return compared("speed", per_minute["ours"], per_minute["baseline"], "reports/min")


def mean(scores: dict[str, float]) -> float:
    return sum(scores.values()) / len(scores)


def compared(case: str, value: float, baseline: float, unit: str) -> Row:
    return Row(case=case, value=value, baseline=baseline, unit=unit, ratio=value / baseline)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=Path, default=REPORTS, metavar="FILE", help="labelled")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    described = machine()
    with args.reports.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    described |= {"reports": len(rows), "scored": sum(map(unseen, rows))}
    publish(measure(rows), args.json, described)


if __name__ == "__main__":
    main()
