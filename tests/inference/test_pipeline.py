"""Study in, findings out: one grid, one encoding, the same result twice, and honest refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import uvlm
from tests.inference.bundle_factory import (
    CLASSES,
    SHAPE,
    chest_array,
    tiny_bundle,
    tiny_spec,
    write_ct,
)
from uvlm.errors import BundleError, ConfigError, ImageError
from uvlm.imaging.nifti import read_nifti
from uvlm.imaging.preprocess import prepare, preset
from uvlm.imaging.store import meta_of, write_store
from uvlm.inference import predict
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.decoding.stopping import Candidate
from uvlm.inference.guided.abstain import Distance
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.predict import Predictor
from uvlm.models.lean import LeanEncoder
from uvlm.registry import CT_RATE_LABELS

SHORT = GenerateOptions(max_new_tokens=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "all")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Pipeline:
    return uvlm.load(folder, device="cpu")


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ct(tmp_path_factory.mktemp("ct") / "chest.nii.gz")


@pytest.fixture(scope="module")
def findings(pipeline: Pipeline, ct: Path):
    return pipeline.report(ct, options=GenerateOptions(max_new_tokens=20))


def test_a_report_holds_every_part(findings):
    assert findings.study == "chest"
    assert tuple(findings.probabilities) == CT_RATE_LABELS
    assert all(0 <= p <= 1 for p in findings.probabilities.values())
    assert isinstance(findings.generated, str)
    assert findings.classes == {name: i for i, name in enumerate(CLASSES, start=1)}
    assert [m.name for m in findings.measures] == list(CLASSES)


def test_the_mask_lies_on_the_inputs_grid(findings, ct, tmp_path):
    image, mask = nib.load(ct), nib.load(findings.write(tmp_path).mask)
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)


def test_the_same_study_gives_the_same_findings(pipeline, ct, findings):
    again = pipeline.report(ct, options=GenerateOptions(max_new_tokens=20))
    first, second = findings.to_dict(), again.to_dict()
    first.pop("timings"), second.pop("timings")
    assert first == second
    np.testing.assert_array_equal(findings.mask, again.mask)


def test_a_stream_and_a_prompt_of_ones_own_write_as_a_report_does(pipeline, ct, findings):
    options = GenerateOptions(max_new_tokens=20)
    assert "".join(pipeline.stream(ct, options=options)).strip() == findings.generated
    prompt = pipeline.bundle.prompt
    assert pipeline.answers(ct, [prompt, prompt], options=options) == [findings.generated] * 2
    assert pipeline.answers(ct, [], options=options) == []


def test_the_manifest_says_what_was_read_and_by_what(findings, pipeline):
    manifest = findings.manifest
    assert manifest["input"] == "chest.nii.gz"
    assert len(manifest["sha256"]) == 64
    assert manifest["geometry"] == {
        "shape": [40, 64, 64],
        "spacing_mm": [9.0, 6.0, 6.0],
        "orientation": "LPS",
    }
    assert set(manifest["preprocessing"].values()) == {tiny_spec().hash}
    assert manifest["bundle"] == pipeline.bundle.fingerprint
    assert manifest["uvlm"] == uvlm.__version__


def test_every_step_is_timed(findings):
    steps = {"read", "prepare", "encode", "classify", "generate", "segment", "restore", "evidence"}
    assert set(findings.timings) == steps


def test_parts_that_share_an_encoder_run_it_once(pipeline, ct, monkeypatch):
    runs: list[object] = []
    plain = LeanEncoder.each_stage
    monkeypatch.setattr(
        LeanEncoder, "each_stage", lambda self, x: runs.append(self) or plain(self, x)
    )
    pipeline.report(ct, options=GenerateOptions(max_new_tokens=1))
    assert len(runs) == 1


def test_one_encoding_gives_what_single_parts_give(pipeline, ct, findings):
    assert pipeline.classify(ct).probabilities == pytest.approx(findings.probabilities)
    np.testing.assert_array_equal(pipeline.segment(ct).mask, findings.mask)


def test_prepared_arrays_give_what_files_give(pipeline, ct, findings):
    prepared = prepare(read_nifti(ct), tiny_spec())
    result = pipeline.predict_prepared(
        prepared.normalised(), options=GenerateOptions(max_new_tokens=20)
    )
    assert result.text == findings.generated
    assert result.probabilities == pytest.approx(findings.probabilities)
    assert result.labels.shape == SHAPE
    array = prepared.normalised()
    assert pipeline.classify_prepared(array) == pytest.approx(findings.probabilities)
    np.testing.assert_array_equal(pipeline.segment_prepared(array), result.labels)
    assert pipeline.report_prepared(array).startswith(findings.generated[:5])


def test_a_report_cut_at_its_limit_says_so(pipeline, ct):
    note = "The report reached its length limit and ends early."
    assert note in pipeline.report(ct, options=GenerateOptions(max_new_tokens=1)).notes


def test_another_body_region_is_flagged_on_top(tmp_path, ct):
    pipeline = uvlm.load(tiny_bundle(tmp_path / "bundle", region="abdomen"), device="cpu")
    findings = pipeline.report(ct, options=GenerateOptions(max_new_tokens=5))
    assert "chest" in findings.flags[0]
    assert "abdomen" in findings.flags[0]
    assert findings.report.startswith("WARNING: Another body region")
    assert findings.to_dict()["warnings"][0] == findings.flags[0]


@pytest.mark.parametrize("evidence", [True, False])
def test_reasons_for_review_do_not_hang_on_the_evidence(pipeline, ct, monkeypatch, evidence):
    far = Distance(value=9.0, limit=5.0, rate=0.01)
    monkeypatch.setattr(Predictor, "_distance", lambda *a: far)
    study = pipeline.read(ct)
    study = replace(study, audit=replace(study.audit, region="chest", warnings=()))
    (reason,) = pipeline.report(study, options=SHORT, evidence=evidence).review
    assert "distance 9.0" in reason
    assert pipeline.classify(ct).review == ()


def test_a_region_that_is_flagged_is_no_second_reason(pipeline, ct):
    study = pipeline.read(ct)
    study = replace(study, audit=replace(study.audit, region="abdomen", warnings=()))
    found = pipeline.report(study, options=SHORT, evidence=False)
    assert "abdomen" in found.flags[0]
    assert found.review == ()


def test_load_hands_on_all_options(folder):
    pipeline = uvlm.load(folder, "cpu", task="report", precision="int8")
    assert (pipeline.tasks, pipeline.precision) == (("report",), "int8")
    with pytest.raises(ConfigError, match="nonsense"):
        uvlm.load(folder, "cpu", runtime="nonsense")


def test_the_models_own_region_is_not_flagged(findings):
    assert findings.flags == ()


def test_a_bundle_without_segmentation_reports_and_says_so(tmp_path, ct):
    folder = tiny_bundle(tmp_path / "bundle", ("classification", "report"))
    findings = uvlm.load(folder, device="cpu").report(ct, options=GenerateOptions(max_new_tokens=5))
    assert findings.mask is None
    assert findings.to_dict()["mask"] is None
    assert "The model has no segmentation part, so there is no mask." in findings.notes


@pytest.mark.parametrize(
    ("tasks", "missing"),
    [(("segmentation",), "report"), (("segmentation",), "classification")],
)
def test_a_part_the_bundle_lacks_is_named_with_those_it_has(tmp_path, ct, tasks, missing):
    pipeline = uvlm.load(tiny_bundle(tmp_path / "bundle", tasks), device="cpu")
    call = {"report": pipeline.report, "classification": pipeline.classify}[missing]
    with pytest.raises(BundleError, match=f"no {missing} part; it holds segmentation"):
        call(ct)


def test_a_bundle_without_report_refuses_before_reading(tmp_path):
    pipeline = uvlm.load(tiny_bundle(tmp_path / "bundle", ("segmentation",)), device="cpu")
    with pytest.raises(BundleError):
        pipeline.report(tmp_path / "absent.nii.gz")


@pytest.mark.parametrize("device", ["gpu7", "cuda:99", "meta"])
def test_a_device_that_cannot_compute_is_refused(folder, device):
    with pytest.raises(ConfigError, match="not available"):
        Pipeline.load(folder, device=device)


@pytest.fixture
def stored(ct: Path, tmp_path: Path) -> Path:
    prepared = prepare(read_nifti(ct), tiny_spec())
    write_store(tmp_path / "chest.b2nd", prepared.array, meta_of(prepared))
    return tmp_path / "chest.b2nd"


def test_a_prepared_file_gives_what_its_source_gives(pipeline, stored, findings):
    again = pipeline.report(stored, options=GenerateOptions(max_new_tokens=20))
    assert again.generated == findings.generated
    assert again.probabilities == pytest.approx(findings.probabilities)
    assert again.mask.shape == SHAPE


def test_a_file_prepared_otherwise_is_refused_with_both_hashes(pipeline, ct, tmp_path):
    other = preset("authors", shape=SHAPE)
    prepared = prepare(read_nifti(ct), other)
    write_store(tmp_path / "chest.b2nd", prepared.array, meta_of(prepared))
    with pytest.raises(BundleError) as error:
        pipeline.report(tmp_path / "chest.b2nd")
    assert other.hash in str(error.value)
    assert tiny_spec().hash in str(error.value)


def test_a_prepared_file_without_metadata_warns(pipeline, tmp_path):
    blosc2 = pytest.importorskip("blosc2")
    values = chest_array(SHAPE).astype(np.float32)
    array = (values - values.mean()) / values.std()
    blosc2.save_array(array, str(tmp_path / "scan.b2nd"), mode="w")
    findings = pipeline.report(tmp_path / "scan.b2nd", options=GenerateOptions(max_new_tokens=3))
    assert any("preprocessing" in note for note in findings.notes)
    assert findings.flags == ()


def test_a_prepared_file_of_another_shape_is_refused(pipeline, tmp_path):
    blosc2 = pytest.importorskip("blosc2")
    blosc2.save_array(chest_array((16, 32, 32)), str(tmp_path / "scan.b2nd"), mode="w")
    with pytest.raises(ImageError, match=r"\(16, 32, 32\)"):
        pipeline.report(tmp_path / "scan.b2nd")


def test_arrays_of_another_shape_are_refused(pipeline):
    with pytest.raises(ValueError, match="shape"):
        pipeline.report_prepared(np.zeros((16, 16, 16), np.float32))


def test_the_bundle_on_disk_is_left_as_it_was(folder, pipeline, findings):
    assert Pipeline.load(folder, device="cpu").bundle.fingerprint == pipeline.bundle.fingerprint


def test_parts_with_other_preprocessing_are_each_given_theirs(pipeline, ct, findings):
    part = pipeline.bundle.parts["segmentation"]
    other = replace(part, spec=tiny_spec((32, 32, 48)))
    bundle = replace(pipeline.bundle, parts={**pipeline.bundle.parts, "segmentation": other})
    mixed = Pipeline(bundle, pipeline.device).report(ct, options=GenerateOptions(max_new_tokens=20))
    assert mixed.generated == findings.generated
    assert mixed.mask.shape == findings.mask.shape
    assert len(set(mixed.manifest["preprocessing"].values())) == 2


def test_heat_of_a_sentence_lies_on_the_inputs_own_grid(pipeline, ct, monkeypatch):
    study = pipeline.read(ct)
    text = "There is a nodule in the left lung. The heart is of normal size."
    made = Candidate(ids=pipeline.bundle.tokenizer.encode(text), text=text)
    monkeypatch.setattr(predict, "write", lambda *_, **__: [made])
    found = pipeline.report(study)
    nodule, heart = (found.heat_map(index) for index in range(2))
    assert nodule.shape == found.mask.shape
    assert np.isfinite(nodule).all()
    assert nodule.max() > 0
    assert heart is None


def test_the_manifest_says_how_the_report_was_written(pipeline, ct, findings):
    assert findings.manifest["generation"] == {"max_new_tokens": 20}
    drawn = GenerateOptions(max_new_tokens=3, temperature=0.5, seed=4)
    made = pipeline.report(ct, options=drawn, evidence=False).manifest["generation"]
    assert made == {"max_new_tokens": 3, "temperature": 0.5, "seed": 4}
    assert "generation" not in pipeline.classify(ct).manifest
