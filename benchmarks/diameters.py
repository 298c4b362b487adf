"""How true the diameters of lesions are, in millimetres: of true masks and of a bundle's.

True masks: phantoms record the size they drew a lesion with; `lesions_of` measures it back on their
mask. Baseline: the side of a pixel, which no measurement on a mask can be asked to beat. Bundle:
every true lesion of held-out studies against the predicted one of its class that shares the most
voxels with it; baseline of the error: saying the mean true diameter of the class each time; of the
share found: all. Classes with fewer than `FEWEST` true lesions are left out.

    python benchmarks/diameters.py [--bundle DIR --raw DIR] [--json FILE]

    --bundle   with a segmentation part
    --raw      what `uvlm phantom` wrote for chests; its `valid_fixed` studies are used
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Row, machine, publish
from scipy import ndimage

from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Provenance, Volume
from uvlm.inference.evidence.lesions import lesions_of
from uvlm.inference.evidence.structures import is_lesion, labels_of
from uvlm.inference.evidence.types import Lesion
from uvlm.phantom.chest import draw_chest
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.phantom.resolution import size_ranges
from uvlm.preprocessing.lesions import TOUCHING
from uvlm.preprocessing.masks import align

SHAPES = ((64, 128, 128), (96, 192, 192))
STUDIES = 12
SIZED = ("Lung nodule", "Hiatal hernia")
"""Labels whose recorded size is the diameter of the largest of their lesions."""

FEWEST = 10
Array = np.ndarray


@dataclass(frozen=True)
class Matched:
    """A true lesion and what was predicted of it."""

    true_mm: float
    predicted_mm: float | None
    """None where no predicted lesion of its class touches it."""


def of_phantoms(label: str, shape: tuple[int, int, int]) -> tuple[list[float], float]:
    """(measured less drawn diameter of the largest lesion, mm, each study; mm of a pixel)."""
    errors, pixels = [], []
    sizes = size_ranges(shape, "chest")
    for study in range(STUDIES):
        drawn = draw_chest(5, study, shape, frozenset([label]), sizes)
        z, y, x = drawn.grid.spacing
        volume = Volume(
            array=drawn.hu,
            affine=np.diag([x, y, z, 1.0]),
            provenance=Provenance(path="phantom", format="nifti", checksum="0"),
        )
        lesions = lesions_of(drawn.mask, volume, CHEST_CLASSES)
        own = [each.diameter_mm for each in lesions if label in labels_of(each.name)]
        size = next(found.size_mm for found in drawn.findings if found.label == label)
        errors.append(max(own) - size)
        pixels.append(x)
    return errors, float(np.mean(pixels))


def matches(
    true: Array, predicted: Array, volume: Volume, classes: dict[str, int]
) -> list[tuple[str, Matched]]:
    """Every true lesion of a study with its class."""
    guesses = [
        (each, _inside(predicted, each, classes)) for each in _all(predicted, volume, classes)
    ]
    found = []
    for lesion in _all(true, volume, classes):
        inside = _inside(true, lesion, classes)
        shared = [
            (len(np.intersect1d(inside, other, assume_unique=True)), guess.diameter_mm)
            for guess, other in guesses
            if guess.name == lesion.name
        ]
        voxels, diameter = max(shared, default=(0, 0.0))
        found.append((lesion.name, Matched(lesion.diameter_mm, diameter if voxels else None)))
    return found


def _all(mask: Array, volume: Volume, classes: dict[str, int]) -> tuple[Lesion, ...]:
    return lesions_of(mask, volume, classes)


def _inside(mask: Array, lesion: Lesion, classes: dict[str, int]) -> Array:
    """Flat indices of a lesion's voxels."""
    box = tuple(slice(*part) for part in lesion.box)
    start = np.array([part[0] for part in lesion.box])
    pieces, _ = ndimage.label(mask[box] == classes[lesion.name], structure=TOUCHING)
    places = np.argwhere(pieces == pieces[tuple(np.array(lesion.centre) - start)]) + start
    return np.asarray(np.ravel_multi_index(tuple(places.T), mask.shape))


def of_bundle(bundle: Path, raw: Path) -> list[Row]:
    """Detection and diameters on the held-out studies."""
    import uvlm

    pipeline = uvlm.load(bundle)
    by_class: dict[str, list[Matched]] = defaultdict(list)
    for path in sorted((raw / "dataset" / "valid_fixed").rglob("*.nii.gz")):
        volume = read_volume(path)
        truth = raw / "dataset" / "ts_seg" / path.relative_to(raw / "dataset")
        true, _ = align(read_volume(truth, labels=True), volume)
        predicted = pipeline.segment(path).mask
        assert predicted is not None
        classes = {name: value for name, value in CHEST_CLASSES.items() if is_lesion(name)}
        assert all(pipeline.classes[name] == value for name, value in classes.items())
        for name, match in matches(true.array, predicted, volume, CHEST_CLASSES):
            by_class[name].append(match)
    rows = []
    for name, found in by_class.items():
        if len(found) < FEWEST:
            continue
        hits = [each for each in found if each.predicted_mm is not None]
        share = len(hits) / len(found)
        case = f"{name}: share of {len(found)} found"
        rows.append(Row(case=case, value=share, baseline=1.0, unit="share", ratio=share))
        if hits:
            true_mm = np.array([each.true_mm for each in hits])
            error = float(np.mean([abs((h.predicted_mm or 0) - h.true_mm) for h in hits]))
            guess = float(np.abs(true_mm - np.mean([each.true_mm for each in found])).mean())
            case = f"{name}: diameter error"
            rows.append(
                Row(
                    case=case,
                    value=error,
                    baseline=guess,
                    unit="mm",
                    ratio=guess / max(error, 1e-6),
                )
            )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, metavar="DIR")
    parser.add_argument("--raw", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    if (args.bundle is None) != (args.raw is None):
        parser.error("give --bundle and --raw together")
    rows = []
    for shape in SHAPES:
        for label in SIZED:
            errors, pixel = of_phantoms(label, shape)
            error = float(np.abs(errors).mean())
            case = f"phantom {'x'.join(map(str, shape))}, {label.lower()}"
            rows.append(Row(case=case, value=error, baseline=pixel, unit="mm", ratio=pixel / error))
    if args.bundle is not None:
        rows += of_bundle(args.bundle, args.raw)
    publish(rows, args.json, machine())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
