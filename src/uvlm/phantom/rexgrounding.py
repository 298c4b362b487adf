"""The chest studies as ReXGroundingCT has them: a stack of finding masks per study, and tables.

    dataset.json, MICCAI_challenge_dataset.json     findings, categories and splits
    segmentations/<series>.nii.gz                   one mask per finding, lesions numbered 1, 2, ...
    ct_rate/dataset/...                             the images, all LPS, and CT-RATE's own tables
    anatomy/totalsegmentator/<series>/*.nii.gz      lobes, heart, aorta, ... one file each
    anatomy/atm22/<series>.nii.gz                   the airways

Only studies with a lesion of the lungs or pleura take part. Test studies have no masks. The masks
have the quirks of the released ones: half of the arrays are turned by 180 degrees about z while
their affine is not, half of the affines are the identity, and the findings lie along the first
axis or the last.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.imaging.geometry import to_lps
from uvlm.imaging.nifti import RAS_TO_LPS, write_nifti
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Volume
from uvlm.phantom.classes import CHEST_CLASSES, LOBES, stream
from uvlm.text.sides import BOTH, mentions, sides_in

__all__ = ["write"]

Array = NDArray[Any]

LESIONS: dict[str, tuple[str, str, str]] = {
    "emphysema": ("1c", "mphysema", "Emphysema"),
    "atelectasis": ("2b", "telectasis", "Atelectasis"),
    "lung_nodule": ("2d", "nodule", "Nodules"),
    "lung_opacity": ("2c", "round-glass", "Ground-glass opacity"),
    "pulmonary_fibrotic_sequela": ("2a", "sequela", "Fibrotic sequelae"),
    "pleural_effusion": ("2e", "leural effusion", "Pleural effusion"),
    "mosaic_attenuation_pattern": ("1f", "osaic", "Mosaic attenuation"),
    "peribronchial_thickening": ("1a", "bronchial", "Bronchial wall thickening"),
    "consolidation": ("2b", "onsolidation", "Consolidation"),
    "bronchiectasis": ("1b", "ronchiecta", "Bronchiectasis"),
    "interlobular_septal_thickening": ("1d", "septa", "Septal thickening"),
}
"""Mask class to category, a word of its sentence, and a name for a sentence of one side."""

STRUCTURES = ("heart", "aorta", "esophagus", "liver", "trachea")
"""Classes that TotalSegmentator has by the same name, besides the lobes."""

SIDES = ("left", "right")


@dataclass(frozen=True)
class _Finding:
    text: str
    category: str
    mask: Array
    """(z, y, x), LPS."""


def write(source: Path, out: Path, seed: int) -> None:
    """Write the studies of `source` (CT-RATE v2 layout with masks) into the empty folder `out`."""
    rng = stream(seed, 0, "rexgrounding")
    root = source / "dataset"
    for path in sorted(root.iterdir()):
        if path.name not in ("ts_seg", "train_fixed", "valid_fixed"):
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            (out / "ct_rate" / "dataset").mkdir(parents=True, exist_ok=True)
            copy(path, out / "ct_rate" / "dataset" / path.name)
    entries = []
    texts = _reports(root)
    for image in sorted(root.glob("*_fixed/**/*.nii.gz")):
        ct, _ = to_lps(read_volume(image))
        labels = read_volume(root / "ts_seg" / image.relative_to(root), labels=True)
        mask, _ = to_lps(labels)
        target = out / "ct_rate" / "dataset" / image.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(target, ct.array, ct.affine)
        _write_anatomy(out / "anatomy", image.name, mask)
        findings = _findings(mask.array, texts[image.name], split=bool(rng.random() < 0.5))
        if findings:
            entries.append(_entry(image.name, findings))
            quirk = len(entries) % 4
            _write_stack(out / "segmentations" / image.name, findings, ct, quirk)
    _write_tables(out, entries, rng)


def _reports(root: Path) -> dict[str, str]:
    """VolumeName to findings."""
    found: dict[str, str] = {}
    for path in sorted((root / "radiology_text_reports").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found |= {row["VolumeName"]: row["Findings_EN"] for row in csv.DictReader(file)}
    return found


def _findings(mask: Array, report: str, *, split: bool) -> list[_Finding]:
    """What is drawn of each class and what the report says of it, with `split` side by side."""
    said = [each.sentence for each in mentions(report) if not each.negated]
    left = np.arange(mask.shape[2]) > _midline(mask)
    findings = []
    for name, (category, word, noun) in LESIONS.items():
        drawn = mask == CHEST_CLASSES[name]
        if not drawn.any():
            continue
        text = next((sentence for sentence in said if word in sentence), f"{noun} is seen.")
        parts = (drawn & left, drawn & ~left)
        if split and sides_in(text) == BOTH and all(part.any() for part in parts):
            findings += [
                _Finding(f"{noun} in the {side} lung.", category, part)
                for side, part in zip(SIDES, parts, strict=True)
            ]
        else:
            linear = name == "atelectasis" and ("Linear" in text or "bands" in text)
            findings.append(_Finding(text, "2a" if linear else category, drawn))
    return findings


def _midline(mask: Array) -> float:
    """Half way between the middles of the two lungs, in x indices."""
    columns = np.arange(mask.shape[2])
    middles = []
    for side in SIDES:
        lobes = [value for name, value in LOBES.items() if name.endswith(side)]
        counts = np.isin(mask, lobes).sum(axis=(0, 1))
        middles.append(float(columns @ counts / max(1, counts.sum())))
    return sum(middles) / 2


def _entry(name: str, findings: list[_Finding]) -> dict[str, Any]:
    numbered = [(str(n), each) for n, each in enumerate(findings)]
    return {
        "name": name,
        "findings": {n: each.text for n, each in numbered},
        "categories": {n: each.category for n, each in numbered},
        "entity_counts": {n: int(ndimage.label(each.mask)[1]) for n, each in numbered},
        "pixels": {n: int(each.mask.sum()) for n, each in numbered},
    }


def _write_stack(path: Path, findings: list[_Finding], ct: Volume, quirk: int) -> None:
    """`quirk` 0 and 2 lie as the image does, 1 and 3 are turned; 0 and 3 have no true affine."""
    masks = []
    for each in findings:
        numbered, _ = ndimage.label(each.mask)
        stored = numbered.astype(np.uint8).transpose(2, 1, 0)  # x, y, z as NIfTI counts
        masks.append(stored[::-1, ::-1] if quirk in (1, 3) else stored)
    stack = np.stack(masks, axis=0 if quirk < 2 else -1)
    affine = np.eye(4) if quirk in (0, 3) else RAS_TO_LPS @ ct.affine
    path.parent.mkdir(exist_ok=True)
    image = nib.Nifti1Image(stack, affine)  # type: ignore[no-untyped-call]
    packed = igzip.compress(image.to_bytes(), mtime=0)
    path.write_bytes(packed)


def _write_anatomy(folder: Path, name: str, mask: Volume) -> None:
    """What the tools would have found; a lesion of the lung belongs to the nearest lobe."""
    array = mask.array
    series = name.removesuffix(".nii.gz")
    drawn = {each: array == CHEST_CLASSES[each] for each in STRUCTURES}
    drawn |= _lobes(array)
    left = np.arange(array.shape[2]) > _midline(array)
    upper = (np.arange(array.shape[0]) > array.shape[0] // 2)[:, None, None]
    spine, ribs = (array == CHEST_CLASSES[each] for each in ("spine", "ribs"))
    drawn |= {"vertebrae_T5": spine & upper, "vertebrae_T12": spine & ~upper}
    drawn |= {"rib_left_5": ribs & left, "rib_right_5": ribs & ~left}
    structures = folder / "totalsegmentator" / series
    structures.mkdir(parents=True, exist_ok=True)
    for each, inside in drawn.items():
        write_nifti(structures / f"{each}.nii.gz", inside, mask.affine)
    # A structure without a place among the 34 classes, and one that is not in view.
    for each in ("thyroid_gland", "spleen"):
        write_nifti(structures / f"{each}.nii.gz", np.zeros(array.shape, bool), mask.affine)
    (folder / "atm22").mkdir(exist_ok=True)
    write_nifti(folder / "atm22" / name, drawn["trachea"], mask.affine)


def _lobes(array: Array) -> Mapping[str, Array]:
    """The lobes with the lesions in them."""
    known = np.isin(array, list(LOBES.values()))
    inside = [CHEST_CLASSES[name] for name in LESIONS if name != "pleural_effusion"]
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = np.where(known | np.isin(array, inside), array[tuple(nearest)], 0)
    return {name: filled == value for name, value in LOBES.items()}


def _write_tables(out: Path, entries: list[dict[str, Any]], rng: np.random.Generator) -> None:
    """A fifth of the studies each for validation and test, one at least; the rest for training."""
    held = max(1, len(entries) // 5) if len(entries) > 2 else 0
    order = [entries[k] for k in rng.permutation(len(entries))]
    val, test, train = order[:held], order[held : 2 * held], order[2 * held :]
    for entry in test:
        (out / "segmentations" / entry["name"]).unlink()
        for key in ("entity_counts", "pixels"):
            del entry[key]
    train.sort(key=lambda entry: str(entry["name"]))
    _write_json(out / "dataset.json", {"train": train, "val": val[:1], "test": test[:1]})
    _write_json(out / "MICCAI_challenge_dataset.json", {"val": val, "test": test})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
