"""The masks of AbdomenAtlas 3.0: structures merged, and the labels and measures of the lesions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uvlm.imaging.volume import Volume
from uvlm.preprocessing.masks import StructureFolder
from uvlm.preprocessing.sources.abdomen_classes import CLASSES, IGNORED, LESIONS, STRUCTURES
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

        Raises:
            ImageError: as `StructureFolder.read`.
        """
        from uvlm.preprocessing.lesions import measure_lesions  # scipy, not for --help

        mask = self.folder.read(image)
        labels, columns, notes = {}, {}, list(mask.notes)
        stated = dict(self.stated_ml)
        for label, name in LESIONS.items():
            found = measure_lesions(mask.volume, CLASSES.index(name) + 1)
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


def masks_of(folder: Path, lesion_ml: Mapping[str, float]) -> AtlasMasks:
    """The masks in a case's `segmentations`, and the lesion volumes its metadata state."""
    return AtlasMasks(
        folder=StructureFolder(folder=folder, structures=STRUCTURES, ignored=IGNORED),
        stated_ml=tuple(sorted(lesion_ml.items())),
    )
