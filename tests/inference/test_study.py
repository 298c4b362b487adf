"""A model trained on cropped volumes sees a study, and its prepared file, as in training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.inference.bundle_factory import write_ct
from uvlm.errors import BundleError
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import grid_of, prepare, preset
from uvlm.imaging.readers import read_volume
from uvlm.imaging.slices import cut_slices
from uvlm.imaging.store import meta_of, write_store
from uvlm.inference.study import prepared_inputs, read_study
from uvlm.models.bundle_files import Part
from uvlm.models.tower_config import SliceEncoderConfig

SPEC = preset("hsenet", (12, 24, 24))


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    """A body with padding around it."""
    whole = read_volume(write_ct(tmp_path / "whole.nii.gz"))
    padded = np.pad(whole.array, ((2, 1), (9, 3), (0, 12)), constant_values=-2000)
    write_nifti(tmp_path / "ct.nii.gz", padded, whole.affine)
    return tmp_path / "ct.nii.gz"


def test_a_study_is_cropped_to_its_foreground_and_its_masks_come_back(ct):
    study = read_study(ct)
    seen = study.input_for(SPEC, "report")
    assert (seen.min(), seen.max()) == (0, 1)
    grid = study.grid_for(SPEC)
    assert grid == grid_of(study.volume, SPEC)
    assert grid.crop is not None
    back = study.on_own_grid(np.ones(SPEC.shape, np.uint8), SPEC)
    assert back.shape == study.volume.shape
    assert not back[:2].any()
    assert not back[:, :9].any()


def test_a_prepared_study_is_not_cropped_again(ct, tmp_path):
    made = prepare(read_volume(ct), SPEC)
    # Air at a face, which a second crop would take away.
    made.array[0] = -1000
    write_store(tmp_path / "ct.b2nd", made.array, meta_of(made))
    study = read_study(tmp_path / "ct.b2nd")
    np.testing.assert_array_equal(study.input_for(SPEC, "report"), made.normalised())
    np.testing.assert_allclose(study.grid_for(SPEC).affine, made.grid.affine)
    assert study.spacing(SPEC) == read_study(ct).spacing(SPEC)


def test_slices_of_a_prepared_volume_are_cut_of_its_hu():
    config = SliceEncoderConfig(size=8, patch=4, width=8, layers=1, heads=2, mlp=8, slices=4)
    part = Part(task="slices", config=config, spec=None, region="chest", trained_on="-")
    bundle: Any = SimpleNamespace(path="bundle", parts={"slices": part})
    hu = np.random.default_rng(0).integers(-1000, 1000, (8, 8, 8)).astype(np.int16)
    array = np.zeros(hu.shape, np.float32)
    expected = cut_slices(hu, slices=4, size=8, window=config.window)
    np.testing.assert_array_equal(prepared_inputs(bundle, array, hu)("slices"), expected)
    with pytest.raises(BundleError, match="came without its HU"):
        prepared_inputs(bundle, array, None)("slices")
