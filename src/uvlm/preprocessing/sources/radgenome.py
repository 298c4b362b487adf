"""RadGenome-ChestCT: reports by region and questions with answers, on the volumes of CT-RATE.

    INPUT/**/{train,validation}_region_report.csv               also valid_...
    INPUT/**/{train,validation}_case_disorders.csv
    INPUT/**/{train,validation}_vqa_{abnormality,location,presence,size}.csv
    INPUT/**/{train,valid}_preprocessed/<patient>/<scan>/train_1_a_1.nii.gz     or --images
    INPUT/**/{train,valid}_region_mask/seg_train_1_a_1/<anatomy>.nii.gz         or --masks

A volume that is missing is rejected by name; nothing stands in for it. Beside the catalog lie

    regions.csv         series_id, anatomy (path), region (its last element), sentence
    vqa.csv             series_id, type, anatomy, finding, answers, millimetres
    vqa_rejected.csv    the same questions without a right answer, with the reason
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.masks import StructureFolder
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.sources.ct_rate_files import TableColumns, read_labels, read_source
from uvlm.preprocessing.sources.radgenome_files import find_masks, find_volumes
from uvlm.preprocessing.sources.radgenome_tables import (
    REGIONS_HEADER,
    find_tables,
    questions_of,
    read_disorders,
    read_questions,
    read_regions,
    region_of,
    report_of,
)
from uvlm.preprocessing.study import Exclusion, Listing, Rejection, Scope, Study
from uvlm.registry import CT_RATE_LABELS

__all__ = ["DESCRIPTION", "NNUNET", "add_arguments", "list_radgenome", "list_studies"]

DESCRIPTION = (
    "INPUT holds the tables of the release (region_report, case_disorders, four of vqa) and its "
    "volumes; --images takes CT-RATE's own instead. Writes regions.csv and vqa.csv beside the "
    "catalog: one row per question, with every answer that is right."
)
NNUNET: NnunetName | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT", help="the folder of the release")
    add("--tables", type=Path, metavar="DIR", help="with the tables (default: INPUT)")
    add("--images", type=Path, metavar="DIR", help="CT-RATE, or volumes named as there")
    add("--labels", type=Path, nargs="+", default=(), metavar="CSV", help="CT-RATE's 18 labels")
    add("--masks", type=Path, nargs="+", metavar="DIR", help="with folders seg_<volume>")
    add("--no-masks", action="store_true", help="leave the masks out")


def list_studies(args: argparse.Namespace) -> Listing:
    labels, masks = (
        None if paths is None else tuple(Path(os.path.abspath(path)) for path in paths)
        for paths in (args.labels, args.masks)
    )
    return list_radgenome(
        args.input,
        tables=args.tables,
        images=args.images,
        labels=labels or (),
        masks=() if args.no_masks else masks,
    )


def list_radgenome(
    folder: Path | str,
    *,
    tables: Path | None = None,
    images: Path | None = None,
    labels: Sequence[Path] = (),
    masks: Sequence[Path] | None = None,
) -> Listing:
    """What a copy of RadGenome-ChestCT holds.

    Args:
        images: CT-RATE's folder, of either version, or any folder of volumes named as there.
        labels: CT-RATE's label tables; without them the catalog has no labels.
        masks: folders with `seg_<volume>` folders; None for those of the release, () for none.

    Raises:
        CatalogError: no region reports, a damaged table, no volumes, or two mask folders of one
            volume.
    """
    folder = Path(folder)
    found, warnings = find_tables(tables or folder)
    if "region_report" not in found:
        raise CatalogError.about(
            tables or folder, "no train_ or validation_region_report.csv below it", "See --tables."
        )
    regions = read_regions(found["region_report"])
    volumes = find_volumes(folder, images)
    by_series = {study.series_id: study for study in volumes.studies}
    sources, scopes = find_masks(folder, masks)
    known = read_labels(labels, TableColumns()) if labels else {}
    disorders = read_disorders(found.get("case_disorders", ()))
    studies = [
        _study(by_series[name], sentences, sources, known, disorders)
        for name, sentences in regions.items()
        if name in by_series
    ]
    questions, others = read_questions(found, {study.series_id: None for study in studies})
    vqa, unanswered = questions_of(questions)
    return Listing(
        name=read_source(folder) if _is_named(folder) else "RadGenome-ChestCT",
        region="chest",
        labels=CT_RATE_LABELS if labels else (),
        studies=tuple(studies),
        scopes=scopes if any(study.mask for study in studies) else (),
        extra_columns=("disorders",),
        rejected=(*_missing(regions, volumes, images or folder), *volumes.rejected),
        excluded=(*volumes.excluded, *_unnamed(by_series, regions)),
        tables={"vqa_rejected.csv": unanswered},
        study_tables={"regions.csv": _region_rows(studies, regions), "vqa.csv": vqa},
        warnings=(
            *warnings,
            *volumes.warnings,
            *_doubts(studies, scopes, known, bool(labels), len(unanswered) - 1, others),
        ),
    )


def _study(
    volume: Study,
    sentences: Sequence[tuple[str, str]],
    masks: Mapping[str, StructureFolder],
    labels: Mapping[str, Mapping[str, float | None]],
    disorders: Mapping[str, Sequence[str]],
) -> Study:
    name = volume.series_id
    return replace(
        volume,
        mask=masks.get(name),
        labels=labels.get(name, {}),
        report=report_of(sentences),
        extra={"disorders": json.dumps(disorders.get(name, ()), ensure_ascii=False)},
    )


def _is_named(folder: Path) -> bool:
    return any((each / "source.txt").exists() for each in (folder, folder / "dataset"))


def _missing(regions: Iterable[str], volumes: Listing, where: Path) -> list[Rejection]:
    there = {study.series_id for study in volumes.studies}
    there |= {each.series_id for each in volumes.rejected}
    there |= {each.series_id for each in volumes.excluded}
    return [
        Rejection(
            series_id=name,
            source=where,
            error=f"{where}: no volume {name}.nii.gz below it. Download it, or do without.",
        )
        for name in regions
        if name not in there
    ]


def _unnamed(volumes: Iterable[str], regions: Mapping[str, object]) -> list[Exclusion]:
    reason = "no row in the region reports"
    return [Exclusion(series_id=name, reason=reason) for name in volumes if name not in regions]


def _region_rows(
    studies: Iterable[Study], regions: Mapping[str, Sequence[tuple[str, str]]]
) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [REGIONS_HEADER]
    for study in studies:
        name = study.series_id
        rows += [(name, anatomy, region_of(anatomy), text) for anatomy, text in regions[name]]
    return rows


def _doubts(
    studies: Sequence[Study],
    scopes: Sequence[Scope],
    known: Mapping[str, object],
    labelled: bool,
    unanswered: int,
    others: int,
) -> list[str]:
    unmasked = sum(study.mask is None for study in studies) if scopes else 0
    unknown = sum(study.series_id not in known for study in studies) if labelled else 0
    counts = (
        (unmasked, "studies have no mask."),
        (unknown, "studies have no row in the labels table; their labels are unknown."),
        (unanswered, "questions have no right answer; see vqa_rejected.csv."),
        (others, "rows of questions are of volumes that are not used; they were left out."),
    )
    return [f"{count} {text}" for count, text in counts if count]
