"""A whole run: what it writes, that resuming changes nothing, and what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from uvlm.errors import BundleError, CatalogError, ConfigError, InputError, TrainingDivergedError
from uvlm.models.bundle import load_bundle
from uvlm.models.bundle_files import Split
from uvlm.training.config import RunConfig
from uvlm.training.hooks import ProgressBar
from uvlm.training.run import train
from uvlm.training.tasks.classification import ClassificationTask

TASKS = ("segmentation", "classification", "report")
Build = Callable[[str], RunConfig]


def weights(bundle: Path, part: str) -> dict[str, Tensor]:
    return load_bundle(bundle).modules[part].state_dict()


class Killed(Exception):
    pass


def kill_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the run in step `step`, before its checkpoint."""
    show = ProgressBar.__call__

    def show_then_die(self: ProgressBar, at: int, scalars: dict[str, float]) -> None:
        show(self, at, scalars)
        if at == step:
            raise Killed

    monkeypatch.setattr(ProgressBar, "__call__", show_then_die)


@pytest.mark.parametrize("task", TASKS)
def test_a_killed_and_resumed_run_ends_with_the_same_weights(
    task: str, tiny_run: Build, tmp_path: Path, monkeypatch
):
    config = tiny_run(task)
    straight = train(replace(config, out=tmp_path / "straight"))
    broken = replace(config, out=tmp_path / "broken")
    with monkeypatch.context() as patch:
        kill_after(5, patch)
        with pytest.raises(Killed):
            train(broken)
    assert [p.name for p in (tmp_path / "broken" / "checkpoint").iterdir()] == ["step-00000004"]
    torch.manual_seed(99)
    resumed = train(broken, resume=True)
    expected, got = weights(straight, task), weights(resumed, task)
    assert expected.keys() == got.keys()
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "straight")


def test_resuming_is_exact_with_accumulation_and_loader_processes(
    tiny_run: Build, tmp_path: Path, monkeypatch
):
    config = tiny_run("classification")
    config = replace(
        config,
        data=replace(config.data, workers=1),
        loop=replace(config.loop, accumulate=2, validate_every=6),
    )
    straight = train(replace(config, out=tmp_path / "straight"))
    broken = replace(config, out=tmp_path / "broken")
    with monkeypatch.context() as patch:
        kill_after(5, patch)
        with pytest.raises(Killed):
            train(broken)
    resumed = train(broken, resume=True)
    expected, got = weights(straight, "classification"), weights(resumed, "classification")
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "straight")


def log_of(out: Path) -> dict[tuple[str, str], str]:
    """(step, name) -> value, without what a clock decides; no row twice."""
    with (out / "log.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] != "seconds"]
    log = {(row["step"], row["name"]): row["value"] for row in rows}
    assert len(log) == len(rows)
    return log


def test_three_tasks_end_in_one_bundle_that_shares_the_frozen_encoder(
    tiny_run: Build, tmp_path: Path
):
    bundle = None
    for task in TASKS:
        bundle = train(replace(tiny_run(task), init=bundle, out=tmp_path / task))
    assert bundle is not None
    loaded = load_bundle(bundle)
    assert tuple(loaded.parts) == TASKS
    assert loaded.modules["report"].encoder is loaded.modules["classification"].encoder
    assert loaded.modules["segmentation"].encoder is not loaded.modules["report"].encoder
    segmentation = weights(tmp_path / "segmentation" / "bundle", "segmentation")
    assert all(
        torch.equal(value, segmentation[name])
        for name, value in loaded.modules["segmentation"].state_dict().items()
    )
    assert {part.split for part in loaded.parts.values()} == {Split(val_fraction=0.3)}
    part = loaded.parts["report"]
    assert (part.region, part.spec.shape) == ("chest", (8, 16, 16))
    assert part.trained_on.startswith("toy (")
    assert part.metrics["answer_ce"] > 0
    handover = json.loads((tmp_path / "report" / "handover.json").read_text())
    assert handover["source"] == "classification"
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.vocab_size == part.config.decoder.vocab_size


def test_another_share_of_validation_patients_than_the_bundles_is_refused(
    tiny_run: Build, tmp_path: Path
):
    first = train(replace(tiny_run("segmentation"), out=tmp_path / "one"))
    config = tiny_run("classification")
    config = replace(config, data=replace(config.data, val_fraction=0.4), init=first)
    with pytest.raises(ConfigError, match=r"--data.val-fraction 0\.3"):
        train(replace(config, out=tmp_path / "two"))
    assert not (tmp_path / "two").exists()


def test_the_folder_holds_log_picture_board_and_configuration(tiny_run: Build, tmp_path: Path):
    out = tmp_path / "run"
    train(replace(tiny_run("classification"), out=out))
    log = log_of(out)
    assert {name for _, name in log} >= {"loss", "lr", "grad_norm", "val/auroc", "val/bce"}
    assert [step for step, name in log if name == "val/bce"] == ["3", "6"]
    assert (out / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert list((out / "tensorboard").glob("events*"))
    assert json.loads((out / "config.json").read_text())["loop"]["steps"] == 6


def test_a_frozen_encoder_stays_as_it_was_handed_over(tiny_run: Build, tmp_path: Path):
    first = train(replace(tiny_run("segmentation"), out=tmp_path / "one"))
    second = train(replace(tiny_run("report"), init=first, out=tmp_path / "two"))
    before = load_bundle(first).modules["segmentation"].encoder.state_dict()
    after = load_bundle(second).modules["report"].encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_folder_in_use_is_refused_and_left_alone(tiny_run: Build, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        train(replace(tiny_run("segmentation"), out=tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_that_cannot_begin_leaves_no_folder(tiny_run: Build, tmp_path: Path):
    config = tiny_run("segmentation")
    data = replace(config.data, shape=(16, 16, 16))
    with pytest.raises(CatalogError):
        train(replace(config, data=data, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_does_not_fit_leaves_no_folder(tiny_run: Build, tmp_path: Path):
    first = train(replace(tiny_run("classification"), out=tmp_path / "one"))
    config = tiny_run("segmentation")
    model = replace(config.model, encoder=replace(config.model.encoder, blocks=(1, 2, 1)))
    with pytest.raises(BundleError, match="blocks"):
        train(replace(config, model=model, init=first, out=tmp_path / "two"))
    assert not (tmp_path / "two").exists()


def test_half_precision_without_a_gpu_is_refused(tiny_run: Build, tmp_path: Path):
    config = tiny_run("classification")
    loop = replace(config.loop, precision="fp16", device="cpu")
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        train(replace(config, loop=loop, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_frozen_encoder_that_was_never_trained_is_warned_of(
    tiny_run: Build, tmp_path: Path, caplog
):
    train(replace(tiny_run("report"), out=tmp_path / "run"))
    assert "frozen but untrained" in caplog.text


def test_a_file_as_output_folder_is_refused(tiny_run: Build, tmp_path: Path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="it is a file"):
        train(replace(tiny_run("report"), out=tmp_path / "run"))


def test_resuming_with_other_settings_is_refused(tiny_run: Build, tmp_path: Path):
    config = replace(tiny_run("classification"), out=tmp_path / "run")
    train(config)
    with pytest.raises(InputError, match="seed 0, now it is 1"):
        train(replace(config, seed=1), resume=True)


def test_resuming_a_finished_run_returns_its_bundle(tiny_run: Build, tmp_path: Path):
    config = replace(tiny_run("classification"), out=tmp_path / "run")
    bundle = train(config)
    before = (bundle / "checksums.json").read_bytes()
    assert train(config, resume=True) == bundle
    assert (bundle / "checksums.json").read_bytes() == before


def test_resuming_where_nothing_was_saved_starts_anew_and_says_so(
    tiny_run: Build, tmp_path: Path, caplog
):
    with caplog.at_level("INFO", logger="uvlm"):
        assert train(replace(tiny_run("report"), out=tmp_path / "new"), resume=True).is_dir()
    assert "no run to go on with" in caplog.text
    assert "report: 6 steps over" in caplog.text


def test_no_output_folder_is_refused(tiny_run: Build):
    with pytest.raises(ConfigError, match=r"--out"):
        train(tiny_run("report"))


def test_classes_other_than_the_catalogs_are_refused(tiny_run: Build, tmp_path: Path):
    config = tiny_run("segmentation")
    model = replace(config.model, classes=("spleen",))
    with pytest.raises(ConfigError, match="spleen"):
        train(replace(config, model=model, out=tmp_path / "run"))


def test_a_diverging_run_names_step_and_series_and_keeps_its_checkpoint(
    tiny_run: Build, tmp_path: Path, monkeypatch
):
    losses = ClassificationTask.losses
    calls = iter(range(100))

    def breaks_at_the_fourth(self, batch, counts=None):
        result = losses(self, batch, counts)
        return {"loss": result["loss"] * float("nan")} if next(calls) == 3 else result

    monkeypatch.setattr(ClassificationTask, "losses", breaks_at_the_fourth)
    out = tmp_path / "run"
    with pytest.raises(TrainingDivergedError, match=r"step 4, for series toy_\d+_1, toy_\d+_1"):
        train(replace(tiny_run("classification"), out=out))
    assert [p.name for p in (out / "checkpoint").iterdir()] == ["step-00000002"]


def test_a_rate_that_only_rises_is_warned_of(
    tiny_run: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    config = tiny_run("classification")
    optim = replace(config.optim, warmup=config.loop.steps)
    train(replace(config, optim=optim, out=tmp_path / "run"))
    assert f"the learning rate only rises: --optim.warmup {config.loop.steps}" in caplog.text
