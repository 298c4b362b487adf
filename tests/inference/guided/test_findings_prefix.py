"""A model that is told the findings is told them alike in training and inference."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.inference.bundle_factory import tiny_bundle, tiny_spec, write_ct
from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.data.dataset import Draw, StudyDataset
from uvlm.errors import BundleError
from uvlm.imaging.preprocess import prepare
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import meta_of, write_store
from uvlm.inference import predict as module
from uvlm.inference.decoding.stopping import Candidate
from uvlm.inference.pipeline import Pipeline
from uvlm.models.bundle import load_bundle, save_bundle
from uvlm.models.bundle_files import Calibration, OperatingPoint
from uvlm.preprocessing.catalog import Row
from uvlm.registry import CT_RATE_LABELS
from uvlm.text.prompts import build_example, findings_sentence

SPEC = tiny_spec()


def told_bundle(folder: Path, *, spacing: bool = False, tasks=("classification", "report")) -> Path:
    """As `tiny_bundle`, its report part told the findings."""
    plain = load_bundle(tiny_bundle(folder / "plain", tasks))
    part = plain.parts["report"]
    config = replace(part.config, findings=True, spacing=spacing)
    parts = plain.parts | {"report": replace(part, config=config)}
    return save_bundle(folder / "told", parts, plain.modules, plain.tokenizer, plain.prompt)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return told_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_ct(tmp_path / "ct.nii.gz")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Prompts that inference gives the decoder."""
    seen: list[list[int]] = []

    def remember(model, plan, prompts, options, **rest):
        seen.extend(list(prompt) for prompt in prompts)
        return [Candidate(ids=[5, 6], text="Clear lungs.")]

    monkeypatch.setattr(module, "write", remember)
    return seen


def training_prompt(bundle: Path, image: Path, present: list[str], *, spacing: bool) -> list[int]:
    """What a training step without dropout gives the decoder before the answer."""
    loaded = load_bundle(bundle)
    labels = tuple(float(name in present) for name in CT_RATE_LABELS)
    row = Row(
        series_id="s", case_id="s", patient_id="s", split=None, image=image, mask=None,
        labels=labels, report="Clear lungs.",
    )  # fmt: skip
    data = DataConfig(
        shape=SPEC.shape,
        augment=AugmentConfig(spatial=False, intensity=False),
        findings_hidden=0.0,
        findings_flipped=0.0,
    )
    dataset = StudyDataset(
        [row],
        data,
        SPEC,
        need=("report",),
        encode=partial(build_example, loaded.tokenizer, loaded.prompt),
        train=True,
        spacing=spacing,
        findings=CT_RATE_LABELS,
    )
    sample = dataset[Draw(0, 0)]
    return sample["tokens"][: int(sample["answer"].int().argmax())].tolist()


def present_in(pipeline: Pipeline, ct: Path, threshold: float = 0.5) -> list[str]:
    found = pipeline.classify(ct).probabilities or {}
    return [name for name, p in found.items() if p >= threshold]


@pytest.mark.parametrize("spacing", [False, True])
def test_training_and_inference_build_the_same_prompt(tmp_path, ct, asked, spacing):
    bundle = told_bundle(tmp_path, spacing=spacing)
    made = prepare(read_volume(ct), SPEC)
    write_store(tmp_path / "ct.b2nd", made.array, meta_of(made))
    pipeline = Pipeline.load(bundle, device="cpu")
    present = present_in(pipeline, ct)
    assert 0 < len(present) < len(CT_RATE_LABELS), "a bundle that tells something"
    expected = training_prompt(bundle, tmp_path / "ct.b2nd", present, spacing=spacing)
    assert findings_sentence(present) in load_bundle(bundle).tokenizer.decode(expected)
    pipeline.report(ct, evidence=False)
    pipeline.report_prepared(made.normalised(), grid=made.grid)
    assert asked == [expected] * 2


def test_a_bundle_s_thresholds_decide_what_is_told(tmp_path, bundle, ct, asked):
    loaded = load_bundle(bundle)
    found = Pipeline.load(bundle, device="cpu").classify(ct).probabilities
    sure = max(found, key=found.get)
    points = tuple(
        OperatingPoint(
            label=name, threshold=0.0 if name == sure else 1.0, low=None, high=None, positives=9,
            studies=20,
        )
        for name in CT_RATE_LABELS
    )  # fmt: skip
    head = loaded.parts["classification"]
    calibrated = replace(head, calibration=Calibration(temperature=1.0, studies=20, points=points))
    parts = loaded.parts | {"classification": calibrated}
    other = save_bundle(
        tmp_path / "calibrated", parts, loaded.modules, loaded.tokenizer, loaded.prompt
    )
    Pipeline.load(other, device="cpu").report(ct, evidence=False)
    assert findings_sentence([sure]) in loaded.tokenizer.decode(asked[0])


def test_a_report_asked_alone_runs_the_class_head_too(bundle, asked):
    pipeline = Pipeline.load(bundle, device="cpu")
    array = np.random.default_rng(0).normal(size=SPEC.shape).astype(np.float32)
    both = pipeline.predict_prepared(array)
    alone = pipeline.predict_prepared(array, ("report",))
    assert alone.probabilities == both.probabilities
    assert asked[0] == asked[1]


def test_a_model_that_is_not_told_sees_the_plain_prompt(tmp_path, ct, asked):
    plain = tiny_bundle(tmp_path / "plain", ("classification", "report"))
    Pipeline.load(plain, device="cpu").report(ct, evidence=False)
    loaded = load_bundle(plain)
    assert asked == [build_example(loaded.tokenizer, loaded.prompt).ids]


def test_a_bundle_without_class_head_is_refused_before_anything_is_computed(tmp_path, asked):
    array = np.zeros(SPEC.shape, np.float32)
    alone = told_bundle(tmp_path, tasks=("report",))
    with pytest.raises(BundleError, match="no classification part"):
        Pipeline.load(alone, device="cpu").report_prepared(array)
    assert asked == []
