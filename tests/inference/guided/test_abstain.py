"""A person is asked to look exactly where there is a reason, and told which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.inference.bundle_factory import chest_array, write_ct
from uvlm.imaging.audit import Audit, audit
from uvlm.imaging.readers import read_volume
from uvlm.inference.evidence.types import Contradiction
from uvlm.inference.guided.abstain import COARSE, Distance, review_reasons

NEAR = Distance(value=3.0, limit=5.0, rate=0.01)


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audit_of(tmp_path_factory.mktemp("ct") / "ct.nii.gz", chest_array())


def audit_of(path: Path, array: np.ndarray) -> Audit:
    return audit(read_volume(write_ct(path, array)))


def contradiction(kind: str) -> Contradiction:
    label = None if kind == "size" else "Lung nodule"
    return Contradiction(kind=kind, message="It does not fit.", label=label)  # type: ignore[arg-type]


def test_a_study_as_in_training_gives_no_reason(chest):
    known = replace(chest, region="chest", warnings=())
    assert review_reasons(region="chest", audit=known, distance=NEAR) == ()


def test_coarse_voxels_are_no_reason_but_other_warnings_are(chest):
    coarse = [text for text in chest.warnings if text.startswith(COARSE)]
    assert coarse, "the study of the test has voxels 9 mm apart"
    found = replace(chest, region="chest", warnings=(*coarse, "Clipped at 50 HU: bone is lost."))
    assert review_reasons(region="chest", audit=found) == ("Clipped at 50 HU: bone is lost.",)


def test_clipped_values_are_a_reason(tmp_path):
    found = audit_of(tmp_path / "ct.nii.gz", np.clip(chest_array(), -1024, 40).astype(np.int16))
    assert any("Clipped at 40 HU" in r for r in review_reasons(region="chest", audit=found))


@pytest.mark.parametrize("seen", ["abdomen", "head"])
def test_another_region_is_a_reason_naming_both(chest, seen):
    (reason,) = review_reasons(region="chest", audit=replace(chest, region=seen, warnings=()))
    assert seen in reason
    assert "chest" in reason


def test_another_region_is_no_reason_where_a_flag_names_it(chest):
    other = replace(chest, region="abdomen", warnings=())
    assert review_reasons(region=None, audit=other) == ()


def test_a_region_among_several_fits(chest):
    both = replace(chest, region="chest+abdomen", warnings=())
    assert review_reasons(region="chest", audit=both) == ()


def test_shifted_values_are_a_reason(tmp_path):
    shifted = audit_of(tmp_path / "ct.nii.gz", (chest_array() + 1024).astype(np.int16))
    assert shifted.reason in review_reasons(region="chest", audit=shifted)


def test_values_of_unknown_kind_are_a_reason():
    (reason,) = review_reasons(region="chest", audit=None)
    assert "Hounsfield" in reason


@pytest.mark.parametrize(("value", "count"), [(4.9, 0), (5.0, 0), (5.1, 1), (float("nan"), 1)])
def test_a_study_beyond_the_limit_is_a_reason(chest, value, count):
    known = replace(chest, region="chest", warnings=())
    far = replace(NEAR, value=value)
    assert len(review_reasons(region="chest", audit=known, distance=far)) == count


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((), None),
        ((("denied", "A"),), None),
        ((("denied", "A"), ("denied", "A")), None),
        ((("side", "A"),), "a (side)"),
        ((("itself", "A"),), "a (both stated and denied)"),
        ((("denied", "A"), ("denied", "B")), "a (denied), b (denied)"),
        ((("denied", "A"), ("size", "A")), "a (denied), a (size)"),
        ((("unmentioned", "A"), ("side", "B")), "a (not mentioned), b (side)"),
    ],
)
def test_a_report_that_stays_contradictory_is_a_reason(chest, found, expected):
    known = replace(chest, region="chest", warnings=())
    result = review_reasons(
        region="chest",
        audit=known,
        contradictions=[
            Contradiction(kind=kind, message="It does not fit.", label=label)
            for kind, label in found
        ],
    )
    assert result == (() if expected is None else (f"The report is contradicted: {expected}.",))
