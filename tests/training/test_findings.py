"""Reports trained with a list of findings, and what a bundle knows of its training studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.data.toy_catalog import LABELS, make_catalog
from uvlm.errors import ConfigError
from uvlm.inference.guided.typical import Typical
from uvlm.inference.pipeline import Pipeline
from uvlm.models.bundle import load_bundle
from uvlm.training import typical as typical_module
from uvlm.training.config import RunConfig
from uvlm.training.features import fill_bank
from uvlm.training.hooks import ProgressBar
from uvlm.training.run import train

Build = Callable[[str], RunConfig]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy catalog has seven studies for training and three for validation."""
    monkeypatch.setattr(typical_module, "FEWEST", 2)


@pytest.fixture
def head(tiny_run: Build, tmp_path: Path) -> Path:
    """A bundle with a class head."""
    config = replace(tiny_run("classification"), out=tmp_path / "head")
    return train(replace(config, loop=replace(config.loop, steps=1)))


def told(config: RunConfig, **changes: object) -> RunConfig:
    return replace(config, model=replace(config.model, findings=True), **changes)


def test_a_run_told_the_findings_gives_a_bundle_that_tells_them(tiny_run, head, tmp_path):
    bundle = train(told(tiny_run("report"), init=head, out=tmp_path / "run"))
    loaded = load_bundle(bundle)
    assert loaded.parts["report"].config.findings
    shape = loaded.parts["report"].config.shape
    result = Pipeline.load(bundle, device="cpu").predict_prepared(torch.randn(shape).numpy())
    assert result.written is not None
    assert "Findings:" in loaded.tokenizer.decode(result.written.prompt)


def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    tiny_run, head, tmp_path, monkeypatch
):
    config = told(tiny_run("report"), init=head)
    config = replace(config, data=replace(config.data, findings_hidden=0.3, findings_flipped=0.3))
    whole = train(replace(config, out=tmp_path / "whole"))
    with monkeypatch.context() as patch:

        def die(self: ProgressBar, at: int, scalars: dict[str, float]) -> None:
            if at == 5:
                raise KeyboardInterrupt

        patch.setattr(ProgressBar, "__call__", die)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, out=tmp_path / "cut"))
    resumed = train(replace(config, out=tmp_path / "cut"), resume=True)
    assert load_bundle(resumed).fingerprint == load_bundle(whole).fingerprint


def test_a_feature_bank_changes_nothing_of_what_is_told(tiny_run, head, tmp_path):
    config = told(tiny_run("report"), init=head)
    bank = fill_bank(replace(config, out=tmp_path / "bank"))
    with_bank = replace(config, data=replace(config.data, bank=bank), out=tmp_path / "banked")
    plain = load_bundle(train(replace(config, out=tmp_path / "plain")))
    banked = load_bundle(train(with_bank))
    assert plain.tokenizer.to_json() == banked.tokenizer.to_json()
    for (name, a), b in zip(
        plain.modules["report"].state_dict().items(),
        banked.modules["report"].state_dict().values(),
        strict=True,
    ):
        # A bank holds half precision.
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02, msg=lambda text, n=name: n + text)


def test_without_a_class_head_to_tell_them_later_the_run_is_refused(tiny_run, tmp_path):
    with pytest.raises(ConfigError, match="there is none"):
        train(told(tiny_run("report"), out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_class_head_of_other_labels_is_refused(tiny_run, head, tmp_path, monkeypatch):
    folder = tmp_path / "other"
    folder.mkdir()
    other = make_catalog(folder)
    text = other.read_text().replace(LABELS[0], "Cyst", 1)
    other.write_text(text)
    dataset = other.parent / "dataset.json"
    dataset.write_text(dataset.read_text().replace(LABELS[0], "Cyst"))
    config = told(tiny_run("report"), init=head, out=tmp_path / "run")
    config = replace(config, data=replace(config.data, catalog=(other,)))
    with pytest.raises(ConfigError, match=r"Cyst, \.\.\."):
        train(config)


def test_a_bundle_knows_what_its_training_studies_are_like(head, tiny_run, tmp_path):
    tensors = load_bundle(head).extras["typical"]
    found = Typical.of(tensors, "classification")
    assert found is not None
    assert found.studies == 7
    assert found.rate == pytest.approx(1 / 4)
    report = load_bundle(train(replace(tiny_run("report"), init=head, out=tmp_path / "run")))
    kept = Typical.of(report.extras["typical"], "report")
    assert kept is not None, "the frozen encoder's, for the part that reads it"
    assert (kept.limit, kept.studies) == (found.limit, found.studies)


def test_a_frozen_encoder_is_not_run_again_over_the_studies(head, tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(typical_module, "_fit", None)
    train(replace(tiny_run("report"), init=head, out=tmp_path / "run"))


def test_with_too_few_studies_nothing_is_said_of_them(tiny_run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(typical_module, "FEWEST", 100)
    bundle = train(replace(tiny_run("classification"), out=tmp_path / "run"))
    assert "typical" not in load_bundle(bundle).extras
    assert "unlike its training studies" in caplog.text


def test_no_more_studies_are_encoded_than_needed_and_they_are_spread():
    rows = list(range(10))
    assert typical_module._spread(rows, 4) == [0, 2, 5, 7]
    assert typical_module._spread(rows, 10) == rows
