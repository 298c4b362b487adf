"""What guidance by the class head gains on studies that no part has seen.

Two bundles over one encoder and class head, trained alike but for `--model.findings`: each writes a
report per study greedily, by beams and by drawing; candidates are re-ranked with the weight that
gives the best macro F1 on validation studies, which are not scored. F1 is of the labels that the
rules read in a report against the true ones (ce_f1@vlm3d-macro18), BLEU-mean that of bleu@vlm3d;
intervals (95 %) are of paired differences to the greedy reports of the plain bundle over resampled
patients. "Best possible" takes the candidate with most labels right, as no re-ranking can.
Abstention: the share of scored studies beyond the bundle's limit, as they are and made unlike a
chest CT.

    python benchmarks/guided.py --catalog CATALOG --plain BUNDLE --findings BUNDLE [--studies N]
        [--tuning N] [--candidates N] [--others FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import machine
from numpy.typing import NDArray

from uvlm.data.split import split_rows
from uvlm.evaluation.intervals import draws_of, paired_difference, patient_resamples
from uvlm.evaluation.labels.clinical import label_measures
from uvlm.evaluation.measure import Measure
from uvlm.evaluation.words.metrics import text_measures
from uvlm.imaging.store import StoredArray
from uvlm.inference.decoding.beams import search
from uvlm.inference.decoding.follow import Row as Followed
from uvlm.inference.decoding.follow import follow
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.decoding.rows import begin
from uvlm.inference.decoding.stopping import Candidate, Ending
from uvlm.inference.guided.choose import per_token
from uvlm.inference.guided.rerank import rerank
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.predict import Prediction
from uvlm.inference.predict import Written as Predicted
from uvlm.models.injection import VisualPlan
from uvlm.models.uvlm import ReportModel
from uvlm.preprocessing.catalog import Row, read_catalog
from uvlm.preprocessing.split import held_out_patients
from uvlm.text.labelling.chest import CHEST
from uvlm.text.tokenizer import Tokenizer

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.6, 3.2, 6.4)
GREEDY = GenerateOptions(max_new_tokens=400)
DRAWN = replace(GREEDY, temperature=0.7)
BEAMS = replace(GREEDY, beams=4)
TOGETHER = 16
"""Studies written at once."""

Array = NDArray[np.float32]
Texts = list[str]


@dataclass
class Written:
    """What one bundle made of some studies."""

    greedy: Texts = field(default_factory=list)
    candidates: dict[str, list[tuple[Texts, list[float]]]] = field(default_factory=dict)
    """"beams" and "drawn" -> per study texts and log-probabilities per token."""

    probabilities: list[Mapping[str, float]] = field(default_factory=list)

    def best(self, how: str, weight: float) -> Texts:
        """The candidate that re-ranking takes, per study."""
        return [
            rerank(texts, likelihoods, CHEST, probabilities, weight)[0].text
            for (texts, likelihoods), probabilities in zip(
                self.candidates[how], self.probabilities, strict=True
            )
        ]

    def oracle(self, how: str, truth: Sequence[Row], names: Sequence[str]) -> Texts:
        """The candidate with most labels right: what no re-ranking can exceed by much."""
        chosen = []
        for (texts, _), row in zip(self.candidates[how], truth, strict=True):
            labels = CHEST.label(texts)
            pairs = dict(zip(names, row.labels, strict=True))
            right = [sum(pairs[n] == one.values[n] for n in names) for one in labels]
            chosen.append(texts[int(np.argmax(right))])
        return chosen


def main() -> None:
    logging.disable(logging.WARNING)
    args = arguments()
    catalog = read_catalog(args.catalog, need=("report", "labels"))
    pipelines = {name: Pipeline.load(getattr(args, name), "cpu") for name in ("plain", "findings")}
    part = pipelines["plain"].bundle.parts["classification"]
    held_out = held_out_patients(catalog.rows)
    share = part.split.val_fraction if part.split else args.val_fraction
    _, tuning = split_rows(catalog.rows, share)
    scored = [row for row in catalog.rows if row.patient_id in held_out][: args.studies]
    tuning = tuning[: args.tuning]
    described = machine() | {"scored": len(scored), "tuning": len(tuning)}
    results: dict[str, Texts] = {}
    weights: dict[str, float] = {}
    for name, pipeline in pipelines.items():
        tuned = written(pipeline, tuning, args.candidates)
        made = written(pipeline, scored, args.candidates)
        results[f"{name}, greedy"] = made.greedy
        for how in made.candidates:
            weights[f"{name}, {how}"] = weight = best_weight(tuned, how, tuning, catalog.labels)
            if how == "beams":
                results[f"{name}, best beam"] = made.best(how, 0.0)
            results[f"{name}, {how} re-ranked"] = made.best(how, weight)
            results[f"{name}, {how}, best possible"] = made.oracle(how, scored, catalog.labels)
    rows = compare(scored, results, catalog.labels)
    rows += abstention(pipelines["plain"], scored, args.others)
    show(rows, weights, described)
    if args.json is not None:
        content = {"machine": described, "weights": weights, "rows": rows}
        partial = args.json.with_name(f".{args.json.name}.tmp")
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, args.json)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--plain", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument("--findings", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument(
        "--others", type=Path, metavar="FOLDER", help="ct.nii.gz files of another region"
    )
    parser.add_argument("--studies", type=int, default=135)
    parser.add_argument("--tuning", type=int, default=60)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--val-fraction", type=float, default=0.1, help="of bundles not saying it")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def array_of(row: Row, change: Callable[[Array], Array] = lambda hu: hu) -> Array:
    """(z, y, x) as a model takes it, `change` made to the HU before."""
    hu = change(StoredArray(row.image)[:, :, :].astype(np.float32))
    hu = np.clip(hu, -1024, 3071)
    normalised: Array = ((hu - hu.mean()) / max(float(hu.std()), 1e-3)).astype(np.float32)
    return normalised


def written(pipeline: Pipeline, rows: Sequence[Row], count: int) -> Written:
    """Greedy reports and candidates of every study, several studies at once."""
    model, tokenizer = pipeline.bundle.modules["report"], pipeline.bundle.tokenizer
    assert isinstance(model, ReportModel)
    assert tokenizer is not None
    found = Written(candidates={"beams": [], "drawn": []})
    for start in range(0, len(rows), TOGETHER):
        begun = [begin_report(pipeline, row) for row in rows[start : start + TOGETHER]]
        found.probabilities += [result.probabilities or {} for result in begun]
        plan, prompts = joined([result.written for result in begun if result.written])
        for how, options in (("greedy", GREEDY), ("beams", BEAMS), ("drawn", DRAWN)):
            made = candidates_of(model, plan, prompts, options, count, tokenizer)
            for candidates in made:
                texts = [str(one.text).strip() for one in candidates]
                if how == "greedy":
                    found.greedy += texts
                else:
                    found.candidates[how].append((texts, [per_token(one) for one in candidates]))
    return found


def begin_report(pipeline: Pipeline, row: Row) -> Prediction:
    """Plan, prompt and probabilities of a study."""
    tasks, options = ("classification", "report"), GenerateOptions(max_new_tokens=1)
    return pipeline.predict_prepared(array_of(row), tasks, options=options)


def joined(parts: Sequence[Predicted]) -> tuple[VisualPlan, list[list[int]]]:
    """One plan of several studies, and their prompts."""
    plans = [part.plan for part in parts]
    layers = {n: torch.cat([plan.per_layer[n] for plan in plans]) for n in plans[0].per_layer}
    prefix = torch.cat([plan.prefix for plan in plans])
    return replace(plans[0], prefix=prefix, per_layer=layers), [part.prompt for part in parts]


@torch.inference_mode()
def candidates_of(
    model: ReportModel,
    plan: VisualPlan,
    prompts: Sequence[Sequence[int]],
    options: GenerateOptions,
    count: int,
    tokenizer: Tokenizer,
) -> list[list[Candidate]]:
    """As `candidates` gives them for each study alone; one where nothing is drawn or searched."""
    ending = Ending(options, tokenizer.eos_id, tokenizer)
    rows = begin(model, plan, prompts, count=options.max_new_tokens)
    if options.beams > 1:
        return search(rows, len(prompts), options, ending)
    count = 1 if options.temperature == 0 else count
    rows.choose([study for study in range(len(prompts)) for _ in range(count)])
    texts = [Followed(seed=number) for _ in prompts for number in range(count)]
    for _ in follow(rows, texts, options, ending, scored=True):
        pass
    done = [text.done for text in texts if text.done is not None]
    return [done[i : i + count] for i in range(0, len(done), count)]


def best_weight(made: Written, how: str, rows: Sequence[Row], names: Sequence[str]) -> float:
    """The smallest of those with the best macro F1."""
    scores = [f1_of(rows, made.best(how, w), names).values(len(rows))[0] for w in WEIGHTS]
    return WEIGHTS[int(np.argmax(scores))]


def f1_of(rows: Sequence[Row], texts: Texts, names: Sequence[str]) -> Measure:
    truth = [[np.nan if v is None else v for v in row.labels] for row in rows]
    said = [[found.values[name] for name in names] for found in CHEST.label(texts)]
    (measure,) = label_measures(truth, said, names, ("ce_f1@vlm3d-macro18",))
    return measure


def compare(rows: Sequence[Row], results: Mapping[str, Texts], names: Sequence[str]) -> list[Any]:
    """Scores of each way to write, and what it gains over the first with its interval."""
    resamples = patient_resamples([row.patient_id for row in rows], 1000, 0)
    references = [row.report or "" for row in rows]
    base: dict[str, tuple[float, NDArray[np.float64]]] = {}
    table = []
    for way, texts in results.items():
        (words,), _ = text_measures(references, texts, ("bleu@vlm3d",))
        for score, measure in (("F1", f1_of(rows, texts, names)), ("BLEU-mean", words)):
            column = 0 if score == "F1" else measure.names.index(score)
            value = float(measure.values(len(rows))[column])
            draws = draws_of(measure, resamples)[:, column]
            first, first_draws = base.setdefault(score, (value, draws))
            gap = paired_difference((value, first), (draws, first_draws))
            table.append(
                {
                    "case": way,
                    "score": score,
                    "value": round(value, 4),
                    "gain": round(gap.difference, 4),
                    "low": round(gap.low, 4),
                    "high": round(gap.high, 4),
                    "p": round(gap.p_value, 4),
                }
            )
    return table


def abstention(pipeline: Pipeline, rows: Sequence[Row], others: Path | None) -> list[Any]:
    """Share of studies beyond the bundle's limit, as they are and as no chest CT is."""
    rng = np.random.default_rng(0)
    few = rows[:40]
    cases: dict[str, list[Array]] = {
        "chest, held out": [array_of(row) for row in rows],
        "HU inverted": [array_of(row, lambda hu: -hu) for row in few],
        "HU 1024 too high": [array_of(row, lambda hu: hu + 1024) for row in few],
        "HU 1024 too low": [array_of(row, lambda hu: hu - 1024) for row in few],
        "upside down": [array_of(row, lambda hu: hu[::-1].copy()) for row in few],
        "noise": [
            array_of(row, lambda hu: rng.normal(0, 300, hu.shape).astype("f4")) for row in few
        ],
    }
    if others is not None:
        spec = pipeline.bundle.parts["classification"].our_spec
        cases["another region"] = [
            pipeline.read(path, tasks=("classification",)).input_for(spec, "classification")
            for path in sorted(others.rglob("ct.nii.gz"))
        ]
    table = []
    for case, arrays in cases.items():
        found = [pipeline.predict_prepared(a, ("classification",)).distance for a in arrays]
        assert all(one is not None for one in found), "give a bundle that knows typical features"
        beyond = float(np.mean([one.beyond for one in found if one is not None]))
        table.append({"case": case, "score": "flagged", "value": beyond, "studies": len(arrays)})
    return table


def show(rows: Sequence[Mapping[str, Any]], weights: Any, described: Mapping[str, Any]) -> None:
    for row in rows:
        line = f"{row['case']:<34} {row['score']:<10} {row['value']:.3f}"
        if "gain" in row:
            line += f"  {row['gain']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        print(line)
    print("weights:", weights)
    print("  ".join(f"{key}: {value}" for key, value in described.items()))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
