"""Labels, findings and masks are true of the image; the anatomy is where it belongs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from uvlm.phantom.chest import ChestStudy, draw_chest
from uvlm.phantom.classes import CHEST_CLASSES, LOBES, Finding, label_class
from uvlm.phantom.plan import plan_chest
from uvlm.phantom.resolution import size_ranges
from uvlm.registry import CT_RATE_LABELS

SHAPE = (32, 64, 64)
SIZES = size_ranges(SHAPE)
SIDED = ("Atelectasis", "Consolidation", "Lung nodule", "Lung opacity", "Pleural effusion")


@lru_cache(maxsize=64)
def draw(study: int, *labels: str) -> ChestStudy:
    return draw_chest(11, study, SHAPE, labels, SIZES)


@lru_cache(maxsize=1)
def crowd() -> list[ChestStudy]:
    """Forty studies as a set would have them, many abnormalities in one patient."""
    plans = plan_chest(40, 2, frozenset(SIZES), 0.2)
    return [draw_chest(2, i, SHAPE, p.labels, SIZES) for i, p in enumerate(plans)]


def region(study: ChestStudy, name: str) -> NDArray[np.bool_]:
    return study.mask == CHEST_CLASSES[name]


def along(study: ChestStudy, inside: NDArray[np.bool_], axis: int) -> NDArray[np.float32]:
    """Coordinates in mm of the voxels of a mask along z, y or x."""
    return np.broadcast_to(study.grid.axes[axis], inside.shape)[inside]


def findings() -> list[tuple[ChestStudy, Finding]]:
    return [(study, finding) for study in crowd() for finding in study.findings]


def test_the_same_seed_draws_the_same_study():
    again = draw_chest(11, 0, SHAPE, ("Lung nodule",), SIZES)
    assert np.array_equal(again.hu, draw(0, "Lung nodule").hu)
    assert not np.array_equal(again.hu, draw_chest(12, 0, SHAPE, ("Lung nodule",), SIZES).hu)


@pytest.mark.parametrize("label", CT_RATE_LABELS)
@pytest.mark.parametrize("study", [0, 1, 2])
def test_the_image_changes_where_the_mask_says(label, study):
    with_it, without = draw(study, label), draw(study)
    name = "heart" if label == "Cardiomegaly" else label_class(label)
    inside = region(with_it, name)
    if label == "Cardiomegaly":
        inside &= ~region(without, name)
    assert inside.sum() >= 4
    change = np.abs(with_it.hu.astype(float) - without.hu)[inside]
    assert change.mean() > 45
    assert not without.findings
    assert not np.isin(without.mask, range(13, 30)).any()


def test_every_planned_abnormality_is_found_and_seen_even_among_others():
    plans = plan_chest(40, 2, frozenset(SIZES), 0.2)
    for plan, study in zip(plans, crowd(), strict=True):
        assert {f.label for f in study.findings} == plan.labels
        for label in plan.labels - {"Cardiomegaly"}:
            assert region(study, label_class(label)).sum() >= 3, (label, study.findings)


def test_stated_sides_are_the_sides_of_the_mask():
    checked = 0
    for study, finding in findings():
        if finding.label not in SIDED or not finding.side:
            continue
        x = along(study, region(study, label_class(finding.label)), 2)
        left = float((x > 0).mean())
        if finding.side == "bilateral":
            assert 0 < left < 1
        else:
            assert (left > 0.5) == (finding.side == "left")
        checked += 1
    assert checked >= 20


def test_stated_lobes_hold_the_lesion():
    study = draw(0, "Consolidation")
    (finding,) = study.findings
    inside = region(study, "consolidation")
    normal = draw(0).mask[inside]
    assert (np.isin(normal, finding.lobes)).mean() > 0.9


@pytest.mark.parametrize("study", range(6))
def test_stated_sizes_are_the_masks_within_a_voxel(study):
    for label in ("Lung nodule", "Hiatal hernia", "Consolidation"):
        drawn = draw(study, label)
        (finding,) = drawn.findings
        # The largest nodule alone, should several have been drawn.
        sizes = [_widest(drawn, part) for part in _parts(region(drawn, label_class(label)))]
        voxel = max(drawn.grid.spacing[1:])
        assert max(sizes) == pytest.approx(finding.size_mm, abs=1.01 * voxel)


def test_stated_heart_width_is_the_masks():
    drawn = draw(1, "Cardiomegaly")
    width = _widest(drawn, region(drawn, "heart"), axes=(2,))
    (finding,) = drawn.findings
    assert width == pytest.approx(finding.size_mm, abs=2.01 * drawn.grid.spacing[2])
    assert finding.size_mm > 0.5 * 2 * drawn.body.half_width


def test_stated_fluid_thickness_is_the_masks():
    drawn = draw(2, "Pleural effusion")
    (finding,) = drawn.findings
    column = region(drawn, "pleural_effusion").sum(axis=1).max() * drawn.grid.spacing[1]
    assert column == pytest.approx(finding.size_mm, abs=1.5 * drawn.grid.spacing[1])


def test_tissues_have_their_hounsfield_units():
    for study in range(4):
        drawn = draw(study)
        hu, body = drawn.hu, drawn.body
        inner = {name: _core(region(drawn, name)) for name in ("heart", "liver", "aorta")}
        lung = _core(np.isin(drawn.mask, list(LOBES.values())))
        assert -905 < np.median(hu[lung]) < -790
        assert np.median(hu[inner["aorta"]]) == pytest.approx(body.blood_hu, abs=12)
        assert 45 < np.median(hu[inner["liver"]]) < 150
        assert np.median(hu[region(drawn, "spine")]) > 120
        assert np.percentile(hu[region(drawn, "ribs")], 90) > 250
        assert hu[region(drawn, "trachea")].min() < -930
        assert hu.min() >= -1024


def test_noise_is_the_scanners():
    drawn = draw(0)
    air = draw_chest(11, 0, SHAPE, (), SIZES).hu[:, :4, 20:44].astype(float)
    outside = air[(air > -1020) & (air < -900)]
    assert outside.size == 0 or 5 < outside.std() < 45
    liver = drawn.hu[_core(region(drawn, "liver"))]
    assert liver.std() == pytest.approx(drawn.body.noise, rel=0.35)


def test_organs_lie_on_their_sides():
    for study in range(3):
        drawn = draw(study)
        x = {
            name: along(drawn, region(drawn, name), 2).mean()
            for name in CHEST_CLASSES
            if region(drawn, name).any()
        }
        z = {name: along(drawn, region(drawn, name), 0).mean() for name in ("liver", "heart")}
        assert x["liver"] < -20 < 0 < x["heart"]
        assert x["lung_lower_lobe_left"] > 40
        assert x["lung_lower_lobe_right"] < -40
        assert z["liver"] < z["heart"]
        low = drawn.grid.shape[0] // 4
        aorta, spine = (
            along(drawn, region(drawn, n) & _only(drawn, low), 2).mean() for n in ("aorta", "spine")
        )
        assert aorta > spine + 10
        behind = along(drawn, region(drawn, "lung_lower_lobe_left"), 1).mean()
        assert behind > along(drawn, region(drawn, "lung_upper_lobe_left"), 1).mean()


def test_a_finer_grid_shows_the_same_patient():
    fine = draw_chest(11, 0, (48, 96, 96), (), size_ranges((48, 96, 96)))
    coarse = draw(0)
    for name in ("heart", "liver", "lung_upper_lobe_left", "aorta"):
        volumes = [region(s, name).sum() * s.grid.voxel_mm3 for s in (fine, coarse)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.08)


def _only(study: ChestStudy, k: int) -> NDArray[np.bool_]:
    chosen = np.zeros(study.grid.shape, dtype=bool)
    chosen[k] = True
    return chosen


def _core(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_erosion

    return np.asarray(binary_erosion(inside, iterations=1))


def _parts(inside: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    from scipy.ndimage import label

    marked, n = label(inside, structure=np.ones((3, 3, 3)))
    return [marked == k + 1 for k in range(n)]


def _widest(study: ChestStudy, inside: NDArray[np.bool_], axes: tuple[int, ...] = (1, 2)) -> float:
    extents = []
    for axis in axes:
        mm = along(study, inside, axis)
        extents.append(float(np.ptp(mm)) + study.grid.spacing[axis])
    return max(extents)
