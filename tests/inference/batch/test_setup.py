"""Workers as they are asked for, and what makes two runs the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.inference.bundle_factory import tiny_bundle
from uvlm.errors import BundleError, ConfigError
from uvlm.inference.batch.setup import Crew, Setup, gpu_crew, parse_gpus
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.models.bundle import read_bundle_info


def test_two_workers_each_on_two_gpus():
    assert parse_gpus("0:2,1:2") == ("cuda:0", "cuda:1", "cuda:0", "cuda:1")


def test_a_gpu_without_a_number_has_one_worker():
    assert parse_gpus(" 3 , 1:2", available=4) == ("cuda:3", "cuda:1", "cuda:1")


@pytest.mark.parametrize(
    ("text", "available", "message"),
    [
        ("", None, "'' is not GPU:WORKERS"),
        ("0:2;1:2", None, "'0:2;1:2' is not GPU:WORKERS"),
        ("0:x", None, "not GPU:WORKERS"),
        ("0:0", None, "GPU 0 with no worker"),
        ("0:1,0:2", None, "GPU 0 twice"),
        ("0:2,1:2", 0, "no GPU on this machine. Use --workers N"),
        ("0:2,1:2", 1, "there is no GPU 1, only GPU 0"),
        ("0,2,9", 2, "there is no GPU 2, 9, only GPUs 0 to 1"),
    ],
)
def test_what_cannot_be_is_said(text, available, message):
    with pytest.raises(ConfigError, match=message):
        parse_gpus(text, available)


def test_the_gpus_of_this_machine_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpu_crew("0:2") == Crew(workers=2, devices=("cuda:0", "cuda:0"))
    with pytest.raises(ConfigError, match="no GPU 1"):
        gpu_crew("1")


def test_no_worker_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Crew(workers=0)


def test_the_identity_is_the_bundle_and_how_reports_are_written(tmp_path):
    setup = Setup(bundle=tiny_bundle(tmp_path / "bundle"), options=GenerateOptions(stop=("x",)))
    identity = setup.identity()
    assert identity["bundle"] == read_bundle_info(setup.bundle).fingerprint
    assert (identity["max_new_tokens"], identity["stop"]) == (512, ["x"])
    assert replace(setup, device="cuda:1").identity() == identity
    quicker = GenerateOptions(stop=("x",), speculative=False)
    assert replace(setup, options=quicker).identity() == identity
    assert replace(setup, series="2").identity() != identity


def test_a_checkpoint_is_known_by_its_bytes(tmp_path):
    path = tmp_path / "checkpoint_best.pth"
    path.write_bytes(b"1")
    before = Setup(bundle=path).identity()
    path.write_bytes(b"2")
    assert Setup(bundle=path).identity() != before


def test_a_bundle_that_writes_no_reports_is_refused_unread(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle", ("segmentation",))
    with pytest.raises(BundleError, match="no report part; it holds segmentation"):
        Setup(bundle=bundle).identity()
    with pytest.raises(BundleError, match="absent"):
        Setup(bundle=Path("absent")).identity()
