"""Where the image and the anatomy of a ReXGroundingCT study are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.errors import CatalogError
from uvlm.preprocessing.sources.nnunet_raw import ids_of
from uvlm.preprocessing.sources.rexgrounding_classes import AIRWAY, STRUCTURES, UNPLACED, VESSELS
from uvlm.preprocessing.sources.rexgrounding_mask import LabelFile, total_segmentator
from uvlm.preprocessing.sources.structures import read_class_names
from uvlm.preprocessing.study import ImageSource, MaskSource, VolumeFile

if TYPE_CHECKING:
    from uvlm.preprocessing.sources.ct_rate_metadata import SeriesMetadata

__all__ = ["SUFFIX", "TOOLS", "Anatomy", "Images"]

TOOLS = ("totalsegmentator", "atm22", "hipas")
SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class Images:
    """Where the image of a series is: in CT-RATE's folders, or in one folder for all."""

    flat: Path
    folders: tuple[Path, ...]
    """train_fixed, valid_fixed, train, valid: those that are there."""

    metadata: dict[str, SeriesMetadata | str]

    @classmethod
    def of(cls, folder: Path) -> Images:
        """What is in `folder`.

        Raises:
            CatalogError: it is not there, or a metadata table of version 1 is damaged.
        """
        if not folder.is_dir():
            raise CatalogError.about(folder, "no such folder", "Check --images.")
        root = folder / "dataset" if (folder / "dataset").is_dir() else folder
        if not any((root / name).is_dir() for name in CT_RATE_FOLDERS):
            return cls(folder, (), {})
        from uvlm.preprocessing.sources.ct_rate_files import places_of, read_metadata

        places = places_of(folder)
        paths = tuple(path for _, path in places.images)
        # Version 2 needs no metadata; reading the table of 50,000 rows takes a while.
        old = any(not path.name.endswith("_fixed") for path in paths)
        return cls(folder, paths, read_metadata(places.metadata) if old else {})

    def find(self, series_id: str) -> ImageSource | None:
        """Version 2 before version 1."""
        from uvlm.preprocessing.sources.ct_rate_image import CtRateImage

        for root in self.folders:
            path = root / _nested(series_id)
            if path.is_file():
                meta = self.metadata.get(series_id, "there is no row for this series")
                lack = meta if isinstance(meta, str) else ""
                return CtRateImage(
                    path=path,
                    folder=root.name,
                    metadata=None if isinstance(meta, str) else meta,
                    lack=lack,
                )
        path = self.flat / f"{series_id}{SUFFIX}"
        return VolumeFile(path) if path.is_file() else None


CT_RATE_FOLDERS = ("train_fixed", "valid_fixed", "train", "valid")


def _nested(series_id: str) -> Path:
    """`train_1/train_1_a/train_1_a_1.nii.gz`, below the folder of the split."""
    case, patient = ids_of(series_id)
    return Path(patient) / case / f"{series_id}{SUFFIX}"


@dataclass(frozen=True)
class Anatomy:
    """What the tools segmented of a series."""

    folder: Path
    tools: tuple[str, ...]

    lacking: dict[str, list[str]]
    """Series with a folder of TotalSegmentator to the files that others have and it has not; an
    organ that is not in view has an empty file."""

    strange: dict[str, list[str]]
    """Series with such a folder to the files in it that are no structure."""

    @classmethod
    def of(cls, folder: Path, series: Collection[str]) -> Anatomy:
        """What is in `folder` of `series`."""
        tools = tuple(tool for tool in TOOLS if (folder / tool).is_dir())
        inside = (folder / TOOLS[0]).iterdir() if TOOLS[0] in tools else ()
        names = {
            path.name: frozenset(
                each.name.split(".nii")[0]
                for each in path.iterdir()
                if ".nii" in each.name and not each.name.startswith(".")
            )
            for path in inside
            if path.name in series and path.is_dir()
        }
        placed = {name: each & STRUCTURES.keys() for name, each in names.items()}
        everywhere = frozenset[str]().union(*placed.values())
        lacking = {name: sorted(everywhere - each) for name, each in placed.items()}
        known = {*STRUCTURES, *UNPLACED}
        strange = {name: sorted(each - known) for name, each in names.items()}
        return cls(folder, tools, lacking, strange)

    def find(self, series_id: str) -> tuple[MaskSource, ...] | str:
        """From the lowest priority to the highest, or what is missing."""
        sources: list[MaskSource] = []
        if "totalsegmentator" in self.tools:
            found = self._total(series_id)
            where = self.folder / "totalsegmentator" / series_id
            if found is None:
                return f"neither {where} nor {where}{SUFFIX}"
            if strange := self.strange.get(series_id):
                return f"{where} holds {strange[0]!r}, which is no structure of TotalSegmentator"
            if lacking := self.lacking.get(series_id):
                rest = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
                return f"{where} lacks {lacking[0]}{rest}, which other studies have"
            sources.append(found)
        for name, value in VESSELS.items() if "hipas" in self.tools else ():
            folder = self.folder / "hipas"
            paths = (folder / f"{series_id}_{name}{SUFFIX}", folder / series_id / f"{name}{SUFFIX}")
            path = next((path for path in paths if path.is_file()), None)
            if path is None:
                return f"neither {paths[0]} nor {paths[1]}"
            sources.append(_binary(path, value))
        if "atm22" in self.tools:
            path = self.folder / "atm22" / f"{series_id}{SUFFIX}"
            if not path.is_file():
                return f"no {path}"
            sources.append(_binary(path, AIRWAY))
        return tuple(sources)

    def _total(self, series_id: str) -> MaskSource | None:
        root = self.folder / "totalsegmentator"
        if (root / series_id).is_dir():
            return total_segmentator(root / series_id)
        nested = (root / name / _nested(series_id) for name in CT_RATE_FOLDERS)
        for path in (root / f"{series_id}{SUFFIX}", *nested):
            if path.is_file():
                return LabelFile(path, _read_labels(root / "labels.json"))
        return None


def _binary(path: Path, value: int) -> LabelFile:
    return LabelFile(path, ((1, value), (255, value)))


def _read_labels(path: Path) -> tuple[tuple[int, int], ...]:
    """Value in the files to value in the mask, by the names of TotalSegmentator."""
    named = read_class_names(path, " Masks of many structures need it.")
    unknown = [name for name in named.values() if name not in STRUCTURES and name not in UNPLACED]
    if unknown:
        raise CatalogError.about(
            path, f"no structure of TotalSegmentator is named {unknown[0]!r}", "Correct the name."
        )
    return tuple((value, STRUCTURES.get(name, 0)) for value, name in sorted(named.items()))
