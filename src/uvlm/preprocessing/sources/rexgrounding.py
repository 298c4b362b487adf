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
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uvlm.errors import CatalogError, ConfigError
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.sources.nnunet_raw import ids_of, keep_apart
from uvlm.preprocessing.sources.rexgrounding_classes import SCOPES, lesion_scope, scope_named
from uvlm.preprocessing.sources.rexgrounding_files import SUFFIX, TOOLS, Anatomy, Images
from uvlm.preprocessing.sources.rexgrounding_findings import Entry, read_entries
from uvlm.preprocessing.sources.rexgrounding_leakage import held_out_table, leakage
from uvlm.preprocessing.sources.rexgrounding_mask import FindingMasks
from uvlm.preprocessing.sources.rexgrounding_place import Flip
from uvlm.preprocessing.study import Exclusion, Listing, Rejection, Scope, Study

__all__ = [
    "DESCRIPTION",
    "NNUNET",
    "add_arguments",
    "list_rexgrounding",
    "list_studies",
]

DESCRIPTION = """\
Reads ReXGroundingCT's tables and masks, CT-RATE's images (--images) and, if given, what
TotalSegmentator, ATM22 and HiPaS segmented (--anatomy). Every finding becomes one of 14 lesion
classes by its category; with anatomy the masks have the 48 classes of Dataset141_ReXGroundingCT.
Which way a mask lies is decided from the anatomy, study by study, and a study where that is not
clear is recorded in errors.csv. Also writes findings.csv, and held_out.csv: the validation and test
studies, which lie in CT-RATE's training set, for `uvlm prepare ct-rate --held-out`. Studies of
CT-RATE's validation set are not trained on.
"""
NNUNET = NnunetName(141, "ReXGroundingCT")
MASKS = "segmentations"

NAMED = 8
"""Unknown categories that a warning names."""


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
        images=Images.of(images),
        anatomy=None if anatomy is None else Anatomy.of(anatomy, {e.series_id for e in entries}),
        flip=mask_flip,
    )
    for entry in entries:
        found.add(entry)
    divided = [(each.series_id, each.split) for each in entries]
    patients = [(ids_of(series)[1], split) for series, split in divided]
    studies, leaks = keep_apart(found.studies, patients)
    source = read_source(images)
    return Listing(
        name="ReXGroundingCT" if source == "CT-RATE" else source,
        region="chest",
        labels=(),
        studies=studies,
        scopes=numbered,
        rejected=tuple(found.rejected),
        excluded=(*found.excluded, *leaks),
        tables={"held_out.csv": held_out_table(divided)},
        study_tables={"findings.csv": _findings(entries)},
        warnings=(*leakage(divided), *warnings, *_unplaced(entries)),
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


def _findings(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    rows = [
        (entry.series_id, str(each.index), each.category, each.text)
        for entry in entries
        for each in entry.findings
    ]
    return [("series_id", "finding", "category", "text"), *rows]


def _unplaced(entries: Sequence[Entry]) -> list[str]:
    """A warning, where findings are of no class."""
    findings = [each for entry in entries for each in entry.findings]
    found = Counter(each.category[:20] for each in findings if each.code is None)
    if not found:
        return []
    named = ", ".join(f"{name!r} {n}" for name, n in found.most_common(NAMED))
    return [
        f"{found.total()} of {len(findings)} findings are of none of the 14 categories and are "
        f"left out; as given: {named}{' ...' if len(found) > NAMED else ''}."
    ]


@dataclass
class _Found:
    """Studies, sorted into what can be used and why the rest cannot."""

    masks: Path
    images: Images
    anatomy: Anatomy | None
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
