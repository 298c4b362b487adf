"""Impossible networks are refused when written, and configurations survive JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.models.tiny import DECODER, ENCODER, REPORT, SHAPE
from tests.models.tiny_packed import INJECTED, PACKED, TOWER, UNET_PACKED
from uvlm.config import config_hash, from_dict, to_dict
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


def packed(**changes: Any) -> ReportConfig:
    assert PACKED.packer is not None
    return replace(PACKED, packer=replace(PACKED.packer, **changes))


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
    (lambda: replace(PACKED, injection=InjectionConfig()), r"set injection.layers to \(\)"),
    (lambda: packed(kernel=(1, 3, 1)), r"\(1, 3, 1\) does not divide a grid of \(2, 4, 4\)"),
    (lambda: packed(stages=(1, 3)), r"different ones of 1 to 2, got \(1, 3\)"),
    (lambda: packed(stages=(1, 1)), "different ones"),
    (lambda: packed(shared=True), r"one width; those are \{1: 8, 2: 12\}"),
    (lambda: replace(PACKED, mask="authors", markers="bos"), 'needs markers "both"'),
    (lambda: replace(PACKED, markers="bos", vision_start_id=50), "vocabulary"),
    (lambda: replace(PACKED, shape=(4, 16, 32)), "takes volumes of"),
    (lambda: replace(INJECTED, injection=InjectionConfig(layers=((1, 3),))), "stages 1 to 2"),
]


@pytest.mark.parametrize(("build", "message"), IMPOSSIBLE)
def test_impossible_configurations_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_markers_must_be_known_before_they_are_used() -> None:
    with pytest.raises(ConfigError, match="the tokenizer has both"):
        _ = ReportConfig().marker_ids


@pytest.mark.parametrize(
    "config",
    [
        REPORT,
        injecting((2, 4), (5, 1)),
        injecting(),
        PACKED,
        INJECTED,
        replace(UNET_PACKED, markers="none"),
        replace(REPORT, encoder=TOWER, shape=TOWER.shape),
    ],
)
def test_a_configuration_survives_json(config: ReportConfig) -> None:
    assert from_dict(ReportConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("config", "digest"), [(ReportConfig(), "99c9ffe4af6aabf2"), (REPORT, "5a073367bb95658c")]
)
def test_what_was_added_later_leaves_hashes_as_they_were(config: ReportConfig, digest: str) -> None:
    assert config_hash(config) == digest


def test_markers_are_those_that_are_asked_for() -> None:
    kinds = {kind: replace(PACKED, markers=kind) for kind in ("both", "bos", "none")}
    assert {kind: c.marker_ids for kind, c in kinds.items()} == {
        "both": (3, 4),
        "bos": (3,),
        "none": (),
    }
    assert [(c.opening, c.closing) for c in kinds.values()] == [(1, 1), (1, 0), (0, 0)]
    assert [c.before_text for c in kinds.values()] == [18, 17, 16]
    with pytest.raises(ConfigError, match='set markers to "none"'):
        _ = replace(kinds["bos"], vision_start_id=None).marker_ids


def test_visual_tokens_are_the_regions_of_all_packed_stages() -> None:
    assert (PACKED.num_visual_tokens, PACKED.token_grid) == (16, (2, 2, 2))
    assert PACKED.stages_used == (1, 2)
    assert packed(stages=(2,)).num_visual_tokens == 8
    assert UNET_PACKED.num_visual_tokens == 32 + 4
    with pytest.raises(ConfigError, match="no one grid"):
        _ = UNET_PACKED.token_grid


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"features": [4, 8], "stride": [1, 2]}, "did you mean 'strides'"),
        ({"shape": [4, 16, 16], "patch": [3, 4, 4]}, "not a multiple of the patch"),
        ({"volume": None, "slices": None}, "at least one of volume and slices"),
    ],
)
def test_an_encoder_is_refused_as_the_kind_that_was_meant(
    encoder: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(ReportConfig, {"encoder": encoder})


def test_reference_stage_counts_from_either_end() -> None:
    def grid(reference: int) -> tuple[int, int, int]:
        return ReportConfig(
            encoder=ENCODER, shape=SHAPE, injection=InjectionConfig(reference_stage=reference)
        ).token_grid

    assert grid(-1) == grid(4) == (2, 2, 4)
    assert grid(-2) == grid(3) == (4, 4, 8)
