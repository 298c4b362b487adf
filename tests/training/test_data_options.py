"""Whole runs with datasets that know different things, balanced, bucketed, and on two tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.data.toy_catalog import LABELS, SHAPE
from tests.training.conftest import ENCODER
from tests.training.processes import train_in_processes
from uvlm.data.config import DataConfig
from uvlm.errors import CatalogError, ConfigError
from uvlm.models.bundle import load_bundle
from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    JointConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.preprocessing.catalog import read_catalog, write_catalog
from uvlm.training import run as run_module
from uvlm.training.config import LossConfig, OptimConfig, RunConfig
from uvlm.training.run import train

TinyRun = Callable[[str], RunConfig]

JOINT = JointConfig(
    classification=ClassificationConfig(encoder=ENCODER, heads=2),
    report=ReportConfig(
        encoder=ENCODER,
        shape=SHAPE,
        decoder=DecoderConfig(vocab_size=300, layers=3, width=16, heads=2, ffn=32),
    ),
)


@pytest.fixture(scope="module")
def other(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy studies again under other names, with one label and one class of the toy's and one
    of their own."""
    whole = read_catalog(catalog)
    rows = tuple(
        replace(row, series_id=f"b{row.series_id}", patient_id=f"b{row.patient_id}")
        for row in whole.rows
    )
    path = tmp_path_factory.mktemp("other") / "catalog.csv"
    segmentation = {"vessel": 1, "organ": 2}
    labels = ("Stone", LABELS[0])
    write_catalog(replace(whole, path=path, labels=labels, segmentation=segmentation, rows=rows))
    return path


def joint_run(tiny_run: TinyRun, out: Path, **data: object) -> RunConfig:
    run = tiny_run("classification")
    loop = replace(run.loop, validate_reports=0)
    return replace(run, model=JOINT, data=replace(run.data, **data), loop=loop, out=out)


@pytest.mark.parametrize("task", ["segmentation", "classification", "joint"])
def test_datasets_that_differ_train_together_when_asked(
    tiny_run: TinyRun, catalog: Path, other: Path, tmp_path: Path, task: str
):
    run = joint_run(tiny_run, tmp_path / "run") if task == "joint" else tiny_run(task)
    data = replace(run.data, catalog=(catalog, other))
    run = replace(run, data=data, out=tmp_path / "run")
    with pytest.raises(CatalogError, match=r"--data\.partial"):
        train(run)
    bundle = load_bundle(train(replace(run, data=replace(data, partial=True))))
    for name, part in bundle.parts.items():
        if name == "segmentation":
            assert isinstance(part.config, SegmentationConfig)
            assert part.config.classes == ("organ", "lesion", "vessel")
        elif name == "classification":
            assert isinstance(part.config, ClassificationConfig)
            assert part.config.classes == (*LABELS, "Stone")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "joint"])
def test_what_studies_know_is_counted_over_processes(
    tiny_run: TinyRun, catalog: Path, other: Path, tmp_path: Path, task: str
):
    """A process whose studies know less than the other's weighs less; one that has both agrees."""
    run = joint_run(tiny_run, tmp_path) if task == "joint" else tiny_run(task)
    data = replace(run.data, catalog=(catalog, other), partial=True, balance=True)
    run = replace(run, optim=OptimConfig(name="sgd", lr=1e-3))
    whole = replace(run, data=replace(data, batch_size=2), out=tmp_path / "1")
    halves = replace(run, data=replace(data, batch_size=1), out=tmp_path / "2")
    train_in_processes(whole)
    train_in_processes(halves, processes=2)
    one, two = (load_file(r.out / "bundle" / "model.safetensors") for r in (whole, halves))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6


def test_a_joint_run_leaves_both_parts_over_one_encoder(tiny_run: TinyRun, tmp_path: Path):
    run = replace(joint_run(tiny_run, tmp_path / "run"), loss=LossConfig(report_weight=0.5))
    bundle = load_bundle(train(run))
    assert list(bundle.parts) == ["classification", "report"]
    labels, report = (bundle.modules[name] for name in ("classification", "report"))
    assert labels.get_submodule("encoder") is report.get_submodule("encoder")
    stored = load_file(bundle.path / "model.safetensors")
    assert [name for name in stored if name.startswith("report.encoder.")] == []
    metrics = bundle.parts["report"].metrics
    assert metrics["loss"] == pytest.approx((metrics["bce"] + 0.5 * metrics["answer_ce"]) / 2)


def test_a_joint_run_goes_on_from_a_segmentation_and_back_to_a_report(
    tiny_run: TinyRun, tmp_path: Path
):
    first = train(replace(tiny_run("segmentation"), out=tmp_path / "seg"))
    both = train(replace(joint_run(tiny_run, tmp_path / "joint"), init=first))
    last = train(replace(tiny_run("report"), init=both, out=tmp_path / "rep"))
    bundle = load_bundle(last)
    assert list(bundle.parts) == ["segmentation", "classification", "report"]
    before = load_bundle(both).modules["report"].get_submodule("encoder").state_dict()
    after = bundle.modules["report"].get_submodule("encoder").state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())


@pytest.mark.parametrize("data", [{"balance": True}, {"balance": True, "bucket": True}])
def test_a_killed_run_draws_on_as_it_would_have(
    tiny_run: TinyRun, tmp_path: Path, data: dict, monkeypatch
):
    whole = joint_run(tiny_run, tmp_path / "whole", **data)
    train(whole)

    broken = replace(whole, out=tmp_path / "broken")
    kept = run_module.fit

    def fit(task, batches, *rest, **named):
        def few():
            for number, batch in enumerate(batches):
                if number == 3:
                    raise KeyboardInterrupt
                yield batch

        kept(task, few(), *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "fit", fit)
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    train(broken, resume=True)
    one, two = (load_file(run.out / "bundle" / "model.safetensors") for run in (whole, broken))
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("classification", {"data": {"bucket": True}}, r"data\.bucket"),
        ("segmentation", {"data": {"bucket": True}}, r"data\.bucket"),
        ("segmentation", {"loss": {"label_smoothing": 0.1}}, r"loss\.label_smoothing"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tiny_run: TinyRun, task, change, message):
    run = tiny_run(task)
    data = DataConfig(**{**vars(run.data), **change.get("data", {})})
    loss = LossConfig(**change.get("loss", {}))
    with pytest.raises(ConfigError, match=message):
        replace(run, data=data, loss=loss)
