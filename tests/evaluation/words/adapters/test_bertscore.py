"""BERTScore on a tiny random model: greedy matching written out, padding without effect."""

import numpy as np
import pytest
import torch

from uvlm.evaluation.words.adapters import bertscore
from uvlm.evaluation.words.metrics import text_measures

transformers = pytest.importorskip("transformers")

WORDS = ["the", "lungs", "are", "clear", "no", "effusion", "nodule", "4", "mm"]
REFERENCES = ["the lungs are clear", "no nodule", "no effusion", "nodule 4 mm"]
PREDICTIONS = ["lungs clear", "no nodule", "", "the lungs are clear no effusion nodule"]
LAYERS = 12
BEST = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of 12 layers and 16 numbers, with its tokeniser."""
    path = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(path / "vocab.txt"))
    tokenizer.save_pretrained(path)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(path)
    return path


def slow(folder, reference, prediction):
    """Precision, recall and F1 of one pair, one token at a time."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    vectors = []
    for text in (reference, prediction):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        vectors.append(torch.nn.functional.normalize(hidden.hidden_states[BEST][0], dim=-1))
    theirs, ours = vectors
    precision = np.mean([max(float(a @ b) for b in theirs) for a in ours[1:-1]])
    recall = np.mean([max(float(a @ b) for b in ours) for a in theirs[1:-1]])
    return [precision, recall, 2 * precision * recall / (precision + recall)]


@pytest.fixture(scope="module")
def measure(folder):
    (found,), skipped = text_measures(REFERENCES, PREDICTIONS, ["bertscore"], {"bertscore": folder})
    assert skipped == {}
    return found


def test_every_study_equals_the_slow_version(folder, measure):
    for i in (0, 1, 3):
        expected = slow(folder, REFERENCES[i], PREDICTIONS[i])
        assert measure.per_study[i].tolist() == pytest.approx(expected, abs=1e-5)


def test_identical_reports_score_one_and_empty_ones_zero(measure):
    assert measure.per_study[1].tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert measure.per_study[2].tolist() == [0.0] * 3


def test_the_layer_is_said(measure):
    assert measure.notes[0] == "Layer 9 of 12 (bert)."


def test_reports_longer_than_the_model_are_cut_and_counted(folder):
    long = "lungs clear " * 40
    (found,), _ = text_measures([long], ["lungs"], ["bertscore"], {"bertscore": folder})
    assert "1 reports are cut at 32 tokens." in found.notes


def test_layers_are_those_that_bert_score_recommends():
    assert bertscore.best_layer("roberta", 24) == 17
    assert bertscore.best_layer("another", 7) == 7
