"""Folders with one mask file per structure: which structures there are, and which wins.

Where files overlap, the finer structure must win: an organ's part over the organ, a lesion over
both. What is finer is told from names by one rule. The rank of a structure is

    0                      for a space that holds organs: abdomen, chest, mediastinum, body, ...
    1, 2, 3, ...           otherwise its number of words: lung, right lung, right lung upper lobe
    100 more               for a lesion: its name holds lesion, tumor, cyst, nodule, mass, ...

Overlaps within one rank are noted in the study's record; the later name in the alphabet wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.masks import Structure
from uvlm.preprocessing.study import Scope

__all__ = ["number_structures", "rank_of", "structures_in"]

SPACES = {"abdomen", "body", "chest", "chest wall", "mediastinum", "thorax", "thoracic cavity"}
LESIONS = re.compile(
    r"lesion|tumou?r|cyst|nodule|mass|metastas|consolidation|effusion|opacity|pdac|pnet"
)
MOST = 255


def rank_of(name: str) -> int:
    """Where structures overlap the highest rank wins; see above."""
    words = re.sub(r"[_\-]+", " ", name.casefold()).split()
    if " ".join(words) in SPACES:
        return 0
    return len(words) + (100 if LESIONS.search(name.casefold()) else 0)


def structures_in(folder: Path) -> set[str]:
    """Names of the structures a folder has a NIfTI file of."""
    names = (path.name for path in folder.iterdir() if not path.name.startswith("."))
    return {
        re.sub(r"\.nii(\.gz)?$", "", name) for name in names if re.search(r"\.nii(\.gz)?$", name)
    }


def number_structures(names: Iterable[str], where: Path) -> tuple[tuple[Structure, ...], Scope]:
    """The structures in alphabetical order, numbered from 1, and the scope they make.

    Raises:
        CatalogError: more than 255 names.
    """
    ordered = sorted(set(names))
    if len(ordered) > MOST:
        raise CatalogError.about(
            where, f"{len(ordered)} structures", f"At most {MOST} can be told apart; remove some."
        )
    structures = tuple(
        Structure(name=name, value=value, rank=rank_of(name))
        for value, name in enumerate(ordered, 1)
    )
    values = {each.value: each.value for each in structures}
    classes = {each.name: each.value for each in structures}
    return structures, Scope(name="all", classes=classes, table=values)
