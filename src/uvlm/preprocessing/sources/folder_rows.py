"""From the rows of the user's table, or the files alone, to studies and their masks.

Opens no volume. Masks are one multi-label file per study, or one folder of structure files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.sources.folder_columns import Roles, report_of
from uvlm.preprocessing.sources.folder_files import Files, Index, find_files, is_absolute, stem_of
from uvlm.preprocessing.sources.folder_table import label_value, parse_split
from uvlm.preprocessing.sources.structures import number_masks
from uvlm.preprocessing.study import Exclusion, Rejection, Scope, Study, VolumeFile
from uvlm.preprocessing.table import Table, quoted

__all__ = ["Draft", "Rows", "from_files", "from_table", "inside", "with_masks"]

Cells = Mapping[str, str]

LONGEST_ID = 255
"""Characters; no file has a longer name, and what is longer may be a report."""

MASK_NAMES = ("labels.json", "dataset.json")
"""Where names of values are looked for beside the masks."""


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


def _no_patients(why: str, which: str = "every study") -> str:
    return (
        f"Patients are unknown ({why}): {which} counts as a patient of its own, and scans of one "
        "patient may end up on both sides of the split."
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
        warnings=tuple(_warnings(table, roles, index)),
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
        if len(value) > LONGEST_ID:
            found, remedy = f"a text {quoted(value)}", "Name the column of identifiers."
            raise table.error(number, column, found, remedy)
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
    matches = index.find(name) or index.find(index.with_zeros(name) or "")
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(files.relative(path) for path in matches[:3])
        return (
            f"{len(matches)} CTs may be {name!r}: {shown}. If some are masks, name their folder "
            "with --masks; otherwise give a column of paths"
        )
    return f"no file or folder named {name!r}. Correct the name, or remove the row"


def inside(root: Path, relative: str) -> Path | None:
    """A path below `root` that exists, also through the user's links; None for any other."""
    path = root / relative.replace("\\", "/")
    if not path.is_relative_to(root) or ".." in path.relative_to(root).parts:
        return None
    try:
        return path if path.exists() else None
    except (OSError, ValueError):
        return None


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


def _warnings(table: Table, roles: Roles, index: Index) -> list[str]:
    warnings = []
    patient, name = roles.single.get("patient"), roles.single.get("id")
    empty = [number for number, cells in table.rows if patient and not cells[patient]]
    if patient is None:
        warnings.append(_no_patients("no column names them"))
    if empty:
        why = f"{len(empty)} cells of column {patient!r} are empty, first in row {empty[0]}"
        warnings.append(_no_patients(why, "each of these studies"))
    by_name = name if "path" not in roles.single else None
    short = [number for number, cells in table.rows if by_name and index.with_zeros(cells[by_name])]
    if short:
        warnings.append(
            f"{len(short)} numbers of column {name!r} (first in row {short[0]}) lack leading "
            "zeros, as Excel drops them; they were met with the CTs whose names have them."
        )
    return warnings


@dataclass(frozen=True)
class MaskFolder:
    """Where the masks are."""

    root: Path
    index: Index
    names: Path | None
    """JSON file with the names of the values; None where masks are folders of structures."""

    def find(self, keys: Iterable[str]) -> tuple[Path, ...]:
        """What the first of `keys` that means anything may mean."""
        return next((found for key in keys if (found := self.index.find(key))), ())


def with_masks(
    drafts: Sequence[Draft], root: Path, masks: Path | None, names: Path | None
) -> tuple[tuple[Study, ...], tuple[Scope, ...], tuple[Rejection, ...]]:
    """The studies with their masks, how these are numbered, and the studies that are unclear.

    A study without a mask stays, without one.

    Args:
        root: of the CTs; paths of a mask column lie below `masks`, or below this without it.

    Raises:
        CatalogError: no usable mask at all.
    """
    by_column = any(draft.mask_path for draft in drafts)
    if masks is None and not by_column:
        return tuple(draft.study for draft in drafts), (), ()
    where = masks or root
    opened = None if by_column or masks is None else open_masks(masks, names)
    paths: dict[str, Path | None] = {}
    rejected = []
    for draft in drafts:
        found = _mask_of(draft, where, opened)
        if isinstance(found, str):
            name = draft.study.series_id
            error = f"{where}: {found}"
            rejected.append(Rejection(series_id=name, source=where, error=error))
        else:
            paths[draft.study.series_id] = found
    present = [path for path in paths.values() if path is not None]
    if not present:
        raise CatalogError.about(
            where,
            "no mask there is named as any of the CTs",
            "Name the masks as the CTs, or give their paths in a column (--mask-column).",
        )
    sources, scope = number_masks(present, names if opened is None else opened.names, where)
    studies = []
    for draft in drafts:
        path = paths.get(draft.study.series_id)
        if draft.study.series_id in paths:
            studies.append(replace(draft.study, mask=None if path is None else sources[path]))
    return tuple(studies), (scope,), tuple(rejected)


def _mask_of(draft: Draft, where: Path, opened: MaskFolder | None) -> Path | str | None:
    """The mask of a study, None where there is none, or why it is unclear."""
    name = draft.study.series_id
    if opened is None:
        path = inside(where, draft.mask_path) if draft.mask_path else None
        if draft.mask_path and path is None:
            return f"the path of the mask of {name} leads nowhere below it. Correct it."
        return path
    found = opened.find(draft.mask_keys)
    if len(found) > 1:
        shown = ", ".join(path.relative_to(where).as_posix() for path in found[:3])
        return f"{len(found)} masks may be that of {name}: {shown}. Use --mask-column."
    return found[0] if found else None


def open_masks(root: Path, names: Path | None = None) -> MaskFolder:
    """A folder of masks: of multi-label files where the values have names, else of folders.

    Raises:
        CatalogError: no such folder, no mask in it, or files of unknown values.
    """
    files = find_files(root).volumes
    if not files:
        raise CatalogError.about(root, "no mask file in it", "Check --masks.")
    names = names or next((root / name for name in MASK_NAMES if (root / name).is_file()), None)
    if names is not None:
        return MaskFolder(root, Index(root, files), names)
    if any(path.parent == root for path in files):
        raise CatalogError.about(
            root,
            "mask files without the names of their values",
            'Give them with --mask-labels: a JSON such as {"1": "liver"}, or nnU-Net\'s '
            "dataset.json.",
        )
    return MaskFolder(root, Index(root, sorted({path.parent for path in files})), None)
