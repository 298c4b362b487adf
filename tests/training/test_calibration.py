"""One temperature and a few limits, found on validation studies; none where they are too few."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_run import Build
from uvlm.models.bundle import load_bundle
from uvlm.models.bundle_files import Calibration, OperatingPoint, read_bundle_info
from uvlm.training import calibration as module
from uvlm.training.calibration import fit_calibration, operating_point
from uvlm.training.run import train


def drawn(studies: int = 400, sharper: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities, and logits `sharper` times too large."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (studies, 2))
    truth = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
    return truth, 1 / (1 + np.exp(-sharper * logits))


def test_the_temperature_undoes_too_much_certainty():
    found = fit_calibration(*drawn(), ("a", "b"))
    assert found.temperature == pytest.approx(2, rel=0.15)
    assert found.studies == 400
    assert [point.label for point in found.points] == ["a", "b"]
    assert found.point("b") is found.points[1]
    assert found.point("c") is None


def test_few_positives_lie_where_the_head_denies_and_few_negatives_where_it_is_confident():
    truth, probabilities = drawn(sharper=1.0)
    found = fit_calibration(truth, probabilities, ("a", "b"))
    logits = np.log(probabilities / (1 - probabilities)) / found.temperature
    values = 1 / (1 + np.exp(-logits))
    for point, labels, scores in zip(found.points, truth.T, values.T, strict=True):
        assert point.low < point.threshold <= point.high
        denied, sure = scores <= point.low, scores >= point.high - 1e-12
        assert labels[denied].sum() <= 0.05 * labels.sum()
        assert (labels[denied] == 0).sum() >= 0.25 * (labels == 0).sum()
        assert labels[sure].mean() >= 0.9
        assert (point.positives, point.studies) == (labels.sum(), 400)


def test_a_head_that_tells_nothing_is_not_asked():
    rng = np.random.default_rng(0)
    truth, values = (rng.random(500) < 0.1).astype(float), rng.random(500)
    point = operating_point("a", truth, values, 0.5)
    assert (point.low, point.high) == (None, None)


def test_a_class_with_few_positives_is_not_asked_and_one_without_has_no_threshold():
    truth = np.zeros((100, 2))
    truth[:9, 0] = 1
    probabilities = np.full((100, 2), 0.1)
    probabilities[:9, 0] = 0.9
    rare = operating_point("a", truth[:, 0], probabilities[:, 0], 0.9)
    assert rare == OperatingPoint(
        label="a", threshold=0.9, low=None, high=None, positives=9, studies=100
    )
    never = operating_point("b", truth[:, 1], probabilities[:, 1], float("nan"))
    assert (never.threshold, never.positives) == (None, 0)


def test_between_two_kinds_that_are_apart_the_head_does_not_judge():
    truth = np.r_[np.ones(20), np.zeros(80)]
    point = operating_point("a", truth, np.r_[np.full(20, 0.8), np.full(80, 0.1)], 0.8)
    assert (point.low, point.high) == (0.1, 0.8)


@pytest.mark.parametrize(("found", "other"), [(0.4, 0.1), (0.9, 0.6)])
def test_half_lies_between_denied_and_confident(found, other):
    truth = np.r_[np.ones(20), np.zeros(80)]
    values = np.r_[np.full(20, found), np.full(80, other)]
    point = operating_point("a", truth, values, found)
    assert point.low is None or point.low < 0.5
    assert point.high is None or point.high >= 0.5
    assert (point.low is None, point.high is None) == (other > 0.5, found < 0.5)


def test_unknown_labels_count_for_neither_kind():
    truth, probabilities = drawn()
    truth[:100, 0] = np.nan
    assert fit_calibration(truth, probabilities, ("a", "b")).points[0].studies == 300


@pytest.mark.parametrize(
    ("truth", "probabilities", "words"),
    [
        (np.zeros((50, 1)), np.full((50, 1), 0.2), "only 0 labels of one kind"),
        (np.full((50, 1), np.nan), np.full((50, 1), 0.2), "only 0 labels of one kind"),
        (np.r_[np.ones((9, 1)), np.zeros((9, 1))], np.full((18, 1), 0.2), "only 9 labels"),
        (np.r_[np.ones((50, 1)), np.zeros((50, 1))], None, "completely"),
    ],
)
def test_too_little_to_fit_is_none_with_a_warning(truth, probabilities, words, caplog):
    with caplog.at_level(logging.WARNING):
        given = truth * 0.98 + 0.01 if probabilities is None else probabilities
        assert fit_calibration(truth, given, ("a",)) is None
    assert words in caplog.text


@pytest.mark.parametrize("task", ["classification", "joint"])
def test_a_run_ends_with_one_pass_over_all_validation_studies(
    task: str, tiny_run: Build, tmp_path: Path, monkeypatch
):
    seen: list[np.ndarray] = []
    fitted = Calibration(temperature=2.0, studies=3, points=())

    def fit(truth: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]) -> Calibration:
        seen.append(probabilities)
        assert truth.shape == probabilities.shape == (len(truth), len(names))
        return fitted

    monkeypatch.setattr(module, "fit_calibration", fit)
    config = replace(tiny_run(task), out=tmp_path / "run")
    config = replace(config, loop=replace(config.loop, validate_studies=1))
    bundle = train(config)
    assert len(seen) == 1
    assert len(seen[0]) > 1
    parts = load_bundle(bundle).parts
    assert parts["classification"].calibration == fitted
    card = (bundle / "model_card.md").read_text()
    assert "calibrated on 3 validation studies, temperature 2.000" in card
    assert all(part.calibration is None for name, part in parts.items() if name == "report")
    # The same again from a run that was told to go on.
    (bundle / "config.json").unlink()
    for file in bundle.iterdir():
        file.unlink()
    bundle.rmdir()
    train(config, resume=True)
    np.testing.assert_array_equal(seen[0], seen[1])


def test_tiny_data_train_without_a_calibration(tiny_run: Build, tmp_path: Path):
    bundle = train(replace(tiny_run("classification"), out=tmp_path / "run"))
    assert read_bundle_info(bundle).parts["classification"].calibration is None


def test_a_bundle_of_before_has_none(tiny_run: Build, tmp_path: Path):
    from uvlm.models.bundle_files import write_checksums

    bundle = train(replace(tiny_run("classification"), out=tmp_path / "run"))
    content = json.loads((bundle / "config.json").read_text())
    del content["parts"]["classification"]["calibration"]
    (bundle / "config.json").write_text(json.dumps(content))
    (bundle / "checksums.json").unlink()
    write_checksums(bundle)
    assert load_bundle(bundle).parts["classification"].calibration is None
