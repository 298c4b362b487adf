"""Masks on the grid of their CT: one file of many labels, or one file per structure.

A mask must lie on the voxels of its image. Axes stored in another order or direction are turned,
and a header that rounds the spacing is seen through; any other difference (a shift, a crop, another
spacing) is refused, for resampling a mask would move its borders without anybody having asked.

Arrays are (z, y, x), uint8 or uint16, in the image's own axis order.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ConfigError, ImageError, InputError
from uvlm.imaging.geometry import Reorientation, orientation_code
from uvlm.imaging.measure import GRID_TOLERANCE_MM
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.study import Mask

__all__ = ["MaskFile", "Structure", "StructureFolder", "align", "bounding_box", "values_in"]

SUFFIXES = (".nii.gz", ".nii")
BINARY = (1, 255)
"""What the inside of a structure is stored as, by tool."""

NAMED = 8
"""Overlapping pairs, and missing files, that a note names; of the rest it gives the number."""

ROUNDED = 1e-3
"""Relative difference of two spacings of which one was rounded to three decimals."""

Box = tuple[slice, slice, slice]


def align(mask: Volume, image: Volume) -> tuple[Volume, tuple[str, ...]]:
    """The mask on the image's own grid, and a note for what had to be decided.

    Grids coincide where every corner agrees within 0.05 mm; or where one corner does, no other is
    half a voxel away, and the spacings differ by no more than a rounded header explains: over 512
    voxels, three decimals add up to a quarter of a millimetre. The array may be a view.

    Raises:
        ImageError: the grids differ otherwise; names both files and says how far they are apart.
    """
    turn = _turn_between(mask, image)
    array = turn.apply(mask.array)
    affine = turn.affine(mask.affine, mask.shape)
    apart = _apart(affine, image.affine, image.shape)
    exact = bool(apart.max() <= GRID_TOLERANCE_MM)
    if array.shape != image.shape or not (exact or _only_rounded(affine, image, apart)):
        raise _off_grid(mask, image, None if array.shape != image.shape else float(apart.max()))
    notes = []
    if turn != AS_IS:
        code, wanted = orientation_code(mask.affine), orientation_code(image.affine)
        notes.append(f"The mask's axes ({code}) were turned to those of the image ({wanted}).")
    if not exact:
        notes.append("The mask's spacing is rounded; its voxels were taken as the image's.")
    return replace(mask, array=array, affine=image.affine), tuple(notes)


AS_IS = Reorientation((0, 1, 2), (False, False, False))


def _turn_between(mask: Volume, image: Volume) -> Reorientation:
    """The turn of axes that brings the mask closest to the image; none where none does.

    The product of one grid's inverse and the other's matrix is a signed permutation exactly where
    the axes coincide, however oblique both are.
    """
    steps = np.linalg.solve(image.affine[:3, :3], mask.affine[:3, :3])
    signs = np.rint(steps)
    ones = np.abs(signs) == 1
    if not (ones.sum(axis=0) == 1).all() or not (ones.sum(axis=1) == 1).all():
        return AS_IS
    # Rows and columns of `signs` count x, y, z; array axes count z, y, x.
    source = [int(np.argmax(ones[2 - axis])) for axis in range(3)]
    flip = [bool(signs[2 - axis, source[axis]] < 0) for axis in range(3)]
    return Reorientation((2 - source[0], 2 - source[1], 2 - source[2]), (flip[0], flip[1], flip[2]))


def _apart(
    a: NDArray[np.float64], b: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """(8,) mm between the corners of two grids of one `shape` (z, y, x)."""
    z, y, x = (n - 1 for n in shape)
    corners = np.array([(i, j, k, 1) for i in (0, x) for j in (0, y) for k in (0, z)]).T
    return np.asarray(np.linalg.norm(((a - b) @ corners)[:3], axis=0), np.float64)


def _only_rounded(affine: NDArray[np.float64], image: Volume, apart: NDArray[np.float64]) -> bool:
    """Whether two grids with `apart` mm between corners differ by a rounded spacing alone."""
    steps = np.linalg.norm(image.affine[:3, :3], axis=0)
    drift = np.linalg.norm((affine - image.affine)[:3, :3], axis=0) / steps
    near = apart.min() <= GRID_TOLERANCE_MM and apart.max() < steps.min() / 2
    return bool(near and drift.max() <= ROUNDED)


def _off_grid(mask: Volume, image: Volume, apart: float | None) -> InputError:
    """The error of a mask that is not on its image's grid; `apart` None where shapes differ."""
    other = image.provenance.path
    if apart is not None:
        found = f"the mask lies up to {apart:.2f} mm away from the image {other}"
    else:
        away = float(np.linalg.norm(_centre(mask) - _centre(image)))
        found = (
            f"the mask has {mask.shape} voxels (z, y, x) of {_mm(mask)} mm, the image {other} "
            f"{image.shape} of {_mm(image)} mm; their centres are {away:.1f} mm apart"
        )
    remedy = "Resample the mask to the CT, or give the CT it was drawn on."
    return ImageError.about(mask.provenance.path, found, remedy)


def _centre(volume: Volume) -> NDArray[np.float64]:
    middle = (np.array(volume.shape[::-1]) - 1) / 2
    return np.asarray(volume.affine[:3, :3] @ middle + volume.affine[:3, 3], np.float64)


def _mm(volume: Volume) -> str:
    return " x ".join(f"{mm:.2f}" for mm in volume.spacing)


def values_in(array: NDArray[Any]) -> tuple[int, ...]:
    """The distinct values of a mask above 0, ascending. Needs no copy of the array."""
    present = np.zeros(int(np.iinfo(array.dtype).max) + 1, bool)
    for plane in array:
        present[plane] = True
    return tuple(int(value) for value in np.flatnonzero(present) if value)


def bounding_box(array: NDArray[Any]) -> Box | None:
    """The smallest box (z, y, x) that holds every voxel above 0; None without any."""
    # Planes that lie together in memory, whatever way the view is turned, are read fastest.
    order = sorted(range(3), key=lambda axis: -abs(array.strides[axis]))
    turned = array.transpose(order)
    first = _extent([plane.max() for plane in turned])
    if first is None:
        return None
    shadow = turned[first].max(axis=0)
    found = (first, _extent(shadow.max(axis=1)), _extent(shadow.max(axis=0)))
    z, y, x = (found[order.index(axis)] or slice(0) for axis in range(3))
    return z, y, x


def _extent(values: Any) -> slice | None:
    """From the first to the last value above 0."""
    places = np.flatnonzero(values)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else None


@dataclass(frozen=True)
class MaskFile:
    """One file that holds all structures of a study, each under its value."""

    path: Path
    known: tuple[int, ...]
    """Values that have a meaning, besides 0."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, image: Volume) -> Mask:
        """
        Raises:
            ImageError: unreadable, on another grid than `image`, no structure at all, or a value
                that is not known.
        """
        volume = read_volume(self.path, labels=True)
        found = values_in(volume.array)
        if not found:
            raise _empty(self.path)
        unknown = [value for value in found if value not in self.known]
        if unknown:
            raise ImageError.about(
                self.path,
                f"holds the values {unknown[:5]} that no class has",
                f"Known are {_range(self.known)}; name the others, or give another mask.",
            )
        aligned, notes = align(volume, image)
        return Mask(volume=aligned, notes=notes)


def _range(values: Sequence[int]) -> str:
    if not values:
        return "none"
    low, high = min(values), max(values)
    whole = len(set(values)) == high - low + 1
    return f"{low} to {high}" if whole else ", ".join(map(str, sorted(set(values))))


def _empty(path: Path) -> InputError:
    return ImageError.about(
        path, "no structure in it: every voxel is 0", "Segment the study again, or leave it out."
    )


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One structure of a `StructureFolder`."""

    name: str
    """Of its file, without `.nii.gz`."""

    value: int
    """In the merged mask, 1 to 255. Several structures may share one."""

    rank: int = 0
    """Where structures overlap, the highest rank wins. Structures of one value have one rank."""

    required: bool = False
    """Whether a missing file is noted."""


@dataclass(frozen=True, kw_only=True)
class StructureFolder:
    """A folder with one file per structure, merged into one mask.

    Where files overlap, the structure of the highest rank wins; within one rank the later one of
    `structures`, and the overlap is noted. A file's inside is 1 or 255. Files of other kinds than
    NIfTI, and hidden ones, are passed over.
    """

    folder: Path
    structures: tuple[Structure, ...]
    ignored: tuple[str, ...] = ()
    """Names of files that may be there and are not read."""

    def __post_init__(self) -> None:
        if len({each.name for each in self.structures}) != len(self.structures):
            raise ConfigError("structures: a name is used twice.")
        ranks: dict[int, int] = {}
        for each in self.structures:
            if not 1 <= each.value <= 255:
                raise ConfigError(f"{each.name}: value must be 1 to 255, got {each.value}.")
            if ranks.setdefault(each.value, each.rank) != each.rank:
                raise ConfigError(f"{each.name}: value {each.value} has structures of two ranks.")

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.folder,)

    def read(self, image: Volume) -> Mask:
        """The merged mask, uint8.

        Raises:
            ImageError: no such folder, no mask in it, a file of an unknown name, of values other
                than 0 and 1 (or 255), or on another grid than `image`; or every file is empty.
        """
        found = self.find()
        merge = _Merge(image.shape, self.structures)
        digest = hashlib.sha256()
        notes = dict.fromkeys(self._missing(found))
        for each in sorted(self.structures, key=lambda structure: structure.rank):
            if each.name not in found:
                continue
            volume = read_volume(found[each.name], labels=True)
            digest.update(volume.provenance.checksum.encode())
            aligned, turned = align(volume, image)
            notes.update(dict.fromkeys((*volume.provenance.notes, *turned)))
            merge.add(each, aligned)
        if not merge.filled:
            raise _empty(self.folder)
        notes.update(dict.fromkeys(merge.notes()))
        source = Provenance(path=str(self.folder), format="nifti", checksum=digest.hexdigest())
        volume = Volume(array=merge.array, affine=image.affine, provenance=source)
        return Mask(volume=volume, notes=tuple(notes))

    def _missing(self, found: Collection[str]) -> list[str]:
        """One sentence on required structures without a file; empty without any."""
        names = [each.name for each in self.structures if each.required and each.name not in found]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return [f"There is no file for {', '.join(names[:NAMED])}{more}."] if names else []

    def find(self) -> Mapping[str, Path]:
        """Structure name to file.

        Raises:
            ImageError: as `read`, as far as names tell.
        """
        try:
            paths = sorted(self.folder.iterdir())
        except OSError as error:
            found = f"cannot be read as a folder of masks ({error.strerror})"
            raise ImageError.about(self.folder, found, "Check the path.") from None
        known = {each.name for each in self.structures}
        found_files: dict[str, Path] = {}
        for path in paths:
            name = _structure_name(path)
            if name is None or name in self.ignored:
                continue
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ImageError.about(
                    path,
                    f"{name!r} is no known structure",
                    f"{hint[:1].upper()}{hint[1:]}Rename or remove it.",
                )
            if name in found_files:
                raise ImageError.about(
                    path, f"the same structure as {found_files[name].name}", "Keep one of the two."
                )
            found_files[name] = path
        if not found_files:
            raise ImageError.about(
                self.folder,
                "no mask file in it",
                f"Expected files such as {self.structures[0].name}.nii.gz.",
            )
        return found_files


def _structure_name(path: Path) -> str | None:
    if path.name.startswith("."):
        return None
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None


class _Merge:
    """The merged mask in the making. Structures come by ascending rank."""

    def __init__(self, shape: tuple[int, int, int], structures: Sequence[Structure]) -> None:
        self.array = np.zeros(shape, np.uint8)
        self.filled = False
        self._ranks = {each.value: each.rank for each in structures}
        self._names: dict[int, str] = {}
        self._overlaps: Counter[tuple[str, str]] = Counter()

    def add(self, structure: Structure, mask: Volume) -> None:
        """Draw a structure over what is there."""
        box = bounding_box(mask.array)
        if box is None:
            return
        inside = _inside(mask.array[box], mask.provenance.path)
        part = self.array[box]
        self._count(structure, part[inside])
        part[inside] = structure.value
        self._names.setdefault(structure.value, structure.name)
        self.filled = True

    def _count(self, structure: Structure, covered: NDArray[np.uint8]) -> None:
        """Remember what a structure covers of others of its rank. `covered`: values, (n,)."""
        voxels = np.bincount(covered, minlength=1)
        for value in np.flatnonzero(voxels).tolist():
            if value not in (0, structure.value) and self._ranks[value] == structure.rank:
                self._overlaps[self._names[value], structure.name] += int(voxels[value])

    def notes(self) -> list[str]:
        """One sentence on overlaps within a rank, the largest first; empty without any."""
        if not self._overlaps:
            return []
        pairs = self._overlaps.most_common()
        said = [f"{first} and {later}: {n}" for (first, later), n in pairs[:NAMED]]
        rest = sum(n for _, n in pairs[NAMED:])
        said += [f"{len(pairs) - NAMED} other pairs: {rest}"] if rest else []
        text = "Structures overlap and the later of each pair was kept (voxels): "
        return [f"{text}{'; '.join(said)}."]


def _inside(array: NDArray[Any], path: str) -> NDArray[np.bool_]:
    """Where a structure is, from the part of its file that holds any."""
    inside = np.asarray(array != 0)
    value = int(array.max())
    if value not in BINARY or not np.array_equal(inside, array == value):
        raise ImageError.about(
            path,
            f"values up to {value} where a structure is 0 and 1: a mask of several structures",
            "Give one file per structure.",
        )
    return inside
