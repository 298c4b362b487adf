"""Training reports for the floors, less those of studies and patients that are scored.

A floor made from the scored references themselves would not be one: it would know the answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from uvlm.errors import InputError
from uvlm.evaluation.joining import Joined, scan_of, study_key
from uvlm.evaluation.tables import ID_COLUMNS, PATIENT_COLUMNS, Cells
from uvlm.preprocessing.split import HELD_OUT
from uvlm.preprocessing.table import Table

__all__ = ["training_rows"]


def training_rows(
    table: Table, joined: Joined, id_column: str | None, patient_column: str | None
) -> tuple[list[Cells], str]:
    """Rows that may lend a report, and a sentence on those that may not ("" if there is none).

    Args:
        id_column, patient_column: looked for first, before the known ones

    Raises:
        InputError: no row is left.
    """
    own_id = _column(table, id_column, ID_COLUMNS)
    own_patient = _column(table, patient_column, PATIENT_COLUMNS)
    scored: set[tuple[str, str]] = set()
    for key, patient in zip(joined.ids, joined.patients, strict=True):
        # Without a column of patients each study is its own: its id is no patient's name.
        scored |= _marks(key, "" if patient == key else patient)
    # In a catalog the studies that are held out, and may be the scored ones, lend no report.
    rows = [cells for _, cells in table.rows if cells.get("split") not in HELD_OUT]
    kept: list[Cells] = [
        cells
        for cells in rows
        if scored.isdisjoint(
            _marks(
                study_key(cells[own_id]) if own_id else "",
                cells[own_patient] if own_patient else "",
            )
        )
    ]
    if not kept:
        raise InputError.about(
            table.path,
            "every row is of a study or patient that is scored, or held out",
            "Give training reports.",
        )
    if own_id is None and own_patient is None:
        return kept, (
            "The training table has no column of ids or patients: nothing says that none of its "
            "reports is a scored one."
        )
    left_out = len(rows) - len(kept)
    if not left_out:
        return kept, ""
    what = "1 training row is" if left_out == 1 else f"{left_out} training rows are"
    return kept, f"{what} left out of the floors: the study or the patient is scored."


def _column(table: Table, named: str | None, known: Sequence[str]) -> str | None:
    return next((c for c in (named, *known) if c is not None and c in table.columns), None)


def _marks(key: str, patient: str) -> set[tuple[str, str]]:
    """What two rows of one study or one patient share."""
    scan = scan_of(key)
    marks = {("study", key.casefold()), ("patient", patient.casefold())}
    if scan:
        marks.add(("patient of CT-RATE", scan[0]))
    return {(kind, mark) for kind, mark in marks if mark}
