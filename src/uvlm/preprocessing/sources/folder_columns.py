"""Which column of the user's table holds what: as told, or found out from names and values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from uvlm.errors import CatalogError
from uvlm.preprocessing.sources.folder_files import Index
from uvlm.preprocessing.sources.folder_table import value_of_word
from uvlm.preprocessing.table import Table
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS
from uvlm.text.cleaning import clean_report, join_sections

__all__ = ["Columns", "Roles", "map_columns", "report_of"]

NONE = "-"
"""Given as a column's name: there is none, look for none."""

ID_NAMES = (
    "seriesid", "volumename", "accessionno", "accessionnumber", "studyid", "scanid", "id",
    "imageid", "filename", "file", "image", "imagefile", "volume", "scan", "study", "series",
    "caseid", "case", "name",
)  # fmt: skip
"""Usual names of the column that names the file, likeliest first; letters and digits only."""

NAMES: dict[str, tuple[str, ...]] = {
    "case": ("caseid", "case", "studyid", "study", "accessionno", "accessionnumber"),
    "patient": (
        "patientid",
        "patient",
        "patientenid",
        "subjectid",
        "subject",
        "mrn",
        "hastano",
        "hasta",
    ),
    "split": ("split", "partition"),
}
"""Usual names of other columns."""

FINDINGS = ("findings", "findingsen", "befund")
IMPRESSION = ("impression", "impressions", "impressionsen", "conclusion", "beurteilung")
REPORT = (
    "report", "reporttext", "radiologyreport", "reporten", "text", "compterendu", "rapor",
)  # fmt: skip

NEARLY = 0.8
"""Share of label-like cells from which a column is worth a warning when it is not a label."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the user said of the table's columns: None to find out, "-" for none."""

    id: str | None = None
    path: str | None = None
    case: str | None = None
    patient: str | None = None
    split: str | None = None
    series: str | None = None
    mask: str | None = None
    report: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which column holds what, and how that was found."""

    single: Mapping[str, str]
    """Role (id, path, case, patient, split, series, mask) to column."""

    report: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    how: Mapping[str, str] = field(default_factory=dict)
    """Role to a few words: "as told", "by its name", ..."""

    warnings: tuple[str, ...] = ()


def map_columns(table: Table, told: Columns, files: Index) -> Roles:
    """Give every role its column.

    Raises:
        CatalogError: a column that was named is missing; or none, or several equally good ones,
            names the files.
    """
    roles = ("id", "path", "case", "patient", "split", "series", "mask")
    given = {role: getattr(told, role) for role in roles}
    lists = {"report": told.report, "labels": told.labels}
    table.require(name for name in given.values() if name not in (None, NONE))
    table.require(name for names in lists.values() for name in names if name != NONE)
    single = {role: name for role, name in given.items() if name not in (None, NONE)}
    how = dict.fromkeys(single, "as told")
    if "id" not in single and "path" not in single:
        single["id"], how["id"] = _find_id(table, files)
    for role, usual in NAMES.items():
        column = _by_name(table, usual, taken=set(single.values()))
        if given[role] is None and column is not None:
            single[role], how[role] = column, "by its name"
    report = _report(table, told.report, taken=set(single.values()))
    if report:
        how["report"] = "as told" if told.report else "by its name"
    taken = {*single.values(), *report}
    labels, how["labels"], warnings = _labels(table, told.labels, taken)
    return Roles(single=single, report=report, labels=labels, how=how, warnings=warnings)


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _by_name(table: Table, usual: Sequence[str], taken: set[str]) -> str | None:
    named = {_plain(column): column for column in table.columns if column not in taken}
    return next((named[name] for name in usual if name in named), None)


def _find_id(table: Table, files: Index) -> tuple[str, str]:
    """The column whose values name files: without repeats, most matches, likeliest name."""
    scores = {}
    for column in table.columns:
        values = [cells[column] for _, cells in table.rows if cells[column]]
        different = set(values)
        matches = sum(bool(files.find(value)) for value in different)
        if matches:
            scores[column] = (len(different) == len(values), matches)
    if not scores:
        raise CatalogError.about(
            table.path,
            f"no column names the CTs below {files.root}",
            f"{_short_numbers(table, files)}Name the column with --id-column, or one of relative "
            f"paths with --path-column. Columns found: {', '.join(table.columns)}.",
        )
    best = [column for column, score in scores.items() if score == max(scores.values())]
    usual = _by_name(table, ID_NAMES, taken=set(table.columns) - set(best))
    if len(best) > 1 and usual is None:
        raise CatalogError.about(
            table.path,
            f"the columns {', '.join(best)} name the CTs equally well",
            "Choose one with --id-column.",
        )
    chosen = usual or best[0]
    return chosen, f"{scores[chosen][1]} of its values name files"


def _short_numbers(table: Table, files: Index) -> str:
    """A sentence on the first column whose numbers name CTs but for leading zeros; "" for none.

    Not taken by itself: the numbers 1, 2, 3 of the rows would meet any CTs named 001, 002, 003.
    """
    for column in table.columns:
        for number, cells in table.rows:
            if files.with_zeros(cells[column]):
                return (
                    f"Row {number} of column {column!r} lacks leading zeros, which Excel drops, to "
                    f"name one; if it is the column, give --id-column {shlex.quote(column)}. "
                )
    return ""


def _report(table: Table, told: tuple[str, ...], taken: set[str]) -> tuple[str, ...]:
    if told:
        return tuple(name for name in told if name != NONE)
    whole = _by_name(table, REPORT, taken)
    if whole is not None:
        return (whole,)
    parts = (_by_name(table, names, taken) for names in (FINDINGS, IMPRESSION))
    return tuple(name for name in parts if name is not None)


def report_of(columns: Sequence[str], cells: Mapping[str, str]) -> str:
    """The report of a row: findings and impression under their names, else joined by spaces."""
    texts = {_plain(column): cells[column] for column in columns}
    known = {name: "findings" for name in FINDINGS} | {name: "impression" for name in IMPRESSION}
    if len(columns) < 2 or not set(texts) <= set(known):
        return clean_report(" ".join(clean_report(cells[column]) for column in columns))
    sections = {"findings": "", "impression": ""}
    for name, text in texts.items():
        sections[known[name]] = f"{sections[known[name]]} {clean_report(text)}".strip()
    return join_sections(sections["findings"], sections["impression"])


def _labels(
    table: Table, told: tuple[str, ...], taken: set[str]
) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """(columns, how they were found, warnings)"""
    if told:
        return tuple(name for name in told if name != NONE), "as told", ()
    for labels, whose in ((CT_RATE_LABELS, "CT-RATE"), (ABDOMEN_LABELS, "AbdomenAtlas 3.0")):
        if set(labels) <= set(table.columns):
            return labels, f"the {len(labels)} of {whose}", ()
    found, warnings = [], []
    for column in table.columns:
        filled = [(number, cells[column]) for number, cells in table.rows if cells[column]]
        if column in taken or not column or not filled:
            continue
        odd = [number for number, text in filled if value_of_word(text) is None]
        if not odd:
            found.append(column)
        elif 1 - len(odd) / len(filled) >= NEARLY:
            warnings.append(
                f"Column {column!r} looks like a label, but {len(odd)} of its cells (first in row "
                f"{odd[0]}) are not 0, 1, yes, no or empty, so it is not used. If it is one, "
                "correct them."
            )
    return tuple(found), "all their cells are 0, 1 (or yes, no) or empty", tuple(warnings)
