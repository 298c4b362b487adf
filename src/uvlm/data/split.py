"""Which patients train and which validate, by a hash of the patient: the same in every task.

A model handed from task to task must never be validated on a patient one of the tasks has
trained on, so the answer depends on the patient alone, never on the catalog at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from uvlm.preprocessing.catalog import Row

__all__ = ["HELD_OUT", "split_of", "split_rows"]

HELD_OUT = ("valid", "test")
"""Values of the catalog's `split` column that neither train nor validate."""

SALT = "uvlm"
"""Not the run's seed: two tasks with different seeds must agree."""


def split_of(patient_id: str, val_fraction: float) -> Literal["train", "val"]:
    """Deterministic over machines, versions and catalogs."""
    digest = hashlib.sha256(f"{SALT}:{patient_id}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "val" if share < val_fraction else "train"


def split_rows(rows: Iterable[Row], val_fraction: float) -> tuple[list[Row], list[Row]]:
    """(training rows, validation rows); held-out rows are in neither."""
    train: list[Row] = []
    val: list[Row] = []
    for row in rows:
        if row.split not in HELD_OUT:
            part = train if split_of(row.patient_id, val_fraction) == "train" else val
            part.append(row)
    return train, val
