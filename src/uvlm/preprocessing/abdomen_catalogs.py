"""The CSV files of the AbdomenAtlas classification and report command, all of one set of columns.

    reports.csv           ids, store and texts of every case of the metadata
    classification.csv    ids, labels and lesion measures of every case with masks
    merged.csv            both: a catalog
    {iid,ood}_{train,test}_merged.csv    its rows by the lists of the split

What is unknown in a file is empty. Beside each, `NAME_errors.csv` says which cases are missing and
why, those without the chosen report among them. `dataset.json` says how the stores were prepared. A
file that another program wrote is never replaced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from uvlm.errors import CatalogError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.imaging.store import read_meta
from uvlm.preprocessing.abdomen_steps import make_folder
from uvlm.preprocessing.catalog import DATASET, IDS, PATHS, Catalog, Row, write_catalog
from uvlm.preprocessing.output import write_tables
from uvlm.preprocessing.records import Record
from uvlm.preprocessing.sources.abdomen_atlas import EXTRA_COLUMNS
from uvlm.preprocessing.sources.abdomen_masks import MASK_COLUMNS
from uvlm.preprocessing.sources.abdomen_tables import REPORTS, Case, Report, Split, read_split
from uvlm.preprocessing.study import Rejection
from uvlm.preprocessing.table import read_table
from uvlm.registry import ABDOMEN_LABELS

__all__ = [
    "Step",
    "check_output",
    "class_step",
    "described_name",
    "merge_step",
    "report_step",
    "split_step",
]

COLUMNS = (*IDS, *PATHS, *ABDOMEN_LABELS, "report", *EXTRA_COLUMNS)
ERRORS = ("series_id", "path", "error")
UNKNOWN: tuple[None, ...] = (None,) * len(ABDOMEN_LABELS)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step wrote."""

    path: Path
    rows: int
    problems: Mapping[str, str] = field(default_factory=dict)
    """Case -> why it should be in the file and is not."""

    left_out: int = 0
    """Cases without such a report."""

    def __str__(self) -> str:
        left_out = f", {self.left_out} left out without such a report" if self.left_out else ""
        return f"{self.path}: {self.rows} cases{left_out}"


def check_output(folder: Path, *names: str) -> None:
    """Refuse a folder in which another program's files are where these steps would write.

    Raises:
        CatalogError: naming the file.
    """
    _described(folder)
    for name in names:
        _refuse_other(folder / name)


def report_step(
    cases: Mapping[str, Case],
    wanted: Iterable[str],
    images: Path,
    kind: Report,
    path: Path,
    name: str,
) -> Step:
    """The texts of the cases `wanted`, with their stores in `images`; cases without text are left.

    Raises:
        CatalogError: none is usable, stores of several preparations, or `path` is another's file.
    """
    rows, problems, left_out = [], {}, {}
    for case in wanted:
        store = _store(images, case)
        if case not in cases:
            problems[case] = f"{case}: no row in the metadata table. Add one, or leave it out."
        elif store is None:
            problems[case] = (
                f"{images / case}.b2nd: no such file, nor {case}_0000.b2nd. Prepare it."
            )
        elif text := cases[case].report(kind):
            row = _empty_row(case, store)
            rows.append(replace(row, report=text, extra=cases[case].columns))
        else:
            left_out[case] = f"no {REPORTS[kind]}"
    _write_catalog(path, name, rows, {**problems, **left_out})
    return Step(path=path, rows=len(rows), problems=problems, left_out=len(left_out))


def class_step(
    records: Sequence[Record], rejected: Sequence[Rejection], images: Path | None, path: Path
) -> Step:
    """The labels and lesion measures of `records`; with `images`, their stores too.

    Raises:
        CatalogError: `path` is another's file.
    """
    lines, problems = [], {each.series_id: each.error for each in rejected}
    for record in records:
        if record.error is not None:
            problems[record.series_id] = record.error
            continue
        store = images and _store(images, record.series_id)
        cells = {
            **dict.fromkeys(IDS[:3], record.series_id),
            "blosc2_path": _relative(store, path.parent) if store else "",
            **{label: str(int(value)) for label, value in record.labels.items()},
            **record.columns,
        }
        lines.append([cells.get(column, "") for column in COLUMNS])
    _refuse_other(path)
    _write_errors(path, problems)
    write_tables(path.parent, {path.name: [COLUMNS, *lines]})
    return Step(path=path, rows=len(lines), problems=problems)


def merge_step(
    reports: Path,
    classes: Path,
    path: Path,
    name: str,
    parts: Mapping[str, str] | None = None,
) -> Step:
    """Texts and stores of one file with the labels and measures of another.

    Args:
        parts: case -> "train" or "test", for the column `split`.

    Raises:
        CatalogError: an input is not of these steps, nothing is in both, or `path` is another's.
    """
    labelled = {row.series_id: row for row in _read(classes)}
    rows, problems = [], {}
    for row in _read(reports):
        other = labelled.get(row.series_id)
        if other is None:
            problems[row.series_id] = f"{row.series_id}: no row in {classes}."
            continue
        measures = {column: other.extra[column] for column in MASK_COLUMNS}
        split = row.split if parts is None else parts.get(row.series_id)
        rows.append(replace(row, labels=other.labels, split=split, extra={**row.extra, **measures}))
    _write_catalog(path, name, rows, problems)
    return Step(path=path, rows=len(rows), problems=problems)


def split_step(merged: Path, lists: Path, folder: Path, name: str) -> list[Step]:
    """The four files of a merged one, by the lists in `lists`; cases in no list are in none.

    Raises:
        CatalogError: an input cannot be used, or an output is another's file.
    """
    splits: tuple[Split, ...] = ("IID", "OOD")
    listed = {split: read_split(lists, split) for split in splits}
    rows = _read(merged)
    spec = _spec(folder, rows)
    steps = []
    for split, parts in listed.items():
        for part in ("train", "test"):
            path = folder / f"{split.lower()}_{part}_merged.csv"
            mine = [replace(r, split=part) for r in rows if parts.get(r.series_id) == part]
            _refuse_other(path)
            write_catalog(_catalog(path, name, mine, spec))
            steps.append(Step(path=path, rows=len(mine)))
    return steps


def _store(images: Path, case: str) -> Path | None:
    names = (images / f"{case}.b2nd", images / f"{case}_0000.b2nd")
    return next((path for path in names if path.is_file()), None)


def _empty_row(case: str, store: Path) -> Row:
    return Row(
        series_id=case,
        case_id=case,
        patient_id=case,
        split=None,
        image=store,
        mask=None,
        labels=UNKNOWN,
        report=None,
    )


def _read(path: Path) -> list[Row]:
    """The rows of a file that one of these steps wrote."""
    table = read_table(path)
    table.require(COLUMNS)
    return [
        replace(
            _empty_row(cells["series_id"], path.parent / cells["blosc2_path"]),
            split=cells["split"] or None,
            labels=tuple(table.label(number, name, cells[name]) for name in ABDOMEN_LABELS),
            report=cells["report"] or None,
            extra={column: cells[column] for column in EXTRA_COLUMNS},
        )
        for number, cells in table.rows
    ]


def _write_catalog(path: Path, name: str, rows: Sequence[Row], problems: Mapping[str, str]) -> None:
    """A catalog, `dataset.json`, and first of all what is missing."""
    _refuse_other(path)
    _write_errors(path, problems)
    if not rows:
        first = next(iter(problems.values()), "no case has such a report.")
        raise CatalogError.about(path, "no case can be in it", f"First: {first}")
    write_catalog(_catalog(path, name, rows, _spec(path.parent, rows)))


def _catalog(path: Path, name: str, rows: Sequence[Row], spec: PreprocessSpec | None) -> Catalog:
    return Catalog(
        path=path,
        name=name,
        region="abdomen",
        labels=ABDOMEN_LABELS,
        segmentation=None,
        spec=spec,
        rows=tuple(rows),
        extra_columns=EXTRA_COLUMNS,
    )


def _spec(folder: Path, rows: Sequence[Row]) -> PreprocessSpec | None:
    """How the stores were prepared; None where they do not say.

    Raises:
        CatalogError: in several ways, or `folder` has the description of another dataset.
    """
    metas = [read_meta(row.image) for row in rows]
    specs = {None if meta is None else meta.spec_hash: meta for meta in metas}
    if len(specs) > 1:
        raise CatalogError.about(
            rows[0].image.parent,
            "its volumes were prepared in different ways",
            "Prepare them in one way.",
        )
    spec_hash, meta = next(iter(specs.items()), (None, None))
    described = _described(folder)
    if described is not None and described.get("spec_hash") != spec_hash:
        raise CatalogError.about(
            folder / DATASET,
            "its volumes were prepared in another way",
            "Choose a folder of its own for the output.",
        )
    return None if meta is None else meta.grid.spec


def _described(folder: Path) -> dict[str, Any] | None:
    """`dataset.json`, if there is one.

    Raises:
        CatalogError: it is not of these steps.
    """
    path = folder / DATASET
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
        ours = found["labels"] == list(ABDOMEN_LABELS) and found["segmentation"] is None
        ours = ours and found["extra_columns"] == list(EXTRA_COLUMNS)
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise CatalogError.about(
            path, "it describes another dataset", "Choose a folder of its own for the output."
        )
    return dict(found)


def described_name(folder: Path) -> str:
    """What the studies of these files are, by the `dataset.json` beside them; empty without one."""
    return str((_described(folder) or {}).get("name", ""))


def _refuse_other(path: Path) -> None:
    if path.exists() and (not path.is_file() or read_table(path).columns != COLUMNS):
        raise CatalogError.about(
            path, "it exists and this command did not write it", "Choose another output."
        )


def _write_errors(path: Path, problems: Mapping[str, str]) -> None:
    lines = [(case, case, error) for case, error in problems.items()]
    make_folder(path.parent)
    write_tables(path.parent, {f"{path.stem}_errors.csv": [ERRORS, *lines]})


def _relative(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path.absolute(), base.absolute())).as_posix()
