"""A run that cannot fit says so, and which settings would help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from uvlm.errors import ConfigError
from uvlm.training.estimate import estimate
from uvlm.training.fitting import Room, check_fits, check_here, knobs, room
from uvlm.training.recipes import recipe

PLENTY = Room(device="cuda", memory_gb=1000.0, host_gb=1000.0, disk_gb=1000.0)


def test_a_run_that_fits_passes_silently() -> None:
    assert check_fits(recipe("classification"), PLENTY) == ()


def test_a_run_far_too_large_is_refused_with_both_numbers_and_a_way_out() -> None:
    config = recipe("classification")
    needed = estimate(config).memory_gb
    small = replace(PLENTY, memory_gb=0.6 * needed)
    with pytest.raises(ConfigError) as refused:
        check_fits(config, small)
    text = str(refused.value)
    assert f"{needed:.1f} GB of GPU memory are needed, {0.6 * needed:.1f} GB are free" in text
    assert "--data.batch-size 1 --loop.accumulate 2" in text
    assert "would fit" in text


def test_what_is_advised_does_fit() -> None:
    config = recipe("classification")
    small = replace(PLENTY, memory_gb=0.6 * estimate(config).memory_gb)
    best = min((k.config for k in knobs(config)), key=lambda c: estimate(c).memory_gb)
    assert check_fits(best, small) == ()


def test_advice_is_for_what_is_scarce() -> None:
    config = recipe("classification")
    small = replace(PLENTY, host_gb=0.6 * estimate(config).host_gb)
    with pytest.raises(ConfigError, match=r"With --data\.workers 2 it would fit: .* main memory"):
        check_fits(config, small)


def test_within_the_error_of_the_prediction_it_is_only_warned() -> None:
    config = recipe("classification")
    tight = replace(PLENTY, memory_gb=0.9 * estimate(config).memory_gb)
    (warning,) = check_fits(config, tight)
    assert "may not fit" in warning


def test_a_full_disk_is_refused() -> None:
    with pytest.raises(ConfigError, match="of disk are needed"):
        check_fits(recipe("classification"), replace(PLENTY, disk_gb=0.1))


def test_what_nobody_knows_refuses_nothing() -> None:
    unknown = Room(device="cuda", memory_gb=None, host_gb=None, disk_gb=None)
    assert check_fits(recipe("ct_rate/seg_fl-cls-rep+q4b_full"), unknown) == ()


@pytest.mark.parametrize(
    "name", ["classification", "report", "joint", "ct_rate/seg_fl-cls-rep+q4b_full"]
)
def test_no_setting_named_costs_memory(name: str) -> None:
    config = recipe(name)
    found = list(knobs(config))
    assert found
    for knob in found:
        assert estimate(knob.config).memory_gb <= estimate(config).memory_gb, knob.option


def test_smaller_batches_keep_the_studies_of_a_step() -> None:
    config = recipe("classification")
    (knob,) = (k for k in knobs(config) if "batch-size" in k.option)
    before = config.data.batch_size * config.loop.accumulate
    assert knob.config.data.batch_size * knob.config.loop.accumulate == before


def test_this_machine_has_room_for_a_tiny_run(tmp_path: Path) -> None:
    config = replace(recipe("tiny_classification"), out=tmp_path / "deep" / "run")
    assert (room(config, "cpu").disk_gb or 0) > 0
    check_here(config, "cpu", 1)


def test_sharded_weights_are_left_to_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uvlm.training.fitting.available_gb", lambda: 0.1)
    config = recipe("classification")
    with pytest.raises(ConfigError, match="does not fit"):
        check_here(config, "cpu", 1)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    check_here(config, "cpu", 1)
