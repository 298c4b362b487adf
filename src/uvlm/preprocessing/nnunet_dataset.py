"""A prepared dataset as stock nnU-Net 2.8 trains on it, written without nnU-Net.

Dataset145_Name/                     a folder for `nnUNet_preprocessed`
    dataset.json  nnUNetPlans.json  dataset_fingerprint.json  splits_final.json
    nnUNetPlans_3d_fullres/
        <series>.b2nd                (1, z, y, x) float32, z-scored over the whole volume
        <series>_seg.b2nd            (1, z, y, x) int8, or int16 from class 128 on
        <series>.pkl                 geometry, and voxels of every class to centre patches on
    gt_segmentations/<series>.nii.gz the prepared mask; nnU-Net scores its final validation on it

`write_case` adds a case, from any process; `write_dataset` writes the four texts once all cases
are there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uvlm.errors import CatalogError, ConfigError
from uvlm.preprocessing.nnunet_case import CaseFiles, read_header, write_case
from uvlm.preprocessing.nnunet_plans import (
    CASES,
    CONFIGURATION,
    PLANS,
    Case,
    dataset_of,
    fingerprint_of,
    network_for,
    plans_of,
    splits_of,
)
from uvlm.preprocessing.split import held_out_patients

if TYPE_CHECKING:
    from uvlm.imaging.preprocess import PreprocessSpec
    from uvlm.preprocessing.catalog import Row

__all__ = ["NnunetName", "check_dataset", "write_case", "write_dataset"]

DATASET = "dataset.json"


@dataclass(frozen=True)
class NnunetName:
    """Number and name of an nnU-Net dataset.

    Raises:
        ConfigError: a number outside 1 to 999, or a name that could not be part of a folder's.
    """

    dataset_id: int
    name: str

    def __post_init__(self) -> None:
        if not 1 <= self.dataset_id <= 999:
            raise ConfigError(
                f"an nnU-Net dataset has a number from 1 to 999, got {self.dataset_id}."
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}", self.name):
            raise ConfigError(
                f"an nnU-Net dataset needs a name of letters, digits and _.+-, got {self.name!r}."
            )

    @property
    def folder(self) -> str:
        """As nnU-Net looks for it: "Dataset145_AbdomenAtlas3.0Mini"."""
        return f"Dataset{self.dataset_id:03d}_{self.name}"


def check_dataset(folder: Path, classes: Mapping[str, int], spec: PreprocessSpec) -> None:
    """Refuse, before hours of work, a folder in which `write_dataset` would refuse to write.

    Raises:
        CatalogError: the folder holds another dataset.
        ConfigError: the class table or the shape do not suit nnU-Net.
    """
    network_for(spec.shape)
    wanted = dataset_of(classes, spec, 0)
    path = folder / DATASET
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text("utf-8"))
        same = all(found.get(key) == wanted[key] for key in ("labels", "uvlm"))
    except (ValueError, AttributeError, OSError):
        same = False
    if not same:
        raise CatalogError.about(
            path,
            "the folder holds another dataset, or one prepared in another way",
            "Choose another dataset number or folder.",
        )


def write_dataset(
    folder: Path, classes: Mapping[str, int], spec: PreprocessSpec, rows: Sequence[Row]
) -> list[str]:
    """Write what describes the cases in `folder`, each file whole or not at all.

    Args:
        classes: class name to value
        rows: of the catalog; those without a mask, or of patients with a held-out study, have no
            case and are in no fold

    Returns:
        What the user should know, one sentence each.

    Raises:
        CatalogError: a case is missing or was prepared in another way, no row is left to train
            on, no mask has a class, or the folder holds another dataset.
        ConfigError: the class table or the shape do not suit nnU-Net.
    """
    check_dataset(folder, classes, spec)
    held_out = held_out_patients(rows)
    used = [row for row in rows if row.mask is not None and row.patient_id not in held_out]
    cases = [_read_case(folder, row.series_id, spec) for row in used]
    if not cases:
        raise CatalogError.about(
            folder, f"none of {len(rows)} rows has a mask to train on", "Give studies with masks."
        )
    splits = splits_of([row for row in rows if row.mask is not None])
    plans = plans_of(folder.name, cases, spec)
    plans["configurations"] = _other_configurations(folder) | plans["configurations"]
    _write_json(folder / "dataset_fingerprint.json", fingerprint_of(cases))
    _write_json(folder / f"{PLANS}.json", plans)
    _write_json(folder / "splits_final.json", splits)
    _write_json(folder / DATASET, dataset_of(classes, spec, len(cases)))
    return _doubts(folder, splits, {case.series_id for case in cases})


def _read_case(folder: Path, series_id: str, spec: PreprocessSpec) -> Case:
    files = CaseFiles.of(folder, series_id)
    header = read_header(files.image) if files.image.exists() else None
    if header is None or header["spec_hash"] != spec.hash:
        found = "there is no such case" if header is None else "it was prepared in another way"
        raise CatalogError.about(files.image, found, "Prepare the dataset again.")
    z, y, x = header["shape"]
    dz, dy, dx = header["spacing"]
    return Case(
        series_id=series_id,
        shape=(z, y, x),
        spacing=(dz, dy, dx),
        foreground=tuple(header["foreground"]),
    )


def _doubts(folder: Path, splits: Sequence[Mapping[str, list[str]]], used: set[str]) -> list[str]:
    doubts = []
    empty = [fold for fold, split in enumerate(splits) if not split["train"] or not split["val"]]
    if empty:
        doubts.append(f"{folder.name}: too few patients: nnU-Net cannot train fold {empty}.")
    names = (path.name for path in (folder / CASES).glob("*.b2nd"))
    listed = {name[: -len(".b2nd")] for name in names if not name.endswith("_seg.b2nd")}
    if listed - used:
        doubts.append(
            f"{folder.name}: {len(listed - used)} cases are in no fold; training it as `all` would "
            "include them."
        )
    return doubts


def _other_configurations(folder: Path) -> dict[str, Any]:
    """Configurations that the user has added to the plans; nnU-Net's planner keeps them too."""
    path = folder / f"{PLANS}.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))["configurations"]
        return {name: value for name, value in found.items() if name != CONFIGURATION}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CatalogError.about(
            path, f"unreadable ({error})", "Correct it, or move it away."
        ) from None


def _write_json(path: Path, content: Any) -> None:
    from uvlm.preprocessing.catalog import write_text

    write_text(path, json.dumps(content, indent=4, allow_nan=False) + "\n")
