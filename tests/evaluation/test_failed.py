"""A row of predictions that names an error is none; what is tried again takes its place."""

from pathlib import Path

import pytest

from uvlm.errors import InputError
from uvlm.evaluation.failed import keyed_predictions
from uvlm.evaluation.joining import join, keyed
from uvlm.preprocessing.table import Table

BAD = "a file that ends too early"


def table(*rows, name="p.csv", columns=("id", "error")):
    cells = tuple((i, dict(zip(columns, row, strict=True))) for i, row in enumerate(rows, 2))
    return Table(Path(name), columns, cells)


def joined(*rows, **options):
    references = keyed(table(("a",), ("b",), ("c",), name="t.csv", columns=("id",)))
    return join(references, keyed_predictions(table(*rows)), **options)


def test_a_failed_study_is_missing_as_if_its_row_were_not_there():
    found = joined(("a", ""), ("b.nii.gz", BAD), ("c", ""))
    without = joined(("a", ""), ("c", ""))
    assert found.missing == without.missing == (False, True, False)
    assert found.counts == without.counts
    said = "1 prediction names an error (column 'error') and counts as missing."
    assert found.notes == (*without.notes, said)
    with pytest.raises(InputError, match=r"p\.csv: 1 study without prediction: b"):
        joined(("a", ""), ("b", BAD), ("c", ""), missing="refuse")


def test_several_failed_studies_are_counted_once_each():
    found = joined(("a", BAD), ("b", BAD), ("c", ""), ("a", BAD))
    assert found.missing == (True, True, False)
    assert found.notes[-1].startswith("2 predictions name an error")


def test_a_later_row_takes_the_place_of_an_error():
    found = joined(("a", BAD), ("b", ""), ("a.nii.gz", BAD), ("c", ""), ("a", ""))
    assert found.missing == (False, False, False)
    assert found.predictions[0] == (6, {"id": "a", "error": ""})
    assert found.notes == ()


@pytest.mark.parametrize("second", ["", BAD])
def test_nothing_takes_the_place_of_a_prediction(second):
    with pytest.raises(InputError, match="1 id more than once: 'a' in rows 2, 4"):
        joined(("a", ""), ("b", ""), ("a", second))


def test_a_table_of_errors_only_is_refused_with_the_column():
    with pytest.raises(InputError, match=r"no prediction: every row has .* column 'error'"):
        joined(("a", BAD), ("b", BAD))


def test_a_failed_row_without_id_is_refused():
    with pytest.raises(InputError, match="row 3, column 'id': empty"):
        joined(("a", ""), ("", BAD))


def test_references_may_have_a_column_of_that_name():
    references = keyed(table(("a", BAD), ("b", "")))
    assert sorted(references.rows) == ["a", "b"]
