"""CT-RATE, version 2, into a catalog and a store; also synthetic studies, which use its layout.

    dataset/{train,valid}_fixed/<patient>/<scan>/<series>.nii.gz      int16 HU
    dataset/ts_seg/{train,valid}_fixed/...                            masks, optional
    dataset/ts_seg/labels.json                                        value to name of the masks
    dataset/radiology_text_reports/{train,validation}_reports.csv
    dataset/multi_abnormality_labels/{train,valid}_predicted_labels.csv
    dataset/metadata/no_chest_{train,valid}.txt                       series to leave out, optional
    dataset/source.txt                                                what the studies are, if they
                                                                      are not CT-RATE's; one line

A series is named `train_1_a_1`: patient `train_1`, scan `train_1_a`, reconstruction 1. A series
without a row in both tables, without report text, or whose voxels are not HU is recorded in
`errors.csv`; the others go on.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.preprocessing.catalog import Catalog, Row, read_spec, write_catalog, write_text
from uvlm.preprocessing.ct_rate_layout import (
    MaskClasses,
    Series,
    Tables,
    find_root,
    find_series,
    read_classes,
    read_source,
    read_tables,
)
from uvlm.preprocessing.pipeline import Job, Outcome, run_jobs
from uvlm.registry import CT_RATE_LABELS

__all__ = ["Summary", "prepare_ct_rate"]

ERRORS_HEADER = "series_id,path,error"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a preparation came to."""

    catalog: Path
    prepared: int
    """Series in the catalog."""

    kept: int
    """Of these, already there."""

    rejected: tuple[Outcome, ...]
    """As in errors.csv."""

    excluded: int
    """Series left out because CT-RATE lists them as not of the chest."""


def prepare_ct_rate(
    folder: Path | str, out: Path | str, spec: PreprocessSpec, workers: int = 1
) -> Summary:
    """Prepare a CT-RATE folder; run again, it keeps what is done.

    Writes catalog.csv, dataset.json, errors.csv, imagesTr and labelsTr into `out`.

    Args:
        folder: the one that holds `dataset`, or `dataset` itself.
        out: a new folder, or one that an earlier run with the same `spec` wrote.

    Raises:
        CatalogError: another layout, an unreadable table, another preprocessing in `out`, or no
            series that can be used.
    """
    root, out = find_root(Path(folder)), Path(out)
    _refuse_other(out, spec)
    tables, found, classes = read_tables(root), find_series(root), read_classes(root)
    usable = []
    for series in found.series:
        lack = tables.lack(series.series_id)
        if lack is None:
            usable.append(series)
        else:
            found.rejected.append(
                Outcome(series_id=series.series_id, source=series.image, error=lack)
            )
    jobs = [_job(series, root, out, spec, classes) for series in usable]
    _make_folders(out, ("imagesTr", "labelsTr") if classes else ("imagesTr",))
    outcomes = run_jobs(jobs, workers)
    rejected = (*found.rejected, *(outcome for outcome in outcomes if outcome.error))
    _write_errors(out / "errors.csv", rejected)
    rows = [
        _row(series, job, tables)
        for series, job, outcome in zip(usable, jobs, outcomes, strict=True)
        if not outcome.error
    ]
    if not rows:
        raise CatalogError.about(
            root, f"none of {len(rejected)} series can be used", f"See {out / 'errors.csv'}."
        )
    catalog = _catalog(out, read_source(root), spec, classes, rows)
    write_catalog(catalog)
    return Summary(
        catalog=catalog.path,
        prepared=len(rows),
        kept=sum(outcome.kept for outcome in outcomes),
        rejected=rejected,
        excluded=found.excluded,
    )


def _make_folders(out: Path, names: tuple[str, ...]) -> None:
    try:
        for name in names:
            (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"cannot be a folder to write into ({error.strerror})"
        raise CatalogError.about(out, found, "Choose another --out.") from None


def _refuse_other(out: Path, spec: PreprocessSpec) -> None:
    """Refuse a folder that holds anything but an earlier run with the same specification."""
    written = any((out / name).exists() for name in ("catalog.csv", "dataset.json"))
    if written and read_spec(out) != spec:
        raise CatalogError.about(
            out, "it holds a dataset that was prepared in another way", "Choose another --out."
        )
    errors = out / "errors.csv"
    if errors.is_file() and not errors.read_bytes().startswith(ERRORS_HEADER.encode()):
        raise CatalogError.about(
            errors, "a file that this command did not write", "Choose another --out, or move it."
        )


def _job(
    series: Series, root: Path, out: Path, spec: PreprocessSpec, classes: MaskClasses | None
) -> Job:
    mask = root / "ts_seg" / series.image.relative_to(root)
    name = f"{series.series_id}.b2nd"
    if classes is None or not mask.is_file():
        return Job(
            series_id=series.series_id,
            image=series.image,
            mask=None,
            out_image=out / "imagesTr" / name,
            out_mask=None,
            spec=spec,
        )
    return Job(
        series_id=series.series_id,
        image=series.image,
        mask=mask,
        out_image=out / "imagesTr" / name,
        out_mask=out / "labelsTr" / name,
        spec=spec,
        values=classes.values,
        classes=classes.names,
    )


def _row(series: Series, job: Job, tables: Tables) -> Row:
    return Row(
        series_id=series.series_id,
        case_id=series.case_id,
        patient_id=series.patient_id,
        split=series.split,
        image=job.out_image,
        mask=job.out_mask,
        labels=tables.labels[series.series_id],
        report=tables.reports[series.series_id],
    )


def _catalog(
    out: Path, name: str, spec: PreprocessSpec, classes: MaskClasses | None, rows: list[Row]
) -> Catalog:
    return Catalog(
        path=out / "catalog.csv",
        name=name,
        region="chest",
        labels=CT_RATE_LABELS,
        segmentation=classes.names if classes else None,
        spec=spec,
        rows=tuple(rows),
    )


def _write_errors(path: Path, rejected: tuple[Outcome, ...]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    text.write(ERRORS_HEADER + "\n")
    writer.writerows((each.series_id, each.source, each.error) for each in rejected)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
