"""Floors come from the training reports, and the constant one is the best constant."""

import csv

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.words.bleu import bleu
from uvlm.evaluation.words.floors import (
    constant_report,
    floor_reports,
    random_reports,
    retrieved_reports,
)

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


TABLE = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0]], dtype=float)
TEXTS = ["no finding", "no finding at all", "no finding at all today", "one nodule", "two things"]


def test_the_retrieved_report_has_the_nearest_labels():
    asked = np.array([[1, 0, 0], [1, 1, 1], [0, 0, 0]])
    found = retrieved_reports(TEXTS, TABLE, asked)
    assert found[:2] == ["one nodule", "two things"]
    assert found[2] in TEXTS[:3]


def test_of_reports_with_the_same_labels_the_most_central_is_retrieved():
    (found,) = retrieved_reports(TEXTS, TABLE, np.zeros((1, 3)))
    assert found == constant_report(TEXTS[:3])


def test_of_label_vectors_equally_near_the_more_common_is_taken():
    (found,) = retrieved_reports(TEXTS[:4], TABLE[:4], np.array([[0.5, 0.0, 0.0]]))
    assert found in TEXTS[:3]


def test_probabilities_retrieve_the_labels_expected_to_differ_least():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (30, 4)).astype(float)
    texts = [f"report {''.join(str(int(v)) for v in row)}" for row in labels]
    asked = rng.random((20, 4))
    for row, found in zip(asked, retrieved_reports(texts, labels, asked), strict=True):
        distances = np.abs(labels - row).sum(axis=1)
        assert distances[texts.index(found)] == pytest.approx(distances.min())


def test_order_of_training_reports_does_not_change_what_is_retrieved():
    asked = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    turned = retrieved_reports(TEXTS[::-1], TABLE[::-1], asked)
    assert turned == retrieved_reports(TEXTS, TABLE, asked)


@pytest.mark.parametrize(
    ("known", "asked", "message"),
    [
        (TABLE[:3], TABLE, "must have a row for each of 5"),
        (TABLE, TABLE[:, :2], "the same classes"),
        (TABLE, TABLE + 1, "numbers from 0 to 1"),
        (TABLE, np.full((1, 3), np.nan), "numbers from 0 to 1"),
    ],
)
def test_labels_that_cannot_be_compared_are_refused(known, asked, message):
    with pytest.raises(InputError, match=message):
        retrieved_reports(TEXTS, known, asked)


def test_every_floor_has_a_report_for_every_study():
    def label(texts):
        return np.array([["nodule" in text, "two" in text] for text in texts], dtype=float)

    predictions = ["a nodule", "", "two"]
    assert list(floor_reports(TEXTS, predictions)) == ["constant", "random"]
    floors = floor_reports(TEXTS, predictions, label=label)
    assert {name: len(texts) for name, texts in floors.items()} == {
        "constant": 3,
        "random": 3,
        "retrieved": 3,
    }
    assert floors["retrieved"][0] == "one nodule"
    assert floors["retrieved"][2] == "two things"


def test_floors_of_real_reports_lie_where_published(real_data):
    with open(real_data / "chest_ct_reports" / "train.csv", encoding="utf-8", newline="") as file:
        texts = [row["report_text"] for row in csv.DictReader(file)]
    training, held_out = texts[:600], texts[600:]
    constant = constant_report(training)
    assert 0.18 < bleu(held_out, [constant] * 200).mean < 0.30
    assert 0.20 < bleu(held_out, random_reports(training, 200)).mean < 0.29
