"""Impossible networks are refused when written, and configurations survive JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.models.tiny import DECODER, ENCODER, REPORT, SHAPE
from uvlm.config import from_dict, to_dict
from uvlm.errors import ConfigError
from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    EncoderConfig,
    InjectionConfig,
    ReportConfig,
    SegmentationConfig,
)


def injecting(*layers: tuple[int, int]) -> ReportConfig:
    return ReportConfig(
        encoder=ENCODER, shape=SHAPE, decoder=DECODER, injection=InjectionConfig(layers=layers)
    )


IMPOSSIBLE: list[tuple[Callable[[], object], str]] = [
    (lambda: EncoderConfig(features=(4, 8), strides=(1,), blocks=(1, 1)), "one entry per stage"),
    (lambda: EncoderConfig(features=(4,), strides=(1,), blocks=(1,)), "at least two stages"),
    (lambda: EncoderConfig(features=(4, 0), strides=(1, 2), blocks=(1, 1)), "positive"),
    (lambda: SegmentationConfig(convs_per_stage=0), "convs_per_stage"),
    (lambda: SegmentationConfig(classes=("lung", "heart", "lung")), "repeated: lung"),
    (lambda: ClassificationConfig(classes=("a", "a")), "repeated: a"),
    (lambda: ClassificationConfig(heads=3), "must divide"),
    (lambda: DecoderConfig(width=30, heads=4), "even multiple"),
    (lambda: DecoderConfig(layers=0), "positive"),
    (lambda: injecting((1, 5)), "stage 5 before layer 1 is impossible"),
    (lambda: injecting((6, 1)), "stage 1 before layer 6 is impossible"),
    (lambda: injecting((0, 1)), "impossible"),
    (lambda: injecting((1, 4), (1, 3)), "only one stage"),
    (
        lambda: ReportConfig(
            encoder=ENCODER, shape=SHAPE, injection=InjectionConfig(reference_stage=5)
        ),
        "reference_stage must be 1..4",
    ),
    (
        lambda: ReportConfig(
            encoder=ENCODER, shape=SHAPE, injection=InjectionConfig(reference_stage=0)
        ),
        "reference_stage must be 1..4",
    ),
    (lambda: ReportConfig(encoder=ENCODER, shape=(16, 16, 20)), "not divisible by 8"),
    (lambda: ReportConfig(decoder=DECODER, vision_start_id=50, vision_end_id=4), "vocabulary"),
    (lambda: ReportConfig(decoder=DECODER, vision_start_id=4, vision_end_id=4), "different"),
]


@pytest.mark.parametrize(("build", "message"), IMPOSSIBLE)
def test_impossible_configurations_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_markers_must_be_known_before_they_are_used() -> None:
    with pytest.raises(ConfigError, match="the tokenizer has both"):
        _ = ReportConfig().marker_ids


@pytest.mark.parametrize("config", [REPORT, injecting((2, 4), (5, 1)), injecting()])
def test_a_configuration_survives_json(config: ReportConfig) -> None:
    assert from_dict(ReportConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_reference_stage_counts_from_either_end() -> None:
    def grid(reference: int) -> tuple[int, int, int]:
        return ReportConfig(
            encoder=ENCODER, shape=SHAPE, injection=InjectionConfig(reference_stage=reference)
        ).token_grid

    assert grid(-1) == grid(4) == (2, 2, 4)
    assert grid(-2) == grid(3) == (4, 4, 8)
