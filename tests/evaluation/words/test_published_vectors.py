"""Values that nlg-eval publishes for BLEU, ROUGE-L and CIDEr with two references each."""

import json

import numpy as np
import pytest

from uvlm.evaluation.words.bleu import bleu_from_counts
from uvlm.evaluation.words.cider import cider
from uvlm.evaluation.words.ngram_counts import overlap_counts
from uvlm.evaluation.words.rouge import rouge_l


@pytest.fixture(scope="module")
def vectors(real_data):
    return real_data / "text_metric_vectors"


def scores(references, hypotheses):
    """Of one set with several references per study."""
    split = [[text.split() for text in texts] for texts in references]
    found = [text.split() for text in hypotheses]
    four = bleu_from_counts(overlap_counts(split, found).sum(axis=0)).tolist()
    rouge = np.mean([rouge_l(r, h) for r, h in zip(references, hypotheses, strict=True)])
    return {
        **{f"BLEU_{order}": value for order, value in enumerate(four, 1)},
        "ROUGE_L": float(rouge),
        "CIDEr": float(cider(split, found).mean()),
    }


def published(vectors):
    text = (vectors / "published_nlgeval.json").read_text(encoding="utf-8")
    return {case["name"]: case for case in json.loads(text)["cases"]}


@pytest.mark.parametrize("name", ["single_2refs", "corpus_2x2", "non_ascii"])
def test_nlg_eval(vectors, name):
    case = published(vectors)[name]
    found = scores(case["refs"], case["hyps"])
    expected = {key: case["expected"][key] for key in found}
    assert found == pytest.approx(expected, abs=1e-4)


def test_nlg_eval_from_files(vectors):
    hypotheses, *references = (
        (vectors / name).read_text(encoding="utf-8").splitlines()
        for name in ("hyp.txt", "ref1.txt", "ref2.txt")
    )
    found = scores(list(zip(*references, strict=True)), hypotheses)
    expected = published(vectors)["corpus_2x2"]["expected"]
    assert found == pytest.approx({key: expected[key] for key in found}, abs=1e-4)
