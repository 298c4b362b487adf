"""Published packers and adapters, taken over, write what the published code writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Phi3ForCausalLM

from tests.models.tiny_base import tiny_base
from tests.models.weights.hsenet_files import (
    ALPHA,
    DECODER,
    FEATURES,
    FRONT,
    KERNEL,
    LINEAR,
    RANK,
    SHAPE,
    SLICES,
    VIT,
    State,
    clip,
    packers,
    published_logits,
    stage2,
)
from uvlm.errors import BundleError
from uvlm.inference.generate import generate
from uvlm.models.vit import SlicedVolume
from uvlm.models.weights.hsenet_report import ImportedReport, report_from_authors

TEXT = [60, 61, 200, 62, 150]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"), "phi3")


def network(folder: Path) -> Any:
    return Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def taken(state: State, folder: Path, out: Path, towers: State | None = None) -> ImportedReport:
    torch.save(state, out / "packers.bin")
    torch.save(stage2() if towers is None else towers, out / "stage2.bin")
    return report_from_authors(
        out / "packers.bin", out / "stage2.bin", folder, vit=VIT, kernel=KERNEL, alpha=ALPHA
    )


@pytest.mark.parametrize(
    "change", [{}, {"hidden": 20}, {"second": False}], ids=["published", "narrow", "one packer"]
)
def test_logits_are_those_of_the_published_code(change, folder, tmp_path):
    base = network(folder)
    state = packers(base.state_dict(), **change)
    model = taken(state, folder, tmp_path).model
    generator = torch.Generator().manual_seed(3)
    volume = torch.randn(1, 1, *SHAPE, generator=generator)
    slices = torch.randn(1, SLICES, FEATURES, generator=generator)
    with torch.no_grad():
        found = model(SlicedVolume(volume, slices), torch.tensor([TEXT]))[0]
        study = (volume[0, 0].transpose(1, 2), slices[0])
        expected = published_logits(stage2(), state, base, study, TEXT)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_configuration_is_that_of_the_files(folder, tmp_path):
    found = taken(packers(network(folder).state_dict()), folder, tmp_path)
    config = found.model.config
    assert (config.markers, config.mask, config.layer_stages) == ("bos", "causal", ())
    assert config.packer.order == "zxy"
    assert config.num_visual_tokens == 16
    assert (config.decoder.rank, config.decoder.alpha) == (RANK, ALPHA)
    assert set(config.decoder.targets) == {name.split(".")[1] for name in LINEAR}
    assert found.packers.left_out == {}
    (reason,) = [r for r in found.towers.left_out if "no text tower" in r]
    assert "mm_vision_proj.weight" in found.towers.left_out[reason]


def test_adapters_saved_alone_have_shorter_names(folder, tmp_path):
    state = packers(network(folder).state_dict())
    shorter = {name.replace(".default.", "."): tensor for name, tensor in state.items()}
    one = taken(state, folder, tmp_path).model.state_dict()
    two = taken(shorter, folder, tmp_path).model.state_dict()
    assert all(tensor.equal(two[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    "name",
    [
        f"{FRONT}model.mm_projector.proj_mpls.2.bias",
        f"{FRONT}model.mm_projector2.resolution_attention.Wv.weight",
        f"{FRONT}model.layers.1.mlp.down_proj.lora_B.default.weight",
    ],
)
def test_a_missing_tensor_is_named(name, folder, tmp_path):
    state = packers(network(folder).state_dict())
    del state[name]
    with pytest.raises(BundleError, match=r"packers.bin: it lacks .*" + name.split(".")[-3]):
        taken(state, folder, tmp_path)


def test_an_unknown_tensor_and_another_base_are_refused(folder, tmp_path):
    state = packers(network(folder).state_dict())
    extra = f"{FRONT}model.layers.7.mlp.down_proj.lora_A.default.weight"
    with pytest.raises(BundleError, match="1 of its tensors belong nowhere"):
        taken(state | {extra: torch.zeros(RANK, 48)}, folder, tmp_path)
    name = f"{FRONT}model.mm_projector.proj_mpls.2.weight"
    with pytest.raises(BundleError, match="has the shape"):
        taken(state | {name: torch.zeros(DECODER + 8, DECODER)}, folder, tmp_path)


def test_towers_need_stage_2_with_stage_1_inside(folder, tmp_path):
    state = packers(network(folder).state_dict())
    with pytest.raises(BundleError, match=r"stage2.bin: it lacks stage1_pretrained_CLIP"):
        taken(state, folder, tmp_path, towers=clip())


@pytest.mark.parametrize("part", ["mm_projector", "lora_"])
def test_a_file_without_packers_or_adapters_is_refused(part, folder, tmp_path):
    state = packers(network(folder).state_dict())
    with pytest.raises(BundleError, match=f"it lacks {'adapters' if part == 'lora_' else part}"):
        taken({n: t for n, t in state.items() if part not in n}, folder, tmp_path)


def test_it_writes_what_the_published_code_writes_greedily(folder, tmp_path):
    state = packers(network(folder).state_dict())
    model = taken(state, folder, tmp_path).model
    generator = torch.Generator().manual_seed(3)
    volume = torch.randn(1, 1, *SHAPE, generator=generator)
    slices = torch.randn(1, SLICES, FEATURES, generator=generator)
    study, expected = (volume[0, 0].transpose(1, 2), slices[0]), list(TEXT)
    with torch.no_grad():
        plan = model.visual_plan(model.encoder(SlicedVolume(volume, slices)))
        written = generate(model, plan, TEXT, eos_id=-1, max_new_tokens=3)
        for _ in range(3):
            logits = published_logits(stage2(), state, network(folder), study, expected)
            expected.append(int(logits[-1].argmax()))
    assert [*TEXT, *written] == expected
