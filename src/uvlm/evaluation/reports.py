"""Generated reports beside their references and beside what needs no image."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from uvlm.evaluation.collapse import shared_texts
from uvlm.evaluation.intervals import Interval, paired_bootstrap
from uvlm.evaluation.words.bleu import BleuScore, bleu, bleu_mean
from uvlm.evaluation.words.floors import constant_report, random_reports

__all__ = ["Floor", "ReportScores", "report_scores"]


@dataclass(frozen=True, kw_only=True)
class Floor:
    """A way to write reports without the image, and what the model gains over it."""

    name: str
    score: BleuScore
    gain: Interval
    """BLEU-mean of the model minus the floor's, patients resampled in pairs."""


@dataclass(frozen=True, kw_only=True)
class ReportScores:
    """BLEU of the model and of both floors on the same studies."""

    model: BleuScore
    floors: tuple[Floor, ...]
    studies: int
    identical: int
    """Generated reports whose text another study received too: a model that looks at nothing
    writes one report for all."""

    identical_references: int
    """The same count among the references, for comparison."""


def report_scores(
    references: Sequence[str],
    generated: Sequence[str],
    training: Sequence[str],
    patients: Sequence[Hashable],
    seed: int = 0,
) -> ReportScores:
    """Score generated reports of held-out studies.

    Args:
        references, generated, patients: one entry per study
        training: reports the floors may use; never those of held-out studies

    Raises:
        InputError: no study, no training report, or lengths that differ.
    """
    model = bleu(references, generated)
    constant = constant_report(training, seed)
    texts = {
        "constant report": [constant] * len(references),
        "random report": random_reports(training, len(references), seed),
    }
    floors = []
    for name, hypotheses in texts.items():
        score = bleu(references, hypotheses)
        gain = paired_bootstrap(model.counts, score.counts, bleu_mean, patients, seed=seed)
        floors.append(Floor(name=name, score=score, gain=gain))
    return ReportScores(
        model=model,
        floors=tuple(floors),
        studies=len(references),
        identical=shared_texts(generated),
        identical_references=shared_texts(references),
    )
