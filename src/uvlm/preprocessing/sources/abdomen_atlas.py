"""AbdomenAtlas 3.0 Mini; also synthetic studies, which use its layout.

    image_only/<case>/ct.nii.gz                        HU
    mask_only/<case>/segmentations/<structure>.nii.gz  one file per structure
    AbdomenAtlas3.0MiniWithMeta.csv                    reports, lesion volumes, sex, age, contrast
    TrainTestIDS/{IID,OOD}_{train,test}.csv            which cases are held out for the test
    source.txt                                         what the studies are, if they are not
                                                       AbdomenAtlas; one line, optional

A case is named `BDMAP_00000001` and counts as a patient of its own. Masks become the 41 classes of
`abdomen_classes`, and from the lesion classes follow the three labels (see `lesions`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.sources.abdomen_classes import SCOPES, scopes_of
from uvlm.preprocessing.sources.abdomen_masks import MASK_COLUMNS, masks_of
from uvlm.preprocessing.sources.abdomen_tables import (
    METADATA,
    REPORTS,
    SPLIT_FOLDER,
    TABLE_COLUMNS,
    Case,
    Report,
    Split,
    read_metadata,
    read_split,
)
from uvlm.preprocessing.study import Exclusion, Listing, Rejection, Study, VolumeFile
from uvlm.registry import ABDOMEN_LABELS

__all__ = [
    "DESCRIPTION",
    "EXTRA_COLUMNS",
    "NNUNET",
    "Places",
    "add_arguments",
    "list_abdomen_atlas",
    "list_places",
    "list_studies",
    "places_of",
    "source_name",
]

DESCRIPTION = """\
Reads image_only/CASE/ct.nii.gz, mask_only/CASE/segmentations/STRUCTURE.nii.gz, the metadata table
and the lists of TrainTestIDS. The structures are merged into one mask, a lesion over a vessel, that
over a part of an organ, that over an organ; overlaps within one kind are recorded. Files of whole
organs given by their parts (liver, pancreas) and of structures outside the 41 classes are not
read; any other unknown file is an error. The labels Liver, Kidney and Pancreas lesion come from the
masks: at 1 mm, a voxel must be left after an erosion by 3x3x3. `report` is one line of text; the
four report_* columns hold the texts as in the table.
"""
NNUNET = NnunetName(145, "AbdomenAtlas3.0Mini")
NAME = "AbdomenAtlas 3.0 Mini"

EXTRA_COLUMNS: tuple[str, ...] = (*TABLE_COLUMNS, *MASK_COLUMNS)
"""Columns after `report`."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where everything is."""

    images: Path
    masks: Path | None
    """None: no masks; the labels come from the lesion volumes of the metadata."""

    metadata: Path | None
    """None: no reports."""

    splits: Path | None
    """None: nothing is held out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What only this source takes."""
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT", help="the folder that holds image_only and mask_only")
    add(
        "--scopes",
        nargs="+",
        default=["fine+lesions"],
        metavar="NAME",
        help=f"how to number the classes: {', '.join(SCOPES)} (default fine+lesions, 41 classes)",
    )
    add(
        "--report",
        choices=tuple(REPORTS),
        default="structured",
        help="which of the four reports is `report` (default structured)",
    )
    add(
        "--split",
        choices=("IID", "OOD"),
        default="IID",
        help="which lists say what is held out for the test (default IID)",
    )
    add("--no-masks", action="store_true", help="images and reports alone; labels from the table")
    for name, what in (
        ("--image-dir", "image_only"),
        ("--mask-dir", "mask_only"),
        ("--meta-csv", METADATA),
        ("--split-dir", SPLIT_FOLDER),
    ):
        add(name, type=Path, metavar="PATH", help=f"where {what} is, if not in INPUT")


def list_studies(args: argparse.Namespace) -> Listing:
    """The listing that the command line asks for."""
    return list_abdomen_atlas(
        args.input,
        scopes=args.scopes,
        report=args.report,
        split=args.split,
        masks=not args.no_masks,
        image_dir=args.image_dir,
        mask_dir=args.mask_dir,
        meta_csv=args.meta_csv,
        split_dir=args.split_dir,
    )


def list_abdomen_atlas(
    folder: Path | str,
    scopes: Sequence[str] = ("fine+lesions",),
    report: Report = "structured",
    split: Split = "IID",
    *,
    masks: bool = True,
    **elsewhere: Path | None,
) -> Listing:
    """What a folder of AbdomenAtlas 3.0 holds.

    Args:
        folder: the one that holds `image_only` and `mask_only`.
        scopes: "fine+lesions" (41 classes), "coarse+lesions" (15), "coarse" (12).
        report: which report becomes `report`; cases without it are left out.
        split: which lists of training and test cases count.
        masks: without, labels come from the lesion volumes of the metadata (above 0).
        elsewhere: parts that do not lie in `folder`, as `places_of` takes them.

    Raises:
        CatalogError: no image, a table that is given but cannot be used, a case in both lists.
        ConfigError: an unknown scope.
    """
    folder = Path(folder)
    places = places_of(folder, **elsewhere)
    if not masks:
        places = replace(places, masks=None)
    name = source_name(folder)
    return list_places(places, name=name, scopes=scopes, report=report, split=split)


def places_of(
    folder: Path,
    *,
    image_dir: Path | None = None,
    mask_dir: Path | None = None,
    meta_csv: Path | None = None,
    split_dir: Path | None = None,
) -> Places:
    """The parts of a release in `folder`, those given taken from where they are."""
    metadata, splits = folder / METADATA, folder / SPLIT_FOLDER
    return Places(
        images=image_dir or folder / "image_only",
        masks=mask_dir or folder / "mask_only",
        metadata=meta_csv or (metadata if metadata.is_file() else None),
        splits=split_dir or (splits if splits.is_dir() else None),
    )


def source_name(folder: Path) -> str:
    """What the studies of a release are: the line of `source.txt`, or AbdomenAtlas without one."""
    try:
        return " ".join((folder / "source.txt").read_text(encoding="utf-8").split()) or NAME
    except (OSError, UnicodeDecodeError):
        return NAME


def list_places(
    places: Places,
    *,
    name: str = NAME,
    scopes: Sequence[str] = ("fine+lesions",),
    report: Report | None = "structured",
    split: Split = "IID",
) -> Listing:
    """As `list_abdomen_atlas`, with every part named; with `report` None, cases need no report."""
    chosen, cases = scopes_of(scopes), _cases_in(places.images)
    if places.masks is not None and not places.masks.is_dir():
        raise CatalogError.about(
            places.masks, "no such folder", "Say where mask_only is, or prepare without masks."
        )
    tables = _Tables(
        cases=read_metadata(places.metadata) if places.metadata else None,
        parts=read_split(places.splits, split) if places.splits else None,
        report=report,
        split=split,
    )
    found = _Found(places, tables)
    for case in cases:
        found.add(case)
    return Listing(
        name=name,
        region="abdomen",
        labels=ABDOMEN_LABELS,
        studies=tuple(found.studies),
        scopes=chosen if places.masks else (),
        extra_columns=EXTRA_COLUMNS if places.masks else TABLE_COLUMNS,
        rejected=tuple(found.rejected),
        excluded=tuple(found.excluded),
        warnings=tables.warnings(places),
    )


def _cases_in(images: Path) -> list[str]:
    try:
        names = sorted(path.name for path in images.iterdir() if path.is_dir())
    except OSError as error:
        raise CatalogError.about(
            images,
            f"cannot be read as a folder ({error.strerror})",
            "Give the folder that holds image_only, with one folder per case.",
        ) from None
    names = [name for name in names if not name.startswith(".")]
    if not names:
        raise CatalogError.about(
            images, "no case in it", "Expected folders such as BDMAP_00000001 with a ct.nii.gz."
        )
    return names


@dataclass(frozen=True, kw_only=True)
class _Tables:
    cases: Mapping[str, Case] | None
    parts: Mapping[str, str] | None
    report: Report | None
    split: Split

    def warnings(self, places: Places) -> tuple[str, ...]:
        said = []
        if self.cases is None and self.report:
            said.append(
                f"{places.images}: no {METADATA} beside it, so there are no reports"
                + (", and no labels without masks." if places.masks is None else ".")
            )
        if self.parts is None:
            said.append(
                f"{places.images}: no {SPLIT_FOLDER} beside it, so nothing is held out for the "
                "test."
            )
        return tuple(said)


@dataclass
class _Found:
    """The cases, sorted into what can be used and why the rest cannot."""

    places: Places
    tables: _Tables
    studies: list[Study] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    excluded: list[Exclusion] = field(default_factory=list)

    def add(self, case: str) -> None:
        tables = self.tables
        row = None if tables.cases is None else tables.cases.get(case)
        part = None if tables.parts is None else tables.parts.get(case)
        if tables.parts is not None and part is None:
            self._exclude(case, f"in neither list of the {tables.split} split")
        elif tables.report and tables.cases is not None and row is None:
            self._reject(case, f"{case}: no row in the metadata table. Add one, or leave it out.")
        elif tables.report and row is not None and not row.report(tables.report):
            self._exclude(case, f"no {REPORTS[tables.report]}")
        else:
            self._add_study(case, row, part)

    def _exclude(self, case: str, reason: str) -> None:
        self.excluded.append(Exclusion(series_id=case, reason=reason))

    def _reject(self, case: str, error: str) -> None:
        source = self.places.images / case
        self.rejected.append(Rejection(series_id=case, source=source, error=error))

    def _add_study(self, case: str, row: Case | None, part: str | None) -> None:
        kind = self.tables.report
        folder = self.places.images / case
        image = next((p for p in map(folder.joinpath, CT) if p.is_file()), None)
        if image is None:
            self._reject(case, f"{folder}: no {CT[0]} in it. Download it again, or remove it.")
            return
        masks = None if self.places.masks is None else self.places.masks / case / "segmentations"
        if masks is not None and not masks.is_dir():
            self._reject(
                case, f"{masks}: no such folder of masks. Download it, or prepare without masks."
            )
            return
        self.studies.append(
            Study(
                series_id=case,
                case_id=case,
                patient_id=case,
                image=VolumeFile(image),
                split=part,
                mask=masks_of(masks, row.lesion_ml if row else {}) if masks else None,
                labels=_labels(row) if masks is None else {},
                report=row.report(kind) if row and kind else "",
                extra=row.columns if row else {},
            )
        )


CT = ("ct.nii.gz", "ct.nii")


def _labels(row: Case | None) -> dict[str, float | None]:
    ml = row.lesion_ml if row else {}
    return {label: float(ml[label] > 0) if label in ml else None for label in ABDOMEN_LABELS}
