"""A whole run with a pretrained decoder: trained, killed, resumed, loaded again with its base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.models.tiny_base import tiny_base
from tests.training.processes import train_in_processes
from uvlm.errors import ConfigError, InputError
from uvlm.models.bundle import load_bundle
from uvlm.models.config import InjectionConfig, JointConfig, PretrainedConfig, ReportConfig
from uvlm.training.config import RunConfig
from uvlm.training.run import train

Build = Callable[[str], RunConfig]


def pretrained(config: RunConfig, base: Path, **fields: object) -> RunConfig:
    decoder = PretrainedConfig(base=base, rank=4, alpha=8, **fields)
    if isinstance(config.model, JointConfig):
        model = replace(config.model, report=_with(config.model.report, decoder))
    else:
        assert isinstance(config.model, ReportConfig)
        model = _with(config.model, decoder)
    return replace(config, model=model)


def _with(report: ReportConfig, decoder: PretrainedConfig) -> ReportConfig:
    return replace(report, decoder=decoder, injection=InjectionConfig(hidden=16))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base") / "qwen3", "qwen3", positions=2048)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_run_ends_in_a_bundle_that_its_base_completes(
    tiny_run: Build, tmp_path: Path, base: Path, tuning: str
):
    config = pretrained(tiny_run("report"), base, tuning=tuning)
    bundle = train(replace(config, out=tmp_path / "run"))
    loaded = load_bundle(bundle, base=base)
    part = loaded.parts["report"]
    assert isinstance(part.config, ReportConfig)
    assert isinstance(part.config.decoder, PretrainedConfig)
    assert part.config.decoder.tuning == tuning
    (found,) = (tmp_path / "run" / "checkpoint").iterdir()
    stored = load_file(found / "model.safetensors").keys()
    assert any("lora_" in name for name in stored) == (tuning == "lora")
    frozen = [name for name in stored if "base_layer" in name]
    assert frozen == []


@pytest.mark.parametrize(("task", "tuning"), [("report", "lora"), ("joint", "full")])
def test_a_kill_in_the_middle_changes_nothing(
    tiny_run: Build, tmp_path: Path, base: Path, task: str, tuning: str
):
    config = pretrained(tiny_run(task), base, tuning=tuning)
    loop = replace(config.loop, activation_checkpointing=True)
    config = replace(config, loop=loop)
    straight = replace(config, out=tmp_path / "straight")
    changes = train_in_processes(straight)
    assert changes is not None
    broken = replace(config, out=tmp_path / "broken")
    assert train_in_processes(broken, kill=(0, len(changes) * 2 // 3)) is None
    train_in_processes(broken, resume=True)
    one, two = ((run.out or Path()) / "bundle" / "checksums.json" for run in (straight, broken))
    assert one.read_bytes() == two.read_bytes()


def test_another_base_is_noticed_on_resuming(tiny_run: Build, tmp_path: Path):
    folder = tiny_base(tmp_path / "base", "llama", positions=2048)
    config = replace(pretrained(tiny_run("report"), folder), out=tmp_path / "run")
    changes = train_in_processes(config)
    assert changes is not None
    config = replace(config, out=tmp_path / "broken")
    train_in_processes(config, kill=(0, len(changes) * 2 // 3))
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    tensors[name] += 1.0
    from safetensors.torch import save_file

    save_file({k: v.clone() for k, v in tensors.items()}, weights, metadata={"format": "pt"})
    with pytest.raises(InputError, match="base model"):
        train(config, resume=True)


def test_a_tokenizer_of_ones_own_is_refused(tiny_run: Build, tmp_path: Path, base: Path):
    config = pretrained(tiny_run("report"), base)
    config = replace(config, tokenizer=base / "tokenizer.json", out=tmp_path / "run")
    with pytest.raises(ConfigError, match="brings its tokenizer"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_no_trained_parameter_is_left_without_a_gradient(
    tiny_run: Build, tmp_path: Path, base: Path, monkeypatch
):
    without: list[str] = []

    def look(self, parameters, limit, norm_type=2):
        (task,) = self._models
        named = task.named_parameters()
        without.extend(name for name, p in named if p.requires_grad and p.grad is None)
        return torch.nn.utils.clip_grad_norm_(list(parameters), limit)

    monkeypatch.setattr("accelerate.Accelerator.clip_grad_norm_", look)
    config = pretrained(tiny_run("report"), base)
    train(replace(config, loop=replace(config.loop, steps=1), out=tmp_path / "run"))
    assert without == []
