"""An nnU-Net raw dataset: images and ready-made masks, as `nnUNet_raw/DatasetNNN_NAME` holds them.

    dataset.json                      channel_names, labels (name -> value), file_ending
    imagesTr/X_0000.nii.gz            one channel, the CT in HU
    labelsTr/X.nii.gz                 its mask
    imagesVal, labelsVal              the same for validation, optional
    imagesTs, labelsTs                the same for the test, optional

The masks become one scope, "all", or the scopes a caller gives. Labels and reports are empty: such
a dataset is for segmentation only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from uvlm.errors import CatalogError, InputError
from uvlm.preprocessing.masks import MaskFile
from uvlm.preprocessing.study import Exclusion, Listing, Rejection, Scope, Study, VolumeFile

__all__ = [
    "find_dataset",
    "ids_of",
    "keep_apart",
    "list_nnunet_raw",
    "read_classes",
    "scope_of",
    "series_in",
]

PARTS = {"Tr": "train", "Val": "valid", "Ts": "test"}
"""End of the folder's name, and the split its studies belong to."""

SPLITS = tuple(PARTS.values())

_CT_RATE = re.compile(r"((?:train|valid)_\d+)_([a-z]+)_\d+")


def list_nnunet_raw(
    folder: Path,
    scopes: Sequence[Scope] | None = None,
    *,
    names: Mapping[str, int] | None = None,
    region: str = "unknown",
    splits: Collection[str] = ("train", "valid", "test"),
) -> Listing:
    """What an nnU-Net raw dataset holds.

    Args:
        folder: the dataset's folder, or one that holds no other dataset.
        scopes: how to number the masks; without them one scope "all" with the file's own classes.
        names: class name to value as the tables of `scopes` read it, where dataset.json may number
            the same classes otherwise. Without it the tables are of the values in the files.
        splits: which of "train" (imagesTr), "valid" (imagesVal) and "test" (imagesTs) to list.

    Raises:
        CatalogError: no such dataset, a damaged dataset.json, more than one channel, labels that
            are regions or `ignore`, or classes that `scopes` do not number.
    """
    root = find_dataset(folder)
    described = _description(root)
    classes = read_classes(root, described)
    if scopes is None:
        scopes = (scope_of("all", classes),)
    else:
        scopes = tuple(_renumbered(root, scope, classes, names) for scope in scopes)
    found = _Found(ending=_ending(described), known=_values(classes))
    divided = (root / "imagesVal").is_dir()
    for part, split in PARTS.items():
        if split in splits:
            found.add(root, part, split if divided or split != "train" else None)
    if not found.studies and not found.rejected:
        raise CatalogError.about(
            root,
            f"no image named like CASE_0000{found.ending} in imagesTr",
            "Check the path and file_ending of dataset.json.",
        )
    others = ((ids_of(series_id)[1], split) for series_id, split in series_in(root))
    studies, leaks = keep_apart(found.studies, others)
    return Listing(
        name=root.name,
        region=region,
        labels=(),
        studies=studies,
        scopes=scopes,
        rejected=tuple(found.rejected),
        excluded=(*found.excluded, *leaks),
    )


def find_dataset(folder: Path, dataset_id: int | None = None) -> Path:
    """The dataset's folder: `folder`, or the one `DatasetNNN_*` in it.

    Raises:
        CatalogError: there is none, or several and `dataset_id` does not choose.
    """
    if (folder / "dataset.json").is_file() or (folder / "imagesTr").is_dir():
        return folder
    inside = sorted(path.parent for path in folder.glob("Dataset*/dataset.json"))
    chosen = [path for path in inside if path.name.startswith(f"Dataset{dataset_id or 0:03d}_")]
    if len(inside) == 1 or len(chosen) == 1:
        return (chosen or inside)[0]
    listed = ", ".join(path.name for path in inside[:8])
    raise CatalogError.about(
        folder,
        f"several nnU-Net datasets ({listed})" if inside else "no nnU-Net raw dataset in it",
        "Give the folder of one, the one that holds dataset.json and imagesTr.",
    )


def series_in(root: Path) -> list[tuple[str, str]]:
    """(series, split) of all images of a dataset, with or without a mask."""
    ending = _ending(_description(root))
    return [
        (series_id, split)
        for part, split in PARTS.items()
        for series_id, _ in _images(root, part, ending)
    ]


def _ending(described: Mapping[str, Any]) -> str:
    return str(described.get("file_ending", ".nii.gz"))


def _images(root: Path, part: str, ending: str) -> list[tuple[str, Path]]:
    """(series, file) of `images<part>`."""
    files = sorted((root / f"images{part}").glob(f"*{ending}"))
    return [(path.name.removesuffix(ending).removesuffix("_0000"), path) for path in files]


def ids_of(series_id: str) -> tuple[str, str]:
    """(case, patient) of a series: CT-RATE's `train_1_a_1` is scan `train_1_a` of `train_1`."""
    named = _CT_RATE.fullmatch(series_id)
    if named is None:
        return series_id, series_id
    return f"{named[1]}_{named[2]}", named[1]


def scope_of(name: str, classes: Mapping[str, int]) -> Scope:
    """The scope that keeps every class, numbered 1, 2, 3, ... in order of its value."""
    ordered = sorted(classes, key=classes.__getitem__)
    stored = {each: index for index, each in enumerate(ordered, 1)}
    return Scope(name=name, classes=stored, table={classes[each]: stored[each] for each in ordered})


def keep_apart(
    studies: Iterable[Study], others: Iterable[tuple[str, str]] = ()
) -> tuple[tuple[Study, ...], tuple[Exclusion, ...]]:
    """Leave out training studies of patients who are also in validation or test, validation studies
    of patients who are also in the test, and training studies on which CT-RATE validates.

    Args:
        others: (patient, split) of further studies, which are not among `studies`
    """
    studies = tuple(studies)
    last: dict[str, int] = {}
    for patient, split in (
        *((each.patient_id, each.split or "train") for each in studies),
        *others,
    ):
        last[patient] = max(last.get(patient, 0), SPLITS.index(split))
    kept, left_out = [], []
    for study in studies:
        split = SPLITS[last[study.patient_id]]
        if split != (study.split or "train"):
            reason = f"another scan of the patient is in the {split} split"
        elif split == "train" and _validates_ct_rate(study.series_id):
            reason = "CT-RATE validates on it, so that no other task may train on it"
        else:
            kept.append(study)
            continue
        left_out.append(Exclusion(series_id=study.series_id, reason=reason))
    return tuple(kept), tuple(left_out)


def _validates_ct_rate(series_id: str) -> bool:
    return series_id.startswith("valid_") and _CT_RATE.fullmatch(series_id) is not None


def _description(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    try:
        described = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CatalogError.about(
            path, f"unreadable ({error})", "Give nnU-Net's dataset.json (version 2)."
        ) from None
    if not isinstance(described, dict) or not isinstance(described.get("labels"), dict):
        raise CatalogError.about(
            path, "no table of labels", 'Write "labels": {"background": 0, "liver": 1, ...}.'
        )
    channels = described.get("channel_names", {"0": "CT"})
    if not isinstance(channels, dict) or len(channels) != 1:
        raise CatalogError.about(
            path, "channel_names does not name one channel", "Give a dataset of CT alone."
        )
    return described


def read_classes(root: Path, described: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Class name to value in the files, background left out.

    Raises:
        CatalogError: dataset.json is unreadable, or its labels are not one positive number each.
    """
    labels: Mapping[str, Any] = (described or _description(root))["labels"]
    path = root / "dataset.json"
    classes: dict[str, int] = {}
    for name, value in labels.items():
        if isinstance(value, (list, tuple)):
            raise _wrong(path, name, "is a region, a list of values", "Give one value per class.")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
            old = "; version 1 of nnU-Net wrote value to name" if name.isdigit() else ""
            raise _wrong(
                path, name, f"has the value {str(value)[:40]!r}{old}", "Write name: value."
            )
        if name == "ignore":
            raise _wrong(path, name, "marks voxels without a truth", "Give complete masks.")
        if value in classes.values():
            raise _wrong(path, name, f"shares the value {value}", "Give each a value of its own.")
        if value:
            classes[name] = value
    if not classes:
        raise CatalogError.about(path, "no class but background", "Name the classes of the masks.")
    return classes


def _wrong(path: Path, name: str, found: str, remedy: str) -> InputError:
    return CatalogError.about(path, f"the label {name!r} {found}", remedy)


def _values(classes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sorted(classes.values()))


def _renumbered(
    root: Path, scope: Scope, classes: Mapping[str, int], names: Mapping[str, int] | None
) -> Scope:
    """`scope` with its table by the values of these files."""
    table = {}
    for name, value in classes.items():
        meant = value if names is None else names.get(name)
        if meant is None or meant not in scope.table:
            raise CatalogError.about(
                root / "dataset.json",
                f"the class {name!r} (value {value}) is none of those that the scope "
                f"{scope.name!r} numbers",
                "Name the classes as this dataset does, or prepare it as a dataset of its own.",
            )
        table[value] = scope.table[meant]
    return replace(scope, table=table)


@dataclass
class _Found:
    ending: str
    known: tuple[int, ...]
    studies: list[Study] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    excluded: list[Exclusion] = field(default_factory=list)

    def _add_lonely_masks(self, root: Path, part: str, known: set[str]) -> None:
        for mask in sorted((root / f"labels{part}").glob(f"*{self.ending}")):
            series_id = mask.name.removesuffix(self.ending)
            if series_id not in known and not series_id.startswith("."):
                error = f"{mask}: no image for it in images{part}. Add it, or remove the mask."
                self.rejected.append(Rejection(series_id=series_id, source=mask, error=error))

    def add(self, root: Path, part: str, split: str | None) -> None:
        """The cases of `images<part>`, those without a mask sorted out."""
        masks = root / f"labels{part}"
        images = _images(root, part, self.ending)
        self._add_lonely_masks(root, part, {series_id for series_id, _ in images})
        for series_id, image in images:
            mask = masks / f"{series_id}{self.ending}"
            if image.name == mask.name:
                error = f"{image}: not named like CASE_0000{self.ending}. Rename or remove it."
                self.rejected.append(Rejection(series_id=series_id, source=image, error=error))
            elif not masks.is_dir() and split == "test":
                reason = "the test set has no masks"
                self.excluded.append(Exclusion(series_id=series_id, reason=reason))
            elif not mask.is_file():
                error = f"{mask}: no mask for {image.name}. Add it, or remove the image."
                self.rejected.append(Rejection(series_id=series_id, source=image, error=error))
            else:
                case, patient = ids_of(series_id)
                self.studies.append(
                    Study(
                        series_id=series_id,
                        case_id=case,
                        patient_id=patient,
                        image=VolumeFile(image),
                        split=split,
                        mask=MaskFile(mask, self.known),
                    )
                )
