"""One split by patient: whatever the catalogs and tasks, nobody trains on another's validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uvlm.data.split import split_rows
from uvlm.preprocessing.catalog import Row, read_catalog
from uvlm.preprocessing.nnunet_plans import splits_of
from uvlm.preprocessing.split import FOLDS, HELD_OUT, fold_of, held_out_patients, split_of

ROW = Row(
    series_id="s",
    case_id="c",
    patient_id="p",
    split=None,
    image=Path("x.b2nd"),
    mask=Path("m.b2nd"),
    labels=(),
    report=None,
)

patients = st.text(min_size=1, max_size=8)
splits = st.sampled_from([None, "train", *HELD_OUT])


@st.composite
def catalogs(draw: st.DrawFn) -> list[list[Row]]:
    """Up to four catalogs that share patients; a patient is held out everywhere or nowhere."""
    people = draw(st.lists(st.tuples(patients, splits), min_size=1, max_size=30))
    side = dict(people)
    number = 0
    made = []
    for _ in range(draw(st.integers(1, 4))):
        chosen = draw(st.lists(st.sampled_from(sorted(side)), max_size=40))
        rows = []
        for patient in chosen:
            number += 1
            row = replace(ROW, series_id=f"s{number}", patient_id=patient, split=side[patient])
            rows.append(row)
        made.append(rows)
    return made


@given(catalogs(), st.floats(0.01, 0.99))
def test_no_patient_trains_one_task_and_validates_another(made, fraction):
    trained, validated = set(), set()
    for rows in made:
        train, val = split_rows(rows, fraction)
        trained |= {row.patient_id for row in train}
        validated |= {row.patient_id for row in val}
    held_out = held_out_patients(row for rows in made for row in rows)
    assert trained.isdisjoint(validated)
    assert held_out.isdisjoint(trained | validated)


@given(catalogs())
def test_fold_0_of_nnunet_validates_on_the_patients_every_task_validates_on(made):
    for rows in made:
        train, val = split_rows(rows, 1 / FOLDS)
        fold = splits_of(rows)[0]
        assert set(fold["train"]) == {row.series_id for row in train}
        assert set(fold["val"]) == {row.series_id for row in val}


@given(catalogs())
def test_every_fold_keeps_patients_together_and_each_validates_once(made):
    for rows in made:
        patient = {row.series_id: row.patient_id for row in rows}
        folds = splits_of(rows)
        assert len(folds) == FOLDS
        for fold in folds:
            sides = [{patient[name] for name in fold[side]} for side in ("train", "val")]
            assert sides[0].isdisjoint(sides[1])
        usable = {r.series_id for r in rows if r.patient_id not in held_out_patients(rows)}
        assert sorted(name for fold in folds for name in fold["val"]) == sorted(usable)


@given(patients)
def test_each_patient_validates_in_the_fold_its_share_lies_in(patient):
    at_most = [split_of(patient, (fold + 1) / FOLDS) == "val" for fold in range(FOLDS)]
    assert at_most == [fold >= fold_of(patient) for fold in range(FOLDS)]


def test_the_folds_are_about_equally_large_and_fixed_for_good():
    folds = [fold_of(f"patient_{i}") for i in range(5000)]
    assert all(0.18 < folds.count(fold) / 5000 < 0.22 for fold in range(FOLDS))
    assert [fold_of(f"train_{i}") for i in range(8)] == FOLDS_OF_8


FOLDS_OF_8 = [2, 0, 2, 0, 2, 1, 0, 4]


def test_a_study_held_out_holds_out_its_patient():
    rows = [replace(ROW, series_id=f"s{i}", split=s) for i, s in enumerate(["test", None])]
    assert split_rows(rows, 0.5) == ([], [])
    assert splits_of(rows) == [{"train": [], "val": []}] * FOLDS


@pytest.mark.parametrize(
    "series_id",
    ["train_1741_a_1", "train_1741_a_2", "train_1741_b_1", "train_1741_a_1_0000", "train_1741_c"],
)
def test_every_name_datasets_give_a_scan_leads_to_its_patient(tmp_path: Path, series_id: str):
    """CT-RATE, ReXGroundingCT, RadGenome and nnU-Net's raw folders name the same scans."""
    (tmp_path / "x.b2nd").touch()
    path = tmp_path / "catalog.csv"
    header = "series_id,case_id,blosc2_path,report\n"
    path.write_text(f"{header}{series_id},{series_id},x.b2nd,Findings: none.\n")
    (row,) = read_catalog(path).rows
    assert row.patient_id == "train_1741"
