"""The studies of a run: catalogs that agree, divided into training and validation."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from uvlm.data.config import DataConfig
from uvlm.data.partial import PartialRow, agree_on_classes, agree_on_labels
from uvlm.data.questions import VQA, QuestionRow, read_questions
from uvlm.data.split import split_rows
from uvlm.errors import CatalogError, ConfigError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.preprocessing.catalog import Catalog, Row, read_catalog

__all__ = ["Need", "Studies", "load_studies"]

Need = Literal["labels", "mask", "report", "text", "question"]
"""What a task learns from; "text" is the report for a text encoder, which a decoder learns as
"report"."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Studies:
    """What a task trains on."""

    names: tuple[str, ...]
    """Of the catalogs."""

    region: str
    """Body region, the same in all catalogs."""

    spec: PreprocessSpec
    """How every volume was prepared."""

    labels: tuple[str, ...]
    """Abnormalities known in at least one training study, if labels are needed, to learn them, to
    tell them or to balance by them; every row's follow this order."""

    classes: tuple[str, ...]
    """Segmentation classes, the first with value 1 in the masks, or where the catalogs differ in
    them as each `PartialRow` says."""

    train: tuple[Row, ...]
    val: tuple[Row, ...]

    questions: Mapping[str, tuple[QuestionRow, ...]] = field(default_factory=dict)
    """Of each series of `train` and `val`, in the order of their tables; {} unless needed."""

    @property
    def digest(self) -> str:
        """Changes with the names of labels and classes, with any study's identity, labels, report,
        classes or questions, and with their order; not with where the files lie."""
        digest = hashlib.sha256(repr((self.labels, self.classes)).encode("utf-8", "surrogatepass"))
        for row in (*self.train, *self.val):
            values = row.values if isinstance(row, PartialRow) else None
            told = (row.series_id, row.patient_id, row.labels, row.report, values)
            digest.update(repr(told).encode("utf-8", "surrogatepass"))
            if row.series_id in self.questions:
                asked = repr(self.questions[row.series_id])
                digest.update(asked.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]

    @property
    def trained_on(self) -> str:
        """One line for the model card."""
        return f"{' + '.join(dict.fromkeys(self.names))} ({len(self.train)} series)"


def load_studies(config: DataConfig, need: Sequence[Need]) -> Studies:
    """Read the catalogs of `config`, keeping what has everything `need` names.

    Raises:
        ConfigError: no catalog was given.
        CatalogError: a catalog is faulty, they disagree, their shape is another than configured,
            a table of questions is missing or faulty, or no study is left to train or validate on.
    """
    if not config.catalog:
        raise ConfigError("no catalog was given. Name one or more with --data.catalog.")
    labelled = "labels" in need or config.balance
    catalogs = [read_catalog(path, need=_columns(need, labelled)) for path in config.catalog]
    first = catalogs[0]
    for catalog in catalogs:
        _check(catalog, first, config)
    assert first.spec is not None
    labels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    if labelled:  # otherwise the catalogs may differ in them
        labels, catalogs = agree_on_labels(catalogs, partial=config.partial)
    if "mask" in need:
        classes, catalogs = agree_on_classes(catalogs, partial=config.partial)
    _check_series(catalogs)
    rows = [row for catalog in catalogs for row in catalog.rows]
    train, val = split_rows(rows, config.val_fraction)
    questions: dict[str, tuple[QuestionRow, ...]] = {}
    if "question" in need:
        questions = _read_questions(catalogs, [*train, *val])
        # After the division, which must be the same in every task.
        train, val = ([row for row in part if row.series_id in questions] for part in (train, val))
    if labelled:
        labels, train, val = _known_labels(labels, train, val)
    if not train or not val:
        raise CatalogError.about(
            first.path,
            f"{len(train)} series are left for training and {len(val)} for validation",
            "Give more studies, or change --data.val-fraction.",
        )
    _check_classes(classes, train)
    return Studies(
        names=tuple(catalog.name for catalog in catalogs),
        region=first.region,
        spec=first.spec,
        labels=labels,
        classes=classes,
        train=tuple(train),
        val=tuple(val),
        questions=questions,
    )


def _columns(need: Sequence[Need], labelled: bool) -> set[Literal["labels", "mask", "report"]]:
    """What the catalogs must have; questions are in tables of their own."""
    columns: set[Literal["labels", "mask", "report"]] = {"labels"} if labelled else set()
    for what in need:
        if what != "question":
            columns.add("report" if what == "text" else what)
    return columns


def _read_questions(
    catalogs: Sequence[Catalog], rows: Sequence[Row]
) -> dict[str, tuple[QuestionRow, ...]]:
    """Series -> its questions, of the rows that have any."""
    wanted = {row.series_id for row in rows}
    found: dict[str, list[QuestionRow]] = {}
    for catalog in catalogs:
        for question in read_questions(catalog.path.parent / VQA, wanted):
            found.setdefault(question.series_id, []).append(question)
    if len(found) < len(wanted):
        log.warning(
            "left out: %d of %d series have no question", len(wanted) - len(found), len(wanted)
        )
    return {series: tuple(questions) for series, questions in found.items()}


def _check(catalog: Catalog, first: Catalog, config: DataConfig) -> None:
    if catalog.spec is None:
        raise CatalogError.about(
            catalog.path,
            "there is no dataset.json beside it, so its preprocessing is unknown",
            "Prepare the dataset with `uvlm prepare`; a model must know how its input was made.",
        )
    if catalog.spec.shape != config.shape:
        shape = " ".join(map(str, catalog.spec.shape))
        raise CatalogError.about(
            catalog.path,
            f"its volumes are {catalog.spec.shape}, the run expects {config.shape}",
            f"Set --data.shape {shape}, or prepare the dataset again.",
        )
    for what, name in {"preprocessing": "spec", "body region": "region"}.items():
        if getattr(catalog, name) != getattr(first, name):
            raise CatalogError.about(
                catalog.path,
                f"its {what} differ from those of {first.path}",
                "Train on catalogs that agree, one after the other or prepared alike.",
            )


def _check_series(catalogs: Sequence[Catalog]) -> None:
    """What is remembered of a study is remembered by its series."""
    home: dict[str, Catalog] = {}
    for catalog in catalogs:
        for row in catalog.rows:
            other = home.setdefault(row.series_id, catalog)
            if other is not catalog:
                raise CatalogError.about(
                    catalog.path,
                    f"its series {row.series_id} is also in {other.path}",
                    "A series may come once in a run; give each its own series_id.",
                )


def _check_classes(classes: tuple[str, ...], train: Sequence[Row]) -> None:
    """An output never trained would be noise, said wherever background is."""
    everything = range(1 + len(classes))
    drawn = {row.values if isinstance(row, PartialRow) else tuple(everything) for row in train}
    unknown = set(everything).difference(*drawn)
    if unknown:
        raise CatalogError(
            f"no training study's mask was drawn for the class {classes[min(unknown) - 1]!r}: the "
            "studies of its catalog are all held out. Leave that catalog out, or change "
            "--data.val-fraction."
        )


def _known_labels(
    labels: tuple[str, ...], train: list[Row], val: list[Row]
) -> tuple[tuple[str, ...], list[Row], list[Row]]:
    """Leave out labels that no training study knows: an output never trained would be noise."""
    known = [i for i in range(len(labels)) if any(row.labels[i] is not None for row in train)]
    if len(known) == len(labels):
        return labels, train, val
    unknown = [name for i, name in enumerate(labels) if i not in known]
    log.warning("left out, unknown in every training study: %s", ", ".join(unknown))

    def chosen(row: Row) -> Row:
        return replace(row, labels=tuple(row.labels[i] for i in known))

    return (
        tuple(labels[i] for i in known),
        [chosen(row) for row in train],
        [chosen(row) for row in val],
    )
