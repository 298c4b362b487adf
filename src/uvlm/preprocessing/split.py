"""Which patients train and which validate, by a hash of the patient: the same in every task.

    share of a patient    0 ....... 0.2 ....... 0.4 ....... 0.6 ....... 0.8 ....... 1
    val_fraction 0.2      validate  | train
    nnU-Net, validates    fold 0    | fold 1    | fold 2    | fold 3    | fold 4

A model handed from task to task must never be validated on a patient one of the tasks has trained
on, so the answer depends on the patient alone, never on the catalog at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from uvlm.preprocessing.catalog import Row

__all__ = ["FOLDS", "HELD_OUT", "fold_of", "held_out_patients", "split_of"]

FOLDS = 5
"""As many as nnU-Net trains; fold 0 validates on the patients of `val_fraction` 0.2."""

HELD_OUT = ("valid", "test")
"""Values of the catalog's `split` column that neither train nor validate."""

SALT = "uvlm"
"""Not a run's seed: two tasks with different seeds must agree."""


def split_of(patient_id: str, val_fraction: float) -> Literal["train", "val"]:
    """Deterministic over machines, versions and catalogs."""
    return "val" if _share(patient_id) < val_fraction else "train"


def fold_of(patient_id: str, folds: int = FOLDS) -> int:
    """The one fold, 0 to `folds` - 1, that validates on this patient; all others train on it.

    Fold 0 validates on those for whom `split_of` with the fraction 1 / `folds` says "val".
    """
    share = _share(patient_id)
    # Compared as `split_of` compares, for a product of fractions could round to the other side.
    return next((fold for fold in range(folds) if share < (fold + 1) / folds), folds - 1)


def held_out_patients(rows: Iterable[Row]) -> frozenset[str]:
    """Patients with a held-out study; none of their other studies may train or validate either."""
    return frozenset(row.patient_id for row in rows if row.split in HELD_OUT)


def _share(patient_id: str) -> float:
    digest = hashlib.sha256(f"{SALT}:{patient_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
