"""Every protocol of words: its measure is right for any resample, and bad input is answered."""

import json
import time

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.words import java
from uvlm.evaluation.words import metrics as report_metrics
from uvlm.evaluation.words.adapters import ADAPTERS
from uvlm.evaluation.words.meteor import STATISTICS
from uvlm.evaluation.words.metrics import PROTOCOLS, text_measures
from uvlm.evaluation.words.skipped import SkippedError

OFFLINE = [info.name for info in PROTOCOLS if not info.needs]
SINGLE = {"cider"}  # depends on the set of references
WORDS = [
    "the",
    "lungs",
    "heart",
    "is",
    "clear",
    "normal",
    "no",
    "effusion",
    "4.5",
    "mm",
    ".",
    "seen",
]


def reports(number, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(["chest", *rng.choice(WORDS, rng.integers(4, 20))]) for _ in range(number)]


REFERENCES, PREDICTIONS = reports(12, 0), [*reports(10, 1), "", "chest clear"]


def measure(name, references=REFERENCES, predictions=PREDICTIONS):
    (found,), skipped = text_measures(references, predictions, [name])
    assert skipped == {}
    return found


@pytest.mark.parametrize("name", OFFLINE)
def test_weights_score_as_the_reports_drawn_that_often(name):
    weights = np.random.default_rng(2).multinomial(12, np.full(12, 1 / 12), 5).astype(float)
    found = measure(name).score(weights)
    for row, values in zip(weights.astype(int), found, strict=True):
        if name in SINGLE:
            expected = row @ measure(name).per_study / row.sum()
        else:
            drawn = [
                np.repeat(np.array(texts, dtype=object), row) for texts in (REFERENCES, PREDICTIONS)
            ]
            expected = measure(name, *map(list, drawn)).values(row.sum())
        np.testing.assert_allclose(values, expected, atol=1e-12)


@pytest.mark.parametrize("name", OFFLINE)
def test_order_of_studies_does_not_matter(name):
    turned = measure(name, REFERENCES[::-1], PREDICTIONS[::-1])
    np.testing.assert_allclose(turned.values(12), measure(name).values(12), atol=1e-12)
    np.testing.assert_allclose(turned.per_study[::-1], measure(name).per_study, atol=1e-12)


@pytest.mark.parametrize("name", OFFLINE)
def test_true_reports_score_best_and_empty_ones_nothing(name):
    best = measure(name, REFERENCES, REFERENCES).values(12)
    assert (best > measure(name).values(12)).all()
    if name not in {"cider", "meteor@nltk-no-synonyms"}:
        assert best.tolist() == pytest.approx([1.0] * len(best))
    empty = measure(name, REFERENCES, [""] * 12)
    assert empty.values(12).tolist() == pytest.approx([0.0] * len(best), abs=1e-8)
    assert "12 of 12 predictions are empty and count as misses." in empty.notes


@pytest.mark.parametrize("name", OFFLINE)
def test_other_languages_are_scored_and_noted(name):
    references = ["\u80ba\u90e8\u6e05\u6670 \u65e0\u79ef\u6db2", "\u05e8\u05d9\u05d0\u05d5\u05ea"]
    found = measure(name, references, references)
    assert np.isfinite(found.values(2)).all()
    assert any("2 of 2 references are mostly not in Latin letters" in note for note in found.notes)
    accents = measure(name, ["poumons d\u00e9gag\u00e9s", "c\u0153ur normal"], ["a", "b"])
    assert not any("Latin" in note for note in accents.notes)


@pytest.mark.parametrize("name", OFFLINE)
def test_a_report_of_fifty_thousand_words_takes_seconds(name):
    long = " ".join(np.random.default_rng(0).choice(WORDS, 50_000))
    start = time.process_time()
    measure(name, [long, "the heart"], [long[::-1], long])
    assert time.process_time() - start < 20


def test_published_values_of_radeval(real_data):
    file = real_data / "text_metric_vectors" / "published_radeval.json"
    published = json.loads(file.read_text(encoding="utf-8"))
    pair = published["refs"], published["hyps"]
    expected = published["expected"]
    rouge, bleu = measure("rouge@google", *pair), measure("bleu@vlm3d", *pair)
    names = ("rouge1", "rouge2", "rougeL")
    assert rouge.values(5) == pytest.approx([expected["default"][n] for n in names], abs=1e-4)
    for column, name in enumerate(names):
        per_study = rouge.per_study[:, column].tolist()
        assert per_study == pytest.approx(expected["per_sample"][name], abs=1e-4)
    keys = ("bleu_1", "bleu_2", "bleu_3", "bleu")
    assert bleu.values(5)[:4] == pytest.approx([expected["detailed"][k] for k in keys], abs=1e-4)
    assert bleu.per_study[:, 3] == pytest.approx(expected["per_sample"]["bleu"], abs=1e-4)


@pytest.mark.parametrize(
    ("references", "predictions", "message"),
    [
        (["a"], [], "1 reference reports and 0 generated"),
        ([], [], "there must be a study"),
        (["a", " \n"], ["a", "b"], "reference report 2 is empty"),
        (["a", "- ."], ["a", "b"], "reference report 2 is empty"),
        (["a"], [float("nan")], "generated report 1 is not text but float"),
    ],
)
def test_reports_that_cannot_be_compared_are_refused(references, predictions, message):
    with pytest.raises(InputError, match=message):
        text_measures(references, predictions, ["rouge_l"])


def test_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"no protocol 'bleu'.*bleu@vlm3d"):
        text_measures(["a"], ["a"], ["bleu"])


def test_measures_come_as_named_and_what_is_absent_is_said(monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda *_, **__: None)
    asked = ["rouge_l", "bleu@ptb", "cider", "meteor@java", "rouge_l", *ADAPTERS]
    measures, skipped = text_measures(REFERENCES, PREDICTIONS, asked)
    assert [found.protocol for found in measures] == ["rouge_l", "cider"]
    assert list(skipped) == ["meteor@java", "bleu@ptb", *ADAPTERS]
    assert "Java is not found" in skipped["bleu@ptb"]
    assert "--weights green=FOLDER" in skipped["green"]


def test_protocols_are_named_once_and_explained():
    names = [info.name for info in PROTOCOLS]
    assert len(set(names)) == len(names)
    assert all(info.task == "report" and len(info.about) > 80 and info.source for info in PROTOCOLS)


def fake_meteor(references, hypotheses):
    """One word per report, matched where the two are equal."""
    rows = np.zeros((len(hypotheses), STATISTICS))
    rows[:, :2] = 1.0
    same = [texts[0] == text for texts, text in zip(references, hypotheses, strict=True)]
    rows[same, 4:6] = 1.0
    rows[same, 21:] = 1.0
    return rows


def test_a_floor_is_scored_on_a_sample_that_is_said(monkeypatch):
    monkeypatch.setattr(report_metrics, "meteor_statistics", fake_meteor)
    monkeypatch.setattr(report_metrics, "METEOR_SAMPLE", 40)
    references = reports(100, 3)
    (found,), _ = text_measures(references, references, ["meteor@java"], quick=True)
    assert found.values(100).tolist() == pytest.approx([1.0])
    assert int(np.isfinite(found.per_study).sum()) == 40
    assert "On 40 of 100 studies" in found.notes[0]
    (whole,), _ = text_measures(references, references, ["meteor@java"])
    assert np.isfinite(whole.per_study).all()


def test_long_reports_are_noted_for_meteor(monkeypatch):
    monkeypatch.setattr(report_metrics, "meteor_statistics", fake_meteor)
    (found,), _ = text_measures(["a", "b"], ["a " * 2000, "b"], ["meteor@java"])
    assert "1 studies have a report of more than 1500 words" in found.notes[0]


def test_a_failing_java_leaves_the_other_protocols(monkeypatch):
    def fails(*_):
        raise SkippedError("Java ended with status 1.")

    monkeypatch.setattr(report_metrics, "meteor_statistics", fails)
    measures, skipped = text_measures(["a"], ["a"], ["meteor@java", "rouge_l"])
    assert len(measures) == 1
    assert skipped == {"meteor@java": "Java ended with status 1."}
