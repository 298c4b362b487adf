"""One CT-RATE volume in HU with its true geometry, from either version of the archive.

Version 2 (`train_fixed`) holds int16 HU under a true header. Version 1 (`train`) holds what the
scanner stored, under a header that says nothing true; slope, intercept and geometry stand in the
metadata table. Three witnesses say which a file is: its folder, its header's spacing beside that of
the table, and its values. They must not contradict one another. A glance at the values is enough
where it agrees with the others; the whole audit, which every volume passes afterwards anyway, is
heard where it does not.

A version 1 array has x along DICOM's row direction, y along the column direction and z along their
cross product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isclose
from pathlib import Path

import numpy as np

from uvlm.errors import ImageError
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Volume
from uvlm.preprocessing.sources.ct_rate_metadata import SeriesMetadata
from uvlm.preprocessing.sources.ct_rate_values import (
    INTERCEPT_TOLERANCE,
    hu_of,
    known_offset,
    like_hu,
    sample_of,
    scaled,
)

__all__ = ["CtRateImage"]

SAME_SPACING = 0.02
"""Relative difference; the table rounds (1.4999, 1.51 for 1.5 mm)."""

UNSET = (1.0, 1.0, 1.0)
"""Spacing of a header that was never filled in, mm."""

REMEDY = (
    "Keep a file in the folder of its version (train or valid for 1, train_fixed or valid_fixed "
    "for 2) with the metadata table of its download, or download it again."
)


@dataclass(frozen=True)
class _Witness:
    """What one witness says: a version, or None, and in what words."""

    version: int | None
    words: str
    name: str


@dataclass(frozen=True, kw_only=True)
class CtRateImage:
    """A volume file of either version."""

    path: Path
    folder: str
    """The name of the folder that tells the version, such as "train_fixed"; "" if none does."""

    metadata: SeriesMetadata | None
    lack: str = ""
    """Why `metadata` is None."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self) -> Volume:
        """The CT in HU; `provenance.notes` says which version it is and who said so.

        Raises:
            ImageError: it cannot be read, its version is contradictory or its values fit neither,
                or it is version 1 and the metadata table does not tell what is needed.
        """
        volume = read_volume(self.path)
        sample = sample_of(volume)
        folder, header, values = self._folder(), self._header(volume), self._glance(sample)
        votes = _votes(folder, header, values)
        if values not in votes or _opposed(votes):
            votes = _votes(folder, header, self._values(sample))
        others = _opposed(votes)
        if others:
            agreed = [witness for witness in votes if witness not in others]
            found = f"{_joined(agreed)}, but {_joined(others)}"
            raise ImageError.about(self.path, found, REMEDY)
        by = " and ".join(witness.name for witness in votes)
        if votes[0].version == 1:
            return self._version_1(volume, by)
        doubt = "" if header in votes else header.words
        return _noted(volume, f"CT-RATE version 2, by {by}.", doubt)

    def _folder(self) -> _Witness:
        if not self.folder:
            return _Witness(None, "", "folder")
        version = 2 if self.folder.endswith("_fixed") else 1
        return _Witness(version, f"the folder is {self.folder}", "folder")

    def _header(self, volume: Volume) -> _Witness:
        """Sorted, since version 2 may store its axes in any order."""
        if self.metadata is None or _alike(self.metadata.spacing, UNSET):
            # A header that was never filled in says 1 mm as well.
            return _Witness(None, "", "header")
        here, there = sorted(volume.spacing), sorted(self.metadata.spacing)
        if _alike(here, there):
            return _Witness(2, "the header has the spacing of the metadata table", "header")
        mm = [" x ".join(f"{value:.4g}" for value in values) for values in (here, there)]
        found = f"the header's spacing is {mm[0]} mm instead of {mm[1]}"
        pixel = sorted(self.metadata.spacing[1:])
        if not _alike(here, UNSET) and any(_alike(pair, pixel) for pair in combinations(here, 2)):
            # The table's slice spacing is wrong here and there, up to lungs 80 cm long.
            return _Witness(None, f"Only between slices, {found}.", "header")
        return _Witness(1, found, "header")

    def _glance(self, sample: Volume) -> _Witness:
        """What the values are if they are plainly one or the other."""
        stored, meta = sample.array, self.metadata
        if like_hu(stored):
            return _Witness(2, "the values are HU", "values")
        if meta is not None and like_hu(scaled(stored, meta)):
            return _Witness(1, "", "values")
        return _Witness(None, "", "values")

    def _values(self, sample: Volume) -> _Witness:
        # Loads scipy, which listing a dataset does not need.
        from uvlm.imaging.audit import audit

        stored = audit(sample)
        if stored.usable:
            return _Witness(2, "the values are HU", "values")
        offset = known_offset(stored)
        words = f"the values are {offset or 0:g} above HU"
        if self.metadata is None:
            if offset is not None:
                return _Witness(1, words, "values")
            raise ImageError(f"{self.path}: {stored.reason}")
        if offset is not None and self._explains(offset):
            return _Witness(1, words, "values")
        after = audit(replace(sample, array=np.rint(scaled(sample.array, self.metadata))))
        if not after.usable:
            raise ImageError(
                f"{self.path}: the values are not HU, and slope {self.metadata.slope:g} with "
                f"intercept {self.metadata.intercept:g} of the metadata table do not make them HU. "
                f"As stored: {stored.reason} After both: {after.reason}"
            )
        if offset is None:
            words = "slope and intercept of the metadata table make the values HU"
        return _Witness(1, words, "values")

    def _version_1(self, volume: Volume, by: str) -> Volume:
        meta = self.metadata
        if meta is None:
            raise ImageError.about(
                self.path,
                f"version 1 (by {by}), whose slope, intercept and geometry stand in the metadata "
                f"table; {self.lack}",
                "Add the metadata table of the download, or use version 2 (train_fixed).",
            )
        slices, rows, columns = meta.shape
        z, y, x = volume.shape
        if (rows or y, columns or x) != (y, x):
            raise ImageError.about(
                self.path,
                f"{z} slices of {y} rows and {x} columns, where the metadata table has {rows} rows "
                f"and {columns} columns: which way its axes run is unknown",
                REMEDY,
            )
        note = (
            f"CT-RATE version 1, by {by}: HU = {meta.slope:g} x stored {meta.intercept:+g}, "
            "geometry from the metadata table."
        )
        source = replace(
            volume.provenance,
            # What the reader says of this header is beside the point.
            notes=(),
            details=volume.provenance.details | {"slope": meta.slope, "intercept": meta.intercept},
        )
        array = hu_of(volume.array, meta)
        whole = _noted(Volume(array=array, affine=meta.affine, provenance=source), note)
        if slices not in (None, z):
            return _noted(whole, "The number of slices is not that of the metadata table.")
        return whole

    def _explains(self, offset: float) -> bool:
        """Whether slope and intercept of the table take values `offset` above HU to HU."""
        meta = self.metadata
        near = meta is not None and abs(offset + meta.intercept) <= INTERCEPT_TOLERANCE
        return near and meta is not None and meta.slope == 1.0


def _alike(here: Sequence[float], there: Sequence[float]) -> bool:
    return all(isclose(a, b, rel_tol=SAME_SPACING) for a, b in zip(here, there, strict=True))


def _votes(*witnesses: _Witness) -> list[_Witness]:
    """Those that say anything."""
    return [witness for witness in witnesses if witness.version is not None]


def _opposed(votes: list[_Witness]) -> list[_Witness]:
    """Those that do not say what the first does."""
    return [witness for witness in votes if witness.version != votes[0].version]


def _joined(witnesses: list[_Witness]) -> str:
    """What witnesses of one version say, in one clause."""
    version = witnesses[0].version
    if [witness.name for witness in witnesses] == ["folder"]:
        return f"{witnesses[0].words.replace(' is ', ' ', 1)} says version {version}"
    words = " and ".join(witness.words for witness in witnesses)
    return f"{words}, as in version {version}"


def _noted(volume: Volume, *notes: str) -> Volume:
    notes = (*volume.provenance.notes, *filter(None, notes))
    return replace(volume, provenance=replace(volume.provenance, notes=notes))
