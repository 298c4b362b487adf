"""The masks of AbdomenAtlas 3.0: structures merged, and the labels and measures of the lesions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uvlm.errors import ImageError
from uvlm.imaging.volume import Volume
from uvlm.preprocessing.masks import StructureFolder
from uvlm.preprocessing.sources.abdomen_classes import (
    IGNORED,
    LESIONS,
    STRUCTURES,
    VALUES,
    files_of,
)
from uvlm.preprocessing.study import Mask

__all__ = ["MASK_COLUMNS", "AtlasMasks", "masks_of"]

MASK_COLUMNS: tuple[str, ...] = tuple(
    f"{label}_{what}" for label in LESIONS for what in ("volume_ml", "largest_diameter_mm", "count")
)
"""Columns that follow from the masks."""

FAR_OFF = 0.2
"""Share by which a volume may differ from the metadata's before it is noted; 1 ml always may."""


@dataclass(frozen=True, kw_only=True)
class AtlasMasks:
    """The structures of a case, the labels that follow from them, and the volumes of the table."""

    folder: StructureFolder
    stated_ml: tuple[tuple[str, float], ...] = ()
    """Label and lesion volume as the metadata have it."""

    @property
    def files(self) -> tuple[Path, ...]:
        return self.folder.files

    def read(self, image: Volume) -> Mask:
        """The 41 classes on the grid of `image`, the three labels and their measures.

        Without a file of its lesion a label is unknown, unless the metadata state 0 ml.

        Raises:
            ImageError: as `StructureFolder.read`; or the metadata state a lesion that has no file,
                which would be trained on as healthy tissue.
        """
        from uvlm.preprocessing.lesions import measure_lesions  # scipy, not for --help

        unknown = self._unknown()
        mask = self.folder.read(image)
        stated = dict(self.stated_ml)
        labels, columns = {}, {}
        notes = [*mask.notes, *(f"{label}: no file of it, so it is unknown." for label in unknown)]
        for label, name in LESIONS.items():
            if label in unknown:
                continue
            found = measure_lesions(mask.volume, VALUES[name])
            labels[label] = float(found.present)
            columns[f"{label}_volume_ml"] = f"{found.volume_ml:.3f}"
            columns[f"{label}_largest_diameter_mm"] = f"{found.largest_diameter_mm:.1f}"
            columns[f"{label}_count"] = str(found.count)
            apart = abs(found.volume_ml - stated.get(label, found.volume_ml))
            if apart > 1 and apart > FAR_OFF * max(stated[label], found.volume_ml):
                notes.append(
                    f"{label}: {found.volume_ml:.1f} ml in the masks, {stated[label]:.1f} ml in "
                    "the metadata."
                )
        return Mask(volume=mask.volume, labels=labels, columns=columns, notes=tuple(notes))

    def _unknown(self) -> list[str]:
        """Labels of which nothing is known: no file, and no volume in the metadata."""
        there, stated = self.folder.find(), dict(self.stated_ml)
        missing = {
            label: name
            for label, name in LESIONS.items()
            if not any(file in there for file in files_of(name))
        }
        for label, name in missing.items():
            if stated.get(label):
                raise ImageError.about(
                    self.folder.folder,
                    f"no file {name}.nii.gz, but the metadata state {stated[label]:.1f} ml of it",
                    "Download the masks of this case again.",
                )
        return [label for label in missing if label not in stated]


def masks_of(folder: Path, lesion_ml: Mapping[str, float]) -> AtlasMasks:
    """The masks in a case's `segmentations`, and the lesion volumes its metadata state."""
    return AtlasMasks(
        folder=StructureFolder(folder=folder, structures=STRUCTURES, ignored=IGNORED),
        stated_ml=tuple(sorted(lesion_ml.items())),
    )
