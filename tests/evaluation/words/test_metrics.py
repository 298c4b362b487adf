"""Every protocol of words: its measure is right for any resample, and bad input is answered."""

import json

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.words import java
from uvlm.evaluation.words import metrics as report_metrics
from uvlm.evaluation.words.adapters import ADAPTERS
from uvlm.evaluation.words.meteor import STATISTICS
from uvlm.evaluation.words.metrics import PROTOCOLS, text_measures, text_measures_beside
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
    assert "Empty predictions, which count as misses: 12 of 12." in empty.notes


@pytest.mark.parametrize("name", OFFLINE)
def test_other_languages_are_scored_and_noted(name):
    references = ["\u80ba\u90e8\u6e05\u6670 \u65e0\u79ef\u6db2", "\u05e8\u05d9\u05d0\u05d5\u05ea"]
    found = measure(name, references, references)
    assert np.isfinite(found.values(2)).all()
    assert any("2 of 2 references are mostly not in Latin letters" in note for note in found.notes)
    accents = measure(name, ["poumons d\u00e9gag\u00e9s", "c\u0153ur normal"], ["a", "b"])
    assert not any("Latin" in note for note in accents.notes)


@pytest.mark.parametrize("name", OFFLINE)
def test_a_report_of_fifty_thousand_words_is_scored(name):
    long = " ".join(np.random.default_rng(0).choice(WORDS, 50_000))
    found = measure(name, [long, "the heart"], [long[::-1], long])
    assert np.isfinite(found.values(2)).all()


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


@pytest.fixture
def asked(monkeypatch):
    """Numbers of pairs in each call of METEOR, which is a fake."""
    calls = []

    def program(references, hypotheses):
        calls.append(len(hypotheses))
        return fake_meteor(references, hypotheses)

    monkeypatch.setattr(report_metrics, "meteor_statistics", program)
    monkeypatch.setattr(report_metrics, "METEOR_SAMPLE", 40)
    return calls


def test_floors_are_scored_on_a_sample_that_is_said_in_one_call_of_meteor(asked):
    references = reports(100, 3)
    floors = {"true": references, "none": [""] * 100}
    (whole,), beside, _ = text_measures_beside(references, references, floors, ["meteor@java"])
    assert asked == [180]
    assert np.isfinite(whole.per_study).all()
    assert whole.members is None
    assert "Floors are scored on 40 of 100 studies" in whole.notes[0]
    (true,), (none,) = beside["true"], beside["none"]
    assert true.values(100).tolist() == pytest.approx([1.0])
    assert none.values(100).tolist() == pytest.approx([0.0])
    assert (true.members == none.members).all()
    assert (np.isfinite(true.per_study[:, 0]) == true.members).all()
    assert true.members.sum() == 40


def test_few_studies_have_floors_on_all_and_no_note(asked):
    references = reports(40, 3)
    (whole,), beside, _ = text_measures_beside(
        references, references, {"one": references}, ["meteor@java"]
    )
    assert asked == [80]
    assert beside["one"][0].members is None
    assert whole.notes == ()


@pytest.mark.parametrize("name", OFFLINE)
def test_a_floor_scores_as_if_it_were_the_system(name):
    floors = {"other": REFERENCES[::-1]}
    (own,), beside, _ = text_measures_beside(REFERENCES, PREDICTIONS, floors, [name])
    np.testing.assert_array_equal(own.per_study, measure(name).per_study)
    (floor,) = beside["other"]
    np.testing.assert_array_equal(
        floor.per_study, measure(name, REFERENCES, REFERENCES[::-1]).per_study
    )


def test_tokens_that_two_protocols_share_are_made_once(monkeypatch):
    made = []
    real = report_metrics.tokenizer_13a
    monkeypatch.setattr(report_metrics, "tokenizer_13a", lambda: made.append(1) or real())
    text_measures(REFERENCES, PREDICTIONS, ["sacrebleu", "ngram_precision@hsenet"])
    assert len(made) == 1


def test_what_is_skipped_is_logged_in_one_line(caplog):
    floors = {"a": REFERENCES, "b": REFERENCES}
    with caplog.at_level("INFO"):
        text_measures_beside(REFERENCES, PREDICTIONS, floors, ["rouge_l", "green", "radgraph"])
    assert [record.message for record in caplog.records] == [
        "skipped, as the result explains: green, radgraph"
    ]


def test_predictions_that_are_all_the_same_are_noted():
    found = measure("rouge_l", REFERENCES, ["chest clear"] * 12)
    assert "All 12 predictions are one and the same text." in found.notes
    assert not any("same text" in note for note in measure("rouge_l").notes)
    assert not any("same text" in note for note in measure("rouge_l", ["a"], ["b"]).notes)


def test_predictions_in_other_letters_are_noted():
    found = measure("rouge_l", ["clear", "lungs"], ["\u80ba\u90e8\u6e05\u6670", "lungs"])
    assert any("1 of 2 predictions are mostly not in Latin" in note for note in found.notes)


def test_long_reports_are_noted_for_meteor(monkeypatch):
    monkeypatch.setattr(report_metrics, "meteor_statistics", fake_meteor)
    (found,), _ = text_measures(["a", "b"], ["a " * 2000, "b"], ["meteor@java"])
    assert "Studies with a report of more than 1500 words: 1;" in found.notes[0]


def test_a_failing_java_leaves_the_other_protocols(monkeypatch):
    def fails(*_):
        raise SkippedError("Java ended with status 1.")

    monkeypatch.setattr(report_metrics, "meteor_statistics", fails)
    measures, skipped = text_measures(["a"], ["a"], ["meteor@java", "rouge_l"])
    assert len(measures) == 1
    assert skipped == {"meteor@java": "Java ended with status 1."}
