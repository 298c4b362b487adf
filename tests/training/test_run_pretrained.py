"""A whole run with a pretrained decoder: trained, killed, resumed, loaded again with its base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.tiny_base import tiny_base
from tests.training.test_run import Killed, kill_after
from uvlm.errors import ConfigError, InputError
from uvlm.inference.pipeline import Pipeline
from uvlm.models.bundle import load_bundle
from uvlm.models.config import InjectionConfig, JointConfig, PretrainedConfig, ReportConfig
from uvlm.training.config import RunConfig
from uvlm.training.run import train

Build = Callable[[str], RunConfig]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phi-3 lacks the markers, so that new tokens take part."""
    return tiny_base(tmp_path_factory.mktemp("base") / "Phi-Tiny", "phi3", positions=4096)


def pretrained(config: RunConfig, base: Path | None, tuning: str = "lora") -> RunConfig:
    decoder = PretrainedConfig(base=base, tuning=tuning, rank=4, alpha=8)
    model = config.model
    report = model.report if isinstance(model, JointConfig) else model
    assert isinstance(report, ReportConfig)
    report = replace(report, decoder=decoder, injection=InjectionConfig(hidden=16))
    joint = isinstance(model, JointConfig)
    return replace(config, model=replace(model, report=report) if joint else report)


def with_loop(config: RunConfig, **changes: object) -> RunConfig:
    return replace(config, loop=replace(config.loop, **changes))


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_run_ends_in_a_bundle_that_its_base_completes(
    tiny_run: Build, tmp_path: Path, base: Path, tuning: str
):
    config = with_loop(pretrained(tiny_run("report"), base, tuning), steps=1)
    bundle = train(replace(config, out=tmp_path / "run"))
    assert Pipeline.load(bundle, device="cpu", base=base).tasks == ("report",)
    decoder = load_bundle(bundle, base=base).parts["report"].config.decoder
    assert decoder.tuning == tuning
    (found,) = (tmp_path / "run" / "checkpoint").iterdir()
    stored = load_file(found / "model.safetensors").keys()
    assert any("lora_" in name for name in stored) == (tuning == "lora")
    assert [name for name in stored if "base_layer" in name] == []
    kept = "rows" if tuning == "lora" else "weight"
    embedded = {name for name in stored if "embed_tokens" in name}
    assert embedded == {f"decoder.model.model.embed_tokens.{kept}"}


@pytest.mark.parametrize(("task", "tuning"), [("report", "full"), ("joint", "lora")])
def test_a_kill_in_the_middle_changes_nothing(
    tiny_run: Build, tmp_path: Path, base: Path, monkeypatch, task: str, tuning: str
):
    config = pretrained(tiny_run(task), base, tuning)
    config = with_loop(config, steps=4, validate_every=4, activation_checkpointing=True)
    one = train(replace(config, out=tmp_path / "straight"))
    broken = replace(config, out=tmp_path / "broken")
    with monkeypatch.context() as patch:
        kill_after(3, patch)
        with pytest.raises(Killed):
            train(broken)
    torch.manual_seed(99)
    two = train(broken, resume=True)
    assert (one / "checksums.json").read_bytes() == (two / "checksums.json").read_bytes()
    parts = {"report": ["report"], "joint": ["classification", "report"]}
    assert list(load_bundle(one, base=base).parts) == parts[task]


def test_another_base_is_noticed_on_resuming(tiny_run: Build, tmp_path: Path):
    folder = tiny_base(tmp_path / "base", "llama", positions=2048)
    config = with_loop(pretrained(tiny_run("report"), folder), steps=2, checkpoint_every=1)
    config = replace(config, out=tmp_path / "run")
    train(replace(config, out=tmp_path / "run"))
    (tmp_path / "run" / "bundle").rename(tmp_path / "bundle")
    tensors = {name: t.clone() for name, t in load_file(folder / "model.safetensors").items()}
    next(iter(tensors.values())).add_(1.0)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="base model"):
        train(config, resume=True)


def test_reports_longer_than_the_base_reads_are_refused_at_once(tiny_run: Build, tmp_path: Path):
    config = pretrained(tiny_run("report"), tiny_base(tmp_path / "base", positions=120))
    with pytest.raises(ConfigError, match=r"longest report takes \d+ positions .* reads 120"):
        train(replace(config, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_ones_own_is_refused(tiny_run: Build, tmp_path: Path, base: Path):
    config = pretrained(tiny_run("report"), base)
    config = replace(config, tokenizer=base / "tokenizer.json", out=tmp_path / "run")
    with pytest.raises(ConfigError, match="brings its tokenizer"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_base_says_what_to_give(tiny_run: Build, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--model\.decoder\.base FOLDER"):
        train(replace(pretrained(tiny_run("report"), None), out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_base_without_a_tokenizer_is_refused(tiny_run: Build, tmp_path: Path):
    folder = tiny_base(tmp_path / "base")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"the base model has no tokenizer\.json"):
        train(replace(pretrained(tiny_run("report"), folder), out=tmp_path / "run"))


def test_no_trained_parameter_is_left_without_a_gradient(
    tiny_run: Build, tmp_path: Path, base: Path, without_gradient: list[str]
):
    config = with_loop(pretrained(tiny_run("report"), base), steps=1)
    train(replace(config, out=tmp_path / "run"))
    assert without_gradient == []
