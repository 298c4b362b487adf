"""RadBERT's classifier with random weights: the authors' arithmetic, refusals of wrong files."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from uvlm.errors import InputError
from uvlm.registry import CT_RATE_LABELS
from uvlm.text.labelling.radbert import RadBert

REPORTS = [
    "Emphysema in both lungs. No pleural effusion.",
    "Normal.",
    "The heart is large; a small nodule lies in the right upper lobe, " * 3,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What `hf download` and the checkpoint would fill; 40 positions instead of 512."""
    pytest.importorskip("transformers")
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel

    path = tmp_path_factory.mktemp("radbert")
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(REPORTS * 4, vocab_size=400, special_tokens=special)
    tokenizer.save_model(str(path))
    config = RobertaConfig(
        vocab_size=len(tokenizer.get_vocab()),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=42,
    )
    config.save_pretrained(path)
    torch.manual_seed(0)
    model, head = RobertaModel(config), torch.nn.Linear(16, 18)
    torch.nn.init.normal_(head.weight, std=3.0)
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"classifier.{name}": tensor for name, tensor in head.state_dict().items()}
    tensors["model.embeddings.position_ids"] = torch.arange(42)[None]
    torch.save(tensors, path / "RadBertClassifier.pth")
    return path


def authors(folder: Path, report: str) -> list[float]:
    """classifier.py and model_trainer.py: padded to the longest, one report at a time."""
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    model = RobertaModel(RobertaConfig.from_pretrained(folder)).eval()
    tensors = torch.load(folder / "RadBertClassifier.pth", weights_only=True)
    model.load_state_dict(
        {n[6:]: t for n, t in tensors.items() if n.startswith("model.")}, strict=False
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, do_lower_case=True)
    encoded = tokenizer(
        report, return_tensors="pt", max_length=40, padding="max_length", truncation=True
    )
    with torch.no_grad():
        pooled = model(encoded["input_ids"], encoded["attention_mask"]).pooler_output
        logits = pooled @ tensors["classifier.weight"].T + tensors["classifier.bias"]
    return logits.sigmoid()[0].tolist()


def test_probabilities_are_those_of_the_authors_code(folder):
    found = RadBert(folder, device="cpu").probabilities(REPORTS)
    for report, row in zip(REPORTS, found, strict=True):
        assert row == pytest.approx(authors(folder, report), abs=1e-5)
    assert len({round(row[0], 6) for row in found}) == 3


def test_a_label_is_one_from_a_half(folder):
    labeller = RadBert(folder, device="cpu")
    for one, row in zip(labeller.label(REPORTS), labeller.probabilities(REPORTS), strict=True):
        assert list(one.values) == list(CT_RATE_LABELS) == list(labeller.classes)
        assert list(one.values.values()) == [int(p >= 0.5) for p in row]


@pytest.mark.parametrize("number", [0, 1, 33])
def test_any_number_of_reports_works_also_one_alone_in_a_batch(folder, number):
    reports = [REPORTS[i % 3] for i in range(number)]
    labels = RadBert(folder, device="cpu").label(reports)
    assert len(labels) == number
    assert labels[-1:] == RadBert(folder, device="cpu").label(reports[-1:])


def test_a_report_without_text_has_every_label_zero(folder):
    first, second = RadBert(folder, device="cpu").label(["  ", REPORTS[0]])
    assert set(first.values.values()) == {0}
    assert second == RadBert(folder, device="cpu").label([REPORTS[0]])[0]


def test_reports_that_are_cut_are_counted(folder, caplog):
    with caplog.at_level(logging.WARNING, "uvlm"):
        RadBert(folder, device="cpu").label(REPORTS)
    assert "1 of 3 reports are longer than 40 tokens" in caplog.text
    assert "heart" not in caplog.text


def altered(folder: Path, tmp_path: Path, **changes: object) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    if changes:
        config = json.loads((copy / "config.json").read_text()) | changes
        (copy / "config.json").write_text(json.dumps(config))
    return copy


def test_no_checkpoint_or_two_are_refused(folder, tmp_path):
    copy = altered(folder, tmp_path)
    shutil.copy(copy / "RadBertClassifier.pth", copy / "other.pth")
    with pytest.raises(InputError, match=r"copy: 2 \.pth files"):
        RadBert(copy)
    assert RadBert(copy, copy / "other.pth", device="cpu").name == "radbert@ct-clip"
    with pytest.raises(InputError, match="no such folder"):
        RadBert(tmp_path / "missing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 8}, r"embeddings.word_embeddings.weight is \(\d+, 16\), not \(\d+, 8\)"),
        ({"model_type": "mystery"}, "model type 'mystery' is unknown"),
        ({"vocab_size": 5}, "a tokenizer of"),
    ],
)
def test_another_configuration_is_refused(folder, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        RadBert(altered(folder, tmp_path, **changes), device="cpu")


def test_other_classes_than_the_checkpoints_are_refused(folder):
    with pytest.raises(InputError, match=r"classifier.weight is \(18, 16\), not \(3, 16\)"):
        RadBert(folder, classes="abc", device="cpu")


def test_what_is_no_file_of_tensors_is_refused(folder, tmp_path):
    copy = altered(folder, tmp_path)
    for content in (b"not a checkpoint", b""):
        (copy / "RadBertClassifier.pth").write_bytes(content)
        with pytest.raises(InputError, match="no file of tensors"):
            RadBert(copy, device="cpu")
    torch.save({"epoch": 3}, copy / "RadBertClassifier.pth")
    with pytest.raises(InputError, match="no table of tensors"):
        RadBert(copy, device="cpu")
    with pytest.raises(InputError, match="cannot be read"):
        RadBert(copy, copy / "missing.pth", device="cpu")


def test_a_file_that_would_run_code_is_refused(folder, tmp_path):
    copy = altered(folder, tmp_path)
    torch.save({"model.x": Path("harmless")}, copy / "RadBertClassifier.pth")
    with pytest.raises(InputError, match="one with more in it"):
        RadBert(copy, device="cpu")
