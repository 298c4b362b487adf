"""What a batch consists of: files, folders of many studies and tables of them, as a list of items.

A table is a CSV file with a column of paths: a catalog of `uvlm prepare`, or any other. A folder is
walked; every image file in it is a study, and every folder of DICOM files, of which those of one
examination are one study, as when that folder is given itself. A row that cannot be a study is an
item all the same, whose fault is recorded while the others go on. No torch import.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from uvlm.errors import CatalogError, InputError
from uvlm.inference.batch.results import RESULTS, RUN
from uvlm.inference.writer import SUFFIXES, study_name
from uvlm.preprocessing.catalog import check_id
from uvlm.preprocessing.disk import signature_of
from uvlm.preprocessing.table import Table, find_delimiter, read_table

__all__ = ["ID_COLUMNS", "PATH_COLUMNS", "Item", "find_items", "is_single"]

ID_COLUMNS = ("series_id", "study_id", "study", "case_id", "id")
PATH_COLUMNS = ("blosc2_path", "path", "image_path", "image", "file", "file_path", "filename")
TABLES = (".csv", ".tsv")
MASK = "_mask.nii.gz"
IMAGES = tuple(suffix for suffix in SUFFIXES if suffix != ".dcm")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One study of a batch."""

    id: str
    """Names its outputs; fit for a file name."""

    path: Path
    fault: str = ""
    """Why the row of a table cannot be done; then it has no signature."""

    signature: str = ""
    """Hash of names, sizes and times of the study's files; see `signed`."""

    again: bool = False
    """A worker died over it, maybe while it wrote; what lies there of it is no one else's."""

    def signed(self) -> Item:
        """With the signature of its files as they are now."""
        if self.fault:
            return self
        return replace(self, signature=signature_of([Path(os.path.abspath(self.path))]))

    @property
    def name(self) -> str:
        """Of the file or folder."""
        return self.path.name or self.path.resolve().name


def is_single(items: Sequence[Item], inputs: Sequence[Path]) -> bool:
    """Whether one study was given as itself, not in a table or a folder of studies."""
    return len(inputs) == len(items) == 1 and items[0].path == inputs[0] and not items[0].fault


def find_items(
    inputs: Sequence[Path], out: Path | None = None, *, id_column: str | None = None
) -> list[Item]:
    """The studies of `inputs`, in their order; folders by name.

    A row of a table without a path, with an identifier that is unfit for a file name or one that
    another study has is an item with a fault, under an identifier made of the row's number.

    Args:
        out: a folder that is no input, though it may lie in one
        id_column: where tables have the identifier; None: in the first of `ID_COLUMNS` they
            have, and without any the file's name stands for it

    Raises:
        CatalogError: a table cannot be read, lacks a column of paths or has no rows.
        InputError: a file's own name is unfit for others, or two files would be written as one.
    """
    items: list[Item | _Row] = []
    for path in inputs:
        if path.suffix.lower() in TABLES and path.is_file():
            items += _of_table(path, id_column)
        elif path.is_dir():
            items += _named(path, _of_folder(path, out))
        else:
            items.append(_item(path))
    return _distinct(items)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Of a table, until it is known which studies there are beside it."""

    id: str
    """"" if unfit for a file name."""

    path: Path
    fault: str
    table: Table
    number: int
    column: str
    """Of the identifier, or of the path whose name stands for it."""

    @property
    def place(self) -> str:
        return f"{self.table.path}, row {self.number}"

    def item(self, owners: dict[str, Item | _Row]) -> Item:
        """Under its identifier if that is its own; else under a free one, which it then owns."""
        owner = owners.get(_key(self.id))
        if owner is self:
            return Item(id=self.id, path=self.path, fault=self.fault)
        fault = self.fault
        if owner is not None:
            other = owner.place if isinstance(owner, _Row) else owner.path
            fault = fault or str(
                self.table.error(
                    self.number,
                    self.column,
                    f"{self.id!r} is the identifier of {other} already",
                    "Give each study its own; upper and lower case count as the same.",
                )
            )
        name = self._free(owners)
        owners[_key(name)] = self
        return Item(id=name, path=self.path, fault=fault)

    def _free(self, taken: Mapping[str, Item | _Row]) -> str:
        name = f"row{self.number}"
        if self.id and check_id(f"{self.id}_{name}") is None:
            name = f"{self.id}_{name}"
        numbered = (f"{name}_{i}" if i > 1 else name for i in count(1))
        return next(each for each in numbered if _key(each) not in taken)


def _key(name: str) -> str:
    """What must differ: on many disks `A.json` is `a.json`."""
    return name.casefold()


def _distinct(found: Sequence[Item | _Row]) -> list[Item]:
    """All of them, no two of one identifier, which is that of the first study that has it."""
    owners: dict[str, Item | _Row] = {}
    # What cannot give way comes first, so that the order of inputs does not matter.
    for each in sorted(found, key=lambda each: isinstance(each, _Row)):
        first = owners.setdefault(_key(each.id), each) if each.id else each
        if isinstance(each, Item) and first is not each:
            raise InputError(
                f"{first.path} and {each.path}: both would be written as {each.id!r}. Rename "
                "one, give a CSV file with identifiers, or use two runs with different --out."
            )
    return [each if isinstance(each, Item) else each.item(owners) for each in found]


def _named(folder: Path, found: Sequence[Path]) -> list[Item]:
    """Under the names of files; where these are alike, as of `P1/ct.nii.gz` and `P2/ct.nii.gz`,
    with the folders below `folder` before them: `P1_ct`."""
    times = Counter(_key(study_name(path)) for path in found)
    items = []
    for path in found:
        name = study_name(path)
        above = path.relative_to(folder).parts[:-1] if times[_key(name)] > 1 else ()
        items.append(_item(path, "_".join([*above, name])))
    return items


def _item(path: Path, name: str | None = None) -> Item:
    name = study_name(path) if name is None else name
    problem = check_id(name)
    if problem:
        raise InputError.about(path, f"its name {problem}", "Rename it.")
    return Item(id=name, path=path)


def _of_table(path: Path, id_column: str | None) -> list[_Row]:
    table = _read(path)
    paths = next((name for name in PATH_COLUMNS if name in table.columns), None)
    if paths is None:
        raise CatalogError.about(
            path,
            f"no column of paths; found: {', '.join(table.columns)}",
            f"Name one of them {' or '.join(PATH_COLUMNS[:2])}.",
        )
    if id_column is not None:
        table.require([id_column])
    ids = id_column or next((name for name in ID_COLUMNS if name in table.columns), None)
    if not table.rows:
        raise CatalogError.about(path, "no rows", "Give a table with one study per row.")
    return [_of_row(table, number, cells, paths, ids) for number, cells in table.rows]


def _read(path: Path) -> Table:
    try:
        delimiter = find_delimiter(path.read_text("utf-8-sig"))
    except (OSError, UnicodeError):
        delimiter = ","  # what is wrong, `read_table` says
    return read_table(path, delimiter=delimiter)


def _of_row(table: Table, number: int, cells: dict[str, str], paths: str, ids: str | None) -> _Row:
    # No file's name has a zero byte, and asking for such a file raises no OSError.
    given = bool(cells[paths]) and "\0" not in cells[paths]
    path = table.path.parent / cells[paths] if given else table.path
    column, faults = ids or paths, []
    if not given:
        faults.append(table.error(number, paths, "no path", "Fill it in, or remove the row."))
    name = ""
    if given or ids is not None:
        name = study_name(path) if ids is None else study_name(Path(cells[ids]))
        # An identifier may be a file's name, as in CT-RATE; it may not lead to another folder.
        problem = check_id(cells[ids] if ids is not None else name) or check_id(name)
        if problem:
            # The cell is not quoted: in a column named by mistake it may be anything.
            found = f"the identifier {problem}"
            faults.append(table.error(number, column, found, "Use letters, digits, - and _."))
            name = ""
    fault = str(faults[0]) if faults else ""
    return _Row(id=name, path=path, fault=fault, table=table, number=number, column=column)


@dataclass(frozen=True)
class _Found:
    path: Path
    examination: str | None
    """StudyInstanceUID of DICOM; None for image files."""


def _of_folder(folder: Path, out: Path | None) -> list[Path]:
    found = _walk(folder, set() if out is None else {os.path.realpath(out)})
    # Without any, the reader says what is wrong with the folder.
    return [each.path for each in found] or [folder]


def _walk(folder: Path, seen: set[str]) -> list[_Found]:
    """Studies in `folder` and below, but in no folder that was `seen`, as links may lead back."""
    real = os.path.realpath(folder)
    if real in seen:
        return []
    seen.add(real)
    try:
        entries = sorted(e for e in folder.iterdir() if not e.name.startswith("."))
    except OSError as error:
        raise InputError.about(
            folder, f"cannot be read ({error.strerror})", "Check its permissions."
        ) from None
    files = [entry for entry in entries if entry.is_file()]
    names = {file.name for file in files}
    if RESULTS in names or (folder / RUN).is_file():
        return []  # of an earlier batch
    images = [
        file
        for file in files
        if file.name.lower().endswith(IMAGES) and not _is_our_mask(file.name, names)
    ]
    slices = None if images else next(_dicom(iter(files)), None)
    if slices is not None:
        return [_Found(folder, _examination(slices) or str(folder))]
    found = [_Found(file, None) for file in images]
    for entry in entries:
        if entry.is_dir():
            found += _walk(entry, seen)
    same = {each.examination for each in found}
    if len(same) == 1 and None not in same:
        # Series of one examination: the reader chooses among them.
        return [_Found(folder, found[0].examination)]
    return found


def _is_our_mask(name: str, names: Collection[str]) -> bool:
    """Whether it is the mask of a study whose results lie beside it."""
    return name.endswith(MASK) and f"{name[: -len(MASK)]}.json" in names


def _dicom(files: Iterator[Path]) -> Iterator[Path]:
    for file in files:
        if file.suffix.lower() == ".dcm" or _has_prefix(file):
            yield file


def _has_prefix(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return content.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _examination(file: Path) -> str:
    """StudyInstanceUID; "" if the file cannot be read."""
    import pydicom

    from uvlm.imaging.dicom_files import quiet_pydicom

    with quiet_pydicom():
        try:
            tags = ["StudyInstanceUID"]
            data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
            return str(data.get("StudyInstanceUID", ""))
        except Exception:  # a damaged file is found when the study is read
            return ""
