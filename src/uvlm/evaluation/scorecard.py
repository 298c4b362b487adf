"""One table for everything a bundle was scored on; the same numbers as text, Markdown and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from uvlm.config import to_dict
from uvlm.evaluation.intervals import Interval
from uvlm.evaluation.labels.classification import ClassificationScores
from uvlm.evaluation.masks.segmentation import LARGE_ML, SegmentationScores
from uvlm.evaluation.reports import ReportScores
from uvlm.evaluation.words.bleu import PROTOCOL, BleuScore

__all__ = ["Scorecard"]

BLEU_NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "BLEU-mean")


@dataclass(frozen=True)
class Table:
    """Rows of ready text under a header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Columns padded with spaces: the first to the left, the others to the right."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, tuple("-" * width for width in widths))
        padded = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, *padded, *self.notes])

    def markdown(self) -> str:
        rule = ("---", *("---:" for _ in self.header[1:]))
        lines = ["| " + " | ".join(line) + " |" for line in (self.header, rule, *self.rows)]
        notes = [f"\n{note}" for note in self.notes]
        return "\n".join([f"## {self.title}\n", *lines, *notes])


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Scores of the parts a bundle has; None for a part it lacks."""

    about: Mapping[str, Any] = field(default_factory=dict)
    """What was scored on what: bundle, catalog, split, number of studies and patients, notes."""

    segmentation: SegmentationScores | None = None
    classification: ClassificationScores | None = None
    reports: ReportScores | None = None

    def text(self) -> str:
        """For a terminal."""
        return "\n\n".join(table.text() for table in self._tables())

    def markdown(self) -> str:
        """For a file; begins with what was scored."""
        about = [f"- {key.replace('_', ' ')}: {value}" for key, value in self.about.items()]
        tables = [table.markdown() for table in self._tables()]
        return "\n\n".join(["# Scorecard", "\n".join(about), *tables]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; a score that does not exist is null."""
        result: dict[str, Any] = {"about": dict(self.about)}
        if self.segmentation is not None:
            result["segmentation"] = _segmentation_dict(self.segmentation)
        if self.classification is not None:
            result["classification"] = _classification_dict(self.classification)
        if self.reports is not None:
            result["reports"] = _reports_dict(self.reports)
        cleaned: dict[str, Any] = _without_nan(result)
        return cleaned

    def _tables(self) -> list[Table]:
        tables = [self._summary()]
        if self.segmentation is not None:
            tables.append(_dice_table(self.segmentation))
        if self.classification is not None:
            tables.append(_label_table(self.classification))
        if self.reports is not None:
            tables.append(_bleu_table(self.reports))
        return tables

    def _summary(self) -> Table:
        rows: list[tuple[str, ...]] = []
        if self.segmentation is not None:
            large = sum(row.large for row in self.segmentation.classes)
            rows.append(
                (f"Dice, mean of {large} large organs", _num(self.segmentation.large_organs))
            )
            rows.append(("Dice, mean of all organs", _num(self.segmentation.organs)))
            rows.append(("Dice, mean of lesions", _num(self.segmentation.lesions)))
        if self.classification is not None:
            number = len(self.classification.labels)
            rows.append(
                (f"AUROC, macro over {number} labels", _num(self.classification.macro_auroc))
            )
            rows.append(
                (f"F1 at 0.5, macro over {number} labels", _num(self.classification.macro_f1))
            )
        if self.reports is not None:
            rows.append(("BLEU-mean", _num(self.reports.model.mean)))
            rows += [
                (f"BLEU-mean minus {floor.name}", _interval(floor.gain))
                for floor in self.reports.floors
            ]
        studies = self.about.get("studies", "?")
        return Table(f"Held-out studies: {studies}", ("measure", "value"), tuple(rows))


def _dice_table(scores: SegmentationScores) -> Table:
    rows = tuple(
        (
            row.name,
            "large organ" if row.large else row.kind,
            _num(row.dice),
            str(row.studies),
            f"{row.volume_ml:.{0 if row.volume_ml >= 10 else 1}f}",
        )
        for row in scores.classes
    )
    note = (
        "Protocol dice@study, on the prepared grid. Large: median true volume of at least "
        f"{LARGE_ML:.0f} ml. A class absent from truth and prediction of a study is left out there."
    )
    return Table("Segmentation", ("class", "kind", "Dice", "studies", "ml"), rows, (note,))


def _label_table(scores: ClassificationScores) -> Table:
    rows = [
        (row.name, _num(row.auroc), _num(row.f1), f"{row.positives} of {row.known}")
        for row in scores.labels
    ]
    rows.append(("macro", _num(scores.macro_auroc), _num(scores.macro_f1), ""))
    skipped = f"Not scored, one value only: {', '.join(scores.skipped)}."
    header = ("label", "AUROC", "F1 at 0.5", "positive")
    return Table("Classification", header, tuple(rows), (skipped,) if scores.skipped else ())


def _bleu_table(scores: ReportScores) -> Table:
    rows = [("model", *_bleu_cells(scores.model), "")]
    rows += [
        (floor.name, *_bleu_cells(floor.score), _interval(floor.gain)) for floor in scores.floors
    ]
    notes = (
        f"Protocol {PROTOCOL}. Floors see training reports only; the intervals are paired "
        "bootstraps over patients of the model's BLEU-mean minus the floor's.",
        f"Reports whose text another study received too: {scores.identical} of {scores.studies} "
        f"(references: {scores.identical_references}).",
    )
    return Table("Reports", ("", *BLEU_NAMES, "model minus it"), tuple(rows), notes)


def _bleu_cells(score: BleuScore) -> tuple[str, ...]:
    return tuple(_num(value) for value in (*score.corpus, score.mean))


def _bleu_dict(score: BleuScore) -> dict[str, float]:
    return dict(zip(BLEU_NAMES, (*score.corpus, score.mean), strict=True))


def _segmentation_dict(scores: SegmentationScores) -> dict[str, Any]:
    return {
        "protocol": "dice@study",
        "large_ml": LARGE_ML,
        "large_organs": scores.large_organs,
        "organs": scores.organs,
        "lesions": scores.lesions,
        "classes": [{**to_dict(row), "large": row.large} for row in scores.classes],
    }


def _classification_dict(scores: ClassificationScores) -> dict[str, Any]:
    macro = {"macro_auroc": scores.macro_auroc, "macro_f1": scores.macro_f1}
    return {"protocols": ["auroc", "f1@0.5"], **macro, **to_dict(scores)}


def _reports_dict(scores: ReportScores) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "studies": scores.studies,
        "identical": scores.identical,
        "identical_references": scores.identical_references,
        "model": _bleu_dict(scores.model),
        "floors": {
            floor.name: {**_bleu_dict(floor.score), "gain": to_dict(floor.gain)}
            for floor in scores.floors
        },
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _num(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _interval(interval: Interval) -> str:
    percent = f"{100 * interval.confidence:.0f}"
    return f"{interval.difference:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}] ({percent} %)"
