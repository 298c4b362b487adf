"""Embeddings of volumes and reports: does one find the other, and do like volumes lie near?

A study without embedding is always refused: a smaller gallery is an easier search. Only search by
report needs reports, and only search by volume needs labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.embeddings import Embeddings, read_embeddings
from uvlm.evaluation.joining import Joined, Keyed, keyed, scan_of
from uvlm.evaluation.measure import Measure, among
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
SHOWN = 5
"""Ids named in a message."""


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
    joined, embeddings = _read(inputs, references)
    parts: list[_Part] = []
    skipped: dict[str, str] = {}
    for prefix, score in (("retrieval@", _by_report), ("v2v@", _by_label)):
        names = [name for name in asked if name.startswith(prefix)]
        part = score(inputs, joined, embeddings, references.table, names) if names else ""
        if isinstance(part, _Part):
            parts.append(part)
        else:
            skipped |= dict.fromkeys(names, part)
    used = np.any([part.members for part in parts], axis=0) if parts else np.ones(len(joined), bool)
    joined = joined.keep(used.tolist(), " and ".join(part.lacking for part in parts))
    return build_result(
        task=TASK,
        ids=joined.ids,
        patients=joined.patients,
        measures=[measure for part in parts for measure in part.found(part.measures, used)],
        floors={"chance": [floor for part in parts for floor in part.found(part.floors, used)]},
        about=about(inputs, joined, ("labels",)),
        notes=joined.notes,
        skipped=skipped,
        resamples=inputs.resamples,
        seed=inputs.seed,
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One kind of search, over the studies that have what it needs."""

    members: NDArray[np.bool_]
    """(N,)"""

    lacking: str
    """What the others do not have."""

    measures: Sequence[Measure]
    floors: Sequence[Measure]

    def found(self, measures: Sequence[Measure], used: NDArray[np.bool_]) -> list[Measure]:
        """The measures over all studies that are `used` (N,)."""
        others = int((used & ~self.members).sum())
        if not others:
            return list(measures)
        who = "1 study takes" if others == 1 else f"{others} studies take"
        note = f"{who} no part: {self.lacking}."
        return [
            among(replace(measure, notes=(*measure.notes, note)), self.members[used])
            for measure in measures
        ]


def _read(inputs: RetrievalInputs, references: Keyed) -> tuple[Joined, Embeddings]:
    """Studies and their embeddings, in one order."""
    found = read_embeddings(inputs.predictions)
    rows = tuple((number, {"id": name}) for number, name in enumerate(found.ids, 1))
    own = keyed(Table(inputs.predictions, ("id",), rows), "id")
    joined = inputs.join(references, own)
    lacking = [key for key, missing in zip(joined.ids, joined.missing, strict=True) if missing]
    if lacking:
        what = "study" if len(lacking) == 1 else "studies"
        more = ", ..." if len(lacking) > SHOWN else ""
        other = [note for note in joined.notes if "another reconstruction" in note]
        raise InputError.about(
            inputs.predictions,
            f"{len(lacking)} {what} without embedding: {', '.join(lacking[:SHOWN])}{more}"
            + "".join(f" ({note.rstrip('.')})" for note in other),
            "Compute them, or leave these studies out of the references: the size of the gallery "
            "counts, so that it must be chosen, not happen.",
        )
    names = [row[1]["id"] for row in joined.predictions if row is not None]
    return joined, found.in_order(names, extra="drop")


def _by_report(
    inputs: RetrievalInputs,
    joined: Joined,
    embeddings: Embeddings,
    references: Table,
    names: Sequence[str],
) -> _Part | str:
    """Search by report, or why there is none."""
    if embeddings.text is None:
        return "the embeddings have no array 'text'"
    try:
        columns = find_text(references, inputs.text_column, REFERENCE_TEXT, "--text-column")
    except InputError:
        if inputs.text_column:
            raise
        return "no reports: the references have no column of a known name (--text-column)"
    texts = [report_of(cells, columns) for _, cells in joined.references]
    members = np.array([bool(text) for text in texts])
    if not members.any():
        return "no reference has a report"
    ids = [key for key, member in zip(joined.ids, members, strict=True) if member]
    groups = group_of_reports([text for text in texts if text], ids).tolist()
    image, text = embeddings.image[members], embeddings.text[members]
    return _Part(
        members=members,
        lacking="no reference report",
        measures=retrieval_measures(image, text, groups, names, ids),
        floors=retrieval_floors(groups, names)["chance"],
    )


def _by_label(
    inputs: RetrievalInputs,
    joined: Joined,
    embeddings: Embeddings,
    references: Table,
    names: Sequence[str],
) -> _Part | str:
    """Search by volume, or why there is none."""
    labels = _labels(inputs, joined, references)
    if labels is None:
        return "no labels: give --labels or --label-columns"
    members = np.logical_not(np.isnan(labels).any(axis=1), dtype=np.bool_)
    if not members.any():
        return "no study has all its labels"
    ids = [key for key, member in zip(joined.ids, members, strict=True) if member]
    scans = [scan[1] if (scan := scan_of(key)) else key for key in ids]
    image, known = embeddings.image[members], labels[members]
    return _Part(
        members=members,
        lacking="an unknown label",
        measures=volume_measures(image, known, names, scans=scans, ids=ids),
        floors=volume_floors(known, names, scans=scans)["chance"],
    )


def _labels(
    inputs: RetrievalInputs, joined: Joined, references: Table
) -> NDArray[np.float64] | None:
    """(N, C) of 0, 1 and nan (unknown), or None."""
    table = references if inputs.labels is None else read_table(inputs.labels)
    names: Sequence[str] = inputs.label_columns
    for known in (CT_RATE_LABELS, ABDOMEN_LABELS):
        if not names and set(known) <= set(table.columns):
            names = known
    if not names:
        return None
    if inputs.labels is not None:
        return labels_of(
            inputs.labels,
            joined.ids,
            names,
            "labels",
            id_column=inputs.id_column,
            unit=joined.unit,
        )
    table.require(names)
    return label_rows(table, joined.references, names)
