"""All offline text and clinical metrics of 3,039 report pairs with 1,000 resamples of the patients.

The pairs are made up: some 20 sentences of a radiologist's vocabulary each, of which a prediction
shares about half. Files are written, and scored as `uvlm evaluate report` does, with floors from
training reports. Baseline of time and memory: what is promised, 180 s and 2 GB. Baseline of one
resample of BLEU: counting the words of the drawn reports afresh.

    python benchmarks/evaluate.py [--small] [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import Row, machine, medians, peak_rss_gib, publish

PAIRS, TRAINING, RESAMPLES = 3039, 4000, 1000
SECONDS, GIB = 180.0, 2.0

PLACES = ("right upper lobe", "left lower lobe", "both lungs", "middle lobe", "lingular segment")
FINDINGS = (
    "nodule with a diameter of {n} mm",
    "area of consolidation",
    "ground glass opacity",
    "linear atelectasis",
    "bronchiectasis with bronchial wall thickening",
    "emphysematous change",
    "fibrotic sequela",
    "mosaic attenuation pattern",
)
FIXED = (
    "Trachea and both main bronchi are open.",
    "Heart size is within normal limits.",
    "The heart is larger than normal.",
    "Calcific plaques are seen in the wall of the aorta and the coronary arteries.",
    "No pericardial effusion was detected.",
    "There is an effusion of {n} mm in the right pleural space.",
    "No pleural effusion or thickening was observed.",
    "Lymph nodes with a short axis of {n} mm are seen in the mediastinum.",
    "No lymph node of pathological size was found.",
    "There is a sliding hiatal hernia at the lower end of the esophagus.",
    "The tip of a central venous catheter lies in the superior vena cava.",
    "The upper abdominal organs within the sections are normal.",
    "No lytic or destructive lesion was found in the bones.",
)


def sentence(rng: np.random.Generator) -> str:
    number = str(rng.integers(3, 40))
    if rng.random() < 0.5:
        return str(rng.choice(FIXED)).replace("{n}", number)
    finding = str(rng.choice(FINDINGS)).replace("{n}", number)
    verb = rng.choice(("is observed", "was detected", "is not seen", "is present"))
    return f"A {finding} {verb} in the {rng.choice(PLACES)}."


def report(sentences: list[str]) -> str:
    half = len(sentences) - 4
    return f"Findings: {' '.join(sentences[:half])} Impression: {' '.join(sentences[half:])}"


def write_files(folder: Path, pairs: int, training: int) -> None:
    """Two scans a patient, ids as in CT-RATE."""
    rng = np.random.default_rng(0)
    with (
        (folder / "references.csv").open("w", encoding="utf-8", newline="") as one,
        (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as other,
        (folder / "training.csv").open("w", encoding="utf-8", newline="") as third,
    ):
        true, said, seen = csv.writer(one), csv.writer(other), csv.writer(third)
        for writer, column in ((true, "report"), (said, "generated_report"), (seen, "report")):
            writer.writerow(("series_id", column))
        for number in range(pairs):
            key = f"valid_{number // 2}_{'ab'[number % 2]}_1"
            sentences = [sentence(rng) for _ in range(20)]
            true.writerow((key, report(sentences)))
            other_words = [s if rng.random() < 0.5 else sentence(rng) for s in sentences]
            said.writerow((key, report(other_words)))
        for number in range(training):
            seen.writerow((f"train_{number}_a_1", report([sentence(rng) for _ in range(20)])))


def score(folder: Path, resamples: int) -> dict[str, float]:
    from uvlm.evaluation.result_files import write_result
    from uvlm.evaluation.tasks.report import ReportInputs, evaluate_reports

    start = time.perf_counter()
    inputs = ReportInputs(
        references=folder / "references.csv",
        predictions=folder / "predictions.csv",
        training=folder / "training.csv",
        resamples=resamples,
    )
    result = evaluate_reports(inputs)
    write_result(result, folder / "result")
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "gib": peak_rss_gib(), "scores": len(result.scores)}


def resample_row(folder: Path) -> Row:
    """One resample of BLEU: from counts per study, and from the words again."""
    from uvlm.evaluation.intervals import patient_weights
    from uvlm.evaluation.words.bleu import bleu, bleu_mean

    def column(name: str) -> list[str]:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            return [row[1] for row in list(csv.reader(file))[1:]]

    references, predictions = column("references.csv"), column("predictions.csv")
    counts = bleu(references, predictions).counts
    weights = patient_weights([str(i) for i in range(len(references))], 1)
    drawn = np.repeat(np.arange(len(references)), weights[0].astype(int))

    def ours() -> float:
        return float(bleu_mean(weights @ counts)[0])

    def afresh() -> float:
        return bleu([references[i] for i in drawn], [predictions[i] for i in drawn]).mean

    assert abs(ours() - afresh()) < 1e-9
    seconds = medians({"ours": ours, "afresh": afresh})
    return Row(
        case="one resample of bleu@vlm3d",
        value=1000 * seconds["ours"],
        baseline=1000 * seconds["afresh"],
        unit="ms",
        ratio=seconds["afresh"] / seconds["ours"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="try it at a small size")
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    pairs, training, resamples = (60, 80, 50) if args.small else (PAIRS, TRAINING, RESAMPLES)
    if args.part:
        print(json.dumps(score(args.part, resamples)))
        return
    described = machine() | {"pairs": pairs, "resamples": resamples}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, pairs, training)
        command = [sys.executable, __file__, "--part", name, *(["--small"] if args.small else [])]
        found = watched(command)
        rows = [
            limit_row("all offline metrics", found["seconds"], SECONDS, "s"),
            limit_row("peak memory", found["gib"], GIB, "GiB"),
            resample_row(folder),
        ]
    publish(rows, args.json, described | {"scores": found["scores"]})


def watched(command: list[str]) -> dict[str, float]:
    """Run in a process of its own; peak memory is of it and of all it starts (Java) together."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree_gib(process.pid))
        time.sleep(0.1)
    assert process.stdout is not None
    found: dict[str, float] = json.loads(process.stdout.read().splitlines()[-1])
    if process.returncode:
        raise SystemExit(process.returncode)
    # Sampling misses short peaks of the process itself, which it knows.
    return found | {"gib": max(peak, found["gib"])}


def tree_gib(root: int) -> float:
    """Resident memory of a process and its descendants, in GiB; 0 where there is no /proc."""
    parents: dict[int, int] = {}
    pages: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            own = int(folder.name)
            parents[own] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            pages[own] = int((folder / "statm").read_text().split()[1])
        except OSError:
            continue  # it has ended
    family = {root}
    for _ in range(4):
        family |= {own for own, parent in parents.items() if parent in family}
    return sum(pages.get(own, 0) for own in family) * os.sysconf("SC_PAGE_SIZE") / 2**30


def limit_row(case: str, value: float, limit: float, unit: str) -> Row:
    return Row(case=case, value=value, baseline=limit, unit=unit, ratio=limit / value)


if __name__ == "__main__":
    main()
