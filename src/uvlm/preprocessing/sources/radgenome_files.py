"""Where RadGenome-ChestCT, or CT-RATE in its place, keeps the volumes and masks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.masks import StructureFolder
from uvlm.preprocessing.sources.ct_rate import list_places
from uvlm.preprocessing.sources.ct_rate_files import Places, places_of, series_of
from uvlm.preprocessing.sources.structures import number_structures, structures_in
from uvlm.preprocessing.study import Listing, Scope

__all__ = ["find_masks", "find_volumes"]

FOLDERS = ("train_preprocessed", "valid_preprocessed", "validation_preprocessed")
MASKS = ("train_region_mask", "valid_region_mask", "validation_region_mask")


def find_volumes(folder: Path, images: Path | None) -> Listing:
    """The volumes and what their names say of them, without reports and labels.

    Args:
        images: CT-RATE's folder, or any of volumes named as there; None for the release's own.

    Raises:
        CatalogError: no folder of volumes, or no volume.
    """
    if images is None:
        names = [(path.name.split("_")[0], path) for path in _below(folder, FOLDERS)]
        found = tuple((split.replace("validation", "valid"), path) for split, path in names)
        if not found:
            raise CatalogError.about(
                folder,
                "neither train_preprocessed nor valid_preprocessed in it",
                "Give the volumes with --images.",
            )
        return list_places(Places(images=found))
    try:
        places = places_of(images)
    except CatalogError:
        return list_places(Places(images=((None, images),)))
    return list_places(replace(places, reports=(), labels=(), masks=None))


def _below(folder: Path, names: Sequence[str]) -> list[Path]:
    """The folders of these names in `folder` or its `dataset`."""
    roots = (folder, folder / "dataset")
    return [root / name for root in roots for name in names if (root / name).is_dir()]


def find_masks(
    folder: Path, roots: Sequence[Path] | None
) -> tuple[Mapping[str, StructureFolder], tuple[Scope, ...]]:
    """Series to its masks, and how the structures of all of them are numbered.

    Args:
        roots: with `seg_<volume>` folders at any depth; None for those of the release.

    Raises:
        CatalogError: no masks in `roots`, or two folders of one volume.
    """
    roots = _below(folder, MASKS) if roots is None else roots
    folders: dict[str, Path] = {}
    where: Path | None = None
    for root in roots:
        where = root
        for path in _seg_folders(root):
            series = series_of(path.name[len("seg_") :])
            first = folders.setdefault(series, path)
            if first != path:
                raise CatalogError.about(
                    path, f"masks of {series} are in {first} too", "Give one of them with --masks."
                )
    if where is None:
        return {}, ()
    names = set().union(*(structures_in(path) for path in folders.values()))
    if not names:
        raise CatalogError.about(where, "no seg_<volume>/<anatomy>.nii.gz below it", "See --masks.")
    structures, scope = number_structures(names, where)
    sources = {
        series: StructureFolder(folder=path, structures=structures)
        for series, path in folders.items()
    }
    return sources, (scope,)


def _seg_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise CatalogError.about(root, "no such folder", "Check --masks.")
    found = []
    for folder, below, _ in os.walk(root):
        found += [Path(folder) / name for name in below if name.startswith("seg_")]
        below[:] = [name for name in below if not name.startswith("seg_")]
    return sorted(found)
