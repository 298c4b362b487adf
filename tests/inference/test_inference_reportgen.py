"""The published command of report generation."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.inference.batch.in_process import use_no_processes
from tests.inference.bundle_factory import tiny_bundle, write_ct
from uvlm.inference import inference_reportgen
from uvlm.inference.batch.setup import Crew
from uvlm.inference.pipeline import Pipeline


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    use_no_processes(monkeypatch)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """As `uvlm_train` leaves it."""
    fold = tmp_path / "fold_0"
    bundle = tiny_bundle(fold / "bundle")
    weights = load_file(bundle / "model.safetensors")
    path = fold / "checkpoint_best.pth"
    torch.save({"network_weights": weights, "trainer_name": "nnUNetTrainer_UVLM"}, path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for name in ("x", "y", "z"):
        write_ct(tmp_path / f"{name}.nii.gz")
    path = tmp_path / "test.csv"
    path.write_text("name,path\nfirst,x.nii.gz\nsecond,y.nii.gz\nthird,z.nii.gz\n")
    return path


def command(table: Path, checkpoint: Path, *options: str) -> int:
    common = ["--csv-path", str(table), "--checkpoint-path", str(checkpoint)]
    return inference_reportgen.main([*common, "--max-new-tokens", "4", *options])


def test_a_checkpoint_writes_the_reports_of_a_table(table, checkpoint, capsys):
    options = ("--series-id-column", "name", "--debug-max-cases", "2")
    assert command(table, checkpoint, *options) == 0
    out = checkpoint.parent / "inference_report"
    with (out / "results.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["first", "second"]
    assert "2 of 2 studies have a report" in capsys.readouterr().out


def test_the_published_flags_reach_the_decoder(table, checkpoint, tmp_path, monkeypatch):
    seen = []

    def report(self, *args, **kwargs):
        seen.append(kwargs["options"])
        raise ValueError

    monkeypatch.setattr(Pipeline, "report", report)
    flags = ("--temperature", "0.5", "--top-p", "0.9", "--top-k", "7", "--random-seed", "3")
    rest = ("--debug-max-cases", "1", "--output-dir", str(tmp_path / "out"))
    assert command(table, checkpoint, *flags, *rest) == 1
    (options,) = seen
    assert (options.max_new_tokens, options.temperature, options.top_p) == (4, 0.5, 0.9)
    assert (options.top_k, options.seed) == (7, 3)


def test_gpus_are_workers(table, checkpoint, monkeypatch):
    seen = []

    def report_studies(items, out, setup, crew):
        seen.append(crew)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(inference_reportgen, "report_studies", report_studies)
    with pytest.raises(KeyboardInterrupt):
        command(table, checkpoint, "--gpu-config", "0:2,1:2")
    devices = ("cuda:0", "cuda:1", "cuda:0", "cuda:1")
    assert seen == [Crew(workers=4, devices=devices)]


def test_workers_are_on_the_processor_though_there_is_a_gpu(table, checkpoint, monkeypatch):
    seen = []

    def report_studies(items, out, setup, crew):
        seen.append((setup.device, crew))
        raise KeyboardInterrupt

    monkeypatch.setattr(inference_reportgen, "report_studies", report_studies)
    with pytest.raises(KeyboardInterrupt):
        command(table, checkpoint, "--workers", "2")
    assert seen == [("cpu", Crew(workers=2))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gpu-config", "0:2"), "Use --workers N"),
        (("--series-id-column", "id"), "no column 'id'"),
        (("--debug-max-cases", "0"), "at least 1"),
        (("--csv-path", "absent.csv"), "absent.csv: no such file"),
        (("--top-p", "7"), "top_p"),
    ],
)
def test_what_cannot_be_is_said_and_is_2(table, checkpoint, capsys, monkeypatch, options, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert command(table, checkpoint, *options) == 2
    assert message in capsys.readouterr().err
    assert not (checkpoint.parent / "inference_report").exists()
