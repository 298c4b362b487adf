"""The studies of a catalog, another table or a folder, with what a table says of them.

No torch import.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uvlm.errors import InputError
from uvlm.evaluation.tables import REFERENCE_TEXT, read_table, report_of
from uvlm.inference.batch.items import TABLES, Item, find_items

__all__ = ["Listed", "list_studies"]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One study."""

    item: Item

    report: str = ""
    """Its report; "" where there is none, as in a folder."""


def list_studies(source: Path, split: str | None = None) -> list[Listed]:
    """The studies of `source`, in its order; of a folder by name.

    Args:
        source: a catalog, another CSV file with a column of paths, a folder of studies, or a study
        split: only those whose column `split` says so

    Raises:
        CatalogError, InputError: as `find_items`; or there is no such split.
    """
    items = find_items([source])
    if source.suffix.lower() not in TABLES or not source.is_file():
        if split is not None:
            raise InputError.about(source, "a folder has no split", "Give its catalog.")
        return [Listed(item=item) for item in items]
    table = read_table(source)
    text = next((names for names in REFERENCE_TEXT if set(names) <= set(table.columns)), ())
    if split is not None:
        table.require(["split"])
    # `find_items` gives one item per row of a table.
    found = [
        Listed(item=item, report=report_of(cells, text) if text else "")
        for item, (_, cells) in zip(items, table.rows, strict=True)
        if split in (None, cells.get("split"))
    ]
    if not found:
        known = ", ".join(sorted({cells["split"] or "(empty)" for _, cells in table.rows}))
        raise InputError.about(source, f"no study of split {split!r}", f"Splits found: {known}.")
    return found
