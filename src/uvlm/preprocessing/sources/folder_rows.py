"""From the rows of the user's table, or the files alone, to studies. Opens no volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uvlm.preprocessing.sources.folder_columns import Roles, report_of
from uvlm.preprocessing.sources.folder_files import Files, Index, is_absolute, stem_of
from uvlm.preprocessing.sources.folder_table import label_value, parse_split
from uvlm.preprocessing.study import Exclusion, Rejection, Study, VolumeFile
from uvlm.preprocessing.table import Table

__all__ = ["Draft", "Rows", "from_files", "from_table", "inside"]

Cells = Mapping[str, str]


@dataclass(frozen=True)
class Draft:
    """A study before its mask is known."""

    study: Study
    mask_keys: tuple[str, ...]
    """Names its mask may have, likeliest first."""

    mask_path: str = ""
    """What the mask column says."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What became of all rows and files."""

    drafts: tuple[Draft, ...]
    roles: Roles
    rejected: tuple[Rejection, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    warnings: tuple[str, ...] = ()


def from_files(files: Files) -> Rows:
    """Every CT is a study, named after its file or folder, or its path where names repeat."""
    stems = Counter(stem_of(path.name).casefold() for path in files.units)
    drafts = []
    for path in files.units:
        relative = files.relative(path) if path != files.root else path.resolve().name
        stem = stem_of(relative.rsplit("/", 1)[-1])
        single = stems[stem.casefold()] == 1
        name = stem if single else stem_of(relative).replace("/", "_")
        study = Study(series_id=name, case_id=name, patient_id=name, image=VolumeFile(path))
        drafts.append(Draft(study, (relative, stem_of(relative), name)))
    return Rows(
        drafts=tuple(drafts), roles=Roles(single={}), warnings=(_no_patients("there is no table"),)
    )


def _no_patients(why: str) -> str:
    return (
        f"Patients are unknown ({why}): every study counts as a patient of its own, and scans of "
        "one patient may end up on both sides of the split."
    )


def from_table(table: Table, roles: Roles, files: Files) -> Rows:
    """One study per row whose file is found.

    Raises:
        CatalogError: an id twice, a cell that is no label or split, or a patient in two splits.
    """
    index = files.index()
    ids = _ids(table, roles)
    _refuse_split_patients(table, roles)
    drafts: list[Draft] = []
    rejected: list[Rejection] = []
    claimed: dict[tuple[Path, str], int] = {}
    used: set[Path] = set()
    for number, cells in table.rows:
        found = _locate(number, cells, roles, files, index)
        if not isinstance(found, str):
            used.add(found)
            first = claimed.setdefault((found, _cell(cells, roles, "series")), number)
            if first != number:
                found = f"names the same CT as row {first}. Correct one of the two"
        # Before any rejection, so that a wrong cell is found in every row.
        draft = None
        if not isinstance(found, str):
            draft = _draft(table, number, cells, roles, files, ids[number], found)
            if roles.report and not draft.study.report:
                found = "no report text. Fill it in, or prepare without it (--report-column -)"
        if isinstance(found, str) or draft is None:
            error = f"{table.path}: row {number}: {found}."
            rejected.append(Rejection(series_id=ids[number], source=table.path, error=error))
        else:
            drafts.append(draft)
    excluded = tuple(
        Exclusion(series_id=files.relative(unit), reason="no row in the table")
        for unit in files.units
        if not used & {unit, *unit.parents}
    )
    return Rows(
        drafts=tuple(drafts),
        roles=roles,
        rejected=tuple(rejected),
        excluded=excluded,
        warnings=tuple(_warnings(table, roles)),
    )


def _cell(cells: Cells, roles: Roles, role: str) -> str:
    column = roles.single.get(role)
    return "" if column is None else cells[column]


def _ids(table: Table, roles: Roles) -> dict[int, str]:
    """Row number to series identifier."""
    role = "id" if "id" in roles.single else "path"
    column = roles.single[role]
    ids: dict[int, str] = {}
    seen: dict[str, int] = {}
    for number, cells in table.rows:
        value = cells[column].replace("\\", "/").removeprefix("./").rstrip("/")
        if is_absolute(value):
            value = value.rsplit("/", 1)[-1]
        name = stem_of(value).replace("/", "_")
        # Not told apart by case: some file systems cannot.
        first = seen.setdefault(name.casefold(), number) if name else number
        if first != number:
            raise table.error(
                number, column, f"{name!r} twice (first in row {first})", "Remove one of the rows."
            )
        ids[number] = name
    return ids


def _refuse_split_patients(table: Table, roles: Roles) -> None:
    """A patient on both sides of a split would be trained on and tested on."""
    patient, split = roles.single.get("patient"), roles.single.get("split")
    if split is None:
        return
    seen: dict[str, tuple[str | None, int]] = {}
    for number, cells in table.rows:
        value = parse_split(table, number, split, cells[split])
        who = cells[patient] if patient is not None else ""
        if not who:
            continue
        before, row = seen.setdefault(who, (value, number))
        if before != value:
            raise table.error(
                number,
                split,
                f"the patient of row {row} is in {before or 'no split'} there and in "
                f"{value or 'no split'} here",
                "Put all scans of a patient into one split, or leave the column out "
                "(--split-column -).",
            )


def _locate(number: int, cells: Cells, roles: Roles, files: Files, index: Index) -> Path | str:
    """The CT of a row, or why there is none."""
    path = _cell(cells, roles, "path")
    if "path" in roles.single:
        if not path:
            return "no path in it. Fill it in, or remove the row"
        found = inside(files.root, path)
        return found if found is not None else "its path leads nowhere below INPUT. Correct it"
    name = _cell(cells, roles, "id")
    if not name:
        return "no id in it. Fill it in, or remove the row"
    matches = index.find(name)
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(files.relative(path) for path in matches[:3])
        return (
            f"{len(matches)} CTs may be {name!r}: {shown}. If some are masks, name their folder "
            "with --masks; otherwise give a column of paths"
        )
    near = index.nearest(name)
    hint = f"; there is {near!r}, so leading zeros may be lost in the table" if near else ""
    return f"no file or folder named {name!r}{hint}. Correct the name, or remove the row"


def inside(root: Path, relative: str) -> Path | None:
    """A path below `root` that exists; None for any other."""
    path = root / relative.replace("\\", "/")
    try:
        exists = path.exists() and path.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError):
        return None
    return path if exists and ".." not in path.relative_to(root).parts else None


def _draft(
    table: Table, number: int, cells: Cells, roles: Roles, files: Files, name: str, path: Path
) -> Draft:
    case = _cell(cells, roles, "case") or name
    split = roles.single.get("split")
    study = Study(
        series_id=name,
        case_id=case,
        patient_id=_cell(cells, roles, "patient") or case,
        split=None if split is None else parse_split(table, number, split, cells[split]),
        image=VolumeFile(path, _cell(cells, roles, "series") or None),
        labels={
            column: label_value(table, number, column, cells[column]) for column in roles.labels
        },
        report=report_of(roles.report, cells),
    )
    relative = files.relative(path) if path != files.root else name
    keys = (relative, stem_of(relative), name, _cell(cells, roles, "id"))
    return Draft(study, tuple(key for key in keys if key), _cell(cells, roles, "mask"))


def _warnings(table: Table, roles: Roles) -> list[str]:
    column = roles.single.get("patient")
    if column is None:
        return [_no_patients("no column names them")]
    empty = sum(not cells[column] for _, cells in table.rows)
    return [_no_patients(f"{empty} rows of column {column!r} are empty")] if empty else []
