"""Floors come from the training reports, and the constant one is the best constant."""

import csv
import time

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.floors import constant_report, random_reports
from uvlm.evaluation.text import bleu

WORDS = [
    "the",
    "lungs",
    "heart",
    "liver",
    "are",
    "is",
    "clear",
    "normal",
    "no",
    "effusion",
    "nodule",
    "4",
    "mm",
    "left",
    "right",
    ".",
]


def reports(number, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(3, 25))) for _ in range(number)]


@pytest.mark.parametrize("seed", range(5))
def test_no_other_training_report_makes_a_better_constant(seed):
    training = reports(25, seed)
    means = [bleu(training, [text] * len(training)).mean for text in training]
    best = constant_report(training)
    assert bleu(training, [best] * len(training)).mean == pytest.approx(max(means))


def test_more_reports_than_the_limit_are_sampled_by_seed():
    training = reports(40, 0)
    chosen = constant_report(training, seed=3, limit=10)
    assert chosen in training
    assert chosen == constant_report(training, seed=3, limit=10)


def test_random_reports_are_training_reports_chosen_by_seed():
    training = reports(20, 1)
    drawn = random_reports(training, 50, seed=1)
    assert len(drawn) == 50
    assert set(drawn) <= set(training)
    assert drawn == random_reports(training, 50, seed=1) != random_reports(training, 50, seed=2)


def test_no_training_report_is_refused():
    for floor in (lambda: constant_report([]), lambda: random_reports([], 3)):
        with pytest.raises(InputError, match="the floors need training reports"):
            floor()


def test_floors_of_real_reports_lie_where_published(real_data):
    with open(real_data / "chest_ct_reports" / "train.csv", encoding="utf-8", newline="") as file:
        texts = [row["report_text"] for row in csv.DictReader(file)]
    training, held_out = texts[:600], texts[600:]
    start = time.perf_counter()
    constant = constant_report(training)
    assert time.perf_counter() - start < 20
    assert 0.18 < bleu(held_out, [constant] * 200).mean < 0.30
    assert 0.20 < bleu(held_out, random_reports(training, 200)).mean < 0.29
