"""Averages, the best weights, an early end, memory that runs out, and inputs that changed."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.data.toy_catalog import make_catalog
from uvlm.errors import CatalogError, InputError, MemoryExhaustedError
from uvlm.models.bundle import load_bundle
from uvlm.models.config import InjectionConfig, ReportConfig
from uvlm.preprocessing.disk import lock
from uvlm.training.config import OptimConfig, RunConfig
from uvlm.training.hooks import ProgressBar
from uvlm.training.run import train
from uvlm.training.tasks.classification import ClassificationTask
from uvlm.training.tasks.report import ReportTask

Build = Callable[[str], RunConfig]


def weights(bundle: Path, part: str = "classification") -> dict[str, Tensor]:
    return load_bundle(bundle).modules[part].state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def validated(out: Path, metric: str) -> dict[int, float]:
    with (out / "log.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == f"val/{metric}"]
    return {int(row["step"]): float(row["value"]) for row in rows}


def checkpoint(out: Path) -> Path:
    (found,) = (out / "checkpoint").iterdir()
    return found


def with_loop(config: RunConfig, **changes: object) -> RunConfig:
    return replace(config, loop=replace(config.loop, **changes))


def interrupted(config: RunConfig, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends in step `step`, before its checkpoint."""

    def die(self: ProgressBar, at: int, scalars: dict[str, float]) -> None:
        if at == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "__call__", die)
        with pytest.raises(KeyboardInterrupt):
            train(config)


def test_the_averaged_weights_are_validated_and_stored(tiny_run: Build, tmp_path: Path):
    config = tiny_run("classification")
    plain = train(replace(config, out=tmp_path / "plain"))
    config = replace(config, optim=replace(config.optim, ema=0.9), out=tmp_path / "averaged")
    bundle = train(config)
    stored = weights(bundle)
    averages = load_file(checkpoint(tmp_path / "averaged") / "average-0.safetensors")
    assert averages
    assert all(
        torch.equal(stored[name.removeprefix("model.")], value) for name, value in averages.items()
    )
    assert not same(stored, weights(plain))
    # The steps themselves are those of the run without averages.
    last = [
        load_file(checkpoint(tmp_path / n) / "model.safetensors") for n in ("plain", "averaged")
    ]
    assert same(*last)
    assert validated(tmp_path / "plain", "bce") != validated(tmp_path / "averaged", "bce")


def test_the_best_weights_are_stored_and_lie_ready_meanwhile(
    tiny_run: Build, tmp_path: Path, monkeypatch
):
    values = iter([0.2, 0.9, 0.5])
    seen: list[dict[str, Tensor]] = []

    def evaluate(self: ClassificationTask, batches: object) -> dict[str, float]:
        seen.append({k: v.clone() for k, v in self.model.state_dict().items()})
        return {"auroc": next(values)}

    monkeypatch.setattr(ClassificationTask, "evaluate", evaluate)
    config = with_loop(tiny_run("classification"), best=True, validate_every=2)
    bundle = train(replace(config, out=tmp_path / "run"))
    assert same(weights(bundle), seen[1])
    assert same(weights(tmp_path / "run" / "best"), seen[1])
    assert load_bundle(bundle).parts["classification"].metrics == {"auroc": 0.9}


def test_patience_ends_a_run_normally(tiny_run: Build, tmp_path: Path, monkeypatch, caplog):
    caplog.set_level("INFO", "uvlm")
    monkeypatch.setattr(ClassificationTask, "evaluate", lambda self, batches: {"auroc": 0.5})
    config = with_loop(tiny_run("classification"), steps=50, validate_every=3, patience=2)
    config = replace(config, out=tmp_path / "run")
    bundle = train(config)
    assert sorted(validated(tmp_path / "run", "auroc")) == [3, 6, 9]
    assert "auroc was best (0.5000) at step 3" in caplog.text
    assert checkpoint(tmp_path / "run").name == "step-00000009"
    shutil.rmtree(bundle)
    assert train(config, resume=True) == bundle
    assert sorted(validated(tmp_path / "run", "auroc")) == [3, 6, 9]


def test_memory_that_runs_out_leaves_a_checkpoint_to_go_on_from_with_smaller_batches(
    tiny_run: Build, tmp_path: Path, monkeypatch
):
    config = tiny_run("classification")
    config = replace(
        config,
        data=replace(config.data, batch_size=4),
        optim=OptimConfig(name="sgd", lr=1e-3, encoder_lr=0.1),
    )
    straight = train(replace(config, out=tmp_path / "straight"))
    config = replace(config, out=tmp_path / "run")
    losses, calls = ClassificationTask.losses, iter(range(100))

    def exhausted(self, batch, counts=None):
        if next(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")
        return losses(self, batch, counts)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "losses", exhausted)
        with pytest.raises(MemoryExhaustedError, match=r"step 5 .*9.00 GiB.*--data\.batch-size"):
            train(config)
    assert checkpoint(tmp_path / "run").name == "step-00000004"
    smaller = replace(config, data=replace(config.data, batch_size=2))
    with pytest.raises(InputError, match=r"data\.batch_size 4, now it is 2"):
        train(smaller, resume=True)
    bundle = train(with_loop(smaller, accumulate=2, activation_checkpointing=True), resume=True)
    expected, got = weights(straight), weights(bundle)
    assert max((expected[name] - got[name]).abs().max() for name in got) < 1e-6


def test_activation_checkpointing_and_channels_last_change_no_result(
    tiny_run: Build, tmp_path: Path
):
    config = tiny_run("segmentation")
    config = replace(config, optim=OptimConfig(name="sgd", lr=1e-3))
    plain = weights(train(replace(config, out=tmp_path / "plain")), "segmentation")
    config = with_loop(config, activation_checkpointing=True, channels_last=True)
    thrifty = weights(train(replace(config, out=tmp_path / "thrifty")), "segmentation")
    assert max((plain[name] - thrifty[name]).abs().max() for name in plain) < 1e-5


@pytest.mark.parametrize("layers", [None, (), ((1, 2),)], ids=["paper", "none", "shallow"])
@pytest.mark.parametrize("reference", [-1, -2])
def test_no_trained_parameter_is_left_without_a_gradient(
    tiny_run: Build, tmp_path: Path, without_gradient, layers, reference
):
    config = tiny_run("report")
    injection = InjectionConfig(layers=layers, reference_stage=reference, hidden=16)
    assert isinstance(config.model, ReportConfig)
    config = replace(
        config,
        model=replace(config.model, injection=injection),
        data=replace(config.data, batch_size=1),
        optim=replace(config.optim, encoder_lr=1.0),
    )
    train(replace(with_loop(config, steps=1), out=tmp_path / "run"))
    assert without_gradient == []


def changed_catalog(folder: Path, old: str, new: str) -> None:
    catalog = folder / "catalog.csv"
    text = catalog.read_text()
    assert old in text
    catalog.write_text(text.replace(old, new))


@pytest.mark.parametrize("task", ["report", "joint"])
def test_a_report_that_changed_is_noticed_on_resuming(
    tiny_run: Build, tmp_path: Path, task: str, monkeypatch
):
    (tmp_path / "studies").mkdir()
    catalog = make_catalog(tmp_path / "studies")
    config = tiny_run(task)
    data = replace(config.data, catalog=(catalog,))
    config = replace(config, data=data, out=tmp_path / "run")
    interrupted(config, 3, monkeypatch)
    changed_catalog(tmp_path / "studies", "No nodule is seen", "No effusion is seen")
    with pytest.raises(InputError, match="written with studies, labels and reports"):
        train(config, resume=True)


def test_a_bundle_to_begin_with_that_changed_is_noticed_on_resuming(
    tiny_run: Build, tmp_path: Path, monkeypatch
):
    first = train(replace(tiny_run("segmentation"), out=tmp_path / "one"))
    other = train(replace(tiny_run("segmentation"), seed=5, out=tmp_path / "two"))
    config = replace(tiny_run("report"), init=first, out=tmp_path / "run")
    interrupted(config, 3, monkeypatch)
    shutil.rmtree(first)
    shutil.copytree(other, first)
    with pytest.raises(InputError, match="written with initial bundle"):
        train(config, resume=True)


def test_the_checkpoint_holds_what_trains_and_no_encoder_that_was_given(
    tiny_run: Build, tmp_path: Path
):
    first = train(replace(tiny_run("segmentation"), out=tmp_path / "one"))
    train(replace(tiny_run("report"), init=first, out=tmp_path / "two"))
    names = load_file(checkpoint(tmp_path / "two") / "model.safetensors").keys()
    assert names
    assert not any(name.startswith("encoder.") for name in names)


def test_settings_that_cannot_be_read_are_told(tiny_run: Build, tmp_path: Path):
    config = replace(tiny_run("classification"), out=tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"model": {"enc')
    with pytest.raises(InputError, match=r"config\.json: it cannot be read"):
        train(config, resume=True)


def test_settings_that_a_kill_left_unfinished_are_no_obstacle(tiny_run: Build, tmp_path: Path):
    config = replace(tiny_run("classification"), out=tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.123.tmp").write_text('{"model": {"enc')
    train(config, resume=True)
    assert not list((tmp_path / "run").glob("*.tmp"))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 0


def test_a_folder_that_a_killed_runs_other_processes_still_write_is_refused(
    tiny_run: Build, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("uvlm.training.run.LET_GO", 0.1)
    config = replace(tiny_run("classification"), out=tmp_path / "run")
    (tmp_path / "run").mkdir()
    with (
        lock(tmp_path / "run"),
        pytest.raises(CatalogError, match="another run is writing"),
    ):
        train(config, resume=True)
    train(config, resume=True)


def test_reports_alike_are_counted_during_training(tiny_run: Build, tmp_path: Path):
    config = with_loop(tiny_run("report"), steps=1, validate_reports=3)
    train(replace(config, out=tmp_path / "run"))
    assert validated(tmp_path / "run", "reports/identical")
    assert ReportTask.best_by == ("answer_ce", "min")


def test_whoever_may_read_the_folder_can_load_what_is_in_it(tiny_run: Build, tmp_path: Path):
    """Weights too: colleagues on a cluster resume and use what another has trained."""
    config = tiny_run("report")
    loop, optim = replace(config.loop, best=True), replace(config.optim, ema=0.9)
    before = os.umask(0o027)
    try:
        train(replace(config, loop=loop, optim=optim, out=tmp_path / "run"))
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"model.safetensors", "average-0.safetensors", "best.safetensors"} <= names
    assert [path for path in files if path.stat().st_mode & 0o777 != 0o640] == []
