"""Predictions meet their references by id; what is missing counts, what is doubtful is refused."""

import random
from pathlib import Path

import pytest

from uvlm.errors import InputError
from uvlm.evaluation.joining import join, keyed, study_key
from uvlm.preprocessing.table import Table


def table(ids, column="series_id", name="t.csv", **cells):
    columns = (column, *cells)
    rows = tuple(
        (i + 2, {column: key, **{c: values[i] for c, values in cells.items()}})
        for i, key in enumerate(ids)
    )
    return Table(Path(name), columns, rows)


def joined(references, predictions, **options):
    return join(keyed(table(references)), keyed(table(predictions, name="p.csv")), **options)


@pytest.mark.parametrize("cell", ["a_1", "a_1.nii.gz", "x/y/a_1.nii", "C:\\x\\a_1.b2nd", " a_1 "])
def test_folders_and_suffixes_are_no_part_of_an_id(cell):
    assert study_key(cell) == "a_1"


def test_order_and_suffixes_change_nothing():
    ids = [f"s{i}" for i in range(9)]
    shuffled = [f"{key}.nii.gz" for key in ids]
    random.Random(0).shuffle(shuffled)
    found = joined(ids[::-1], shuffled)
    assert found.ids == tuple(ids)
    assert [study_key(cells["series_id"]) for _, cells in found.predictions] == ids
    assert found.notes == ()
    assert found.counts["missing_predictions"] == 0


def test_a_missing_prediction_stays_as_wrong_or_is_refused():
    found = joined(["a", "b", "c"], ["b"])
    assert found.ids == ("a", "b", "c")
    assert found.missing == (True, False, True)
    assert "2 studies are without prediction." in found.notes
    with pytest.raises(InputError, match=r"p\.csv: 2 studies without prediction: a, c"):
        joined(["a", "b", "c"], ["b"], missing="refuse")


def test_unknown_predictions_are_left_out_and_said():
    found = joined(["a"], ["a", "x", "y"])
    assert found.ids == ("a",)
    assert "2 predictions of studies that are not among the references left out." in found.notes


@pytest.mark.parametrize("ids", [["a", "b", "a"], ["a.nii.gz", "b", "q/a.b2nd"]])
def test_two_rows_of_one_study_are_refused_by_name(ids):
    with pytest.raises(InputError, match="1 id more than once: 'a' in rows 2, 4"):
        keyed(table(ids))


def test_of_many_doubles_some_are_named_and_all_counted():
    with pytest.raises(InputError, match=r"7 ids more than once: .* and 2 more"):
        keyed(table([f"s{i}" for i in range(7)] * 2))


def test_ids_that_differ_only_in_case_are_refused():
    with pytest.raises(InputError, match="1 pair of ids that differ only in case: 'A' and 'a'"):
        keyed(table(["a", "A"]))
    with pytest.raises(
        InputError, match=r"p\.csv: 2 pairs of ids that differ only in case: 'S1' and 's1'"
    ):
        joined(["s1", "s2", "s3"], ["S1", "S2", "s3"])


def test_nothing_in_common_names_both_files_and_the_options():
    with pytest.raises(InputError, match=r"p\.csv: none of its 1 id .*t\.csv.*--id-column"):
        joined(["a"], ["b"])


@pytest.mark.parametrize(("ids", "found"), [([], "no row"), (["a", ""], "row 3")])
def test_a_table_without_ids_is_refused(ids, found):
    with pytest.raises(InputError, match=found):
        keyed(table(ids))


RECONSTRUCTIONS = ["valid_1_a_2", "valid_1_a_1", "valid_1_b_10", "valid_1_b_9", "valid_2_a_1"]


def test_the_lowest_reconstruction_stands_for_its_scan():
    found = joined(RECONSTRUCTIONS, RECONSTRUCTIONS)
    assert found.unit == "scan"
    assert found.ids == ("valid_1_a_1", "valid_1_b_9", "valid_2_a_1")
    assert found.patients == ("valid_1", "valid_1", "valid_2")
    assert "5 rows are 3 scans" in found.notes[0]


def test_by_series_every_row_counts():
    found = joined(RECONSTRUCTIONS, RECONSTRUCTIONS, unit="series")
    assert len(found) == 5
    assert found.counts["patients"] == 2


def test_another_reconstruction_is_no_prediction_of_the_one_that_stands_for_the_scan():
    found = joined(RECONSTRUCTIONS, ["valid_1_a_2", "valid_1_b_9", "valid_2_a_1"])
    assert found.missing == (True, False, False)
    assert any("another reconstruction" in note for note in found.notes)
    assert found.counts["unknown_predictions"] == 0


def test_rows_about_scans_and_rows_about_reconstructions_meet():
    assert joined(RECONSTRUCTIONS, ["valid_1_a", "valid_1_b", "valid_2_a"]).missing == (False,) * 3
    found = joined(["valid_1_a", "valid_1_b"], RECONSTRUCTIONS)
    assert [cells["series_id"] for _, cells in found.predictions] == ["valid_1_a_1", "valid_1_b_9"]


def test_other_ids_are_series_and_patients_of_their_own():
    found = joined(["BDMAP_00000001", "BDMAP_00000002"], ["BDMAP_00000001"])
    assert found.unit == "series"
    assert found.patients == found.ids


def test_a_patient_column_groups_studies_and_an_empty_cell_is_refused():
    references = keyed(table(["a", "b"], patient_id=["p", "p"]))
    predictions = keyed(table(["a", "b"]))
    assert join(references, predictions).patients == ("p", "p")
    named = keyed(table(["a", "b"], who=["p", ""]))
    with pytest.raises(InputError, match="row 3, column 'who': empty"):
        join(named, predictions, patient_column="who")


def test_studies_left_out_are_counted_and_said():
    found = joined(["a", "b", "c"], ["a", "b"]).keep([True, True, False], "no reference report")
    assert found.ids == ("a", "b")
    assert found.counts["missing_predictions"] == 0
    assert found.counts["left_out"] == 1
    assert found.notes[-1] == "1 study is left out: no reference report."


def test_predictions_of_other_reconstructions_only_are_said_to_be_that():
    with pytest.raises(
        InputError, match=r"2 of its 3 ids are of the scans of t\.csv, but of rec"
    ) as e:
        joined(["valid_1_a_1", "valid_2_a_1"], ["valid_1_a_2", "valid_2_a_2", "valid_3_a_1"])
    assert "'valid_1_a_2', where the lowest among the references is 'valid_1_a_1'" in str(e.value)
    assert "name the predictions by their scans ('valid_1_a')" in str(e.value)


def test_folders_with_nothing_in_common_name_no_column(tmp_path):
    two = [keyed(Table(tmp_path, ("study_id",), ((1, {"study_id": key}),))) for key in "ab"]
    with pytest.raises(InputError, match="the same name in both folders") as error:
        join(*two)
    assert "column" not in str(error.value)


def test_predictions_of_a_scan_and_of_its_reconstruction_are_refused():
    both = ["valid_1_a", "valid_1_a_1", "valid_2_a_1"]
    with pytest.raises(InputError, match=r"1 scan and .*: 'valid_1_a' and 'valid_1_a_1'"):
        joined(RECONSTRUCTIONS, both)
    assert len(joined(both, RECONSTRUCTIONS, unit="series")) == 3


def test_further_reconstructions_of_predictions_are_counted():
    found = joined(RECONSTRUCTIONS, [*RECONSTRUCTIONS, "valid_9_a_1"])
    assert found.counts["unused_predictions"] == len(RECONSTRUCTIONS) - 3
    assert "2 predictions of further reconstructions of these scans not used." in found.notes
    assert found.counts["unknown_predictions"] == 1
    one = joined(["valid_1_a_1"], ["valid_1_a_1"])
    assert one.counts["unused_predictions"] == 0
