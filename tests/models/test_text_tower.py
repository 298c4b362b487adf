"""The text tower reads a BERT's folder by name, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.tiny_contrastive import TEXT, batch, tiny_bert
from uvlm.errors import ConfigError
from uvlm.models.text_tower import TextTower, load_text_weights, read_text_base, text_tokenizer
from uvlm.models.tower_config import TextTowerConfig


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


def of(folder: Path) -> TextTowerConfig:
    return TextTowerConfig(base=folder, max_tokens=20)


def change(folder: Path, **settings: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def test_the_base_says_architecture_vocabulary_and_fingerprint(bert: Path):
    config = read_text_base(of(bert))
    assert config.hf["hidden_size"] == 8
    assert config.vocab_size == 20
    assert len(config.fingerprint) == 16
    assert read_text_base(config) == config
    assert read_text_base(TEXT) == TEXT


@pytest.mark.parametrize("old_names", [False, True])
def test_the_tower_computes_what_the_base_does(tmp_path: Path, old_names: bool):
    from transformers import BertModel

    folder = tiny_bert(tmp_path / "base", old_names=old_names)
    tower = TextTower(read_text_base(of(folder))).eval()
    load_text_weights(tower)
    tokens = torch.tensor([text_tokenizer(of(folder)).encode("The lungs are clear.")])
    expected = BertModel.from_pretrained(tiny_bert(tmp_path / "plain")).eval()
    with torch.no_grad():
        found = tower(tokens, torch.ones_like(tokens, dtype=torch.bool))
        torch.testing.assert_close(found, expected(tokens).last_hidden_state[:, 0])


def test_the_base_brings_its_tokens_but_not_its_limits(bert: Path):
    tokens = text_tokenizer(of(bert))
    assert tokens.encode("The heart is larger .") == [2, 5, 10, 11, 12, 13, 9, 3]
    assert tokens.pad_id == 0


def test_padding_changes_nothing():
    torch.manual_seed(0)
    tower, given = TextTower(TEXT), batch(4)
    long = tower(given["text"], given["text_mask"])
    for row in range(4):
        size = int(given["text_mask"][row].sum())
        alone = tower(given["text"][row : row + 1, :size], given["text_mask"][row : row + 1, :size])
        torch.testing.assert_close(alone[0], long[row])


def test_every_weight_from_scratch_learns_and_nothing_is_random():
    torch.manual_seed(0)
    tower, given = TextTower(TEXT).train(), batch(4)
    found = tower(given["text"], given["text_mask"])
    torch.testing.assert_close(found, tower(given["text"], given["text_mask"]))
    found.square().sum().backward()
    assert [name for name, p in tower.named_parameters() if p.grad is None] == []


def test_the_paper_s_text_tower_has_the_size_of_bert_base():
    config = TextTowerConfig(vocab_size=30522)
    with torch.device("meta"):
        tower = TextTower(config)
    assert sum(p.numel() for p in tower.parameters()) == 108_891_648


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "roberta"}, "model type is 'roberta', not 'bert'.*bert-base-uncased"),
        ({"hidden_size": "8"}, "hidden_size is '8', not a positive whole number"),
        ({"position_embedding_type": "relative_key"}, "relative_key is not supported"),
        ({"is_decoder": True}, "it is a decoder"),
        ({"max_position_embeddings": 10}, "reads 10 tokens, text.max_tokens is 20. Set"),
        ({"vocab_size": 12}, "tokenizer has 16 entries, its model 12"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(tmp_path: Path, settings, message: str):
    folder = tiny_bert(tmp_path)
    change(folder, **settings)
    with pytest.raises(ConfigError, match=message) as caught:
        read_text_base(of(folder))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"has no config.json. Give the folder"),
        ("tokenizer.json", r"has no tokenizer.json. Copy the model's"),
        ("model.safetensors", r"no \*.safetensors. Give a model saved as safetensors"),
    ],
)
def test_a_file_that_is_missing_is_named_with_the_remedy(tmp_path: Path, missing, message: str):
    folder = tiny_bert(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=message) as caught:
        read_text_base(of(folder))
    assert str(folder) in str(caught.value)


def test_pickled_weights_are_refused(tmp_path: Path):
    folder = tiny_bert(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="only pickled weights"):
        read_text_base(of(folder))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such folder"):
        read_text_base(of(tmp_path / "absent"))


def test_weights_of_another_base_are_refused(bert: Path, tmp_path: Path):
    config = read_text_base(of(bert))
    other = tiny_bert(tmp_path, old_names=True)
    with pytest.raises(ConfigError, match=r"fingerprint .*, needed are those with"):
        load_text_weights(TextTower(config), other)
    with pytest.raises(ConfigError, match="needed are those with"):
        read_text_base(replace(config, base=other))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("bert.encoder.layer.0.output.dense.bias"), "lacks 1 tensors, as enc"),
        (lambda s: s.update({"bert.encoder.x": torch.zeros(1)}), "holds encoder.x, which"),
        (
            lambda s: s.update({"bert.encoder.layer.1.output.dense.bias": torch.zeros(9)}),
            r"shape \(9,\), config.json says \(8,\)",
        ),
    ],
)
def test_each_tensor_is_accounted_for(tmp_path: Path, edit, message: str):
    folder = tiny_bert(tmp_path)
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")
    tower = TextTower(read_text_base(of(folder)))
    with pytest.raises(ConfigError, match=message):
        load_text_weights(tower)


def test_a_base_that_was_not_read_cannot_be_built(bert: Path):
    with pytest.raises(ConfigError, match="was not read yet"):
        TextTower(of(bert))


def test_from_scratch_there_are_no_weights_to_load():
    with pytest.raises(ConfigError, match=r"no folder of the text tower"):
        load_text_weights(TextTower(TEXT))


def test_from_scratch_the_vocabulary_comes_from_the_reports():
    config = TextTowerConfig(vocab_size=270, max_tokens=10)
    assert len(text_tokenizer(config, ["The lungs are clear. " * 9]).encode("lungs " * 30)) == 10
