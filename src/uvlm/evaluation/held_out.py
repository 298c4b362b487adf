"""Which studies of a catalog a model is scored on, and which it may have been trained on."""

from __future__ import annotations

from dataclasses import dataclass

from uvlm.errors import CatalogError
from uvlm.preprocessing.catalog import Catalog, Row
from uvlm.preprocessing.split import HELD_OUT

__all__ = ["Studies", "held_out"]


@dataclass(frozen=True)
class Studies:
    """Two groups of rows that share no patient."""

    scored: tuple[Row, ...]
    """The held-out rows."""

    training: tuple[Row, ...]
    """Rows outside every held-out split; their reports make the floors."""


def held_out(catalog: Catalog, split: str, limit: int | None = None) -> Studies:
    """Rows of `split`, the first `limit` of them, and the training rows.

    Raises:
        CatalogError: no row has that split, or a patient is on both sides.
    """
    scored = tuple(row for row in catalog.rows if row.split == split)
    training = tuple(row for row in catalog.rows if row.split not in HELD_OUT)
    if not scored:
        found = ", ".join(sorted({row.split or "(empty)" for row in catalog.rows})) or "none"
        raise CatalogError.about(
            catalog.path,
            f"no row has split {split!r}; found: {found}",
            "Give a catalog with held-out studies, or another --split.",
        )
    shared = {row.patient_id for row in scored} & {row.patient_id for row in training}
    if shared:
        raise CatalogError.about(
            catalog.path,
            f"{len(shared)} patients have studies in {split!r} and in training",
            "Move every study of a patient to one side; scores would otherwise be too good.",
        )
    return Studies(scored=scored[:limit], training=training)
