"""A heat map comes back to the study's own grid at its place in the patient."""

from pathlib import Path

import numpy as np
import pytest

from tests.imaging.test_preprocess import AFFINES, SHAPE, blob, volume, world
from uvlm.imaging.preprocess import PreprocessSpec, preset, restore_map
from uvlm.inference.evidence.heat import on_prepared
from uvlm.inference.evidence.types import HeatMap
from uvlm.inference.study import Study

STRETCHED = preset("paper", (16, 20, 24))
RESAMPLED = PreprocessSpec(spacing=(3.0, 3.5, 3.5), shape=(40, 36, 36))
LEFT, RIGHT = (13.0, 11.0, 27.0), (13.0, 11.0, 9.0)


def study_of(centre, affine, *, prepared=False):
    array = np.rint(-1000 + 1500 * blob(centre=centre)).astype(np.int16)
    return Study(
        path=Path("case.nii.gz"),
        volume=volume(array, affine),
        audit=None,
        prepared=prepared,
        spec_hash=None,
        notes=(),
    )


def heat_of(study, spec, cells):
    """The blob as the heat map of a stage whose cells have `cells` voxels a side."""
    warm = study.input_for(spec, "report")
    warm = np.maximum(warm - warm.min() - 0.1 * np.ptp(warm), 0)
    z, y, x = (n // cells for n in warm.shape)
    pooled = warm.reshape(z, cells, y, cells, x, cells).mean(axis=(1, 3, 5))
    values = (pooled / pooled.sum()).astype(np.float32)
    return HeatMap(values=values, spec_hash=spec.hash, method="test")


def centre_mm(heat, affine):
    share = heat / heat.sum(dtype=float)
    middle = [float((share * axis).sum()) for axis in np.indices(heat.shape)]
    return world(affine, middle)


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("spec", [STRETCHED, RESAMPLED], ids=["stretched", "resampled"])
@pytest.mark.parametrize("name", AFFINES)
def test_heat_lands_where_the_patient_has_the_blob(name, spec, cells):
    affine = AFFINES[name]
    for centre in (LEFT, RIGHT):
        study = study_of(centre, affine)
        heat = on_prepared(heat_of(study, spec, cells), spec.shape)
        own = restore_map(heat, study.grid_for(spec))
        assert own.shape == SHAPE
        assert own.dtype == np.float32
        apart = np.abs(centre_mm(own, affine) - world(affine, centre))
        # A voxel of the study, which measures 2.5 to 4 mm; it is nearer than that to the middle.
        assert apart.max() < 2.0
        peak = np.unravel_index(own.argmax(), own.shape)
        reach = 1 if cells == 1 else 2
        assert np.abs(np.subtract(peak, centre)).max() <= reach + 0.01


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, -1)])
def test_left_stays_left_however_the_file_lies(signs):
    affine = np.diag([2.0 * signs[0], 2.5 * signs[1], 4.0 * signs[2], 1.0])
    found = {}
    for side, centre in (("first", LEFT), ("second", RIGHT)):
        study = study_of(centre, affine)
        heat = on_prepared(heat_of(study, STRETCHED, 2), STRETCHED.shape)
        # On the prepared grid x grows to the patient's left.
        found[side] = heat.sum(axis=(0, 1))[12:].sum() > 0.5
        own = restore_map(heat, study.grid_for(STRETCHED))
        on_left = centre_mm(own, affine)[0] > world(affine, (0, 0, (SHAPE[2] - 1) / 2))[0]
        assert found[side] == on_left
    assert found["first"] != found["second"]


def test_a_prepared_file_is_its_own_grid():
    spec = preset("paper", SHAPE)
    study = study_of(LEFT, np.diag([2.0, 2.5, 4.0, 1.0]), prepared=True)
    heat = on_prepared(heat_of(study, spec, 2), spec.shape)
    np.testing.assert_allclose(restore_map(heat, study.grid_for(spec)), heat, atol=1e-7)
