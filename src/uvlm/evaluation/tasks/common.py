"""What every task takes: two tables, how to join them, and how sure to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.failed import keyed_predictions
from uvlm.evaluation.joining import Joined, Keyed, Missing, Unit, finder, join, keyed
from uvlm.evaluation.masks.pairs import folder_mark
from uvlm.evaluation.result_files import file_mark
from uvlm.evaluation.tables import label_rows, read_table
from uvlm.preprocessing.table import Table

__all__ = ["Inputs", "about", "in_split", "labels_of", "opposite", "present"]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Options of all tasks."""

    references: Path
    predictions: Path

    protocols: tuple[str, ...] = ()
    """None named: the task's default ones."""

    unit: Unit | None = None
    """See `joining.join`."""

    missing: Missing = "wrong"

    split: str | None = None
    """Only references whose column `split` says so, as in a catalog."""

    id_column: str | None = None
    """Of the references; of the predictions too if they have it."""

    prediction_id_column: str | None = None
    patient_column: str | None = None
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 0 or self.seed < 0:
            raise InputError(f"resamples {self.resamples} and seed {self.seed} must be 0 or more.")

    def read(self, reader: Callable[[Path], Table] = read_table) -> tuple[Keyed, Keyed]:
        """References and predictions, by study id.

        Raises:
            InputError: as the reader, `keyed` and `keyed_predictions`.
        """
        references = in_split(reader(self.references), self.split)
        predictions = reader(self.predictions)
        shared = self.id_column if self.id_column in predictions.columns else None
        return (
            keyed(references, None if self.references.is_dir() else self.id_column),
            keyed_predictions(predictions, self.prediction_id_column or shared),
        )

    def join(self, references: Keyed, predictions: Keyed) -> Joined:
        """As `joining.join`, by these options."""
        return join(
            references,
            predictions,
            unit=self.unit,
            missing=self.missing,
            patient_column=self.patient_column,
        )


def in_split(table: Table, split: str | None) -> Table:
    """The rows of a split; all without one.

    Raises:
        InputError: there is no column `split`, or no such row.
    """
    if split is None:
        return table
    table.require(["split"])
    rows = tuple(row for row in table.rows if row[1]["split"] == split)
    if not rows:
        found = ", ".join(sorted({cells["split"] or "(empty)" for _, cells in table.rows}))
        raise InputError.about(
            table.path, f"no row has split {split!r}; found: {found}", "Give another --split."
        )
    return Table(table.path, table.columns, rows)


def about(
    inputs: Inputs,
    joined: Joined,
    files: Sequence[str] = (),
    further: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What was scored: files, and folders of masks, by name and mark; the unit; how many joined.

    Args:
        files: further options that name files, where they are given
    """
    paths = {name: getattr(inputs, name) for name in ("references", "predictions", *files)}
    marks = {
        name: folder_mark(path) if path.is_dir() else file_mark(path)
        for name, path in paths.items()
        if path is not None
    }
    split = {} if inputs.split is None else {"split": inputs.split}
    return {**marks, **split, "unit": joined.unit, **joined.counts, **(further or {})}


def present(joined: Joined) -> NDArray[np.bool_]:
    """(N,) whether a study has a prediction."""
    return ~np.array(joined.missing, dtype=bool)


def labels_of(
    path: Path,
    ids: Sequence[str],
    names: Sequence[str],
    what: str,
    *,
    id_column: str | None = None,
    unit: Unit = "series",
) -> NDArray[np.float64]:
    """(N, C) labels of a further table, in the order of `ids`, which must all be there.

    Args:
        id_column: of the table, where it has it
        unit: as predictions are found; by "scan" a row about a scan serves its reconstruction

    Raises:
        InputError: a study or a column is missing, or a cell is no label.
    """
    table = read_table(path)
    other: Keyed = keyed(table, id_column if id_column in table.columns else None)
    find = finder(other.rows, unit)
    found = [find(key) for key in ids]
    table.require(names)
    lacking = [key for key, own in zip(ids, found, strict=True) if own is None]
    if lacking:
        raise InputError.about(
            path,
            f"no {what} of {len(lacking)} of {len(ids)} studies, such as {lacking[0]!r}",
            "Give a row for every study that is scored.",
        )
    return label_rows(table, [other.rows[key] for key in found if key is not None], names)


def opposite(truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is wrong for every label: 1 for 0, 0 for 1; 0 where the truth is unknown."""
    return np.where(truth == 0, 1.0, 0.0)
