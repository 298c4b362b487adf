"""A model that is told the study's own voxel size is told the same in training and inference."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import blosc2
import nibabel as nib
import numpy as np
import pytest

from tests.inference.bundle_factory import chest_array, tiny_bundle, tiny_spec, write_ct
from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.data.dataset import Draw, StudyDataset
from uvlm.errors import BundleError, CatalogError
from uvlm.imaging.preprocess import prepare
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import meta_of, read_store, write_store
from uvlm.inference import predict as module
from uvlm.inference.decoding.stopping import Candidate
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.study import read_study
from uvlm.models.bundle import load_bundle, save_bundle
from uvlm.preprocessing.catalog import Row
from uvlm.text.prompts import build_example

SPEC = tiny_spec()
SENTENCE = "Voxels 6.00 x 6.00 x 9.00 mm, volume 384 x 384 x 360 mm."


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_bundle`, its report part told the spacing."""
    folder = tmp_path_factory.mktemp("bundles")
    plain = load_bundle(tiny_bundle(folder / "plain", ("classification", "report")))
    part = plain.parts["report"]
    parts = plain.parts | {"report": replace(part, config=replace(part.config, spacing=True))}
    modules = dict(plain.modules)
    return save_bundle(folder / "told", parts, modules, plain.tokenizer, plain.prompt)


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_ct(tmp_path / "ct.nii.gz")


@pytest.fixture
def prepared(tmp_path: Path, ct: Path) -> Path:
    made = prepare(read_volume(ct), SPEC)
    write_store(tmp_path / "ct.b2nd", made.array, meta_of(made))
    return tmp_path / "ct.b2nd"


def row_of(image: Path) -> Row:
    return Row(
        series_id="s",
        case_id="s",
        patient_id="s",
        split=None,
        image=image,
        mask=None,
        labels=(),
        report="Clear lungs.",
    )


def training_prompt(bundle: Path, image: Path) -> list[int]:
    """What a training step gives the decoder before the answer."""
    loaded = load_bundle(bundle)
    dataset = StudyDataset(
        [row_of(image)],
        DataConfig(shape=SPEC.shape, augment=AugmentConfig(spatial=False, intensity=False)),
        SPEC,
        need=("report",),
        encode=partial(build_example, loaded.tokenizer, loaded.prompt),
        spacing=True,
    )
    sample = dataset[Draw(0, 0)]
    return sample["tokens"][: int(sample["answer"].int().argmax())].tolist()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Prompts that inference gives the decoder."""
    seen: list[list[int]] = []

    def remember(model, plan, prompts, options, **rest):
        seen.extend(list(prompt) for prompt in prompts)
        return [Candidate(ids=[5, 6], text="Clear lungs.")]

    monkeypatch.setattr(module, "write", remember)
    return seen


def test_training_and_inference_build_the_same_prompt(bundle, ct, prepared, asked):
    pipeline = Pipeline.load(bundle, device="cpu")
    expected = training_prompt(bundle, prepared)
    assert SENTENCE in load_bundle(bundle).tokenizer.decode(expected)
    pipeline.report(ct, evidence=False)
    pipeline.report(prepared, evidence=False)
    made = prepare(read_volume(ct), SPEC)
    pipeline.predict_prepared(made.normalised(), grid=made.grid)
    pipeline.report_prepared(made.normalised(), grid=made.grid)
    assert asked == [expected] * 4


def test_a_model_that_is_not_told_sees_the_plain_prompt(tmp_path, ct, asked):
    plain = tiny_bundle(tmp_path / "plain")
    Pipeline.load(plain, device="cpu").report(ct, evidence=False)
    loaded = load_bundle(plain)
    assert asked == [build_example(loaded.tokenizer, loaded.prompt).ids]


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (1, 0, 2)])
def test_the_sentence_follows_the_patient_not_the_file(tmp_path, axes):
    """The same study stored with its axes in another order."""
    image = nib.Nifti1Image(chest_array().transpose(2, 1, 0), np.diag([-5.0, -7.0, 9.0, 1.0]))
    image.header.set_xyzt_units("mm")
    turned = image.as_reoriented(nib.io_orientation(np.eye(4)[[*axes, 3]]))
    nib.save(turned, tmp_path / "turned.nii.gz")
    expected = "Voxels 5.00 x 7.00 x 9.00 mm, volume 320 x 448 x 360 mm."
    assert read_study(tmp_path / "turned.nii.gz").spacing(SPEC) == expected


def test_what_does_not_know_its_spacing_is_refused(tmp_path, bundle, prepared, asked):
    bare = tmp_path / "bare.b2nd"
    blosc2.save_array(read_store(prepared), str(bare))
    pipeline = Pipeline.load(bundle, device="cpu")
    with pytest.raises(BundleError, match="voxel size of the original study"):
        pipeline.report(bare)
    with pytest.raises(BundleError, match="voxel size of the original study"):
        pipeline.report_prepared(np.zeros(SPEC.shape, np.float32))
    with pytest.raises(CatalogError, match="voxel size of its study is unknown"):
        training_prompt(bundle, bare)
    assert asked == []


def test_classification_needs_no_spacing(tmp_path, bundle, prepared):
    bare = tmp_path / "bare.b2nd"
    blosc2.save_array(read_store(prepared), str(bare))
    found = Pipeline.load(bundle, device="cpu").classify(bare)
    assert found.probabilities
