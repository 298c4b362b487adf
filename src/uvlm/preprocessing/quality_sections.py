"""The sections of the quality report that show distributions and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from uvlm.imaging.landmarks import LANDMARKS
from uvlm.preprocessing.catalog import Catalog
from uvlm.preprocessing.entries import Entry, grouped, values
from uvlm.preprocessing.quality_page import Html, bar, histogram, join, paragraph, table

__all__ = ["densities", "geometry", "labels", "masks", "regions", "remarks", "reports", "splits"]

SPLITS = ("train", "valid", "test", None)
MOST_SHAPES = 12


def splits(entries: Sequence[Entry]) -> Html:
    """Series, examinations and patients per split."""
    rows = [
        (split or "not split", *_numbers([entry for entry in entries if entry.row.split == split]))
        for split in SPLITS
        if any(entry.row.split == split for entry in entries)
    ]
    if len(rows) > 1:
        rows.append(("all", *_numbers(entries)))
    header = ("split", "patients", "examinations", "series", "with mask", "with report")
    return table(header, rows)


def _numbers(entries: Sequence[Entry]) -> tuple[int, int, int, int, int]:
    """Patients, examinations, series, series with a mask, series with a report."""
    rows = [entry.row for entry in entries]
    return (
        len({row.patient_id for row in rows}),
        len({row.case_id for row in rows}),
        len(rows),
        sum(row.mask is not None for row in rows),
        sum(bool(row.report) for row in rows),
    )


def geometry(entries: Sequence[Entry]) -> Html:
    """Spacing, extent, shape, orientation and format of the sources."""
    charts = [
        _chart(entries, f"{name} spacing", "mm", "spacing_mm", axis)
        for axis, name in enumerate(("z", "y", "x"))
    ]
    charts += [
        _chart(entries, f"{name} extent", "mm", "field_of_view_mm", axis)
        for axis, name in enumerate(("z", "y", "x"))
    ]
    known = [entry.image for entry in entries if entry.image]
    shapes = Counter(" x ".join(map(str, image["shape"])) for image in known)
    return join(
        [
            paragraph("Along the source file's own axes, the slowest first (z, y, x).", "soft"),
            _charts(charts),
            _counts("orientation", Counter(image["orientation"] for image in known)),
            _counts("format", Counter(image["format"] for image in known)),
            _counts("voxels (z x y x x)", shapes, MOST_SHAPES),
        ]
    )


def densities(entries: Sequence[Entry]) -> Html:
    """Mean, deviation and peaks in HU."""
    charts = [
        _chart(entries, "mean", "HU", "mean"),
        _chart(entries, "standard deviation", "HU", "std"),
    ]
    for material, usual, *_ in LANDMARKS:
        charts.append(_chart(entries, material, "HU", "landmarks", material, expected=usual))
    say = (
        "Mean and deviation of the prepared volumes; peaks of the source's histogram, with the "
        "usual place of each material as a dashed line."
    )
    return join([paragraph(say, "soft"), _charts(charts)])


def regions(entries: Sequence[Entry]) -> Html:
    """Which part of the body is shown."""
    known = [entry.image for entry in entries if entry.image]
    parts = sorted({part for image in known for part in image["coverage_mm"]})
    charts = [
        histogram(
            f"length of {part}",
            np.array(
                [image["coverage_mm"][part] for image in known if part in image["coverage_mm"]]
            ),
            "mm",
        )
        for part in parts
    ]
    return join([_counts("region", Counter(image["region"] for image in known)), _charts(charts)])


def labels(catalog: Catalog, entries: Sequence[Entry]) -> Html:
    """Prevalence per split; unknown labels are counted apart."""
    if not catalog.labels:
        return paragraph("The catalog has no label columns.")
    present = [split for split in SPLITS if any(e.row.split == split for e in entries)]
    header = ["label"]
    for split in present:
        header += [f"{split or 'not split'}: positive", "of known", "unknown"]
    found = np.array(
        [[np.nan if v is None else v for v in entry.row.labels] for entry in entries], np.float64
    ).reshape(len(entries), len(catalog.labels))
    group = np.array([present.index(entry.row.split) for entry in entries], np.int64)
    rows: list[list[object]] = []
    for place, label in enumerate(catalog.labels):
        row: list[object] = [label]
        for k in range(len(present)):
            column = found[group == k, place]
            known = int(np.isfinite(column).sum())
            positive = int(np.nansum(column))
            row += [positive, bar(positive / known) if known else "-", len(column) - known]
        rows.append(row)
    return table(header, rows)


def reports(entries: Sequence[Entry]) -> Html:
    """How long reports are, in words."""
    lengths = np.array([len((entry.row.report or "").split()) for entry in entries], np.float64)
    filled = lengths[lengths > 0]
    if not filled.size:
        return paragraph("No series has a report.")
    low, middle, high = np.percentile(filled, (10, 50, 90))
    say = (
        f"{filled.size:,} reports: median {middle:.0f} words, 10th to 90th percentile {low:.0f} "
        f"to {high:.0f}; {lengths.size - filled.size:,} series without a report."
    )
    texts = Counter(entry.row.report for entry in entries if entry.row.report)
    cases = {(e.row.report, e.row.case_id) for e in entries if e.row.report}
    shared = sum(n > 1 for n in Counter(report for report, _ in cases).values())
    more = f"{len(texts):,} different texts; {shared:,} of them belong to several examinations."
    return join([paragraph(say), paragraph(more), _charts([histogram("length", filled, "words")])])


def masks(entries: Sequence[Entry]) -> Html:
    """How often each class occurs and how large it is."""
    sizes: dict[str, list[float]] = {}
    for entry in entries:
        for name, facts in entry.masks.items():
            sizes.setdefault(name, []).append(facts["ml"])
    total = sum(entry.row.mask is not None for entry in entries)
    if not total:
        return paragraph("No series has a mask.")
    rows = []
    for name, found in sizes.items():
        low, middle, high = (float(v) for v in np.percentile(found, (10, 50, 90)))
        rows.append((name, len(found), bar(min(1.0, len(found) / total)), middle, low, high))
    header = ("class", "series", "of masks", "median ml", "10th percentile", "90th percentile")
    return table(header, rows)


def remarks(entries: Sequence[Entry]) -> Html:
    """Warnings of the audit, and what readers and masks had to decide, by kind."""
    warnings = _sentences(entries, "warnings")
    notes = [*_sentences(entries, "notes"), *(n for e in entries for n in e.record.notes)]
    parts = []
    for title, found in (("Warning", grouped(warnings)), ("Note", grouped(notes))):
        if found:
            parts.append(table((title, "series"), found, most=40))
        else:
            parts.append(paragraph(f"No {title.lower()}s."))
    return join(parts)


def _sentences(entries: Iterable[Entry], key: str) -> list[str]:
    return [sentence for entry in entries for sentence in entry.image.get(key, ())]


def _charts(charts: Sequence[Html]) -> Html:
    return Html(f'<div class="charts">{join(charts)}</div>')


def _chart(
    entries: Sequence[Entry],
    name: str,
    unit: str,
    key: str,
    item: str | int | None = None,
    expected: float | None = None,
) -> Html:
    found = values(entries, lambda image: image[key] if item is None else image[key][item])
    return histogram(name, found[np.isfinite(found)], unit, expected)


def _counts(name: str, counts: Counter[str], most: int = 100) -> Html:
    total = sum(counts.values())
    rows = [(value, n, bar(n / total)) for value, n in counts.most_common()]
    return table((name, "series", ""), rows, most=most)
