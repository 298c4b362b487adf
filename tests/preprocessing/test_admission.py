"""What would make a dataset wrong is found before any work is done."""

from pathlib import Path

import pytest

from tests.preprocessing.studies_factory import listing, study
from uvlm.errors import CatalogError
from uvlm.preprocessing.admission import admit, read_held_out
from uvlm.preprocessing.study import Exclusion, Rejection

HERE = Path("raw")


def of(*studies, **fields):
    return listing(HERE, studies, **fields)


def splits(admitted):
    return {each.series_id: each.split for each in admitted.studies}


def test_a_sound_listing_is_admitted_as_it_is():
    given = of(study(HERE, "p1_a", split="train"), study(HERE, "p2_a"))
    found = admit(given)
    assert (found.studies, found.rejected, found.warnings) == (given.studies, (), ())


@pytest.mark.parametrize("bad", ["../../etc/x", "/etc/x", "a\\b", "..", "", " a", "a\n", "x" * 201])
@pytest.mark.parametrize("column", ["series_id", "case_id", "patient_id"])
def test_identifiers_that_leave_the_folder_are_rejected_and_the_rest_goes_on(column, bad):
    found = admit(of(study(HERE, "p1_a", **{column: bad}), study(HERE, "p2_a")))
    assert splits(found).keys() == {"p2_a"}
    (rejected,) = found.rejected
    assert rejected.source == HERE / "p1_a.nii.gz"
    assert f"p1_a.nii.gz: {column} {bad!r}" in rejected.error


def test_a_series_twice_is_refused_by_both_files():
    twice = (study(HERE, "p1_a"), study(HERE / "other", "p1_a"))
    with pytest.raises(CatalogError, match=r"two series 'p1_a': raw/p1_a.* and raw/other/p1_a"):
        admit(of(*twice))


@pytest.mark.parametrize(("one", "other"), [("Case_A", "case_a"), ("cafe\u0301", "caf\u00e9")])
def test_names_that_are_one_file_on_some_systems_are_refused(one, other):
    with pytest.raises(CatalogError, match="which differ only in case"):
        admit(of(study(HERE, one), study(HERE, other)))


def test_a_column_twice_is_refused():
    with pytest.raises(CatalogError, match="the column 'report' twice"):
        admit(of(study(HERE, "p1_a"), labels=("report",)))


@pytest.mark.parametrize("named", ["p1", "p1_b", "case7"])
def test_all_studies_of_a_held_out_patient_become_test_studies(named):
    studies = (
        study(HERE, "p1_a", split="train"),
        study(HERE, "p1_b", case_id="case7"),
        study(HERE, "p2_a", split="train"),
    )
    found = admit(of(*studies), frozenset({named}))
    assert splits(found) == {"p1_a": "test", "p1_b": "test", "p2_a": "train"}
    assert found.warnings == ()


def test_held_out_names_that_are_unknown_are_told():
    given = of(
        study(HERE, "p1_a"),
        rejected=(Rejection(series_id="p8_a", source=HERE, error="broken"),),
        excluded=(Exclusion(series_id="p9_a", reason="no chest"),),
    )
    found = admit(given, frozenset({"p1", "p7_a", "p8_a", "p9_a"}))
    assert found.warnings == ("1 of 4 held-out names are unknown, such as 'p7_a'.",)
    with pytest.raises(CatalogError, match="none of the 2 studies to hold out is known"):
        admit(given, frozenset({"p6", "p7"}))


def test_a_patient_on_both_sides_of_a_split_is_refused():
    both = of(study(HERE, "p1_a", split="train"), study(HERE, "p1_b", split="valid"))
    with pytest.raises(CatalogError, match="'p1' is in two splits: 'p1_a' in train, 'p1_b' in va"):
        admit(both)
    assert splits(admit(both, frozenset({"p1"}))) == {"p1_a": "test", "p1_b": "test"}


def test_a_study_without_a_split_follows_its_patient():
    found = admit(of(study(HERE, "p1_a"), study(HERE, "p1_b", split="valid"), study(HERE, "p2_a")))
    assert splits(found) == {"p1_a": "valid", "p1_b": "valid", "p2_a": None}


def test_an_unknown_split_is_refused():
    with pytest.raises(CatalogError, match="the split 'training'"):
        admit(of(study(HERE, "p1_a", split="training")))


def test_held_out_names_are_read_one_a_line(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("# ReXGroundingCT\ntrain_1_a_1.nii.gz\n\n  p2  # a patient\n")
    assert read_held_out(path) == {"train_1_a_1", "p2"}


@pytest.mark.parametrize("column", ["series_id", "case_id", "patient_id"])
def test_held_out_names_are_read_from_a_table(tmp_path, column):
    path = tmp_path / "names.csv"
    path.write_text(f"number,{column}\n1,train_1\n2,train_2\n")
    assert read_held_out(path) == {"train_1", "train_2"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.txt", b"# nothing\n", "it names no study"),
        ("names.txt", b"\xff\xfe\x00", "cannot be read"),
        ("names.csv", b"a,b\n1,2\n", "no column series_id, case_id, patient_id"),
    ],
)
def test_files_that_name_nothing_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CatalogError, match=message):
        read_held_out(tmp_path / name)
    with pytest.raises(CatalogError, match="cannot be read"):
        read_held_out(tmp_path / "absent.txt")
