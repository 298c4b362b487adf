"""The rows of a catalog divided into training and validation by `preprocessing.split`."""

from __future__ import annotations

from collections.abc import Iterable

from uvlm.preprocessing.catalog import Row
from uvlm.preprocessing.split import held_out_patients, split_of

__all__ = ["split_rows"]


def split_rows(rows: Iterable[Row], val_fraction: float) -> tuple[list[Row], list[Row]]:
    """(training rows, validation rows); patients with a held-out row are in neither."""
    rows = list(rows)
    held_out = held_out_patients(rows)
    train: list[Row] = []
    val: list[Row] = []
    for row in rows:
        if row.patient_id not in held_out:
            part = train if split_of(row.patient_id, val_fraction) == "train" else val
            part.append(row)
    return train, val
