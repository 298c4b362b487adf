"""The published way to probabilities gives those of `uvlm classify`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.inference.bundle_factory import tiny_bundle, tiny_spec, write_ct
from uvlm.errors import BundleError, ConfigError, ImageError
from uvlm.imaging.preprocess import prepare
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import meta_of, write_store
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.predict_cls import nnUNetPredictor


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `uvlm_train` leaves."""
    folder = tmp_path_factory.mktemp("trained")
    bundle = tiny_bundle(folder / "fold_0" / "bundle")
    weights = load_file(bundle / "model.safetensors")
    checkpoint = {"network_weights": weights, "trainer_name": "nnUNetTrainer_UVLM"}
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return folder


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_ct(tmp_path / "ct.nii.gz")


def predictor(folder: Path, **options) -> nnUNetPredictor:
    made = nnUNetPredictor(device=torch.device("cpu"))
    made.initialize_from_trained_model_folder(folder, **options)
    return made


@pytest.mark.parametrize("where", ["", "fold_0", "fold_0/bundle"])
def test_a_trained_folder_its_fold_and_a_bundle_give_the_same(trained, ct, where):
    found = predictor(trained / where).predict_single_npy(ct)
    expected = Pipeline.load(trained / "fold_0/bundle", "cpu").classify(ct).probabilities
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("channel", [True, False])
def test_stores_arrays_and_files_of_arrays_give_the_same(trained, ct, tmp_path, channel):
    prepared = prepare(read_volume(ct), tiny_spec())
    write_store(tmp_path / "ct.b2nd", prepared.array, meta_of(prepared))
    array = prepared.array[None] if channel else prepared.array
    np.save(tmp_path / "ct.npy", array)
    use = predictor(trained)
    expected = use.predict_single_npy(ct)
    for image in (tmp_path / "ct.b2nd", str(tmp_path / "ct.npy"), array):
        assert use.predict_single_npy(image) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4)), "shape"),
        (np.full((32, 32, 32), np.nan), "not finite"),
        (np.random.default_rng(0).normal(size=(8, 32, 32)), "its shape is"),
        (np.zeros((32, 32, 32)), "one value"),
        (np.full((32, 32, 32), "x"), "Give numbers"),
    ],
)
def test_an_array_that_is_no_study_is_refused(trained, array, message):
    with pytest.raises(ImageError, match=message):
        predictor(trained).predict_single_npy(array)


def test_a_file_that_is_no_array_is_named(trained, tmp_path):
    (tmp_path / "x.npy").write_bytes(b"no array")
    with pytest.raises(ImageError, match=r"x\.npy: no array"):
        predictor(trained).predict_single_npy(tmp_path / "x.npy")


def test_without_a_model_it_says_what_to_call():
    with pytest.raises(ConfigError, match="initialize_from_trained_model_folder"):
        nnUNetPredictor(torch.device("cpu")).predict_single_npy("x.npy")


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"checkpoint_best\.pth or checkpoint_final\.pth"):
        predictor(tmp_path)


def test_of_several_folds_one_is_chosen(trained, tmp_path):
    for fold in (0, 1):
        (tmp_path / f"fold_{fold}").symlink_to(trained / "fold_0")
    with pytest.raises(BundleError, match="fold_0, fold_1"):
        predictor(tmp_path)
    with pytest.raises(BundleError, match="2 folds"):
        predictor(tmp_path, use_folds=(0, 1))
    assert predictor(tmp_path, use_folds=(1,), checkpoint_name="checkpoint_final.pth")
