"""CT-RATE, versions 1 and 2; also synthetic studies, which use its layout.

    dataset/{train,valid}_fixed/<patient>/<scan>/<series>.nii.gz      version 2: int16 HU
    dataset/{train,valid}/<patient>/<scan>/<series>.nii.gz            version 1: stored values
    dataset/metadata/{train,validation}_metadata.csv                  needed by version 1
    dataset/metadata/no_chest_{train,valid}.txt                       series to leave out, optional
    dataset/radiology_text_reports/{train,validation}_reports.csv
    dataset/multi_abnormality_labels/{train,valid}_predicted_labels.csv
    dataset/ts_seg/{train,valid}_fixed/...                            masks, optional
    dataset/ts_seg/labels.json                                        value to name of the masks
    dataset/source.txt                                                what the studies are, if they
                                                                      are not CT-RATE's; one line

A series is named `train_1_a_1`: patient `train_1`, scan `train_1_a`, reconstruction 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from uvlm.errors import CatalogError
from uvlm.preprocessing.masks import MaskFile
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.sources.ct_rate_files import (
    Places,
    Series,
    TableColumns,
    find_series,
    places_of,
    read_labels,
    read_metadata,
    read_names,
    read_reports,
    read_scope,
    read_source,
)
from uvlm.preprocessing.sources.ct_rate_image import CtRateImage
from uvlm.preprocessing.sources.ct_rate_metadata import SeriesMetadata
from uvlm.preprocessing.study import Exclusion, Listing, Rejection, Scope, Study

__all__ = [
    "DESCRIPTION",
    "NNUNET",
    "add_arguments",
    "list_ct_rate",
    "list_places",
    "list_studies",
]

Reconstructions = Literal["all", "one"]

DESCRIPTION = """\
Reads CT-RATE's own layout: the folder that holds `dataset`, with train_fixed and valid_fixed
(version 2, in HU) or train and valid (version 1, made HU by slope, intercept and geometry of the
metadata table), reports, labels and, where there are any, the masks of ts_seg. Every file's folder,
header and values must agree on its version. A series without a row in both tables, without report
text, or whose values are not HU is recorded in errors.csv; the others go on. Writes one catalog
with the 18 labels and the report of every series, imagesTr and, with masks, labelsTr.
"""
NNUNET = NnunetName(140, "CT-RATE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What only this source takes."""
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT", help="the folder that holds `dataset`, or `dataset`")
    add(
        "--reconstructions",
        choices=("all", "one"),
        default="all",
        help="keep all of a scan (the default), or the one with the thinnest slices by the "
        "metadata table, of equals the lowest number",
    )
    add("--no-masks", action="store_true", help="leave the masks of ts_seg out")
    add(
        "--exclude",
        type=Path,
        metavar="FILE",
        help="text file of series, scans or patients to leave out, one a line",
    )


def list_studies(args: argparse.Namespace) -> Listing:
    """The listing that the command line asks for."""
    return list_ct_rate(
        args.input,
        reconstructions=args.reconstructions,
        masks=not args.no_masks,
        exclude=args.exclude,
    )


def list_ct_rate(
    folder: Path | str,
    *,
    reconstructions: Reconstructions = "all",
    masks: bool = True,
    exclude: Path | None = None,
) -> Listing:
    """What a CT-RATE folder holds.

    Args:
        folder: the one that holds `dataset`, or `dataset` itself.
        reconstructions: "one" keeps, of each scan, the one with the smallest slice spacing in the
            metadata table; of equals, or without a row, the one with the lowest number.
        masks: whether to use the masks of `ts_seg`, if there are any.
        exclude: text file of series, scans or patients to leave out, one a line.

    Raises:
        CatalogError: another layout, or a table that is missing or cannot be used.
    """
    folder = Path(folder)
    places = places_of(folder)
    return list_places(
        places if masks else replace(places, masks=None),
        name=read_source(folder),
        reconstructions=reconstructions,
        exclude=exclude,
    )


@dataclass(frozen=True)
class _Tables:
    """What the tables say, by series; None where no tables were asked for."""

    reports: Mapping[str, str] | None
    labels: Mapping[str, Mapping[str, float | None]] | None
    metadata: Mapping[str, SeriesMetadata | str]

    def lack(self, series_id: str) -> str | None:
        """Why they are not enough for a series, or None."""
        remedy = "Add one, or remove the series."
        if self.reports is not None and series_id not in self.reports:
            return f"{series_id}: no row in the reports table. {remedy}"
        if self.reports is not None and not self.reports[series_id]:
            return f"{series_id}: its report has neither findings nor impression."
        if self.labels is not None and series_id not in self.labels:
            return f"{series_id}: no row in the labels table. {remedy}"
        return None


def list_places(
    places: Places,
    *,
    name: str = "CT-RATE",
    columns: TableColumns | None = None,
    reconstructions: Reconstructions = "all",
    exclude: Path | None = None,
) -> Listing:
    """As `list_ct_rate`, with every folder and table named; without tables none are needed."""
    columns = columns or TableColumns()
    tables = _Tables(
        read_reports(places.reports, columns) if places.reports else None,
        read_labels(places.labels, columns) if places.labels else None,
        read_metadata(places.metadata, columns),
    )
    found, rejected = find_series(places)
    if not found and not rejected:
        folders = ", ".join(str(folder) for _, folder in places.images)
        raise CatalogError.about(folders, "no .nii.gz file below", "Give the folder of the images.")
    excluded: list[Exclusion] = []
    found = _one_version(found, excluded)
    for path in places.no_chest:
        reason = f"listed as not of the chest ({path.name})"
        found, _ = _leave_out(found, read_names(path), reason, excluded)
    warnings: tuple[str, ...] = ()
    if exclude is not None:
        reason = f"named in {exclude.name}"
        found, unknown = _leave_out(found, read_names(exclude), reason, excluded)
        warnings = _unknown_names(exclude, unknown)
    usable = []
    for series in found:
        lack = tables.lack(series.series_id)
        if lack is None:
            usable.append(series)
        else:
            rejected.append(Rejection(series_id=series.series_id, source=series.path, error=lack))
    if reconstructions == "one":
        usable = _one_per_scan(usable, tables.metadata, excluded)
    scope = read_scope(places.masks) if places.masks else None
    return Listing(
        name=name,
        region="chest",
        labels=columns.labels,
        studies=tuple(_study(series, tables, places.masks, scope) for series in usable),
        scopes=(scope,) if scope else (),
        rejected=tuple(rejected),
        excluded=tuple(excluded),
        warnings=warnings,
    )


def _one_version(found: Sequence[Series], excluded: list[Exclusion]) -> list[Series]:
    """Version 2 of a series that is there in both.

    Raises:
        CatalogError: two files of one series and version.
    """
    kept = []
    for series_id, group in groupby(found, key=lambda series: series.series_id):
        files = list(group)
        fixed = [series for series in files if series.folder.endswith("_fixed")]
        first, *others = fixed or files
        if others:
            raise CatalogError.about(
                others[0].path, f"the same series as {first.path}", "Keep one of the two."
            )
        kept.append(first)
        reason = "version 1, where version 2 is there too"
        excluded += [Exclusion(series_id=series_id, reason=reason)] * (len(files) - 1)
    return kept


def _leave_out(
    found: Sequence[Series], names: Sequence[str], reason: str, excluded: list[Exclusion]
) -> tuple[list[Series], list[str]]:
    """The series not named, and the names of nothing."""
    wanted, matched, kept = set(names), set(), []
    for series in found:
        own = {series.series_id, series.case_id, series.patient_id} & wanted
        matched |= own
        if own:
            excluded.append(Exclusion(series_id=series.series_id, reason=reason))
        else:
            kept.append(series)
    return kept, [name for name in names if name not in matched]


def _unknown_names(path: Path, unknown: Sequence[str]) -> tuple[str, ...]:
    if not unknown:
        return ()
    some = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    return (f"{path}: {len(unknown)} of its names are of no series here: {some}",)


def _one_per_scan(
    usable: Sequence[Series],
    metadata: Mapping[str, SeriesMetadata | str],
    excluded: list[Exclusion],
) -> list[Series]:
    def rank(series: Series) -> tuple[float, int]:
        row = metadata.get(series.series_id)
        thickness = row.spacing[0] if isinstance(row, SeriesMetadata) else float("inf")
        return thickness, series.reconstruction

    kept = []
    for _, group in groupby(usable, key=lambda series: series.case_id):
        chosen, *others = sorted(group, key=rank)
        kept.append(chosen)
        reason = "another reconstruction of its scan is used"
        excluded += [Exclusion(series_id=each.series_id, reason=reason) for each in others]
    return kept


def _study(series: Series, tables: _Tables, masks: Path | None, scope: Scope | None) -> Study:
    series_id = series.series_id
    row = tables.metadata.get(series_id, f"there is no row for {series_id}")
    return Study(
        series_id=series_id,
        case_id=series.case_id,
        patient_id=series.patient_id,
        split=series.split,
        image=CtRateImage(
            path=series.path,
            folder=series.folder,
            metadata=row if isinstance(row, SeriesMetadata) else None,
            lack=row if isinstance(row, str) else "",
        ),
        mask=_mask(series, masks, scope),
        labels=(tables.labels or {}).get(series_id, {}),
        report=(tables.reports or {}).get(series_id, ""),
    )


def _mask(series: Series, masks: Path | None, scope: Scope | None) -> MaskFile | None:
    if masks is None or scope is None:
        return None
    for end in ("_fixed", ""):
        path = masks / f"{series.split}{end}" / series.below
        if path.is_file():
            return MaskFile(path, tuple(scope.table))
    return None
