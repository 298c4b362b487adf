"""Runs with a pretrained decoder: adapters and full weights, resumed exactly, ready to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.models.tiny_base import tiny_base
from tests.training.test_run import Killed, kill_after
from uvlm.errors import ConfigError
from uvlm.inference.pipeline import Pipeline
from uvlm.models.bundle import load_bundle
from uvlm.models.config import JointConfig, PretrainedConfig, ReportConfig
from uvlm.models.pretrained import own_state
from uvlm.training.config import RunConfig
from uvlm.training.run import train

Build = Callable[[str], RunConfig]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phi-3 lacks the markers, so that new tokens take part."""
    return tiny_base(tmp_path_factory.mktemp("base") / "Phi-Tiny", "phi3", positions=4096)


def configured(run: RunConfig, base: Path | None, tuning: str) -> RunConfig:
    model = run.model
    report = model.report if isinstance(model, JointConfig) else model
    assert isinstance(report, ReportConfig)
    decoder = PretrainedConfig(base=base, tuning=tuning, rank=4, alpha=8)  # type: ignore[arg-type]
    loop = replace(run.loop, activation_checkpointing=True)
    report = replace(report, decoder=decoder)
    joint = isinstance(model, JointConfig)
    return replace(run, model=replace(model, report=report) if joint else report, loop=loop)


def weights(bundle: Path, base: Path) -> dict[str, Tensor]:
    return own_state(load_bundle(bundle, base=base).modules["report"])


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_killed_and_resumed_run_ends_with_the_same_weights(
    tuning: str, tiny_run: Build, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tiny_run("report"), base, tuning)
    straight = train(replace(config, out=tmp_path / "straight"))
    broken = replace(config, out=tmp_path / "broken")
    with monkeypatch.context() as patch:
        kill_after(5, patch)
        with pytest.raises(Killed):
            train(broken)
    torch.manual_seed(99)
    resumed = train(broken, resume=True)
    expected, got = weights(straight, base), weights(resumed, base)
    assert expected.keys() == got.keys()
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []
    pipeline = Pipeline.load(straight, device="cpu", base=base)
    assert pipeline.tasks == ("report",)
    (checkpoint,) = (tmp_path / "broken" / "checkpoint").iterdir()
    with safe_open(str(checkpoint / "model.safetensors"), framework="pt") as file:
        stored = {key for key in file.keys() if "embed_tokens" in key}  # noqa: SIM118
    kept = "rows" if tuning == "lora" else "weight"
    assert stored == {f"decoder.model.model.embed_tokens.{kept}"}


def test_a_joint_run_ends_in_both_parts(tiny_run: Build, base: Path, tmp_path: Path) -> None:
    config = configured(tiny_run("joint"), base, "lora")
    config = replace(config, loop=replace(config.loop, steps=2), out=tmp_path / "out")
    bundle = load_bundle(train(config), base=base)
    assert list(bundle.parts) == ["classification", "report"]
    assert bundle.modules["report"].encoder is bundle.modules["classification"].encoder


def test_a_run_without_a_base_says_what_to_give(tiny_run: Build, tmp_path: Path) -> None:
    config = configured(tiny_run("report"), None, "lora")
    with pytest.raises(ConfigError, match=r"--model\.decoder\.base FOLDER"):
        train(replace(config, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_run_with_a_base_without_a_tokenizer_says_so(tiny_run: Build, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path / "base")
    (folder / "tokenizer.json").unlink()
    config = configured(tiny_run("report"), folder, "lora")
    with pytest.raises(ConfigError, match=r"the base model has no tokenizer\.json"):
        train(replace(config, out=tmp_path / "out"))
