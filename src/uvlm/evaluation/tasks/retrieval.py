"""Embeddings of volumes and reports: does one find the other, and do like volumes lie near?

A study without embedding is always refused: a smaller gallery is an easier search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uvlm.evaluation.embeddings import Embeddings, read_embeddings
from uvlm.evaluation.joining import Joined, Keyed, keyed, scan_of
from uvlm.evaluation.measure import Measure
from uvlm.evaluation.protocols import chosen_protocols
from uvlm.evaluation.results import Result, build_result
from uvlm.evaluation.retrieval import group_of_reports, retrieval_floors, retrieval_measures
from uvlm.evaluation.tables import REFERENCE_TEXT, find_text, label_rows, read_table, report_of
from uvlm.evaluation.tasks.common import Inputs, about, in_split, labels_of
from uvlm.evaluation.volume_similarity import volume_floors, volume_measures
from uvlm.preprocessing.table import Table
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS

__all__ = ["RetrievalInputs", "evaluate_retrieval"]

TASK = "retrieval"


@dataclass(frozen=True, kw_only=True)
class RetrievalInputs(Inputs):
    """Options of this task; `predictions` is an .npz of `ids`, `image` and `text`."""

    text_column: tuple[str, ...] = ()
    label_columns: tuple[str, ...] = ()
    labels: Path | None = None
    """Table of labels; None: those of the references, if they have any."""


def evaluate_retrieval(inputs: RetrievalInputs) -> Result:
    """Score embeddings.

    Raises:
        InputError: what is wrong in a file, or a study without embedding.
    """
    asked = chosen_protocols(TASK, inputs.protocols)
    references = keyed(in_split(read_table(inputs.references), inputs.split), inputs.id_column)
    joined, embeddings, reports = _read(inputs, references)
    measures: list[Measure] = []
    floors: list[Measure] = []
    skipped: dict[str, str] = {}
    by_text = [name for name in asked if name.startswith("retrieval@")]
    if embeddings.text is None:
        skipped |= dict.fromkeys(by_text, "the embeddings have no array 'text'")
    elif by_text:
        groups = group_of_reports(reports, joined.ids)
        image, text = embeddings.image, embeddings.text
        measures += retrieval_measures(image, text, groups.tolist(), by_text, joined.ids)
        floors += retrieval_floors(groups.tolist(), by_text).get("chance", [])
    by_label = [name for name in asked if name.startswith("v2v@")]
    labels = _labels(inputs, joined, references.table)
    if labels is None:
        skipped |= dict.fromkeys(by_label, "no labels: give --labels or --label-columns")
    elif by_label:
        scans = [scan[1] if (scan := scan_of(key)) else key for key in joined.ids]
        image = embeddings.image
        measures += volume_measures(image, labels, by_label, scans=scans, ids=joined.ids)
        floors += volume_floors(labels, by_label, scans=scans).get("chance", [])
    return build_result(
        task=TASK,
        ids=joined.ids,
        patients=joined.patients,
        measures=measures,
        floors={"chance": floors},
        about=about(
            inputs,
            joined,
            ("labels",),
        ),
        notes=joined.notes,
        skipped=skipped,
        resamples=inputs.resamples,
        seed=inputs.seed,
    )


def _read(inputs: RetrievalInputs, references: Keyed) -> tuple[Joined, Embeddings, list[str]]:
    """Studies, their embeddings and reports, in one order."""
    found = read_embeddings(inputs.predictions)
    rows = tuple((number, {"id": name}) for number, name in enumerate(found.ids, 1))
    own = keyed(Table(inputs.predictions, ("id",), rows), "id")
    refusing = Inputs(
        references=inputs.references,
        predictions=inputs.predictions,
        unit=inputs.unit,
        missing="refuse",
        patient_column=inputs.patient_column,
    )
    joined = refusing.join(references, own)
    columns = find_text(references.table, inputs.text_column, REFERENCE_TEXT, "--text-column")
    texts = [report_of(cells, columns) for _, cells in joined.references]
    joined = joined.keep([bool(text) for text in texts], "no reference report")
    names = [row[1]["id"] for row in joined.predictions if row is not None]
    return joined, found.in_order(names, extra="drop"), [text for text in texts if text]


def _labels(
    inputs: RetrievalInputs, joined: Joined, references: Table
) -> NDArray[np.float64] | None:
    """(N, C) of 0 and 1, or None."""
    table = references if inputs.labels is None else read_table(inputs.labels)
    names: Sequence[str] = inputs.label_columns
    for known in (CT_RATE_LABELS, ABDOMEN_LABELS):
        if not names and set(known) <= set(table.columns):
            names = known
    if not names:
        return None
    if inputs.labels is not None:
        return labels_of(inputs.labels, joined.ids, names, "labels")
    table.require(names)
    return label_rows(table, joined.references, names)
