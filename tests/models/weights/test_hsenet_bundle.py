"""HSENet's contrastive checkpoints become bundles with their text tower's words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Phi3ForCausalLM

from tests.models.tiny_base import tiny_base
from tests.models.tiny_contrastive import BERT, tiny_bert
from tests.models.weights.hsenet_files import (
    FEATURES,
    KERNEL,
    POSITIONS,
    VIT,
    clip,
    packers,
    stage2,
)
from uvlm.cli.main import main
from uvlm.errors import BundleError, ConfigError
from uvlm.models.bundle import load_bundle, save_bundle
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.pretrained_base import base_tokenizer
from uvlm.models.tower_config import SliceEncoderConfig
from uvlm.models.tower_handover import take_over
from uvlm.models.weights import hsenet, hsenet_bundle
from uvlm.models.weights.hsenet_bundle import (
    HSENET_PROMPT,
    ending_with,
    import_hsenet,
    import_hsenet_report,
)


@pytest.fixture
def bert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the sizes of the checkpoints' text tower."""
    monkeypatch.setitem(BERT, "intermediate_size", 12)
    monkeypatch.setitem(BERT, "max_position_embeddings", POSITIONS)
    (tmp_path / "bert").mkdir()
    return tiny_bert(tmp_path / "bert")


def test_stage_2_becomes_two_parts_that_come_back(bert, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(stage2(), path)
    found = import_hsenet(path, bert, vit=VIT).bundle
    assert list(found.parts) == ["contrastive", "contrastive_2e3"]
    out = tmp_path / "bundle"
    save_bundle(out, found.parts, found.modules, text_tokens=found.text_tokens)
    back = load_bundle(out)
    words = "the heart is large"
    assert back.text_tokens.encode(words) == found.text_tokens.encode(words)
    for name, module in found.modules.items():
        again = back.modules[name].state_dict()
        assert all(again[key].equal(tensor) for key, tensor in module.state_dict().items())
        assert back.parts[name].spec.normalise == "minmax"


def test_stage_2_begins_from_an_imported_m3d_clip(bert, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(clip(), path)
    found = import_hsenet(path, bert, vit=VIT, axes="zyx").bundle
    config = found.parts["contrastive"].config
    gated = replace(config, encoder=replace(config.encoder, slice_width=FEATURES))
    model = ContrastiveModel(gated)
    take_over(model, found, None)
    given, own = found.modules["contrastive"].state_dict(), model.state_dict()
    assert all(own[name].equal(tensor) for name, tensor in given.items())


def test_the_bert_must_be_that_of_the_checkpoint(bert, tmp_path, monkeypatch):
    path = tmp_path / "pytorch_model.bin"
    torch.save(clip(), path)
    with pytest.raises(ConfigError, match=r"it has no config\.json"):
        import_hsenet(path, tmp_path, vit=VIT)
    monkeypatch.setitem(BERT, "intermediate_size", 16)
    (tmp_path / "other").mkdir()
    with pytest.raises(BundleError, match=r"intermediate.dense.weight has the shape \(12, 8\)"):
        import_hsenet(path, tiny_bert(tmp_path / "other"), vit=VIT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "bert", "--encoder-only"], "only --region and --axes go with --text"),
        (["--stage2", "x"], "--stage2 needs --base"),
        (["--slice-encoder", "x"], "--slice-encoder needs --stage2"),
    ],
)
def test_the_command_refuses_options_of_other_checkpoints(options, message, capsys):
    with pytest.raises(SystemExit):
        main(["import", "x", "--out", "y", *options])
    assert message in capsys.readouterr().err


def test_the_command_writes_a_bundle(bert, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(hsenet, "ViTConfig", lambda: VIT)
    torch.save(stage2(), tmp_path / "pytorch_model.bin")
    out = tmp_path / "bundle"
    given = ["import", str(tmp_path / "pytorch_model.bin"), "--out", str(out)]
    assert main([*given, "--text", str(bert)]) == 0
    said = capsys.readouterr().out
    assert "contrastive, contrastive_2e3" in said
    assert "left out: BERT's pooler" in said
    assert load_bundle(out).text_tokens is not None


def test_packers_become_a_report_part_that_comes_back_and_ends(tmp_path):
    base = tiny_base(tmp_path / "base", "phi3")
    weights = Phi3ForCausalLM.from_pretrained(base).state_dict()
    torch.save(packers(weights), tmp_path / "packers.bin")
    torch.save(stage2(), tmp_path / "stage2.bin")
    found = import_hsenet_report(
        tmp_path / "packers.bin", tmp_path / "stage2.bin", base, vit=VIT, kernel=KERNEL
    ).bundle
    assert found.tokenizer.eos_id == found.parts["report"].config.decoder.hf["eos_token_id"]
    assert found.tokenizer.pad_id != found.tokenizer.eos_id
    out = tmp_path / "bundle"
    save_bundle(out, found.parts, found.modules, found.tokenizer, found.prompt)
    back = load_bundle(out, base)
    assert back.prompt == HSENET_PROMPT
    assert back.tokenizer.special_ids == found.tokenizer.special_ids
    again = back.modules["report"].state_dict()
    given = found.modules["report"].state_dict()
    assert all(again[name].equal(tensor) for name, tensor in given.items())


def test_the_end_of_a_text_becomes_the_end_of_a_turn(tmp_path):
    tokenizer = base_tokenizer(tiny_base(tmp_path, "phi3"))
    changed = ending_with(tokenizer, tokenizer.pad_id)
    assert (changed.eos_id, changed.pad_id) == (tokenizer.pad_id, tokenizer.eos_id)
    assert changed.vocab_size == tokenizer.vocab_size
    words = "The lungs are clear."
    assert changed.encode(words) == tokenizer.encode(words)
    assert changed.decode([*changed.encode(words), changed.eos_id]) == words
    assert ending_with(changed, changed.eos_id) is changed


def test_a_2d_encoder_of_another_width_is_refused(tmp_path, monkeypatch):
    base = tiny_base(tmp_path / "base", "phi3")
    weights = Phi3ForCausalLM.from_pretrained(base).state_dict()
    torch.save(packers(weights), tmp_path / "packers.bin")
    torch.save(stage2(), tmp_path / "stage2.bin")
    monkeypatch.setattr(
        hsenet_bundle, "read_slice_encoder", lambda folder: (SliceEncoderConfig(width=768), None)
    )
    with pytest.raises(BundleError, match="by 768 numbers, the gate takes 6"):
        import_hsenet_report(
            tmp_path / "packers.bin",
            tmp_path / "stage2.bin",
            base,
            tmp_path,
            vit=VIT,
            kernel=KERNEL,
        )
