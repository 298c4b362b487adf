"""One mask of 48 values from a stack of findings and the outputs of the anatomy tools.

Where structures overlap: lesions over airway and vessels over organs and bones over muscles; of the
tools, ATM22 over HiPaS over TotalSegmentator; of the lesions, focal ones (2a to 2h) over the others
(1a to 1f), and among either the class with fewer voxels in this study.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.masks import Structure, StructureFolder, align, bounding_box, values_in
from uvlm.preprocessing.sources.rexgrounding_classes import (
    CATEGORIES,
    LESIONS,
    RANKS,
    STRUCTURES,
    UNPLACED,
)
from uvlm.preprocessing.sources.rexgrounding_findings import Finding
from uvlm.preprocessing.sources.rexgrounding_place import Flip, left_shares, place
from uvlm.preprocessing.study import Mask, MaskSource, Statement

__all__ = ["FindingMasks", "LabelFile", "total_segmentator"]


def total_segmentator(folder: Path) -> StructureFolder:
    """A study's folder of TotalSegmentator, one file per structure."""
    structures = tuple(
        Structure(name=name, value=value, rank=RANKS[value]) for name, value in STRUCTURES.items()
    )
    return StructureFolder(folder=folder, structures=structures, ignored=UNPLACED)


@dataclass(frozen=True)
class LabelFile:
    """One file of many structures, or of one, renumbered."""

    path: Path
    table: tuple[tuple[int, int], ...]
    """(value in the file, value in the mask); 0 for a structure that is left out."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, image: Volume) -> Mask:
        """
        Raises:
            ImageError: unreadable, empty, on another grid than `image`, or a value not in `table`.
        """
        volume = read_volume(self.path, labels=True)
        found, known = values_in(volume.array), dict(self.table)
        unknown = [value for value in found if value not in known]
        if unknown or not found:
            what = f"the values {unknown[:5]}, which have no name" if unknown else "no structure"
            raise ImageError.about(
                self.path, f"holds {what}", "Segment the study again, or complete labels.json."
            )
        lut = np.zeros(found[-1] + 1, np.uint8)
        for value in found:
            lut[value] = known[value]
        aligned, notes = align(volume, image)
        merged = Volume(
            array=lut[aligned.array], affine=aligned.affine, provenance=volume.provenance
        )
        return Mask(volume=merged, notes=notes)


@dataclass(frozen=True, kw_only=True)
class FindingMasks:
    """A study's findings over its anatomy."""

    path: Path
    """The stack of masks, one per finding."""

    findings: tuple[Finding, ...]
    anatomy: tuple[MaskSource, ...] = ()
    """From the lowest priority to the highest."""

    flip: Flip = "auto"

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path, *(file for source in self.anatomy for file in source.files))

    def read(self, image: Volume) -> Mask:
        """The mask (uint8, values 1 to 48), and a statement for every finding that has voxels.

        Raises:
            ImageError: a file cannot be read or lies on another grid, a finding has no mask in the
                stack, every mask is empty, or the stack's place in the image is not clear.
        """
        count = 1 + max(finding.index for finding in self.findings)
        # Takes longer to import than the help may take.
        from uvlm.imaging.nifti_stack import read_mask_stack

        stack = read_mask_stack(self.path, image, count)
        missing = [each.index for each in self.findings if each.index >= stack.count]
        if missing:
            raise ImageError.about(
                self.path,
                f"{stack.count} masks, but the table has findings number {missing[:5]}",
                "Download the masks and the table of one release.",
            )
        bits, placed = place(stack, image, self.findings, self.flip, str(self.path))
        box = bounding_box(bits)
        shares = left_shares(bits, stack.count, image)
        if box is None or all(shares[each.index] is None for each in self.findings):
            raise ImageError.about(
                self.path, "the mask of every finding is empty", "Leave the study out."
            )
        notes = [*stack.notes, *placed, *self._odd(bits[box], shares)]
        array = np.zeros(image.shape, np.uint8)
        digest = hashlib.sha256(stack.checksum.encode())
        for source in self.anatomy:
            found = source.read(image)
            digest.update(found.volume.provenance.checksum.encode())
            np.copyto(array, found.volume.array, where=found.volume.array > 0, casting="unsafe")
            notes += found.notes
        notes += _draw(array[box], bits[box], self._classes())
        where = Provenance(path=str(self.path), format="nifti", checksum=digest.hexdigest())
        said = [(each.text, shares[each.index]) for each in self.findings]
        return Mask(
            volume=Volume(array=array, affine=image.affine, provenance=where),
            statements=tuple(Statement(text, share) for text, share in said if share is not None),
            notes=tuple(dict.fromkeys(notes)),
        )

    def _classes(self) -> dict[str, int]:
        """Category to the bits of its findings."""
        wanted: dict[str, int] = {}
        for each in self.findings:
            if each.code is not None:
                wanted[each.code] = wanted.get(each.code, 0) | 1 << each.index
        return wanted

    def _odd(self, bits: NDArray[Any], shares: list[float | None]) -> list[str]:
        """What is strange about single findings."""
        notes = []
        known = {each.index for each in self.findings}
        for index, share in enumerate(shares):
            if share is not None and index not in known:
                notes.append(f"Mask {index} belongs to no finding and was left out.")
        for each in self.findings:
            if shares[each.index] is None:
                notes.append(f"The mask of finding {each.index} is empty.")
            elif each.code is None:
                what = f"the category {each.category[:20]!r}" if each.category else "no category"
                notes.append(f"Finding {each.index} has {what}, none of the 14, and was left out.")
            if each.voxels is not None and shares[each.index] is not None:
                count = int(np.count_nonzero(bits & bits.dtype.type(1 << each.index)))
                if count != each.voxels:
                    notes.append(
                        f"The mask of finding {each.index} has {count} voxels, by the table "
                        f"{each.voxels}."
                    )
        return notes


def _draw(array: NDArray[np.uint8], bits: NDArray[Any], lesions: Mapping[str, int]) -> list[str]:
    """Draw lesions into `array` by rising priority; a note on what was lost to others.

    Args:
        lesions: category to its bits in `bits`, both (z, y, x)
    """

    def inside(code: str) -> NDArray[np.bool_]:
        return np.asarray(bits & bits.dtype.type(lesions[code]), bool)

    sizes = {code: int(np.count_nonzero(inside(code))) for code in lesions}
    codes = {value: code for code, value in LESIONS.items()}
    lost: Counter[tuple[str, str]] = Counter()
    for code in sorted(sizes, key=lambda each: (each[0], -sizes[each], each)):
        here = inside(code)
        covered = np.bincount(array[here], minlength=1)
        for value in np.flatnonzero(covered).tolist():
            if value in codes:
                lost[CATEGORIES[code], CATEGORIES[codes[value]]] += int(covered[value])
        array[here] = LESIONS[code]
    if not lost:
        return []
    said = "; ".join(f"{over} over {under}: {n}" for (over, under), n in lost.most_common())
    return [f"Lesions overlap and the first of each pair was kept (voxels): {said}."]
