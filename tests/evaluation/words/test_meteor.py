"""METEOR from summed statistics equals the jar's own score. Two starts of Java, 15 seconds."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from uvlm.evaluation.words import meteor
from uvlm.evaluation.words.java import find_jar
from uvlm.evaluation.words.meteor import meteor_score, meteor_statistics

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine")

LONG = ["the lungs are clear and quite normal today"] * 400
REFERENCES = [
    ["The lungs are clear. No pleural effusion is seen."],
    ["A 4 mm nodule in the right upper lobe ||| was seen.", "A small nodule, right upper lobe."],
    ["Heart size is normal."],
    ["No enlarged lymph nodes."],
    ["The lungs are clear."],
    ["The lungs are clear. No pleural effusion is seen."],
    ["The lungs are clear."],
]
HYPOTHESES = [
    "Lungs clear without effusions.",
    "There is a nodule of 4 mm in the upper lobe of the right lung.",
    "",
    "No enlarged lymph nodes.",
    "\u80ba\u90e8\u6e05\u6670",
    "Lungs clear without effusions.",
    " ".join(LONG),
]


@pytest.fixture(scope="module")
def statistics():
    return meteor_statistics(REFERENCES, HYPOTHESES)


def jar_scores(statistics):
    """Of each study and of all, by the program's own EVAL."""
    statistics = statistics.copy()
    statistics[3, 20] = 1.0  # as the program itself prints it
    line = "EVAL" + "".join(f" ||| {' '.join(map(str, row))}" for row in statistics.tolist())
    arguments = ["-Xmx1g", "-jar", str(find_jar("meteor/meteor-1.5.jar"))]
    arguments += ["-", "-", "-stdio", "-l", "en", "-norm"]
    done = subprocess.run(
        ["java", *arguments], input=f"{line}\n", capture_output=True, text=True, check=True
    )
    return [float(value) for value in done.stdout.split()]


@needs_java
def test_scores_of_studies_and_corpus_equal_the_jars(statistics):
    *per_study, corpus = jar_scores(statistics)
    assert meteor_score(statistics).tolist() == pytest.approx(per_study, abs=1e-12)
    assert float(meteor_score(statistics.sum(axis=0))) == pytest.approx(corpus, abs=1e-12)


@needs_java
def test_one_identical_report_scores_one_and_an_empty_one_zero(statistics):
    scores = meteor_score(statistics)
    assert scores[3] == pytest.approx(1.0)
    assert float(meteor_score(statistics[[3, 3]].sum(axis=0))) == pytest.approx(1.0)
    assert scores[2] == 0.0
    assert statistics[2, 1] > 0


@needs_java
def test_equal_pairs_have_equal_statistics(statistics):
    assert (statistics[0] == statistics[5]).all()


@needs_java
def test_words_after_the_limit_are_counted_but_not_matched(statistics):
    assert statistics[6, 0] == len(" ".join(LONG).split())
    assert statistics[6, 2] == 3 * len(LONG)  # the, are, and
    assert meteor_score(statistics)[6] < meteor_score(statistics)[0]


@needs_java
def test_published_values(real_data):
    file = real_data / "text_metric_vectors" / "published_nlgeval.json"
    cases = json.loads(file.read_text(encoding="utf-8"))["cases"]
    sizes = np.cumsum([len(case["hyps"]) for case in cases])[:-1]
    rows = meteor_statistics(
        [texts for case in cases for texts in case["refs"]],
        [text for case in cases for text in case["hyps"]],
    )
    for case, part in zip(cases, np.split(rows, sizes), strict=True):
        found = float(meteor_score(part.sum(axis=0)))
        assert found == pytest.approx(case["expected"]["METEOR"], abs=1e-4)


def test_nothing_at_all_scores_zero():
    assert meteor_score(np.zeros((2, 23))).tolist() == [0.0, 0.0]


def test_many_pairs_are_shared_by_two_processes_and_keep_their_order(monkeypatch):
    def program(arguments, parts, seconds):
        return [[" ".join([line.split()[-1], *["0"] * 22]) for line in part] for part in parts]

    monkeypatch.setattr(meteor, "run_java", program)
    monkeypatch.setattr(meteor.os, "cpu_count", lambda: 4)
    rows = meteor_statistics([["x"]] * 701, [str(i) for i in range(701)])
    assert rows[:, 0].tolist() == list(range(701))
