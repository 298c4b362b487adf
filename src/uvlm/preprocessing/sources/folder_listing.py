"""What was understood of a user's folder, said in text that holds no patient's words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uvlm.preprocessing.sources.folder_columns import Roles
from uvlm.preprocessing.sources.folder_files import Files
from uvlm.preprocessing.sources.folder_table import value_of_word
from uvlm.preprocessing.study import Listing, Study
from uvlm.preprocessing.table import Table
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS

__all__ = ["FolderListing", "Understood", "describe"]

SHOWN = 3
"""Examples of each kind."""


@dataclass(frozen=True, kw_only=True)
class Understood:
    """How a listing came about."""

    files: Files
    table: Table | None
    roles: Roles
    notes: tuple[str, ...]
    told: Mapping[str, object]
    """Options as given, None where not."""


@dataclass(frozen=True, kw_only=True)
class FolderListing(Listing):
    """A listing that can say how it was understood."""

    understood: Understood


def describe(listing: Listing) -> str:
    """Counts, columns, the first studies, labels, what is unmatched, warnings, the next command.

    Of reports only the length is shown.
    """
    parts = [_counts(listing)]
    if isinstance(listing, FolderListing):
        parts.append(_columns(listing.understood))
    parts.append(_section("first studies", [_study(each) for each in listing.studies[:SHOWN]]))
    parts.append(_section("labels", _labels(listing)))
    parts.append(_section("masks", _masks(listing)))
    rejected = [each.error for each in listing.rejected]
    excluded = [f"{each.series_id}: {each.reason}" for each in listing.excluded]
    parts.append(_section(f"cannot be used: {len(rejected)}", _some(rejected)))
    parts.append(_section(f"left out: {len(excluded)}", _some(excluded)))
    parts.append(_section("warnings", list(listing.warnings)))
    if isinstance(listing, FolderListing):
        parts.append(_section("to prepare them", [_command(listing.understood)]))
    return "\n".join(part for part in parts if part)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)]) if lines else ""


def _some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _counts(listing: Listing) -> str:
    lines = [f"{listing.name}: {len(listing.studies)} studies, region {listing.region}"]
    patients = len({study.patient_id for study in listing.studies})
    lines.append(f"  {patients} patients")
    if isinstance(listing, FolderListing):
        seen = listing.understood
        lines.append(
            f"  {seen.files.root}: {len(seen.files.volumes)} volume files or archives, "
            f"{len(seen.files.dicom)} DICOM folders"
        )
        if seen.table is not None:
            lines.append(f"  {seen.table.path}: {len(seen.table.rows)} rows")
        lines += [f"  {note}" for note in seen.notes]
    return "\n".join(lines)


def _columns(seen: Understood) -> str:
    if seen.table is None:
        return ""
    roles = seen.roles
    named: dict[str, tuple[str, ...]] = {role: (name,) for role, name in roles.single.items()}
    named |= {"report": roles.report, "labels": roles.labels}
    lines = [
        f"{role:<8} {', '.join(columns)}  ({roles.how.get(role, '')})"
        for role, columns in named.items()
        if columns
    ]
    used = {column for columns in named.values() for column in columns}
    unused = [column for column in seen.table.columns if column not in used]
    lines += [f"not used {', '.join(unused)}"] if unused else []
    return _section("columns", lines + _words(seen.table, roles.labels))


def _words(table: Table, labels: Sequence[str]) -> list[str]:
    """How words in label cells were read, where they are not plain 0 and 1."""
    found = {cells[column] for _, cells in table.rows for column in labels}
    words = sorted(word for word in found if word not in ("", "0", "1"))
    shown = ", ".join(f"{word!r} = {int(value_of_word(word) or 0)}" for word in words)
    return [f"words    {shown}"] if words else []


def _study(study: Study) -> str:
    parts = [study.series_id, *(str(path) for path in study.image.files)]
    parts.append(f"report {len(study.report)} characters" if study.report else "no report")
    if study.mask is not None:
        parts += [f"mask {path}" for path in study.mask.files]
    return ", ".join([*parts, *([f"split {study.split}"] if study.split else [])])


def _labels(listing: Listing) -> list[str]:
    lines = []
    for name in listing.labels:
        values = [study.labels.get(name) for study in listing.studies]
        known = [value for value in values if value is not None]
        share = f" ({sum(known) / len(known):.1%})" if known else ""
        unknown = f", {len(values) - len(known)} unknown" if len(known) < len(values) else ""
        lines.append(f"{name:<36} {sum(known):.0f} of {len(known)}{share}{unknown}")
    return lines


def _masks(listing: Listing) -> list[str]:
    if not listing.scopes:
        return []
    names = list(listing.scopes[0].classes)
    count = sum(study.mask is not None for study in listing.studies)
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return [f"{count} of {len(listing.studies)} studies, {len(names)} classes: {shown}"]


def _command(seen: Understood) -> str:
    words: list[str | Path] = ["uvlm", "prepare", "folder", seen.files.root]
    for option, value in seen.told.items():
        words += [] if value is None else [option, str(value)]
    if seen.table is not None:
        for role, column in seen.roles.single.items():
            words += [f"--{role}-column", column]
        words += ["--report-column", *seen.roles.report] if seen.roles.report else []
        # The labels of a known dataset are found again by themselves.
        standard = seen.roles.labels in (CT_RATE_LABELS, ABDOMEN_LABELS)
        named = () if standard else seen.roles.labels
        words += ["--label-columns", *named] if named else []
    return shlex.join([*map(str, words), "--out", "OUT"])
