"""A base model's folder is read exactly, or refused with what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.tiny_base import KINDS, report_config, report_model, tiny_base
from uvlm.errors import ConfigError
from uvlm.models.config import PretrainedConfig
from uvlm.models.pretrained_architecture import positions_of
from uvlm.models.pretrained_base import base_tokenizer, read_base
from uvlm.models.uvlm import ReportModel


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {kind: tiny_base(root / kind, kind) for kind in KINDS}


@pytest.fixture
def base(originals: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals["qwen3"], tmp_path / "Qwen3-Tiny"))


def edited(folder: Path, **settings: Any) -> Path:
    """The folder with settings of config.json replaced; None removes one."""
    file = folder / "config.json"
    found = json.loads(file.read_text()) | settings
    file.write_text(json.dumps({key: value for key, value in found.items() if value != "gone"}))
    return folder


def read(folder: Path, **fields: Any) -> PretrainedConfig:
    return read_base(PretrainedConfig(base=folder, **fields))


@pytest.mark.parametrize(
    ("kind", "entries", "new"),
    [("qwen3", 320, ()), ("phi3", 320, (300, 301, 302, 303)), ("llama", 304, (300, 301, 302, 303))],
)
def test_vocabulary_and_new_tokens_follow_from_the_tokenizer(
    originals: dict[str, Path], kind: str, entries: int, new: tuple[int, ...]
) -> None:
    config = read(originals[kind])
    tokenizer = base_tokenizer(originals[kind])
    assert (config.vocab_size, config.new_tokens) == (entries, new)
    assert (config.layers, config.width) == (5, 32)
    assert {tokenizer.vision_start_id, tokenizer.eos_id} <= set(new or range(5))


def test_markers_beyond_the_embedding_are_new(originals: dict[str, Path], tmp_path: Path) -> None:
    """As when they were added to tokenizer.json and the model was not resized."""
    folder = Path(shutil.copytree(originals["llama"], tmp_path / "base"))
    base_tokenizer(folder).save(folder)
    assert base_tokenizer(folder).added == ()
    assert read(folder).new_tokens == (300, 301, 302, 303)


def test_a_vocabulary_of_another_size_is_refused(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"vocab_size is 5, the base's 320; leave it unset"):
        read(base, vocab_size=5)


def test_reading_again_changes_nothing(base: Path) -> None:
    config = read(base)
    assert read_base(config) == config
    assert len(config.fingerprint) == 16
    assert str(base) not in config.architecture


def test_the_fingerprint_is_that_of_the_weights(base: Path, tmp_path: Path) -> None:
    before = read(base).fingerprint
    twin = Path(shutil.copytree(base, tmp_path / "elsewhere"))
    assert read(twin).fingerprint == before
    weights = load_file(twin / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, twin / "model.safetensors", metadata={"format": "pt"})
    assert read(twin).fingerprint != before
    with pytest.raises(ConfigError, match=f"needed are those with {before}"):
        read_base(replace(read(base), base=twin, fingerprint=before))


@pytest.mark.parametrize("kind", KINDS)
def test_shards_hold_what_one_file_holds(tmp_path: Path, kind: str) -> None:
    whole = report_model(report_config(tiny_base(tmp_path / "one", kind)))
    sharded = report_model(report_config(tiny_base(tmp_path / "many", kind, shards=3)))
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in sharded.state_dict().items())


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def missing_shard(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "no such folder"),
        (remove("config.json"), r"it has no config\.json"),
        (remove("tokenizer.json"), r"the base model has no tokenizer\.json"),
        (remove("model.safetensors"), r"it holds no \*\.safetensors"),
        (pickled, "only pickled weights"),
        (missing_shard, "the model lacks model-00001-of-00002"),
        (lambda f: (f / "config.json").write_text("{"), "it is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "not a table"),
        (lambda f: edited(f, auto_map={}, model_type="own"), "its own code, which is never run"),
        (lambda f: edited(f, architectures=["T5ForConditionalGeneration"]), "T5.* no decoder-only"),
        (lambda f: edited(f, is_encoder_decoder=True), "no decoder-only causal model"),
        (lambda f: edited(f, hidden_size="gone"), "it does not say hidden_size"),
        (lambda f: edited(f, quantization_config={"bits": 4}), "quantization_config"),
        (lambda f: edited(f, model_type="gemma2"), "gemma2 scales its embeddings"),
        (lambda f: edited(f, final_logit_softcapping=30.0), "final_logit_softcapping"),
        (lambda f: edited(f, attention_chunk_size=64), "attention_chunk_size"),
        (lambda f: edited(f, layer_types=["linear_attention"]), "linear_attention obey no mask"),
        (lambda f: edited(f, vocab_size="many"), "its vocab_size is 'many', not a positive whole"),
        (lambda f: edited(f, num_hidden_layers=0), "its num_hidden_layers is 0, not a positive"),
        (lambda f: edited(f, hidden_size=None), "its hidden_size is None"),
        (lambda f: edited(f, max_position_embeddings="x"), "its max_position_embeddings is 'x'"),
        (lambda f: edited(f, architectures="Qwen3ForCausalLM"), "architectures are not a list"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(
    base: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(base)
    with pytest.raises(ConfigError, match=message) as error:
        read(base)
    assert str(base) in str(error.value)


def test_code_beside_a_model_that_transformers_has_is_ignored(base: Path) -> None:
    """As in the folders of Phi-3 and Phi-4."""
    plain = read(base)
    assert read(edited(base, auto_map={"AutoModelForCausalLM": "modeling_own.Own"})) == plain


def test_no_folder_at_all_names_the_option() -> None:
    with pytest.raises(ConfigError, match=r"--model\.decoder\.base FOLDER"):
        read_base(PretrainedConfig())


def test_a_model_that_transformers_does_not_know_is_refused(base: Path) -> None:
    config = report_config(edited(base, model_type="qwen9"))
    with pytest.raises(ConfigError, match="does not know model type 'qwen9'"):
        ReportModel(config)


def test_a_setting_of_another_kind_is_refused(base: Path) -> None:
    config = report_config(edited(base, intermediate_size=None))
    with pytest.raises(ConfigError, match=r"'qwen3' cannot be built .*intermediate_size"):
        ReportModel(config)


def test_a_model_of_another_build_is_refused(base: Path) -> None:
    config = report_config(edited(base, model_type="gpt2", n_layer=2, n_embd=32, n_head=4))
    with pytest.raises(ConfigError, match="'gpt2' is built in another way"):
        ReportModel(config)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 512),
        ({"sliding_window": 100}, 512),  # Qwen3 says beside it that it is not used
        ({"sliding_window": 100, "use_sliding_window": True}, 100),
        ({"sliding_window": 100, "use_sliding_window": "gone"}, 100),  # Phi-3
        (
            {
                "rope_parameters": {"rope_type": "longrope"},
                "original_max_position_embeddings": 256,
            },
            256,
        ),
        (
            {"rope_scaling": {"type": "longrope", "original_max_position_embeddings": 128}}
            | {"rope_parameters": None},
            128,
        ),
    ],
)
def test_positions_end_where_full_attention_does(
    base: Path, settings: dict[str, Any], expected: int
) -> None:
    assert positions_of(read(edited(base, **settings))) == expected


def test_a_window_shorter_than_the_vision_is_refused(base: Path) -> None:
    config = report_config(edited(base, sliding_window=17, use_sliding_window=True))
    with pytest.raises(ConfigError, match="reads 17 positions, too few for 16 visual tokens"):
        ReportModel(config)
