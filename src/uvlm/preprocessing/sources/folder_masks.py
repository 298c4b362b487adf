"""The user's masks: one multi-label file per study, or one folder of structure files per study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.masks import MaskFile, StructureFolder
from uvlm.preprocessing.sources.folder_files import Index, find_files
from uvlm.preprocessing.sources.folder_rows import Draft, inside
from uvlm.preprocessing.sources.structures import number_structures, structures_in
from uvlm.preprocessing.study import MaskSource, Rejection, Scope, Study

__all__ = ["MaskFolder", "numbered", "open_masks", "read_names", "with_masks"]

NAMES = ("labels.json", "dataset.json")
"""Where names are looked for beside the masks."""


@dataclass(frozen=True)
class MaskFolder:
    """Where the masks are."""

    root: Path
    index: Index
    names: Path | None
    """JSON file with the names of the values; None where masks are folders of structures."""

    def find(self, keys: Iterable[str]) -> tuple[Path, ...]:
        """What the first of `keys` that means anything may mean."""
        return next((found for key in keys if (found := self.index.find(key))), ())


def with_masks(
    drafts: Sequence[Draft], root: Path, masks: Path | None, names: Path | None
) -> tuple[tuple[Study, ...], tuple[Scope, ...], tuple[Rejection, ...]]:
    """The studies with their masks, how these are numbered, and the studies that are unclear.

    A study without a mask stays, without one.

    Args:
        root: of the CTs; paths of a mask column lie below `masks`, or below this without it.

    Raises:
        CatalogError: no usable mask at all.
    """
    by_column = any(draft.mask_path for draft in drafts)
    if masks is None and not by_column:
        return tuple(draft.study for draft in drafts), (), ()
    where = masks or root
    opened = None if by_column or masks is None else open_masks(masks, names)
    paths: dict[str, Path | None] = {}
    rejected = []
    for draft in drafts:
        found = _mask_of(draft, where, opened)
        if isinstance(found, str):
            name = draft.study.series_id
            error = f"{where}: {found}"
            rejected.append(Rejection(series_id=name, source=where, error=error))
        else:
            paths[draft.study.series_id] = found
    present = [path for path in paths.values() if path is not None]
    if not present:
        raise CatalogError.about(
            where,
            "no mask there is named as any of the CTs",
            "Name the masks as the CTs, or give their paths in a column (--mask-column).",
        )
    sources, scope = numbered(present, names if opened is None else opened.names, where)
    studies = []
    for draft in drafts:
        path = paths.get(draft.study.series_id)
        if draft.study.series_id in paths:
            studies.append(replace(draft.study, mask=None if path is None else sources[path]))
    return tuple(studies), (scope,), tuple(rejected)


def _mask_of(draft: Draft, where: Path, opened: MaskFolder | None) -> Path | str | None:
    """The mask of a study, None where there is none, or why it is unclear."""
    name = draft.study.series_id
    if opened is None:
        path = inside(where, draft.mask_path) if draft.mask_path else None
        if draft.mask_path and path is None:
            return f"the path of the mask of {name} leads nowhere below it. Correct it."
        return path
    found = opened.find(draft.mask_keys)
    if len(found) > 1:
        shown = ", ".join(path.relative_to(where).as_posix() for path in found[:3])
        return f"{len(found)} masks may be that of {name}: {shown}. Use --mask-column."
    return found[0] if found else None


def open_masks(root: Path, names: Path | None = None) -> MaskFolder:
    """A folder of masks: of multi-label files where the values have names, else of folders.

    Raises:
        CatalogError: no such folder, no mask in it, or files of unknown values.
    """
    files = find_files(root).volumes
    if not files:
        raise CatalogError.about(root, "no mask file in it", "Check --masks.")
    names = names or next((root / name for name in NAMES if (root / name).is_file()), None)
    if names is not None:
        return MaskFolder(root, Index(root, files), names)
    if any(path.parent == root for path in files):
        raise CatalogError.about(
            root,
            "mask files without the names of their values",
            'Give them with --mask-labels: a JSON such as {"1": "liver"}, or nnU-Net\'s '
            "dataset.json.",
        )
    return MaskFolder(root, Index(root, sorted({path.parent for path in files})), None)


def numbered(
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
    by_value = read_names(names)
    order = {value: number for number, value in enumerate(sorted(by_value), 1)}
    classes = {by_value[value]: number for value, number in order.items()}
    known = tuple(order)
    scope = Scope(name="all", classes=classes, table=order)
    return {path: MaskFile(path, known) for path in paths}, scope


def read_names(path: Path) -> dict[int, str]:
    """Value to name, from `{"1": "liver"}`, `{"liver": 1}` or nnU-Net's dataset.json.

    Raises:
        CatalogError: unreadable, a name or value twice, or values that are no whole numbers.
    """
    remedy = 'Write {"1": "liver"}, {"liver": 1}, or nnU-Net\'s dataset.json.'
    try:
        data = json.loads(path.read_text("utf-8-sig"))
        data = data.get("labels", data)
        pairs = [
            (int(name), str(value)) if name.strip().isdigit() else (int(value), name)
            for name, value in data.items()
        ]
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
