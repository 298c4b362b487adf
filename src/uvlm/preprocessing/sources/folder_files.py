"""Finding the CTs of a user's folder, and telling which of them a name in a table means.

A CT is a volume file (NIfTI, NRRD, MetaImage), a zip archive of DICOM, or a folder with DICOM
files in it. Nothing is opened beyond the first bytes that tell DICOM from other files. Hidden
files, prepared `.b2nd` files and everything that is no CT are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from uvlm.errors import CatalogError
from uvlm.preprocessing.disk import LOCK

__all__ = ["Files", "Index", "find_files", "is_absolute", "stem_of"]

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".zip")
"""Of a file that is a CT by itself, longest first."""

NO_DICOM = {
    ".b2nd", ".csv", ".gz", ".htm", ".html", ".jpeg", ".jpg", ".json", ".log", ".md", ".pdf",
    ".png", ".raw", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".zraw",
}  # fmt: skip
"""Suffixes of files that need no look inside."""

LOOKS = 20
"""Files of a folder that are looked into before it is taken for one without DICOM."""


def stem_of(name: str) -> str:
    """A file's name without the suffix of its format; dots elsewhere stay."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def is_absolute(name: str) -> bool:
    """Whether a path is absolute on any system; slashes are forward."""
    return name.startswith("/") or name[1:3] == ":/"


@dataclass(frozen=True)
class Files:
    """The CTs below a folder, sorted."""

    root: Path
    volumes: tuple[Path, ...]
    """Volume files and DICOM archives."""

    dicom: tuple[Path, ...]
    """Folders that hold DICOM files themselves."""

    @property
    def units(self) -> tuple[Path, ...]:
        """Everything that can be read as one CT."""
        return tuple(sorted((*self.volumes, *self.dicom)))

    def relative(self, path: Path) -> str:
        """Below the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def index(self) -> Index:
        """Also finds folders that hold DICOM further down, such as a study with its series."""
        above = {up for folder in self.dicom for up in folder.parents if self._below(up)}
        return Index(self.root, (*self.units, *sorted(above - {*self.dicom})))

    def _below(self, path: Path) -> bool:
        return path != self.root and path.is_relative_to(self.root)


def find_files(root: Path, skip: Iterable[Path] = ()) -> Files:
    """Every CT below `root`, at any depth; not in folders of `skip`, nor in prepared datasets.

    Raises:
        CatalogError: `root` is no folder, or cannot be read.
    """
    if not root.is_dir():
        raise CatalogError.about(root, "no such folder", "Check the path.")
    volumes: list[Path] = []
    dicom: list[Path] = []
    for folder, names in _walk(root, {os.path.realpath(each) for each in skip}):
        files = [folder / name for name in names]
        volumes += [path for path in files if path.name.lower().endswith(SUFFIXES)]
        if _has_dicom(path for path in files if not path.name.lower().endswith(SUFFIXES)):
            dicom.append(folder)
    return Files(root, tuple(sorted(volumes)), tuple(sorted(dicom)))


def _walk(root: Path, skip: set[str]) -> Iterator[tuple[Path, list[str]]]:
    """(folder, names of its files). Links to folders are followed, each real folder once."""

    def refuse(error: OSError) -> None:
        where = error.filename or root
        raise CatalogError.about(where, f"cannot be read ({error.strerror})", "Check the path.")

    seen = set(skip)
    for folder, below, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        # What an earlier run wrote is not raw data, wherever it was told to write.
        if real in seen or (LOCK in names and Path(folder) != root):
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(n for n in below if not n.startswith(".") and n != "__MACOSX")
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def _has_dicom(paths: Iterable[Path]) -> bool:
    looked = 0
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in (".dcm", ".ima"):
            return True
        if suffix in NO_DICOM or looked == LOOKS:
            continue
        looked += 1
        try:
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    return True
        except OSError:
            # Whether it matters shows when the study is read.
            continue
    return False


class Index:
    """Finds paths by the names that tables use for them.

    In this order, the first step with any match decides: path below the root or file name as
    written; without the suffix of the format, or a folder's name; the name of a folder that
    holds the file; the same three without regard to case. Of an absolute path, as another machine
    wrote it, only the last part counts.
    """

    def __init__(self, root: Path, paths: Iterable[Path]) -> None:
        self.root = root
        self._steps: list[dict[str, list[Path]]] = [{} for _ in range(6)]
        self._zeros: dict[str, set[str]] = {}
        for path in paths:
            relative = PurePosixPath(path.relative_to(root).as_posix())
            whole, plain = str(relative), stem_of(relative.name) == relative.name
            # A folder's bare name is no more exact than that of a file without its suffix.
            named = {whole, relative.name}
            exact = {key for key in named if "/" in key or not plain}
            bare = {str(relative.with_name(stem_of(relative.name))), stem_of(relative.name)}
            holders = {up.name for up in relative.parents} | {str(up) for up in relative.parents}
            for key in {stem_of(relative.name), *holders}:
                if key.startswith("0") and key.isdigit():
                    self._zeros.setdefault(key.lstrip("0") or "0", set()).add(key)
            for step, keys in enumerate((exact, bare, holders - {"", "."})):
                for key in keys:
                    self._steps[step].setdefault(key, []).append(path)
                for key in {key.casefold() for key in keys}:
                    self._steps[step + 3].setdefault(key, []).append(path)

    def find(self, name: str) -> tuple[Path, ...]:
        """All paths that `name` may mean; one is a match, none or several are not."""
        key = name.strip().replace("\\", "/").removeprefix("./").rstrip("/")
        if is_absolute(key):
            key = key.rsplit("/", 1)[-1]
        return next((found for k in (key, stem_of(key)) if (found := self._look(k))), ())

    def _look(self, key: str) -> tuple[Path, ...]:
        if not key:
            return ()
        for number, step in enumerate(self._steps):
            found = step.get(key if number < 3 else key.casefold())
            if found:
                return tuple(found)
        return ()

    def with_zeros(self, name: str) -> str | None:
        """The one name a number means once leading zeros, which spreadsheets drop, are put back.

        None where the number is a name as it is, where none or several names come into question.
        """
        number = name.strip()
        found = self._zeros.get(number, ()) if number.isdigit() else ()
        return next(iter(found)) if len(found) == 1 and not self.find(number) else None
