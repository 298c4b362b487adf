"""Predictions that name an error, as a run over many studies leaves them, are none.

A column `error` that is not empty says that its row has no prediction. Such a row is left out, so
that its study is missing as if it were not there. A later row about the study takes its place:
`results.jsonl` has both lines where a study was tried again. Behind a prediction an error is as
doubtful as a second prediction, and refused like one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from uvlm.errors import InputError
from uvlm.evaluation.joining import Item, Keyed, keyed, study_key
from uvlm.evaluation.tables import ID_COLUMNS, find_column
from uvlm.preprocessing.table import Table

__all__ = ["ERROR", "keyed_predictions"]

ERROR = "error"
"""The column."""


def keyed_predictions(
    table: Table,
    id_column: str | None = None,
    key_of: Callable[[str], str] = study_key,
    item: Item = "study",
) -> Keyed:
    """As `keyed`, without the rows that name an error; how many failed is among the notes.

    Raises:
        InputError: as `keyed`, or every row names an error.
    """
    if ERROR not in table.columns or not table.rows:
        return keyed(table, id_column, key_of, item)
    column = find_column(table, id_column, ID_COLUMNS, "the study's id, --id-column")
    kept, there, failed = [], set(), set()
    for row in table.rows:
        key = key_of(row[1][column])
        if row[1][ERROR] and key and key not in there:
            failed.add(key)
        else:
            kept.append(row)
            there.add(key)
    if not kept:
        raise InputError.about(
            table.path,
            f"no prediction: every row has something in column {ERROR!r}",
            "Predict again, or rename the column if it says something else.",
        )
    found = keyed(replace(table, rows=tuple(kept)), column, key_of, item)
    number = len(failed - there)
    if not number:
        return found
    one = f"1 prediction names an error (column {ERROR!r}) and counts as missing."
    many = f"{number} predictions name an error (column {ERROR!r}) and count as missing."
    return replace(found, notes=(one if number == 1 else many,))
