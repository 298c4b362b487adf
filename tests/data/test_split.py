"""Patients are divided alike in every task, and held-out studies stay out."""

from __future__ import annotations

from pathlib import Path

from uvlm.data.split import split_rows
from uvlm.preprocessing.catalog import Row
from uvlm.preprocessing.split import split_of

SPLIT_OF_8 = ["val", "val", "train", "val", "val", "val", "val", "train"]


def row(patient: str, series: str, split: str | None = None) -> Row:
    return Row(
        series_id=series,
        case_id=f"{patient}_a",
        patient_id=patient,
        split=split,
        image=Path("x.b2nd"),
        mask=None,
        labels=(),
        report=None,
    )


def test_all_series_of_a_patient_lie_on_one_side():
    rows = [row(f"p{i}", f"p{i}_{j}") for i in range(200) for j in range(3)]
    train, val = split_rows(rows, 0.2)
    assert {r.patient_id for r in train}.isdisjoint(r.patient_id for r in val)
    assert len(train) + len(val) == 600


def test_the_share_is_about_what_was_asked():
    sides = [split_of(f"patient_{i}", 0.2) for i in range(5000)]
    assert 0.18 < sides.count("val") / 5000 < 0.22


def test_a_larger_share_only_adds_patients():
    patients = [f"p{i}" for i in range(500)]
    small = {p for p in patients if split_of(p, 0.1) == "val"}
    large = {p for p in patients if split_of(p, 0.3) == "val"}
    assert small < large


def test_the_split_is_fixed_for_good():
    assert [split_of(f"train_{i}", 0.5) for i in range(8)] == SPLIT_OF_8


def test_held_out_rows_neither_train_nor_validate():
    rows = [row("a", "a1", "valid"), row("b", "b1", "test"), row("c", "c1", "train")]
    train, val = split_rows(rows, 0.5)
    assert [r.series_id for r in train + val] == ["c1"]
