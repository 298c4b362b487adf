"""ReXGroundingCT: findings of chest CT with a mask each, over CT-RATE's images.

    INPUT/dataset.json, MICCAI_challenge_dataset.json      see `rexgrounding_findings`
    INPUT/segmentations/<series>.nii.gz                    one mask per finding
    IMAGES/dataset/{train,valid}_fixed/.../<series>.nii.gz  CT-RATE, either version, or
    IMAGES/<series>.nii.gz                                 a folder of images
    ANATOMY/totalsegmentator/<series>/<structure>.nii.gz   or <series>.nii.gz with labels.json
    ANATOMY/atm22/<series>.nii.gz                          the airways
    ANATOMY/hipas/<series>_{artery,vein}.nii.gz            or <series>/{artery,vein}.nii.gz

Anatomy is optional; a tool whose folder is there must have segmented every study.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.errors import CatalogError, ConfigError
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.sources.nnunet_raw import ids_of, keep_apart
from uvlm.preprocessing.sources.rexgrounding_classes import (
    AIRWAY,
    SCOPES,
    STRUCTURES,
    UNPLACED,
    VESSELS,
    lesion_scope,
    scope_named,
)
from uvlm.preprocessing.sources.rexgrounding_findings import Entry, read_entries
from uvlm.preprocessing.sources.rexgrounding_mask import FindingMasks, LabelFile, total_segmentator
from uvlm.preprocessing.sources.rexgrounding_place import Flip
from uvlm.preprocessing.split import HELD_OUT
from uvlm.preprocessing.study import (
    Exclusion,
    ImageSource,
    Listing,
    MaskSource,
    Rejection,
    Scope,
    Study,
    VolumeFile,
)

if TYPE_CHECKING:
    from uvlm.preprocessing.sources.ct_rate_image import SeriesMetadata

__all__ = [
    "DESCRIPTION",
    "HELP",
    "NNUNET",
    "add_arguments",
    "list_rexgrounding",
    "list_studies",
]

HELP = "ReXGroundingCT: lesion masks of findings, with anatomy where you have it"
DESCRIPTION = """\
Reads ReXGroundingCT's tables and masks, CT-RATE's images (--images) and, if given, what
TotalSegmentator, ATM22 and HiPaS segmented (--anatomy). Every finding becomes one of 14 lesion
classes by its category; with anatomy the masks have the 48 classes of Dataset141_ReXGroundingCT.
Which way a mask lies is decided from the anatomy, study by study, and a study where that is not
clear is recorded in errors.csv. Also writes findings.csv, and held_out.csv: the validation and test
studies, which lie in CT-RATE's training set, for `uvlm prepare ct-rate --held-out`.
"""
NNUNET = NnunetName(141, "ReXGroundingCT")
MASKS = "segmentations"
TOOLS = ("totalsegmentator", "atm22", "hipas")
SUFFIX = ".nii.gz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What only this source takes."""
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT", help="the folder with dataset.json and segmentations")
    add(
        "--images",
        type=Path,
        required=True,
        metavar="DIR",
        help="CT-RATE (version 2 or 1), or a folder of its images",
    )
    add("--anatomy", type=Path, metavar="DIR", help="outputs of TotalSegmentator, ATM22, HiPaS")
    add(
        "--scopes",
        nargs="+",
        choices=SCOPES,
        default=["fine+lesions"],
        help="how to number the classes, one or more (default fine+lesions)",
    )
    add(
        "--categories",
        type=Path,
        metavar="CSV",
        help="name, finding, category, where the tables have no categories",
    )
    add(
        "--mask-flip",
        choices=("auto", "none", "xy"),
        default="auto",
        help="whether masks are turned by 180 degrees about z: decided by study (auto, the "
        "default), never, or always",
    )


def list_studies(args: argparse.Namespace) -> Listing:
    """The listing that the command line asks for."""
    return list_rexgrounding(
        args.input,
        args.images,
        args.anatomy,
        scopes=args.scopes,
        categories=args.categories,
        mask_flip=args.mask_flip,
    )


def list_rexgrounding(
    folder: Path,
    images: Path,
    anatomy: Path | None = None,
    *,
    scopes: Sequence[str] = ("fine+lesions",),
    categories: Path | None = None,
    mask_flip: Flip = "auto",
) -> Listing:
    """What a ReXGroundingCT folder holds.

    Args:
        images: CT-RATE's folder, or one with the images in it.
        anatomy: folder of the tools' outputs; without it there are the 14 lesion classes only.
        scopes: of "coarse", "coarse+lesions" and "fine+lesions", the first is the default.
        categories: CSV that says or corrects the categories.
        mask_flip: see `rexgrounding_place.place`.

    Raises:
        CatalogError: a table is missing or damaged, no categories, or no such folders.
        ConfigError: an unknown scope, or `coarse` alone without anatomy.
    """
    # Modules that load SciPy are imported where they are used: help must appear at once.
    from uvlm.preprocessing.sources.ct_rate_files import read_source

    entries = read_entries(folder, categories)
    numbered, warnings = _scopes(scopes, anatomy)
    found = _Found(
        masks=folder / MASKS,
        images=_Images.of(images),
        anatomy=None if anatomy is None else _Anatomy.of(anatomy),
        flip=mask_flip,
    )
    for entry in entries:
        found.add(entry)
    held_out = [(ids_of(each.series_id)[1], each.split) for each in entries]
    studies, leaks = keep_apart(found.studies, held_out)
    source = read_source(images)
    return Listing(
        name="ReXGroundingCT" if source == "CT-RATE" else source,
        region="chest",
        labels=(),
        studies=studies,
        scopes=numbered,
        rejected=tuple(found.rejected),
        excluded=(*found.excluded, *leaks),
        tables={"held_out.csv": _held_out(entries), "findings.csv": _findings(entries)},
        warnings=(*_leakage(entries), *warnings),
    )


def _scopes(names: Sequence[str], anatomy: Path | None) -> tuple[tuple[Scope, ...], list[str]]:
    wanted = [scope_named(name) for name in dict.fromkeys(names)]
    if not wanted:
        raise ConfigError(f"no scope was given; known: {', '.join(SCOPES)}.")
    if anatomy is None:
        if any(scope.name == "coarse" for scope in wanted):
            raise ConfigError("the scope 'coarse' has no lesions, so it needs --anatomy.")
        said = (
            "Without --anatomy the masks have the 14 lesion classes only, as the scope `lesions`: "
            "organs are background in them."
        )
        return (lesion_scope(),), [said]
    missing = [tool for tool in TOOLS if not (anatomy / tool).is_dir()]
    if len(missing) == len(TOOLS):
        raise CatalogError.about(
            anatomy, f"none of the folders {', '.join(TOOLS)} in it", "Check --anatomy."
        )
    lost = {
        "totalsegmentator": "all classes but airways and pulmonary vessels",
        "atm22": "the airways below the trachea",
        "hipas": "the pulmonary artery, and the vein beyond what TotalSegmentator finds",
    }
    warnings = [f"No folder {tool} in {anatomy}: {lost[tool]} are background." for tool in missing]
    return tuple(wanted), warnings


def _held_out(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    rows = [(e.series_id, ids_of(e.series_id)[1]) for e in entries if e.split in HELD_OUT]
    return [("series_id", "patient_id"), *sorted(rows)]


def _findings(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    rows = [
        (entry.series_id, str(each.index), each.category, each.text)
        for entry in entries
        for each in entry.findings
    ]
    return [("series_id", "finding", "category", "text"), *rows]


def _leakage(entries: Sequence[Entry]) -> Iterator[str]:
    inside = Counter(
        e.split for e in entries if e.split in HELD_OUT and e.series_id.startswith("train_")
    )
    if inside:
        yield (
            f"{inside['valid']} validation and {inside['test']} test studies of ReXGroundingCT lie "
            "in CT-RATE's training set. Keep them out of what CT-RATE trains: `uvlm prepare "
            "ct-rate ... --held-out OUT/held_out.csv`, with the OUT of this command."
        )


@dataclass(frozen=True)
class _Images:
    """Where the image of a series is."""

    flat: Path
    folders: tuple[Path, ...]
    """train_fixed, valid_fixed, train, valid: those that are there."""

    metadata: dict[str, SeriesMetadata | str]

    @classmethod
    def of(cls, folder: Path) -> _Images:
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
class _Anatomy:
    """What the tools segmented of a series."""

    folder: Path
    tools: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path) -> _Anatomy:
        return cls(folder, tuple(tool for tool in TOOLS if (folder / tool).is_dir()))

    def find(self, series_id: str) -> tuple[MaskSource, ...] | str:
        """From the lowest priority to the highest, or what is missing."""
        sources: list[MaskSource] = []
        if "totalsegmentator" in self.tools:
            found = self._total(series_id)
            if found is None:
                where = self.folder / "totalsegmentator" / series_id
                return f"neither {where} nor {where}{SUFFIX}"
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
    try:
        named = {
            int(value): str(name) for value, name in json.loads(path.read_text("utf-8")).items()
        }
    except (OSError, ValueError, AttributeError) as error:
        raise CatalogError.about(
            path,
            f"unreadable ({type(error).__name__})",
            'Masks of many structures need it: {"1": "spleen", "2": "kidney_right", ...}.',
        ) from None
    named.pop(0, None)
    unknown = [name for name in named.values() if name not in STRUCTURES and name not in UNPLACED]
    if unknown:
        raise CatalogError.about(
            path, f"no structure of TotalSegmentator is named {unknown[0]!r}", "Correct the name."
        )
    return tuple((value, STRUCTURES.get(name, 0)) for value, name in sorted(named.items()))


@dataclass
class _Found:
    """Studies, sorted into what can be used and why the rest cannot."""

    masks: Path
    images: _Images
    anatomy: _Anatomy | None
    flip: Flip
    studies: list[Study] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    excluded: list[Exclusion] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        from uvlm.preprocessing.catalog import check_id

        mask = self.masks / f"{entry.series_id}{SUFFIX}"
        unfit = check_id(entry.series_id)
        if unfit:
            self._reject(entry, self.masks, f"the name {entry.series_id[:60]!r} {unfit}")
        elif not mask.is_file() and entry.split == "test":
            self._exclude(entry, "the masks of the test studies are not published")
        elif not entry.findings:
            self._exclude(entry, "it has no finding")
        elif not any(each.code for each in entry.findings):
            self._exclude(entry, "none of its findings is of the 14 categories")
        elif not mask.is_file():
            self._reject(entry, mask, f"no masks: there is no {mask}")
        else:
            self._add(entry, mask)

    def _add(self, entry: Entry, mask: Path) -> None:
        image = self.images.find(entry.series_id)
        if image is None:
            self._reject(entry, mask, f"no image of this series in {self.images.flat}")
            return
        anatomy = () if self.anatomy is None else self.anatomy.find(entry.series_id)
        if isinstance(anatomy, str):
            self._reject(entry, mask, f"no anatomy: {anatomy}")
            return
        case, patient = ids_of(entry.series_id)
        self.studies.append(
            Study(
                series_id=entry.series_id,
                case_id=case,
                patient_id=patient,
                image=image,
                split=entry.split,
                mask=FindingMasks(
                    path=mask, findings=entry.findings, anatomy=anatomy, flip=self.flip
                ),
            )
        )

    def _reject(self, entry: Entry, source: Path, found: str) -> None:
        error = f"{entry.series_id}: {found}. Add it, or remove the study from the table."
        self.rejected.append(Rejection(series_id=entry.series_id, source=source, error=error))

    def _exclude(self, entry: Entry, reason: str) -> None:
        self.excluded.append(Exclusion(series_id=entry.series_id, reason=reason))
