"""Checkpoints of our own trainers: the bundle beside them says what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.inference.bundle_factory import tiny_bundle
from uvlm.errors import BundleError
from uvlm.models.bundle import load_bundle
from uvlm.models.weights import import_checkpoint


@pytest.fixture
def fold(tmp_path: Path) -> Path:
    """The folder of a fold: a bundle of all three tasks, two of which share an encoder."""
    tiny_bundle(tmp_path / "fold_0" / "bundle")
    return tmp_path / "fold_0"


def write(fold: Path, weights: dict[str, Tensor]) -> Path:
    path = fold / "checkpoint_best.pth"
    torch.save({"network_weights": weights, "trainer_name": "nnUNetTrainer_UVLM"}, path)
    return path


def moved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor + 1 for name, tensor in weights.items()}


def same(module: nn.Module, weights: dict[str, Tensor]) -> bool:
    state = module.state_dict()
    return all(torch.equal(state[name], tensor) for name, tensor in weights.items())


def test_the_bundles_own_file_gives_the_bundle(fold: Path) -> None:
    weights = load_file(fold / "bundle" / "model.safetensors")
    found = load_bundle(write(fold, weights))
    whole = load_bundle(fold / "bundle")
    assert list(found.parts) == list(whole.parts)
    assert found.prompt == whole.prompt
    assert found.tokenizer is not None
    for name, module in whole.modules.items():
        assert same(found.modules[name], module.state_dict())


def test_weights_that_two_parts_share_reach_both(fold: Path) -> None:
    weights = moved(load_file(fold / "bundle" / "model.safetensors"))
    found = import_checkpoint(write(fold, weights))
    whole = load_bundle(fold / "bundle").modules
    name = "encoder.stem.convs.0.conv.weight"
    assert f"report.{name}" not in weights
    for task, module in whole.items():
        assert same(found.bundle.modules[task], moved(module.state_dict()))
    assert found.record.used == len(weights)


@pytest.mark.parametrize("task", ["segmentation", "classification", "report"])
def test_one_model_replaces_its_part_and_no_other(fold: Path, task: str) -> None:
    whole = load_bundle(fold / "bundle")
    weights = moved(whole.modules[task].state_dict())
    found = load_bundle(write(fold, weights))
    for name, module in found.modules.items():
        assert same(module, weights if name == task else whole.modules[name].state_dict())


def test_a_joint_model_fills_both_parts_with_its_one_encoder(fold: Path) -> None:
    whole = load_bundle(fold / "bundle").modules
    parts = {name: moved(whole[name].state_dict()) for name in ("classification", "report")}
    weights = {
        name if name.startswith("encoder.") else f"{task}.{name}": tensor
        for task, part in parts.items()
        for name, tensor in part.items()
    }
    found = import_checkpoint(write(fold, weights))
    assert all(same(found.bundle.modules[name], part) for name, part in parts.items())
    assert same(found.bundle.modules["segmentation"], whole["segmentation"].state_dict())
    assert found.record.used == len(weights)


def test_foreign_tensors_are_refused(fold: Path) -> None:
    with pytest.raises(BundleError, match="belong nowhere: a"):
        load_bundle(write(fold, {"a": torch.ones(2)}))
    state = load_bundle(fold / "bundle").modules["report"].state_dict()
    del state["decoder.norm.bias"]
    with pytest.raises(BundleError, match=r"it lacks decoder\.norm\.bias"):
        load_bundle(write(fold, state))
    state["decoder.norm.bias"] = torch.ones(3)
    with pytest.raises(BundleError, match=r"decoder\.norm\.bias has the shape \(3,\)"):
        load_bundle(write(fold, state))


def test_what_the_bundle_beside_says_cannot_be_said_otherwise(fold: Path) -> None:
    path = write(fold, load_file(fold / "bundle" / "model.safetensors"))
    with pytest.raises(BundleError, match="says what --tokenizer and --region would"):
        import_checkpoint(path, tokenizer=fold, region="abdomen")


def test_an_altered_bundle_beside_is_refused(fold: Path) -> None:
    weights = load_file(fold / "bundle" / "model.safetensors")
    (fold / "bundle" / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="altered"):
        load_bundle(write(fold, weights))
