"""Predictions beside their references, by study id; nothing is dropped in silence.

An id counts without the folders before it and without `.nii.gz`, `.nii` or `.b2nd`; the order of
rows means nothing. CT-RATE stores several reconstructions of one scan (`valid_1_a_1`,
`valid_1_a_2`) that share a report, so that its 3,039 rows are 1,564 scans: by unit "scan" the
reconstruction with the lowest number of the references stands for its scan, in predictions too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from uvlm.errors import InputError
from uvlm.evaluation.tables import ID_COLUMNS, PATIENT_COLUMNS, Cells, find_column
from uvlm.preprocessing.table import Table

__all__ = [
    "Item",
    "Joined",
    "Keyed",
    "Missing",
    "Unit",
    "finder",
    "join",
    "keyed",
    "patients_of",
    "scan_of",
    "stand_ins",
    "study_key",
]

Unit = Literal["scan", "series"]
Missing = Literal["wrong", "refuse"]
Item = Literal["study", "question"]

_MANY: Mapping[Item, str] = {"study": "studies", "question": "questions"}

SHOWN = 5
"""Ids named in a message; of more, the number is said."""

_SUFFIX = re.compile(r"(?:\.nii\.gz|\.nii|\.b2nd)$", re.IGNORECASE)
_CT_RATE = re.compile(r"(((?:train|valid)_\d+)_[a-z]+)(?:_(\d+))?")


def study_key(cell: str) -> str:
    """`a/valid_1_a_1.nii.gz` -> `valid_1_a_1`."""
    return _SUFFIX.sub("", re.split(r"[/\\]", cell.strip())[-1])


def scan_of(key: str) -> tuple[str, str, int] | None:
    """(patient, scan, reconstruction) of an id of CT-RATE, or None; 0 for a scan's own id."""
    found = _CT_RATE.fullmatch(key)
    return (found[2], found[1], int(found[3] or 0)) if found else None


@dataclass(frozen=True, kw_only=True)
class Keyed:
    """A table with the id of each row."""

    table: Table
    id_column: str
    rows: Mapping[str, tuple[int, Cells]]
    """Key of a study -> (row number, cells)."""

    item: Item = "study"
    """What a row is about, for messages."""

    notes: tuple[str, ...] = ()
    """On how it was read."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The studies to score, sorted by id, so that the order of files changes no result."""

    ids: tuple[str, ...]
    patients: tuple[str, ...]
    """Of each study; what is drawn in a resample."""

    references: tuple[tuple[int, Cells], ...]
    """(row number, cells)"""

    predictions: tuple[tuple[int, Cells] | None, ...]
    """None: there is no prediction, which counts as wrong."""

    unit: Unit
    notes: tuple[str, ...]
    counts: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def missing(self) -> tuple[bool, ...]:
        return tuple(prediction is None for prediction in self.predictions)

    def keep(self, wanted: Sequence[bool], reason: str) -> Joined:
        """Without the studies that are not wanted; `reason` ends "2 studies are left out: ..."."""
        chosen = [i for i, keep in enumerate(wanted) if keep]
        left_out = len(self) - len(chosen)
        if not left_out:
            return self
        predictions = tuple(self.predictions[i] for i in chosen)
        patients = tuple(self.patients[i] for i in chosen)
        counts = {**self.counts, **_count(patients, predictions)}
        counts["left_out"] = counts.get("left_out", 0) + left_out
        return replace(
            self,
            ids=tuple(self.ids[i] for i in chosen),
            patients=patients,
            references=tuple(self.references[i] for i in chosen),
            predictions=predictions,
            notes=(*self.notes, f"{_are(left_out, 'study')} left out: {reason}."),
            counts=counts,
        )


def keyed(
    table: Table,
    id_column: str | None = None,
    key_of: Callable[[str], str] = study_key,
    item: Item = "study",
) -> Keyed:
    """Find the ids of a table's rows.

    Args:
        key_of: what of a cell counts
        item: what a row is about

    Raises:
        InputError: no id column, no row, an empty id, two rows with one id, or two ids that differ
            only in case.
    """
    column = find_column(table, id_column, ID_COLUMNS, "the study's id, --id-column")
    if not table.rows:
        raise InputError.about(table.path, "a header and no row", f"Give one row per {item}.")
    rows: dict[str, tuple[int, Cells]] = {}
    twice: dict[str, list[int]] = {}
    for number, cells in table.rows:
        key = key_of(cells[column])
        if not key:
            raise table.error(number, column, "empty", f"Give every row the id of its {item}.")
        if key in rows:
            twice.setdefault(key, [rows[key][0]]).append(number)
        else:
            rows[key] = (number, cells)
    if twice:
        shown = [f"{key!r} in rows {', '.join(map(str, where))}" for key, where in twice.items()]
        raise InputError.about(
            table.path,
            f"{_number(len(twice), 'id')} more than once: {_some(shown)}",
            _ONE_ROW[item],
        )
    _refuse_case(table.path, rows, rows, item)
    return Keyed(table=table, id_column=column, rows=rows, item=item)


_ONE_ROW: Mapping[Item, str] = {
    "study": "Keep one row per study. Folders and .nii.gz, .nii, .b2nd are no part of an id.",
    "question": "Keep one row per question, or tell questions apart by an id in both tables "
    "(--question-column).",
}


def _refuse_case(
    path: Path, keys: Mapping[str, object], others: Mapping[str, object], item: Item
) -> None:
    """Refuse keys that another key equals but for case: nobody can tell if they are one study."""
    plain: dict[str, list[str]] = {}
    for other in others:
        plain.setdefault(other.casefold(), []).append(other)
    wrong = [
        f"{key!r} and {other!r}"
        for key in keys
        for other in plain.get(key.casefold(), ())
        if other != key and (other not in keys or key < other)
    ]
    if wrong:
        raise InputError.about(
            path,
            f"{_number(len(wrong), 'pair')} of ids that differ only in case: {_some(wrong)}",
            f"Write the id of a {item} the same way everywhere.",
        )


def join(
    references: Keyed,
    predictions: Keyed,
    *,
    unit: Unit | None = None,
    missing: Missing = "wrong",
    patient_column: str | None = None,
) -> Joined:
    """Put the prediction of each study beside its reference.

    Args:
        unit: "scan": one reconstruction stands for a scan, by the rule above; "series": every row
            counts. None: "scan" where an id of the references is one of CT-RATE's.
        missing: what becomes of a study without prediction: it counts as wrong, or all is refused.
        patient_column: of the references; None: `patient_id` and its like if there is one, else the
            patient in CT-RATE's ids, else every study is its own.

    Raises:
        InputError: no study has a prediction; ids that differ only in case; a missing prediction
            with "refuse"; an empty patient; a prediction both of a scan and its reconstruction.
    """
    _refuse_case(predictions.table.path, predictions.rows, references.rows, references.item)
    chosen_unit: Unit = unit or ("scan" if any(map(scan_of, references.rows)) else "series")
    chosen = sorted(stand_ins(references.rows) if chosen_unit == "scan" else references.rows)
    if chosen_unit == "scan":
        _refuse_two_of_a_scan(predictions)
    find = finder(predictions.rows, chosen_unit)
    found = {key: find(key) for key in chosen}
    matched = tuple(predictions.rows[f] if (f := found[key]) else None for key in chosen)
    if not any(matched):
        raise _nothing_in_common(references, predictions, chosen, chosen_unit)
    item = references.item
    lacking = [key for key in chosen if found[key] is None]
    if lacking and missing == "refuse":
        raise InputError.about(
            predictions.table.path,
            f"{_number(len(lacking), item, _MANY[item])} without prediction: {_some(lacking)}",
            "Predict them, or let them count as wrong (--missing wrong).",
        )
    rows = tuple(references.rows[key] for key in chosen)
    patients = patients_of(references.table, rows, chosen, patient_column)
    counts = {
        **_count(patients, matched),
        "reference_rows": len(references.rows),
        "reconstructions_left_out": len(references.rows) - len(chosen),
        "unknown_predictions": len(unknown := _unknown(references, predictions, chosen_unit)),
    }
    counts["unused_predictions"] = len(predictions.rows) - len(unknown) - len(chosen) + len(lacking)
    other = {scan[1] for scan in map(scan_of, predictions.rows) if scan}
    elsewhere = sum((scan := scan_of(key)) is not None and scan[1] in other for key in lacking)
    return Joined(
        ids=tuple(chosen),
        patients=patients,
        references=rows,
        predictions=matched,
        unit=chosen_unit,
        notes=(*_notes(counts, chosen_unit, elsewhere, item), *predictions.notes),
        counts=counts,
    )


def _refuse_two_of_a_scan(predictions: Keyed) -> None:
    """A row about a scan and one about its reconstruction: which is meant, nobody can tell."""
    own = {scan[1]: key for key in predictions.rows if (scan := scan_of(key)) and scan[2]}
    twice = [f"{key!r} and {own[key]!r}" for key in predictions.rows if key in own]
    if twice:
        raise InputError.about(
            predictions.table.path,
            f"{_number(len(twice), 'scan')} and a reconstruction of it: {_some(twice)}",
            "Keep one row of the two.",
        )


def _nothing_in_common(
    references: Keyed, predictions: Keyed, chosen: Sequence[str], unit: Unit
) -> InputError:
    """Why no prediction is used: other reconstructions, or other ids altogether."""
    path, total = predictions.table.path, len(predictions.rows)
    scans = {scan[1]: key for key in chosen if (scan := scan_of(key))} if unit == "scan" else {}
    others = {key: scans[s[1]] for key in predictions.rows if (s := scan_of(key)) and s[1] in scans}
    if others:
        own, stand_in = next(iter(others.items()))
        return InputError.about(
            path,
            f"{len(others)} of its {_number(total, 'id')} are of the scans of "
            f"{references.table.path}, but of reconstructions that do not stand for them: "
            f"{own!r}, where the lowest among the references is {stand_in!r}",
            "Predict that reconstruction of each scan, name the predictions by their scans "
            f"({own.rpartition('_')[0]!r}), or give references of the predicted "
            "reconstructions only.",
        )
    if references.item == "question":
        remedy = (
            f"Questions meet by {references.id_column}: write it alike in both tables, or name "
            "the column of the question's id in both (--question-column)."
        )
    elif references.table.path.is_dir() and path.is_dir():
        remedy = "Give the masks of a study the same name in both folders."
    else:
        remedy = "Check both id columns (--id-column, --prediction-id-column)."
    return InputError.about(
        path,
        f"none of its {_number(total, 'id')} is among those of {references.table.path}, "
        f"such as {_some([repr(key) for key in chosen[:2]])}",
        remedy,
    )


def stand_ins(keys: Iterable[str]) -> list[str]:
    """Of each scan the reconstruction with the lowest number, and every id that is none of
    CT-RATE's."""
    lowest: dict[str, tuple[int, str]] = {}
    for key in keys:
        scan = scan_of(key)
        name, number = (scan[1], scan[2]) if scan else (key, 0)
        lowest[name] = min(lowest.get(name, (number, key)), (number, key))
    return [key for _, key in lowest.values()]


def finder(rows: Mapping[str, object], unit: Unit) -> Callable[[str], str | None]:
    """Key of a reference -> key of its prediction. By scan, a row about the scan serves each of its
    reconstructions, and the lowest reconstruction serves a reference about the scan."""
    by_scan = {scan[1]: key for key in stand_ins(rows) if (scan := scan_of(key))}

    def find(key: str) -> str | None:
        if key in rows:
            return key
        scan = scan_of(key) if unit == "scan" else None
        if scan is None:
            return None
        if scan[2] == 0:
            return by_scan.get(scan[1])
        return scan[1] if scan[1] in rows else None

    return find


def _unknown(references: Keyed, predictions: Keyed, unit: Unit) -> list[str]:
    scans = {scan[1] for scan in map(scan_of, references.rows) if scan} if unit == "scan" else set()
    return [
        key
        for key in predictions.rows
        if key not in references.rows and not ((scan := scan_of(key)) and scan[1] in scans)
    ]


def patients_of(
    table: Table,
    rows: Sequence[tuple[int, Cells]],
    studies: Sequence[str],
    column: str | None = None,
) -> tuple[str, ...]:
    """The patient of each row, whose study's id is given; see `join`.

    Raises:
        InputError: there is no such column, or a cell of it is empty.
    """
    if column is not None:
        table.require([column])
    else:
        column = next((name for name in PATIENT_COLUMNS if name in table.columns), None)
    if column is None:
        return tuple(scan[0] if (scan := scan_of(key)) else key for key in studies)
    for number, cells in rows:
        if not cells[column]:
            raise table.error(number, column, "empty", "Name the patient of every study.")
    return tuple(cells[column] for _, cells in rows)


def _count(patients: Sequence[str], predictions: Sequence[object | None]) -> dict[str, int]:
    return {
        "studies": len(patients),
        "patients": len(set(patients)),
        "missing_predictions": sum(prediction is None for prediction in predictions),
    }


def _notes(counts: Mapping[str, int], unit: Unit, elsewhere: int, item: Item) -> list[str]:
    notes = []
    if unit == "scan" and counts["reconstructions_left_out"]:
        notes.append(
            f"{counts['reference_rows']} rows are {_number(counts['studies'], 'scan')}: the "
            "reconstruction with the lowest number among the references stands for its scan."
        )
    if counts["missing_predictions"]:
        notes.append(f"{_are(counts['missing_predictions'], item)} without prediction.")
    if elsewhere:
        notes.append(
            f"{elsewhere} of them: one for another reconstruction of the scan, which the rule does "
            "not take."
        )
    if counts["unused_predictions"]:
        number = _number(counts["unused_predictions"], "prediction")
        notes.append(f"{number} of further reconstructions of these scans not used.")
    if counts["unknown_predictions"]:
        number = _number(counts["unknown_predictions"], "prediction")
        notes.append(f"{number} of {_MANY[item]} that are not among the references left out.")
    return notes


def _are(number: int, item: Item) -> str:
    return f"1 {item} is" if number == 1 else f"{number} {_MANY[item]} are"


def _number(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
