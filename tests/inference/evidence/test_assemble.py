"""A report put together with what it rests on, on tiny bundles, and what that costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.inference.bundle_factory import chest_array, tiny_bundle, tiny_spec, write_ct
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.evidence import assemble as module
from uvlm.inference.evidence import lesions, midline
from uvlm.inference.evidence.assemble import (
    assemble,
    believable_lesions,
    doubted_lesions,
    recognised_labels,
)
from uvlm.inference.evidence.heat import stages_needed
from uvlm.inference.evidence.types import CLASS_METHOD, DECODER_METHOD, HeatMap
from uvlm.inference.findings import Findings
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.predict import Prediction
from uvlm.inference.study import Study
from uvlm.models.bundle_files import Calibration, OperatingPoint, Part
from uvlm.models.encoder import Encoder
from uvlm.models.low_bit import lower
from uvlm.models.uvlm import ReportModel

TEXT = (
    "Findings: There is a nodule of 8 mm in the left upper lobe. There is no pleural effusion. "
    "Impression: Lung nodule."
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def pipeline(bundle: Path) -> Pipeline:
    return Pipeline.load(bundle, device="cpu")


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ct(tmp_path_factory.mktemp("ct") / "case.nii.gz")


def written(pipeline: Pipeline, study: Study, text: str = TEXT) -> Prediction:
    """A prediction as if the decoder had written `text`."""
    part = pipeline.bundle.parts["report"]
    model = pipeline.bundle.modules["report"]
    assert isinstance(model, ReportModel)
    result = pipeline._predictor.predict(
        lambda task: study.input_for(part.our_spec, task),
        pipeline.tasks,
        GenerateOptions(max_new_tokens=2),
        None,
        keep=stages_needed(model),
    )
    assert result.written is not None
    ids = pipeline.bundle.tokenizer.encode(text)  # type: ignore[union-attr]
    result.text, result.written = text, replace(result.written, ids=ids)
    return result


def test_only_sentences_that_state_something_present_are_looked_into(pipeline, ct):
    study = pipeline.read(ct)
    evidence = assemble(pipeline.bundle, study, written(pipeline, study))
    assert [s.heat is not None for s in evidence.sentences] == [True, False, True]
    for sentence in evidence.sentences[::2]:
        assert sentence.heat.peak is not None
        peak_mm = study.volume.affine @ [*sentence.heat.peak[::-1], 1]
        apart = np.abs(peak_mm[:3] - sentence.heat.peak_mm)
        assert (apart <= np.array(study.volume.spacing[::-1])).all()


def test_neither_volume_nor_encoder_is_asked_again(pipeline, ct, monkeypatch):
    study = pipeline.read(ct)
    prediction = written(pipeline, study)
    monkeypatch.setattr("uvlm.inference.study.read_volume", None)
    monkeypatch.setattr("uvlm.inference.study.prepare", None)
    monkeypatch.setattr(Encoder, "each_stage", None)
    assert assemble(pipeline.bundle, study, prediction).sentences


def test_nothing_stated_takes_no_heat_map(pipeline, ct, monkeypatch):
    study = pipeline.read(ct)
    prediction = written(pipeline, study, "The lungs are clear.")
    monkeypatch.setattr(module, "sentence_heat_maps", None)
    assert assemble(pipeline.bundle, study, prediction).sentences[0].heat is None


def test_an_empty_report_has_evidence_too(pipeline, ct):
    study = pipeline.read(ct)
    evidence = assemble(pipeline.bundle, study, written(pipeline, study, ""))
    assert evidence.sentences == ()


def warm(place: tuple[slice, slice, slice], method: str = CLASS_METHOD) -> Any:
    """In place of `sentence_heat_maps`: all heat in `place` of 8 x 8 x 8 cells."""

    def heat_maps(bundle: Any, prediction: Any, spans: Any, stated: Any) -> list[HeatMap]:
        spec_hash = bundle.parts["report"].our_spec.hash
        values = np.zeros((8, 8, 8), np.float32)
        values[place] = 1 / values[place].size
        return [HeatMap(values=values, spec_hash=spec_hash, method=method) for _ in spans]

    return heat_maps


LEFT = (slice(3, 5), slice(3, 5), slice(6, 7))
RIGHT = (slice(3, 5), slice(3, 5), slice(1, 2))


@pytest.fixture
def recognised(monkeypatch):
    """The class head finds nodules in every study."""
    monkeypatch.setattr(module, "recognised_labels", lambda *_: ("Lung nodule",))


@pytest.mark.parametrize(("place", "kinds"), [(LEFT, []), (RIGHT, ["side"])])
@pytest.mark.parametrize("flipped", [False, True])
def test_heat_on_the_other_side_is_a_contradiction(
    pipeline, tmp_path, monkeypatch, recognised, place, kinds, flipped
):
    ct = write_ct(tmp_path / "case.nii.gz", chest_array())
    if flipped:  # the same patient, stored from right to left
        nib.save(nib.as_closest_canonical(nib.load(ct)), ct)
    study = pipeline.read(ct)
    prediction = written(pipeline, study, "There is a nodule in the left lung.")
    monkeypatch.setattr(module, "sentence_heat_maps", warm(place))
    evidence = assemble(pipeline.bundle, study, prediction)
    assert [c.kind for c in evidence.contradictions] == kinds
    x_mm = evidence.sentences[0].heat.peak_mm[0]
    middle = study.volume.affine @ [*(np.array(study.volume.shape[::-1]) / 2), 1]
    assert (x_mm > middle[0]) == (place == LEFT)


@pytest.mark.parametrize("axes", [(0, 1), (0, 2)], ids=["about z", "about y"])
def test_heat_in_an_oblique_scan_lies_where_it_is_in_the_patient(
    pipeline, tmp_path, monkeypatch, recognised, axes
):
    ct = write_ct(tmp_path / "case.nii.gz")
    image = nib.load(ct)
    turned = np.eye(4)
    angle = np.deg2rad(20)
    turned[np.ix_(axes, axes)] = [
        [np.cos(angle), -np.sin(angle)],
        [np.sin(angle), np.cos(angle)],
    ]
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), turned @ image.affine), ct)
    study = pipeline.read(ct)
    prediction = written(pipeline, study, "There is a nodule in the left lung.")
    centre = (study.volume.affine @ [*(np.array(study.volume.shape[::-1]) - 1) / 2, 1])[0]
    for end in (0, 7):  # a column of cells that crosses the middle
        cells = [slice(3, 5), slice(3, 5), slice(3, 4) if end else slice(4, 5)]
        cells[1 if axes == (0, 1) else 0] = slice(end, end + 1)
        monkeypatch.setattr(module, "sentence_heat_maps", warm(tuple(cells)))
        evidence = assemble(pipeline.bundle, study, prediction)
        on_left = evidence.sentences[0].heat.peak_mm[0] > centre
        assert [c.kind for c in evidence.contradictions] == ([] if on_left else ["side"]), end


def test_heat_of_what_the_head_does_not_recognise_disputes_no_side(pipeline, ct, monkeypatch):
    study = pipeline.read(ct)
    prediction = written(pipeline, study, "There is a nodule in the left lung.")
    monkeypatch.setattr(module, "sentence_heat_maps", warm(RIGHT))
    assert assemble(pipeline.bundle, study, prediction).contradictions == ()


@pytest.mark.parametrize(
    ("metrics", "points", "probability", "expected"),
    [
        ({"auroc/A": 0.8}, None, 0.5, True),
        ({"auroc/A": 0.8}, None, 0.49, False),
        ({"auroc/A": 0.79}, (0.3, 0.1, 0.9), 0.99, False),
        ({"auroc/A": None}, None, 0.99, False),
        ({"auroc/A": float("nan")}, None, 0.99, False),
        ({"auroc/A": 0.9}, (0.3, None, None), 0.3, True),
        ({"auroc/A": 0.9}, (0.3, None, None), 0.29, False),
        ({}, (0.3, 0.1, None), 0.3, True),
        ({}, (0.3, None, 0.9), 0.3, True),
        ({}, (0.3, None, None), 0.99, False),
        ({}, None, 0.99, False),
    ],
)
def test_a_head_recognises_what_it_told_apart_in_validation_and_finds_here(
    pipeline, metrics, points, probability, expected
):
    calibration = None
    if points is not None:
        threshold, low, high = points
        point = OperatingPoint(
            label="A", threshold=threshold, low=low, high=high, positives=20, studies=50
        )
        calibration = Calibration(temperature=1.0, studies=50, points=(point,))
    part = replace(
        pipeline.bundle.parts["classification"], metrics=metrics, calibration=calibration
    )
    assert recognised_labels(part, {"A": probability}) == (("A",) if expected else ())
    assert recognised_labels(None, {"A": probability}) == ()


def test_lesions_are_held_against_the_grid_the_segmentation_saw(pipeline, ct, monkeypatch):
    study = pipeline.read(ct)
    prediction = written(pipeline, study)
    prediction.labels = np.zeros(tiny_spec().shape, np.uint8)
    mask = study.on_own_grid(prediction.labels, tiny_spec())
    held: list[Any] = []
    monkeypatch.setattr(module, "contradictions_of", lambda s, w: held.append(w) or ())
    middles: list[int] = []
    find = midline.midline_of
    for place in (lesions, module):
        monkeypatch.setattr(place, "midline_of", lambda *a: middles.append(1) or find(*a))
    assemble(pipeline.bundle, study, prediction, mask)
    extent = np.array(study.volume.shape) * study.volume.spacing
    assert held[0].spacing_mm == pytest.approx((extent / tiny_spec().shape).max(), rel=1e-6)
    assert len(middles) == 1


def test_heat_of_the_decoder_disputes_no_side(pipeline, ct, monkeypatch, recognised):
    study = pipeline.read(ct)
    prediction = written(pipeline, study, "There is a nodule in the left lung.")
    monkeypatch.setattr(module, "sentence_heat_maps", warm(RIGHT, DECODER_METHOD))
    assert assemble(pipeline.bundle, study, prediction).contradictions == ()


def test_heat_falls_in_structures_of_the_mask(pipeline, ct, monkeypatch):
    study = pipeline.read(ct)
    prediction = written(pipeline, study)
    prediction.labels = np.zeros(tiny_spec().shape, np.uint8)
    prediction.labels[:, :, 16:] = 2
    mask = study.on_own_grid(prediction.labels, tiny_spec())
    monkeypatch.setattr(module, "sentence_heat_maps", warm(LEFT))
    evidence = assemble(pipeline.bundle, study, prediction, mask)
    (place,) = evidence.sentences[0].places
    assert place.structure == "heart"
    assert place.share == pytest.approx(1, abs=1e-4)


def test_a_mask_prepared_in_another_way_gives_the_same_places(pipeline, ct, monkeypatch):
    study = pipeline.read(ct)
    prediction = written(pipeline, study)
    prediction.labels = np.zeros(tiny_spec().shape, np.uint8)
    prediction.labels[:, :, 16:] = 2
    mask = study.on_own_grid(prediction.labels, tiny_spec())
    parts = pipeline.bundle.parts
    other = replace(parts["segmentation"], spec=tiny_spec((16, 32, 32)))
    monkeypatch.setitem(parts, "segmentation", other)
    monkeypatch.setattr(module, "sentence_heat_maps", warm(LEFT))
    (place,) = assemble(pipeline.bundle, study, prediction, mask).sentences[0].places
    assert (place.structure, round(place.share, 2)) == ("heart", 1.0)


def with_metrics(part: Part, **dice: float | None) -> Part:
    config = replace(part.config, classes=("lung", "lung_nodule"))  # type: ignore[type-var]
    return replace(part, config=config, metrics={f"dice/{k}": v for k, v in dice.items()})


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ({}, True),
        ({"lung_nodule": 0.5}, True),
        ({"lung_nodule": 0.1}, False),
        ({"lung_nodule": None}, False),
    ],
)
def test_a_lesion_class_that_validation_did_not_find_is_not_believed(pipeline, dice, expected):
    part = with_metrics(pipeline.bundle.parts["segmentation"], **dice)
    assert believable_lesions(part) == (("lung_nodule",) if expected else ())
    assert (set(doubted_lesions(part)) == {"lung_nodule"}) is not expected
    assert believable_lesions(None) == ()
    assert doubted_lesions(None) == {}


def test_a_doubt_says_how_well_a_class_was_found(pipeline):
    part = pipeline.bundle.parts["segmentation"]
    low = doubted_lesions(with_metrics(part, lung_nodule=0.014))
    assert low == {"lung_nodule": "hardly found in validation (Dice 0.01)"}
    unseen = doubted_lesions(with_metrics(part, lung_nodule=None))
    assert unseen == {"lung_nodule": "never seen in validation"}


def calibrated(pipeline: Pipeline, temperature: float) -> None:
    part = pipeline.bundle.parts["classification"]
    points = tuple(
        OperatingPoint(label=label, threshold=0.5, low=1.0, high=None, positives=9, studies=99)
        for label in part.labels
    )
    calibration = Calibration(temperature=temperature, studies=99, points=points)
    pipeline.bundle.parts["classification"] = replace(part, calibration=calibration)


def test_calibration_reaches_probabilities_and_contradictions(pipeline, ct):
    before = pipeline.report(ct)
    calibrated(pipeline, 4.0)
    study = pipeline.read(ct)
    after = pipeline.report(study)
    assert (before.calibrated, after.calibrated) == (False, True)
    assert after.to_dict()["calibrated"] is True
    for name, p in before.probabilities.items():
        logit = np.log(p / (1 - p)) / 4
        assert after.probabilities[name] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    assert pipeline.classify(ct).probabilities == pytest.approx(after.probabilities)
    evidence = assemble(pipeline.bundle, study, written(pipeline, study))
    assert [(c.kind, c.sentence) for c in evidence.contradictions] == [("denied", 0), ("denied", 2)]


def test_the_pipeline_carries_evidence_unless_told_not_to(pipeline, ct, tmp_path):
    findings = pipeline.report(ct)
    assert findings.evidence is not None
    assert [s.text for s in findings.evidence.sentences] == list(findings.sentences)
    assert findings.timings["evidence"] > 0
    content = json.loads(findings.write(tmp_path / "a").json.read_text())
    assert len(content["evidence"]["sentences"]) == len(findings.sentences)
    bare = pipeline.report(ct, evidence=False)
    assert bare.evidence is None
    assert "evidence" not in bare.timings
    assert bare.generated == findings.generated
    assert json.loads(bare.write(tmp_path / "b").json.read_text())["evidence"] is None


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_narrow_weights_give_heat_maps_too(pipeline, ct, precision):
    study = pipeline.read(ct)
    prediction = written(
        pipeline, study, "A nodule."
    )  # fewer tokens than a product of 8 bits takes
    before = assemble(pipeline.bundle, study, prediction).sentences[0].heat
    lower(pipeline.bundle.modules["report"].decoder, precision)
    after = assemble(pipeline.bundle, study, prediction).sentences[0].heat
    assert np.corrcoef(before.values.ravel(), after.values.ravel())[0, 1] > 0.9


def test_a_bundle_of_a_report_part_alone_has_evidence(tmp_path, ct):
    pipeline = Pipeline.load(tiny_bundle(tmp_path / "b", tasks=("report",)), device="cpu")
    study = pipeline.read(ct)
    evidence = assemble(pipeline.bundle, study, written(pipeline, study))
    assert evidence.sentences[0].findings[0].probability is None
    assert (evidence.lesions, evidence.doubted) == ((), {})
    assert isinstance(pipeline.report(study), Findings)
