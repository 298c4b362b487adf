"""A bundle holds adapters or full weights, and gives back the very model it was made from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import uvlm
from tests.inference.bundle_factory import tiny_bundle
from tests.models.tiny import REPORT, SHAPE, random_stages, random_tokens
from tests.models.tiny_base import KINDS, report_config, report_model, tiny_base
from uvlm.errors import BundleError, ConfigError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.pipeline import Pipeline
from uvlm.models.bundle import Bundle, Part, load_bundle, save_bundle
from uvlm.models.config import ReportConfig
from uvlm.models.pretrained import base_tokenizer, load_base_weights, load_own_state, own_state
from uvlm.models.uvlm import ReportModel

EVERY_CASE = [(kind, tuning) for kind in KINDS for tuning in ("lora", "full")]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {kind: tiny_base(root / kind, kind) for kind in KINDS}


@pytest.fixture
def base(bases: dict[str, Path], tmp_path: Path) -> Path:
    """A Qwen3 of one test's own."""
    return Path(shutil.copytree(bases["qwen3"], tmp_path / "Qwen3-Tiny"))


def save(folder: Path, model: ReportModel, others: Bundle | None = None) -> Path:
    """A bundle of the report model, and of the parts of another bundle."""
    part = Part(
        task="report",
        config=model.config,
        spec=PreprocessSpec(shape=SHAPE),
        region="chest",
        trained_on="2 studies",
    )
    parts, modules = {"report": part}, {"report": model}
    if others is not None:
        parts, modules = {**others.parts, **parts}, {**others.modules, **modules}
    return save_bundle(folder, parts, modules, base_tokenizer(model.config.decoder.base))


@torch.no_grad()
def answer(model: ReportModel) -> Tensor:
    plan = model.eval().visual_plan(random_stages(model.config))
    return model.decode(plan, random_tokens(model.config))


# The base's tensors


def resaved(folder: Path, change: Any) -> ReportConfig:
    """The configuration of the folder's base after `change` to its tensors."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return report_config(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.layers.3.mlp.up_proj.weight"), "it lacks 1 tensors, as .*layers.3"),
        (lambda w: w.update({"visual.proj": torch.zeros(2)}), "it holds visual.proj, which"),
        (
            lambda w: w.update({"model.norm.weight": torch.zeros(31)}),
            r"norm.weight has shape \(31,\), config.json says \(32,\)",
        ),
    ],
)
def test_every_tensor_of_the_base_is_accounted_for(base: Path, change: Any, message: str) -> None:
    model = ReportModel(resaved(base, change))
    with pytest.raises(ConfigError, match=message):
        load_base_weights(model)


def test_a_repeated_embedding_and_a_stored_table_are_no_surprise(base: Path) -> None:
    def repeat(weights: dict[str, Tensor]) -> None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)

    model = report_model(resaved(base, repeat))
    head = model.decoder.model.get_output_embeddings()
    assert head.weight is model.decoder.embedding.weight


def test_a_decoder_from_scratch_has_no_base() -> None:
    with pytest.raises(ConfigError, match="has no base"):
        load_base_weights(ReportModel(REPORT))


def test_a_fresh_model_holds_no_weights_of_its_base(bases: dict[str, Path]) -> None:
    model = ReportModel(report_config(bases["llama"]))
    on_meta = {name for name, p in model.named_parameters() if p.is_meta}
    assert "decoder.model.model.embed_tokens.weight" in on_meta
    assert not any(".lora_" in name or not name.startswith("decoder.") for name in on_meta)
    load_base_weights(model)
    assert not any(p.is_meta for p in model.parameters())


def test_adapters_start_the_same_from_the_same_seed(bases: dict[str, Path]) -> None:
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(ReportModel(report_config(bases["phi3"])).state_dict())
    key = "decoder.model.model.layers.0.self_attn.qkv_proj.lora_A.default.weight"
    assert torch.equal(made[0][key], made[1][key])
    assert not torch.equal(made[0][key], made[2][key])


# Own state


def test_own_state_of_other_models_is_their_state_dict() -> None:
    model = ReportModel(REPORT)
    assert list(own_state(model)) == list(model.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_own_state_with_adapters_holds_no_weight_of_the_base(
    bases: dict[str, Path], kind: str
) -> None:
    model = report_model(report_config(bases[kind]))
    kept = {key for key in own_state(model) if key.startswith("decoder.")}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert kept == {name for name in trained if name.startswith("decoder.")}
    assert own_state(model).keys() - kept == {
        key for key in model.state_dict() if not key.startswith("decoder.")
    }


@pytest.mark.parametrize(("kind", "tuning"), EVERY_CASE)
def test_own_state_is_all_another_model_of_the_base_needs(
    bases: dict[str, Path], kind: str, tuning: str
) -> None:
    config = report_config(bases[kind], tuning=tuning)
    model, other = report_model(config, seed=1), report_model(config, seed=2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.01)
    assert not torch.equal(answer(other), answer(model))
    load_own_state(other, {key: value.clone() for key, value in own_state(model).items()})
    assert torch.equal(answer(other), answer(model))


def test_own_state_of_another_model_is_refused(bases: dict[str, Path]) -> None:
    model = report_model(report_config(bases["qwen3"]))
    state = own_state(model)
    state.pop(next(key for key in state if ".lora_A." in key))
    with pytest.raises(RuntimeError, match=r"1 tensors differ, as .*lora_A"):
        load_own_state(model, state)


# Bundles


@pytest.mark.parametrize(("kind", "tuning"), EVERY_CASE)
def test_a_bundle_gives_back_the_model(
    bases: dict[str, Path], tmp_path: Path, kind: str, tuning: str
) -> None:
    model = report_model(report_config(bases[kind], tuning=tuning))
    for name, parameter in model.named_parameters():
        if name.endswith(".rows"):
            parameter.data.add_(0.1)
    folder = save(tmp_path / "bundle", model)
    loaded = load_bundle(folder, base=bases[kind] if tuning == "lora" else None)
    report = loaded.modules["report"]
    assert isinstance(report, ReportModel)
    assert torch.equal(answer(report), answer(model))
    expected = model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in report.state_dict().items())


def test_adapters_are_small_beside_the_base(base: Path, tmp_path: Path) -> None:
    config = report_config(base, targets=("q_proj",), rank=1)
    folder = save(tmp_path / "bundle", report_model(config))
    with safe_open(str(folder / "model.safetensors"), framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith("report.decoder.")]  # noqa: SIM118
    assert len(keys) == 10
    assert all(".lora_" in key for key in keys)


def test_a_bundle_names_its_base_and_not_where_it_lay(base: Path, tmp_path: Path) -> None:
    model = report_model(report_config(base))
    folder = save(tmp_path / "bundle", model)
    texts = "".join(f.read_text() for f in folder.iterdir() if f.suffix in (".json", ".md"))
    decoder = model.config.decoder
    assert str(tmp_path) not in texts
    stored = json.loads((folder / "config.json").read_text())["parts"]["report"]["config"]
    assert stored["decoder"]["base"] == "Qwen3-Tiny"
    card = (folder / "model_card.md").read_text()
    assert f"Qwen3-Tiny, fingerprint `{decoder.fingerprint}` (adapters of it are here" in card


def test_adapters_without_their_base_say_which_to_give(base: Path, tmp_path: Path) -> None:
    model = report_model(report_config(base))
    folder = save(tmp_path / "bundle", model)
    fingerprint = model.config.decoder.fingerprint
    with pytest.raises(BundleError, match=rf"Qwen3-Tiny with fingerprint {fingerprint}.*--base"):
        load_bundle(folder)
    with pytest.raises(BundleError, match=r"Qwen3-Tiny .*nowhere: no such folder"):
        load_bundle(folder, base=tmp_path / "nowhere")


def test_adapters_on_another_base_are_refused(base: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "bundle", report_model(report_config(base)))
    resaved(base, lambda weights: weights["model.norm.weight"].add_(1e-3))
    with pytest.raises(BundleError, match=r"adapters of the language model Qwen3-Tiny.*--base"):
        load_bundle(folder, base=base)


def test_one_part_alone_needs_neither_the_base_nor_the_others_weights(
    base: Path, tmp_path: Path
) -> None:
    ours = load_bundle(tiny_bundle(tmp_path / "ours", ("classification",)))
    folder = save(tmp_path / "both", report_model(report_config(base)), ours)
    with pytest.raises(BundleError, match="--base"):
        load_bundle(folder)
    loaded = load_bundle(folder, task="classification")
    assert list(loaded.parts) == list(loaded.modules) == ["classification"]
    pipeline = Pipeline.load(folder, "cpu", task="classification")
    assert pipeline.tasks == ("classification",)
    expected = ours.modules["classification"].state_dict()
    found = loaded.modules["classification"].state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    with pytest.raises(BundleError, match="no segmentation part; it holds classification, report"):
        load_bundle(folder, task="segmentation")


def test_the_pipeline_takes_the_base(base: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "bundle", report_model(report_config(base)))
    pipeline = uvlm.load(folder, device="cpu", base=base)
    assert pipeline.tasks == ("report",)


def test_a_report_ends_where_the_base_does(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", positions=256)
    model = report_model(report_config(base, tuning="full"))
    with torch.no_grad():  # it never ends by itself: a logit of 0 is not the highest
        model.decoder.embedding.weight[base_tokenizer(base).eos_id] = 0
    pipeline = uvlm.load(save(tmp_path / "bundle", model), device="cpu")
    found = pipeline.predict_prepared(
        np.zeros(SHAPE, np.float32), options=GenerateOptions(max_new_tokens=400)
    )
    assert found.cut


def test_a_bundle_of_other_parts_needs_no_base(tmp_path: Path) -> None:
    assert load_bundle(tiny_bundle(tmp_path / "bundle"), base=tmp_path).tokenizer is not None


# Data prepared by nnU-Net


def test_a_part_prepared_by_nnunet_is_kept_but_not_applied(tmp_path: Path) -> None:
    ours = load_bundle(tiny_bundle(tmp_path / "ours", ("segmentation",)))
    part = replace(ours.parts["segmentation"], spec=None)
    folder = save_bundle(tmp_path / "theirs", {"segmentation": part}, ours.modules)
    assert load_bundle(folder).parts["segmentation"] == part
    assert "prepared by nnU-Net" in (folder / "model_card.md").read_text()
    with pytest.raises(BundleError, match=r"prepared by nnU-Net.*Apply it with nnUNetv2_predict"):
        _ = part.our_spec
