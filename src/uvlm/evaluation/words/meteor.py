"""METEOR 1.5 by the jar of pycocoevalcap, from statistics that can be summed and resampled.

The program aligns words (exact, stem, WordNet synonym, paraphrase) and gives 23 counts per pair;
the score of a set is one formula over their sums (Denkowski and Lavie 2014, section 2; class
MeteorScorer of the jar, English parameters of the task "rank"). It is a corpus score, not a mean.

Shapes: N studies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.evaluation.words.java import find_jar, run_java
from uvlm.evaluation.words.skipped import SkippedError

__all__ = ["LONGEST", "STATISTICS", "meteor_score", "meteor_statistics"]

STATISTICS = 23
CHUNKS = 20
"""How many numbers describe a pair, and which of them is the chunks."""

LONGEST = 1500
"""Words of one report that are aligned. The program's time and memory grow with the square."""

JAR = "meteor/meteor-1.5.jar"
HEAP = "640m"
"""The paraphrase table alone takes 450 MB."""

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGES = np.array([1.0, 0.6, 0.8, 0.6])
"""Weights of exact, stem, synonym and paraphrase matches."""


def meteor_statistics(
    references: Sequence[Sequence[str]], hypotheses: Sequence[str]
) -> NDArray[np.float64]:
    """(N, 23) counts of each study: lengths and function words of both sides, for each of four
    stages content and function words matched on both sides, chunks, words matched on both sides.

    Words after the first 1,500 of a report are not aligned; they count as unmatched. Pairs that
    occur more than once are aligned once.

    Args:
        references: one or more of each study, of which the program takes the best
        hypotheses: one of each study; an empty one matches nothing

    Raises:
        SkippedError: Java or the jar is absent, or the program fails.
    """
    lines, extra = [], []
    for texts, hypothesis in zip(references, hypotheses, strict=True):
        cut = [_cut(text) for text in (*texts, hypothesis)]
        lines.append(_line([kept for kept, _ in cut]))
        # Of several references any one's rest may be the longer: the first stands for all.
        extra.append((cut[-1][1], cut[0][1]))
    distinct = list(dict.fromkeys(lines))
    rests = list(dict.fromkeys(rest for pair in extra for rest in pair if rest))
    asked = [*distinct, *(_line([".", piece]) for rest in rests for piece in _pieces(rest))]
    rows = _ask(asked)
    known = dict(zip(distinct, rows, strict=False))
    statistics = np.array([known[line] for line in lines])
    _add_rests(statistics, extra, rests, rows[len(distinct) :])
    statistics[_whole(statistics), CHUNKS] = 0.0
    return statistics


def meteor_score(statistics: NDArray[Any]) -> NDArray[np.float64]:
    """(..., 23) summed counts -> (...) METEOR; 0 where nothing matches."""
    own, reference = statistics[..., 0], statistics[..., 1]
    own_function, reference_function = statistics[..., 2], statistics[..., 3]
    stages = statistics[..., 4:20].reshape(*statistics.shape[:-1], 4, 4)
    content, function = DELTA * STAGES, (1 - DELTA) * STAGES
    own_matches = stages[..., 0] @ content + stages[..., 2] @ function
    reference_matches = stages[..., 1] @ content + stages[..., 3] @ function
    chunks, own_words, reference_words = np.moveaxis(statistics[..., 20:], -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = own_matches / (DELTA * (own - own_function) + (1 - DELTA) * own_function)
        recall = reference_matches / (
            DELTA * (reference - reference_function) + (1 - DELTA) * reference_function
        )
        mean = 1.0 / ((1 - ALPHA) / precision + ALPHA / recall)
        fragments = chunks / ((own_words + reference_words) / 2)
    score = mean * (1 - GAMMA * fragments**BETA)
    return np.where(np.isfinite(score), np.maximum(score, 0.0), 0.0)


def _whole(statistics: NDArray[Any]) -> NDArray[np.bool_]:
    """Which pairs match to the last word in one piece. The program counts no chunk for them, so
    that identical reports score 1, alone and in a sum (MeteorStats.addStats)."""
    matched = statistics[:, 4:20].reshape(-1, 4, 2, 2).sum(axis=(1, 2))
    complete = (matched == statistics[:, :2]).all(axis=1)
    return np.asarray(complete & (statistics[:, CHUNKS] == 1))


def _cut(text: str) -> tuple[str, str]:
    """(what is aligned, what is only counted)"""
    words = text.replace("|||", "").split()
    return " ".join(words[:LONGEST]), " ".join(words[LONGEST:])


def _pieces(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + LONGEST]) for i in range(0, len(words), LONGEST)]


def _line(texts: Sequence[str]) -> str:
    """References, then the hypothesis."""
    return " ||| ".join(("SCORE", *texts))


def _ask(lines: Sequence[str]) -> list[NDArray[np.float64]]:
    jar = find_jar(JAR)
    # A process per core, but loading the tables takes as long as 300 reports.
    number = max(1, min(2, os.cpu_count() or 1, len(lines) // 300))
    arguments = [f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-jar", str(jar)]
    arguments += ["-", "-", "-stdio", "-l", "en", "-norm"]
    parts = [lines[i::number] for i in range(number)]
    answers = run_java(arguments, parts, 120.0 + 2.0 * len(parts[0]))
    rows: list[Any] = [None] * len(lines)
    for i, part in enumerate(answers):
        rows[i::number] = [_row(line) for line in part]
    return rows


def _row(line: str) -> NDArray[np.float64]:
    try:
        row = np.array(line.split(), dtype=np.float64)
    except ValueError:
        row = np.zeros(0)
    if row.shape != (STATISTICS,):
        raise SkippedError(f"METEOR did not give {STATISTICS} numbers for a report.")
    return row


def _add_rests(
    statistics: NDArray[np.float64],
    extra: Sequence[tuple[str, str]],
    rests: Sequence[str],
    rows: Sequence[NDArray[np.float64]],
) -> None:
    """Add length and function words of what was cut off, hypothesis and reference."""
    counted, place = {"": np.zeros(2)}, 0
    for rest in rests:
        pieces = len(_pieces(rest))
        counted[rest] = np.sum([row[[0, 2]] for row in rows[place : place + pieces]], axis=0)
        place += pieces
    for row, (own, reference) in zip(statistics, extra, strict=True):
        row[[0, 2]] += counted[own]
        row[[1, 3]] += counted[reference]
