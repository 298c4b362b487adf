"""The audit tells HU from everything else, says what is wrong, and knows the body region."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tests.imaging.bodies import abdomen, chest, head, make_volume, pelvis, thighs
from uvlm.config import to_dict
from uvlm.errors import ImageError
from uvlm.imaging.audit import audit, check
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Volume
from uvlm.phantom.make import make_chest

Change = Callable[[NDArray[Any]], NDArray[Any]]

BODIES = {"chest": chest(), "abdomen": abdomen(), "pelvis": pelvis(), "head": head()}

REAL = {
    "lower chest to pelvis": "totalsegmentator/example_ct.nii.gz",
    "upper abdomen": "totalsegmentator/example_ct_sm.nii.gz",
    "chest": "cip/ct-64.nii.gz",
    "padded abdomen": "crlm/CRLM-CT-1004.nii.gz",
    "three slices": "dcmqi/ct-3slice",
}
REAL_REGION = dict(zip(REAL, ("abdomen", "abdomen", "chest", "abdomen", "abdomen"), strict=True))


def zscored(a: NDArray[Any]) -> NDArray[Any]:
    return ((a - a.mean()) / a.std()).astype(np.float32)


def windowed(a: NDArray[Any]) -> NDArray[Any]:
    return ((a.clip(-160, 240) + 160) / 400 * 255).astype(np.float32)


def noisy(a: NDArray[Any]) -> NDArray[Any]:
    noise = np.random.default_rng(0).normal(0, 40, a.shape)
    return np.where(a < -2000, a, np.rint(a + noise)).astype(np.int16)


CHANGES: dict[str, tuple[Change, str, float | None]] = {
    "as it is": (lambda a: a, "hu", 0),
    "low dose": (noisy, "hu", 0),
    "clipped to 1000": (lambda a: a.clip(-1000, 1000), "hu", 0),
    "clipped to soft tissue": (lambda a: a.clip(-200, 300), "hu", 0),
    "cut out": (lambda a: a[:, 20:-20, 20:-20], "hu", 0),
    "one slice": (lambda a: a[len(a) // 2 :][:1], "hu", 0),
    "stored, 1024": (lambda a: a + 1024, "shifted", 1024),
    "stored, 8192": (lambda a: a + 8192, "shifted", 8192),
    "stored, unusual": (lambda a: a + 3000, "shifted", None),
    "twice, 1024": (lambda a: a - 1024, "twice", -1024),
    "twice, 8192": (lambda a: a.astype(np.int32) - 8192, "twice", -8192),
    "twice and clipped": (lambda a: (a - 1024).clip(-1024, 3071), "twice", -1024),
    "z-scored": (zscored, "scaled", None),
    "0 to 1": (lambda a: ((a.clip(-1000, 1000) + 1000) / 2000).astype(np.float32), "scaled", None),
    "8-bit window": (windowed, "scaled", None),
}


REAL_CHANGES = (
    "as it is", "clipped to soft tissue", "cut out", "stored, 1024", "stored, 8192",
    "twice, 1024", "twice and clipped", "z-scored", "8-bit window",
)  # fmt: skip


def changed(volume: Volume, change: Change) -> Volume:
    return replace(volume, array=change(volume.array))


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", CHANGES)
def test_the_verdict_is_right_for_every_defect(body, name):
    change, verdict, offset = CHANGES[name]
    found = audit(changed(BODIES[body], change))
    assert found.verdict == verdict
    assert found.usable == (verdict == "hu")
    if offset is not None:
        assert found.offset == offset


@pytest.fixture(scope="module")
def real_volumes(real_data) -> dict[str, Volume]:
    return {name: read_volume(real_data / path) for name, path in REAL.items()}


@pytest.mark.parametrize("study", REAL)
@pytest.mark.parametrize("name", REAL_CHANGES)
def test_the_verdict_is_right_on_real_studies(real_volumes, study, name):
    change, verdict, offset = CHANGES[name]
    found = audit(changed(real_volumes[study], change))
    assert found.verdict == verdict
    if offset is not None:
        assert found.offset == offset


@pytest.mark.parametrize("study", ["chest", "upper abdomen"])
@pytest.mark.parametrize("name", ["low dose", "clipped to 1000", "stored, 1024"])
def test_the_region_of_real_studies_survives_defects(real_volumes, study, name):
    assert audit(changed(real_volumes[study], CHANGES[name][0])).region == REAL_REGION[study]


def test_the_region_of_real_studies_is_known(real_volumes):
    found = {study: audit(volume).region for study, volume in real_volumes.items()}
    assert found == REAL_REGION


def test_synthetic_studies_are_hu_of_the_chest(tmp_path):
    make_chest(tmp_path / "out", studies=8, seed=0, shape=(32, 64, 64))
    paths = sorted((tmp_path / "out" / "dataset").glob("*_fixed/**/*.nii.gz"))
    found = [audit(read_volume(path)) for path in paths]
    assert [(a.verdict, a.region) for a in found] == [("hu", "chest")] * 8


def test_padding_of_real_studies_is_found(real_volumes):
    found = audit(real_volumes["padded abdomen"])
    assert found.padding == -3024
    assert found.padding_share == pytest.approx(0.213, abs=0.001)


@pytest.mark.parametrize("region", BODIES)
def test_the_region_follows_the_anatomy(region):
    assert audit(BODIES[region]).region == region


def test_two_legs_are_an_extremity():
    assert audit(thighs()).region == "extremity"


def test_lungs_full_of_fluid_are_still_a_chest():
    """10 % of lung in a long run of slices is a sick chest, in a short run an abdomen's top."""

    def drown(a: NDArray[Any]) -> NDArray[Any]:
        a = a.copy()
        aerated = np.indices(a.shape)[1] < 42
        a[(a < -700) & (a > -950) & ~aerated] = 15
        return a

    assert audit(changed(chest(), drown)).region == "chest"
    assert audit(changed(chest(slices=30, lung_slices=6), drown)).region == "abdomen"


def test_a_long_study_of_both_is_chest_and_abdomen():
    found = audit(chest(slices=80, lung_slices=40))
    assert found.region == "chest+abdomen"
    assert found.coverage_mm["chest"] == pytest.approx(200, abs=10)


@pytest.mark.parametrize("hu", [300, 400])
def test_kidneys_full_of_contrast_medium_are_no_hips(hu):
    volume = abdomen()
    y, x = np.meshgrid(*[np.arange(-47.5, 48) * 4] * 2, indexing="ij")
    kidneys = ((np.abs(x) - 85) / 28) ** 2 + ((y - 30) / 30) ** 2 <= 1
    array = volume.array + (kidneys * (hu - 45)).astype(np.int16)
    assert audit(replace(volume, array=array)).region == "abdomen"


def test_dense_bowel_above_much_abdomen_is_no_pelvis():
    upper = pelvis().array
    study = np.concatenate([abdomen(12).array, upper])
    assert audit(make_volume(study)).region == "abdomen"
    assert audit(make_volume(np.concatenate([upper, abdomen(12).array]))).region == "pelvis"


def test_the_region_does_not_depend_on_the_order_of_axes():
    volume = chest()
    # Slice axis last and x to the right: the same body in another file.
    permuted = Volume(
        array=volume.array.transpose(2, 1, 0)[::-1],
        affine=volume.affine[:, [2, 1, 0, 3]] @ np.diag([1, 1, -1, 1.0]),
        provenance=volume.provenance,
    )
    assert audit(permuted).region == "chest"


def test_materials_are_named_with_where_they_stand():
    marks = {mark.name: mark for mark in audit(changed(chest(), lambda a: a + 1024)).landmarks}
    assert marks["outside air"].found == pytest.approx(24, abs=12)
    assert marks["lung"].found == pytest.approx(174, abs=12)
    assert marks["soft tissue"].found == pytest.approx(1069, abs=12)


@pytest.mark.parametrize("value", [-3024, -2000])
def test_a_padded_circle_is_found_and_does_not_disturb(value):
    volume = chest()
    y, x = np.indices(volume.shape[1:])
    outside = (y - 47.5) ** 2 + (x - 47.5) ** 2 > 47**2
    found = audit(changed(volume, lambda a: np.where(outside, value, a).astype(np.int16)))
    assert (found.verdict, found.region, found.padding) == ("hu", "chest", value)
    assert found.padding_share == pytest.approx(outside.mean(), abs=1e-3)


@pytest.mark.parametrize("order", [1, 3], ids=["linear", "cubic"])
@pytest.mark.parametrize("value", [-3024, -2000])
def test_padding_smeared_by_resampling_does_not_disturb(value, order):
    volume = chest()
    y, x = np.indices(volume.shape[1:])
    outside = (y - 47.5) ** 2 + (x - 47.5) ** 2 > 47**2
    padded = np.where(outside, value, volume.array).astype(np.float32)
    turned = ndimage.rotate(padded, 12, (1, 2), reshape=False, order=order, cval=value)
    found = audit(replace(volume, array=np.rint(turned).astype(np.int16)))
    assert (found.verdict, found.region, found.padding) == ("hu", "chest", value)


def test_a_crop_within_one_organ_is_usable_but_not_certain():
    liver = np.random.default_rng(0).normal(60, 25, (10, 40, 40))
    found = audit(make_volume(np.rint(liver).astype(np.int16)))
    assert found.verdict == "hu"
    assert any("not certain" in text for text in found.warnings)


def test_filler_within_the_range_is_a_warning():
    found = audit(changed(abdomen(), lambda a: np.where(a < -900, 0, a)))
    assert found.verdict == "hu"
    assert found.padding == 0
    assert any("looks like tissue" in text for text in found.warnings)


def test_air_without_noise_is_not_padding():
    found = audit(changed(abdomen(), lambda a: np.where(a < -900, -1000, a)))
    assert (found.verdict, found.padding) == ("hu", None)


def test_clipping_is_said():
    found = audit(changed(abdomen(), lambda a: a.clip(-200, 300)))
    assert found.clipped == (-200, 300)
    assert sum("Clipped" in text for text in found.warnings) == 2


def test_lost_lungs_leave_the_region_unknown():
    assert audit(changed(chest(), lambda a: a.clip(-200, 300))).region == "unknown"


def test_metal_does_not_disturb():
    def add_metal(a: NDArray[Any]) -> NDArray[Any]:
        a = a.astype(np.float32)
        a[10:14, 40:46, 40:46] = 14_000
        a[10:14, 46:50, 30:70] = -1500
        return a

    assert audit(changed(chest(), add_metal)).verdict == "hu"


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 32, 32), -1000, np.int16),
        np.random.default_rng(0).normal(0, 1e6, (4, 32, 32)).astype(np.float32),
        np.random.default_rng(0).integers(0, 4000, (4, 32, 32)).astype(np.int16),
        np.abs(np.random.default_rng(0).normal(300, 120, (4, 64, 64))).astype(np.int16),
    ],
    ids=["one value", "huge range", "evenly spread", "another modality"],
)
def test_what_is_no_ct_is_not_usable(array):
    assert not audit(make_volume(array)).usable


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a + 1024, "Subtract 1024"),
        (lambda a: a - 1024, "Add 1024"),
        (zscored, "normalised"),
        (windowed, "8-bit window"),
        (lambda a: a * 0, "Every voxel has the value 0"),
    ],
)
def test_check_refuses_with_the_file_and_what_to_do(change, words):
    volume = replace(abdomen(), array=change(abdomen().array))
    with pytest.raises(ImageError, match=words) as refused:
        check(volume)
    assert str(refused.value).startswith("ct: ")


def test_check_returns_the_audit_of_a_usable_volume():
    assert check(abdomen()).verdict == "hu"


def test_the_audit_leaves_the_volume_alone():
    volume = chest()
    before = volume.array.copy()
    audit(volume)
    assert np.array_equal(volume.array, before)


def test_the_audit_is_json():
    import json

    facts = json.loads(json.dumps(to_dict(audit(chest()))))
    assert facts["verdict"] == "hu"
    assert facts["field_of_view_mm"] == [240, 384, 384]


def test_few_slices_are_a_warning():
    found = audit(changed(abdomen(), lambda a: a[:3]))
    assert any("covers only 15.0 mm" in text for text in found.warnings)


def test_percentiles_of_whole_numbers_are_exact_and_leave_padding_out():
    array = chest().array.astype(np.int16)
    array[:, :20] = -3024
    kept = np.sort(array[array != -3024])
    found = audit(make_volume(array))
    assert found.padding == -3024
    assert found.percentiles["50"] == kept[(len(kept) - 1) // 2]
    assert found.percentiles["0.5"] == kept[int(np.ceil(0.005 * len(kept))) - 1]
