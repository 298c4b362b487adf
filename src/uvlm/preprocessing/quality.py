"""`quality.html`: what a person should look at before training on a prepared dataset.

One file that needs nothing beside it. Nothing in it comes from a report but its length: patients
appear only as the identifiers of their series.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from uvlm.errors import UvlmError
from uvlm.imaging.picture import LUNG_WINDOW, SOFT_WINDOW
from uvlm.preprocessing import quality_sections as sections
from uvlm.preprocessing.catalog import Catalog, write_text
from uvlm.preprocessing.entries import Entry, entries_of, grouped
from uvlm.preprocessing.laterality import Disagreement, disagreements
from uvlm.preprocessing.outliers import Outlier, outliers, thumbnail
from uvlm.preprocessing.quality_page import Html, folded, join, page, paragraph, picture, table
from uvlm.preprocessing.records import Record

__all__ = ["QUALITY", "Duplicates", "duplicates_of", "write_quality"]

QUALITY = "quality.html"

KINDS = {
    "report": "the report names the other side only",
    "statement": "the finding's own text names the other side",
    "name": "the class's name says the other side",
    "organ": "organs are mirrored, or situs inversus",
    "image": "the masks fit the image better mirrored",
}


@dataclass(frozen=True)
class Duplicates:
    """Series whose prepared images are equal voxel for voxel."""

    entries: tuple[Entry, ...]

    @property
    def patients(self) -> int:
        return len({entry.row.patient_id for entry in self.entries})

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(sorted({entry.row.split or "not split" for entry in self.entries}))


def write_quality(out: Path, catalog: Catalog, records: Sequence[Record]) -> Path:
    """Write `out/quality.html` whole or not at all, and return its path.

    Args:
        out: the folder of the prepared dataset; its errors.csv is read if it is there
        catalog: what was prepared; of several scopes, the first
        records: of all studies, failed ones included
    """
    entries = entries_of(catalog, records)
    duplicates = duplicates_of(entries)
    flags = [
        (entry, flag)
        for entry in entries
        for flag in disagreements(entry.row.report or "", entry.masks, entry.record.statements)
    ]
    rejected = _rejections(out, records)
    unlike = outliers(entries)
    text = page(
        f"{catalog.name}: data quality",
        [
            ("splits", "Splits", sections.splits(entries)),
            ("rejected", "Rejected series", _rejected(rejected)),
            ("duplicates", "Duplicates", _duplicates(duplicates)),
            ("sides", "Left and right", _sides(flags)),
            ("outliers", "Outliers", _outliers(unlike)),
            ("geometry", "Geometry", sections.geometry(entries)),
            ("hu", "Hounsfield units", sections.densities(entries)),
            ("region", "Region", sections.regions(entries)),
            ("labels", "Labels", sections.labels(catalog, entries)),
            ("reports", "Reports", sections.reports(entries)),
            ("masks", "Masks", sections.masks(entries)),
            ("remarks", "Warnings and notes", sections.remarks(entries)),
        ],
        _summary(
            catalog, entries, len(rejected), _concerns(entries, duplicates, flags, len(rejected))
        ),
    )
    write_text(out / QUALITY, text)
    return out / QUALITY


def duplicates_of(entries: Sequence[Entry]) -> list[Duplicates]:
    """Groups of equal images, those that cross splits first, then those that cross patients."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.image.get("digest"):
            groups[entry.image["digest"]].append(entry)
    found = [Duplicates(tuple(group)) for group in groups.values() if len(group) > 1]
    return sorted(found, key=lambda each: (-len(each.splits), -each.patients))


def _rejections(out: Path, records: Sequence[Record]) -> dict[str, str]:
    """Series to reason: from the records, and what errors.csv knows beyond them."""
    found = {record.series_id: record.error for record in records if record.error is not None}
    path = out / "errors.csv"
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row.get("series_id") or "", row.get("error") or "")
    return found


def _concerns(
    entries: Sequence[Entry],
    duplicates: Sequence[Duplicates],
    flags: Sequence[tuple[Entry, Disagreement]],
    rejected: int,
) -> list[tuple[str, str]]:
    """(section, sentence) of everything that would spoil training or its evaluation."""
    homes: dict[str, set[str | None]] = defaultdict(set)
    for entry in entries:
        homes[entry.row.patient_id].add(entry.row.split)
    astray = sum(len(splits) > 1 for splits in homes.values())
    crossing = sum(len(group.splits) > 1 for group in duplicates)
    shared = sum(group.patients > 1 for group in duplicates)
    sided = len({entry.row.series_id for entry, _ in flags})
    unknown = sum(not entry.image for entry in entries)
    found = [
        (rejected, "rejected", "series was rejected|series were rejected"),
        (astray, "splits", "patient has series in more than one split|patients have series in "
         "more than one split"),
        (crossing, "duplicates", "image occurs in more than one split|images occur in more than "
         "one split"),
        (shared, "duplicates", "image is filed under several patients|images are filed under "
         "several patients"),
        (sided, "sides", "series has a mask, a text or an image that disagree on sides|series "
         "have masks, texts or images that disagree on sides"),
        (unknown, "remarks", "series has no facts and is missing below|series have no facts and "
         "are missing below"),
    ]  # fmt: skip
    return [
        (section, f"{count:,} {words.split('|')[count != 1]}")
        for count, section, words in found
        if count
    ]


def _summary(
    catalog: Catalog, entries: Sequence[Entry], rejected: int, concerns: list[tuple[str, str]]
) -> Html:
    patients = len({entry.row.patient_id for entry in entries})
    cases = len({entry.row.case_id for entry in entries})
    size = sum(entry.record.bytes_written for entry in entries) / 1e6
    written = f"{size:,.0f} MB" if size < 1e4 else f"{size / 1e3:,.0f} GB"
    spec = catalog.spec
    shape = "" if spec is None else f" Prepared to {' x '.join(map(str, spec.shape))} voxels."
    say = (
        f"{len(entries):,} series of {cases:,} examinations of {patients:,} patients, "
        f"{rejected:,} rejected; {written} written. Region: {catalog.region}.{shape}"
    )
    if not concerns:
        return join(
            [
                paragraph(say),
                Html('<div class="good">No patient or image crosses splits, and no mask '
                     "contradicts its text or image.</div>"),
            ]
        )  # fmt: skip
    items = "".join(f'<li><a href="#{to}">{escape(text)}</a></li>' for to, text in concerns)
    return join(
        [paragraph(say), Html(f'<div class="look"><b>To look at</b><ul>{items}</ul></div>')]
    )


def _rejected(rejected: dict[str, str]) -> Html:
    if not rejected:
        return paragraph("None.")
    rows = grouped(rejected.values())
    say = "Grouped by reason; errors.csv has the full text of each."
    return join([paragraph(say, "soft"), table(("reason", "series"), rows, most=50)])


def _duplicates(groups: Sequence[Duplicates]) -> Html:
    if not groups:
        return paragraph("No two series hold the same image.")
    kinds = Counter(_kind(group) for group in groups)
    rows = [
        (
            _kind(group),
            ", ".join(group.splits),
            ", ".join(entry.row.series_id for entry in group.entries[:20])
            + (f" and {len(group.entries) - 20} more" if len(group.entries) > 20 else ""),
        )
        for group in groups
    ]
    counts = ", ".join(f"{kind} ({n:,})" for kind, n in kinds.most_common())
    say = f"Prepared images that are equal voxel for voxel, by how they are filed: {counts}."
    red = [len(group.splits) > 1 for group in groups]
    found = table(("filed under", "splits", "series"), rows, red=red, most=200)
    return join([paragraph(say), found])


def _kind(group: Duplicates) -> str:
    return "one patient" if group.patients == 1 else f"{group.patients} patients"


def _sides(flags: Sequence[tuple[Entry, Disagreement]]) -> Html:
    say = (
        "Where at least 90 % of a mask lies on one side of the body's midline and words name the "
        "other, or masks fit their image better mirrored. These are questions, not errors: reports "
        "err, and situs inversus exists."
    )
    if not flags:
        return join([paragraph(say, "soft"), paragraph("No disagreement was found.")])
    rows = [
        (
            entry.row.series_id,
            flag.subject,
            flag.said,
            "-" if flag.found_left_share is None else f"{flag.found_left_share:.0%}",
            KINDS[flag.kind],
        )
        for entry, flag in flags
    ]
    counts = Counter(KINDS[flag.kind] for _, flag in flags)
    kinds = table(("kind", "flags"), counts.most_common())
    header = ("series", "subject", "said", "of the mask on the left", "kind")
    found = table(header, rows, most=300)
    listed = found if len(rows) <= 30 else folded(f"All {len(rows):,} flags", found)
    return join([paragraph(say, "soft"), kinds, listed])


def _outliers(found: Sequence[Outlier]) -> Html:
    if not found:
        return paragraph("No study is far from the others, or there are too few to tell.")
    say = (
        "The studies least like the others, each with the quantity that is least usual. The "
        "patient's right is on the picture's left."
    )
    pictures = join(_figure(each) for each in found)
    return join([paragraph(say, "soft"), Html(f'<div class="pictures">{pictures}</div>')])


def _figure(each: Outlier) -> Html:
    caption = Html(
        f"<b>{escape(each.entry.row.series_id)}</b><br>{escape(each.quantity)} {each.value:.4g} "
        f"{escape(each.unit)}, usually {each.usual:.4g}"
    )
    lungs = "chest" in str(each.entry.image.get("region", ""))
    try:
        png = thumbnail(each.entry.row.image, LUNG_WINDOW if lungs else SOFT_WINDOW)
    except (UvlmError, OSError):
        return picture(None, caption, "The stored image cannot be shown.")
    return picture(png, caption)
