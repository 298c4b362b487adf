"""What masks hold: names of the values of a file, or a folder with one file per structure.

Where files of a folder overlap, the finer structure must win: an organ's part over the organ, a
lesion over both. What is finer is told from names by one rule. The rank of a structure is

    0                      for a space that holds organs: abdomen, chest, mediastinum, body, ...
    1, 2, 3, ...           otherwise its number of words: lung, right lung, right lung upper lobe
    100 more               for a lesion: its name holds lesion, tumor, cyst, nodule, mass, ...

Overlaps within one rank are noted in the study's record; the later name in the alphabet wins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.masks import MaskFile, Structure, StructureFolder
from uvlm.preprocessing.study import MaskSource, Scope

__all__ = ["number_masks", "number_structures", "rank_of", "read_class_names", "structures_in"]

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


def number_masks(
    paths: Iterable[Path], names: Path | None, where: Path
) -> tuple[Mapping[Path, MaskSource], Scope]:
    """How to read each mask, and how their values are numbered.

    Raises:
        CatalogError: files and folders mixed, files without names, or unusable names.
    """
    paths = sorted(set(paths))
    folders = [path for path in paths if path.is_dir()]
    if folders and len(folders) < len(paths):
        raise CatalogError.about(
            where, "masks that are files and masks that are folders", "Prepare them separately."
        )
    if folders:
        found = set().union(*(structures_in(folder) for folder in folders))
        structures, scope = number_structures(found, where)
        return {path: StructureFolder(folder=path, structures=structures) for path in paths}, scope
    if names is None:
        raise CatalogError.about(
            where, "mask files without the names of their values", "Give them with --mask-labels."
        )
    by_value = read_class_names(names)
    order = {value: number for number, value in enumerate(sorted(by_value), 1)}
    classes = {by_value[value]: number for value, number in order.items()}
    known = tuple(order)
    scope = Scope(name="all", classes=classes, table=order)
    return {path: MaskFile(path, known) for path in paths}, scope


def read_class_names(path: Path, hint: str = "") -> dict[int, str]:
    """Value to name, from `{"1": "liver"}`, `{"liver": 1}` or nnU-Net's dataset.json.

    Args:
        hint: what else an error tells the user.

    Raises:
        CatalogError: unreadable, a name or value twice, or values that are no whole numbers.
    """
    remedy = 'Write {"1": "liver"}, {"liver": 1}, or nnU-Net\'s dataset.json.' + hint
    try:
        data = json.loads(path.read_text("utf-8-sig"))
        data = data.get("labels", data)
        pairs = [_value_and_name(*pair) for pair in data.items()]
    except OSError as error:
        raise CatalogError.about(path, f"cannot be read ({error.strerror})", remedy) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise CatalogError.about(path, f"no names of values in it ({error})", remedy) from None
    pairs = [pair for pair in pairs if pair[0] != 0]
    for column in zip(*pairs, strict=True):
        if len(set(column)) < len(pairs):
            raise CatalogError.about(path, "a name or a value twice", "Use each once.")
    if not pairs or min(pairs)[0] < 0:
        raise CatalogError.about(path, "no values above 0", remedy)
    return dict(pairs)


def _value_and_name(key: str, entry: object) -> tuple[int, str]:
    """Of one entry, written either way round."""
    value, name = (key, entry) if key.strip().isdigit() else (entry, key)
    if isinstance(value, bool) or not isinstance(name, str):
        raise ValueError(f"the entry {key!r}: {entry!r}")
    if isinstance(value, (str, int)):
        return int(value), name
    raise ValueError(f"the entry {key!r}: {entry!r}")
