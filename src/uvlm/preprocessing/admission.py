"""Which studies of a listing may enter a dataset, and in which split: checked before any work.

A study whose identifiers cannot be file names is rejected and the rest goes on. What would make
the whole dataset wrong (one identifier for two studies, a patient on both sides of a split) stops
the run, for no choice made here would be right.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.catalog import IDS, PATHS, SPLITS, check_id
from uvlm.preprocessing.study import Listing, Rejection, Study
from uvlm.preprocessing.table import read_table

__all__ = ["Admitted", "admit", "read_held_out"]


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """What goes on to be prepared."""

    studies: tuple[Study, ...]
    """With their final split."""

    rejected: tuple[Rejection, ...]
    warnings: tuple[str, ...]


def admit(listing: Listing, held_out: frozenset[str] = frozenset()) -> Admitted:
    """Check identifiers and splits.

    Args:
        held_out: series, cases or patients; all studies of these patients get the split "test".

    Raises:
        CatalogError: a series twice, or two that differ only in case; a patient in two splits; a
            column twice; none of the held-out ones known.
    """
    _refuse_columns(listing)
    studies, rejected = [], []
    for study in listing.studies:
        problem = _problem(study)
        if problem is None:
            studies.append(study)
        else:
            rejected.append(
                Rejection(series_id=study.series_id, source=_source(study), error=problem)
            )
    _refuse_duplicates(listing.name, studies)
    warnings = _unknown_held_out(listing, held_out)
    studies = _one_split_per_patient(listing.name, _hold_out(studies, held_out))
    return Admitted(studies=tuple(studies), rejected=tuple(rejected), warnings=warnings)


def _source(study: Study) -> Path:
    return next(iter(study.image.files), Path(study.series_id))


def _problem(study: Study) -> str | None:
    for column in IDS[:3]:
        value = getattr(study, column)
        found = check_id(value)
        if found:
            return (
                f"{_source(study)}: {column} {value!r} {found}. Use letters, digits, - and _ for "
                "what becomes part of a file name."
            )
    return None


def _refuse_columns(listing: Listing) -> None:
    seen: set[str] = set()
    for column in (*IDS, *PATHS, *listing.labels, "report", *listing.extra_columns):
        if column in seen or not column.strip():
            raise CatalogError.about(
                listing.name, f"the column {column!r} twice or without a name", "Rename it."
            )
        seen.add(column)


def _refuse_duplicates(name: str, studies: Iterable[Study]) -> None:
    """Two files of one name, also where a file system ignores case or composes accents."""
    seen: dict[str, Study] = {}
    for study in studies:
        key = unicodedata.normalize("NFC", study.series_id).casefold()
        other = seen.setdefault(key, study)
        if other is study:
            continue
        same = other.series_id == study.series_id
        found = (
            f"two series {study.series_id!r}"
            if same
            else f"{other.series_id!r} and {study.series_id!r}, which differ only in case"
        )
        raise CatalogError.about(
            name,
            f"{found}: {_source(other)} and {_source(study)}",
            "Give every series an identifier of its own, or remove one of the two.",
        )


def _hold_out(studies: Sequence[Study], held_out: frozenset[str]) -> list[Study]:
    patients = {
        study.patient_id
        for study in studies
        if not held_out.isdisjoint((study.series_id, study.case_id, study.patient_id))
    }
    return [
        replace(study, split="test") if study.patient_id in patients else study for study in studies
    ]


def _unknown_held_out(listing: Listing, held_out: frozenset[str]) -> tuple[str, ...]:
    if not held_out:
        return ()
    known = {
        name
        for study in listing.studies
        for name in (study.series_id, study.case_id, study.patient_id)
    }
    left = held_out - known
    if len(left) == len(held_out):
        raise CatalogError.about(
            listing.name,
            f"none of the {len(held_out)} studies to hold out is known, such as {min(left)!r}",
            "Name series, cases or patients as this dataset does, one per line.",
        )
    # Those that are left out anyway need no warning.
    left -= {each.series_id for each in listing.rejected}
    left -= {each.series_id for each in listing.excluded}
    if not left:
        return ()
    return (f"{len(left)} of {len(held_out)} held-out names are unknown, such as {min(left)!r}.",)


def _one_split_per_patient(name: str, studies: Iterable[Study]) -> list[Study]:
    """A study without a split follows the others of its patient."""
    studies = list(studies)
    first: dict[str, Study] = {}
    for study in studies:
        if study.split is None:
            continue
        if study.split not in SPLITS:
            raise CatalogError.about(
                _source(study), f"the split {study.split!r}", f"Use one of {', '.join(SPLITS)}."
            )
        other = first.setdefault(study.patient_id, study)
        if other.split != study.split:
            raise CatalogError.about(
                name,
                f"patient {study.patient_id!r} is in two splits: {other.series_id!r} in "
                f"{other.split}, {study.series_id!r} in {study.split}",
                "Correct the split, or name the patient in --held-out, which makes all its "
                "studies test studies.",
            )
    return [
        replace(study, split=first[study.patient_id].split) if study.patient_id in first else study
        for study in studies
    ]


def read_held_out(path: Path) -> frozenset[str]:
    """Series, case or patient identifiers to keep out of training.

    Args:
        path: a text file with one per line (`#` starts a comment), or a `.csv` with a column
            series_id, case_id or patient_id, of which the first found counts. A `.nii.gz` at the
            end of a name is no part of it.

    Raises:
        CatalogError: the file cannot be read, or names nothing.
    """
    if path.suffix.lower() == ".csv":
        table = read_table(path)
        column = next((name for name in IDS[:3] if name in table.columns), None)
        if column is None:
            raise CatalogError.about(
                path,
                f"row 1: no column {', '.join(IDS[:3])}",
                f"Name one of them so. Columns found: {', '.join(table.columns)}.",
            )
        names = [cells[column] for _, cells in table.rows]
    else:
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CatalogError.about(
                path, f"cannot be read ({error})", "Give a text file, one name per line."
            ) from None
        names = [line.split("#")[0].strip() for line in lines]
    found = frozenset(name.removesuffix(".gz").removesuffix(".nii") for name in names if name)
    if not found:
        raise CatalogError.about(path, "it names no study", "Give one name per line.")
    return found
