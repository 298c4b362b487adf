"""The encoder passes from task to task whole, or not at all."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.test_bundle import (
    CLASSIFICATION,
    REPORT_CONFIG,
    SEGMENTATION,
    SPEC,
    TOKENIZER,
    make_part,
)
from tests.models.tiny import ENCODER
from uvlm.errors import BundleError, ConfigError
from uvlm.models.bundle import Bundle, load_bundle, save_bundle
from uvlm.models.bundle_files import Part, Split
from uvlm.models.config import JointConfig
from uvlm.models.handover import check_split, load_encoder
from uvlm.models.joint import JointModel
from uvlm.models.tower_config import SliceEncoderConfig
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    torch.manual_seed(0)
    parts = {
        "segmentation": make_part("segmentation", SEGMENTATION),
        "classification": make_part("classification", CLASSIFICATION),
    }
    modules = {
        "segmentation": SegmentationModel(SEGMENTATION),
        "classification": ClassificationModel(CLASSIFICATION),
    }
    return load_bundle(save_bundle(tmp_path / "bundle", parts, modules, TOKENIZER))


def test_every_tensor_is_copied_and_counted(bundle: Bundle) -> None:
    target = ReportModel(REPORT_CONFIG)
    record = load_encoder(target, bundle, SPEC)
    source = bundle.modules["classification"].encoder.state_dict()
    copied = target.encoder.state_dict()
    assert all(torch.equal(copied[key], value) for key, value in source.items())
    assert record.tensors == len(source) == len(copied)
    assert record.values == sum(p.numel() for p in target.encoder.parameters())
    assert (record.fingerprint, record.differences) == (bundle.fingerprint, ())


@pytest.mark.parametrize("part", ["segmentation", "classification"])
def test_the_part_can_be_named(bundle: Bundle, part: str) -> None:
    target = ReportModel(REPORT_CONFIG)
    assert load_encoder(target, bundle, SPEC, part=part).source == part
    given = bundle.modules[part].encoder.state_dict()
    assert all(torch.equal(v, given[k]) for k, v in target.encoder.state_dict().items())


def test_the_last_trained_part_is_the_default(bundle: Bundle) -> None:
    assert load_encoder(ReportModel(REPORT_CONFIG), bundle, SPEC).source == "classification"


def test_training_on_leaves_the_bundle_as_it_was(bundle: Bundle) -> None:
    target = ReportModel(REPORT_CONFIG)
    load_encoder(target, bundle, SPEC)
    before = [p.clone() for p in bundle.modules["classification"].encoder.parameters()]
    for p in target.encoder.parameters():
        p.data.add_(1)
    after = bundle.modules["classification"].encoder.parameters()
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_other_preprocessing_is_warned_of_and_recorded(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    spec = replace(SPEC, antialias=False, shape=(32, 32, 32))
    with caplog.at_level(logging.WARNING):
        record = load_encoder(ReportModel(REPORT_CONFIG), bundle, spec)
    assert record.differences == (
        "shape is (16, 16, 32) there, (32, 32, 32) here",
        "antialias is True there, False here",
    )
    assert [r.getMessage().split(": ")[-1] for r in caplog.records] == list(record.differences)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": (4, 6, 8, 10)}, r"features is \(4, 6, 8, 8\) there, \(4, 6, 8, 10\) here"),
        ({"strides": (2, 2, 2, 1)}, "strides is"),
        ({"blocks": (1, 1, 1, 1)}, "blocks is"),
    ],
)
def test_another_encoder_is_refused_even_where_all_shapes_fit(
    bundle: Bundle, change: dict[str, tuple[int, ...]], message: str
) -> None:
    encoder = replace(ENCODER, **change)  # type: ignore[arg-type]
    target = SegmentationModel(replace(SEGMENTATION, encoder=encoder))
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(BundleError, match=message):
        load_encoder(target, bundle, SPEC)
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


def test_a_part_the_bundle_lacks_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no report part.*segmentation, classification"):
        load_encoder(ReportModel(REPORT_CONFIG), bundle, SPEC, part="report")


def with_splits(bundle: Bundle, *splits: Split | None) -> Bundle:
    pairs = zip(bundle.parts.items(), splits, strict=True)
    return replace(bundle, parts={name: replace(part, split=s) for (name, part), s in pairs})


def test_the_validation_patients_of_every_part_are_kept(bundle: Bundle, caplog) -> None:
    split = Split(val_fraction=0.2)
    check_split(with_splits(bundle, split, split), split)
    assert caplog.text == ""


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_other_validation_patients_are_refused(bundle: Bundle, fraction: float) -> None:
    given = with_splits(bundle, Split(val_fraction=0.2), Split(val_fraction=fraction))
    with pytest.raises(ConfigError, match=r"segmentation part.*--data.val-fraction 0\.2"):
        check_split(given, Split(val_fraction=fraction))


def test_a_part_trained_on_held_out_splits_is_refused(bundle: Bundle) -> None:
    split = Split(val_fraction=0.2)
    given = with_splits(bundle, split, replace(split, held_out=("test",)))
    with pytest.raises(ConfigError, match="classification part left out the splits test"):
        check_split(given, split)


def test_a_part_that_does_not_say_its_split_is_warned_of(bundle: Bundle, caplog) -> None:
    check_split(with_splits(bundle, None, Split(val_fraction=0.2)), Split(val_fraction=0.2))
    assert "its segmentation part does not say" in caplog.text


def test_a_2d_encoder_was_validated_on_nobody(bundle: Bundle, caplog) -> None:
    split = Split(val_fraction=0.2)
    slices = Part(
        task="slices", config=SliceEncoderConfig(), spec=None, region="chest", trained_on="-"
    )
    given = with_splits(bundle, split, split)
    check_split(replace(given, parts={**given.parts, "slices": slices}), split)
    assert caplog.text == ""
    assert "classification" not in caplog.text


def test_a_joint_model_takes_the_encoder_once_for_both_parts(bundle: Bundle) -> None:
    config = JointConfig(classification=CLASSIFICATION, report=REPORT_CONFIG)
    target = JointModel(config)
    record = load_encoder(target, bundle, SPEC)
    assert record.tensors == len(target.encoder.state_dict())
    given = bundle.modules["classification"].encoder.state_dict()
    for part in (target.classification, target.report):
        found = part.encoder.state_dict()
        assert all(torch.equal(found[key], value) for key, value in given.items())


def test_volumes_prepared_by_nnunet_are_told_as_a_difference(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    parts = {name: replace(part, spec=None) for name, part in bundle.parts.items()}
    unknown = replace(bundle, parts=parts)
    with caplog.at_level(logging.WARNING):
        record = load_encoder(ReportModel(REPORT_CONFIG), unknown, SPEC)
    assert record.differences == ("the volumes were prepared by nnU-Net there",)
    assert "prepared by nnU-Net" in caplog.text
    assert load_encoder(ReportModel(REPORT_CONFIG), unknown, None).differences == ()
