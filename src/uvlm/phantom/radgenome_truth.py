"""Regions, places and sizes of what a chest phantom's mask holds, in RadGenome's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from uvlm.imaging.volume import Volume
from uvlm.phantom.classes import label_class

__all__ = ["HOME", "REGION_MASKS", "Drawn", "region_of_sentence"]

LUNG = "lung/lung"
LOBE_PATHS: dict[str, str] = {
    "lung_upper_lobe_left": f"{LUNG}/left lung/left lung upper lobe",
    "lung_lower_lobe_left": f"{LUNG}/left lung/left lung lower lobe",
    "lung_upper_lobe_right": f"{LUNG}/right lung/right lung upper lobe",
    "lung_middle_lobe_right": f"{LUNG}/right lung/right lung middle lobe",
    "lung_lower_lobe_right": f"{LUNG}/right lung/right lung lower lobe",
}
"""Lobe of the mask -> path of its anatomy."""

REGION_MASKS: dict[str, tuple[str, ...]] = {
    **{path.rsplit("/", 1)[-1]: (lobe,) for lobe, path in LOBE_PATHS.items()},
    "left lung": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "right lung": tuple(lobe for lobe in LOBE_PATHS if lobe.endswith("right")),
    "lung": tuple(LOBE_PATHS),
    "heart": ("heart",),
    "esophagus": ("esophagus",),
    "trachea and bronchie": ("trachea",),
    "bone": ("spine", "ribs"),
    "abdomen": ("liver",),
    "pleura": ("pleural_effusion",),
}
"""Region -> classes of the mask that make it up."""

HOME: dict[str, str] = {
    "Medical material": "",
    "Arterial wall calcification": "mediastinum/aorta",
    "Cardiomegaly": "heart",
    "Pericardial effusion": "heart/pericardium",
    "Coronary artery wall calcification": "heart/coronary artery",
    "Hiatal hernia": "esophagus",
    "Lymphadenopathy": "mediastinum",
    "Emphysema": LUNG,
    "Atelectasis": LUNG,
    "Lung nodule": LUNG,
    "Lung opacity": LUNG,
    "Pulmonary fibrotic sequela": LUNG,
    "Pleural effusion": "pleura",
    "Mosaic attenuation pattern": LUNG,
    "Peribronchial thickening": "trachea and bronchie",
    "Consolidation": LUNG,
    "Bronchiectasis": "trachea and bronchie",
    "Interlobular septal thickening": LUNG,
}
"""Label -> where it is looked for."""

MEASURED = ("Lung nodule", "Consolidation", "Lung opacity", "Hiatal hernia")
SHARE = 0.15
"""Of an abnormality's voxels, how many a lobe must hold to be one of its places."""

SAMPLE = 400
_SIDED = re.compile(r"the (upper|middle|lower) lobe of the (left|right) lung")
_WORDS: tuple[tuple[str, str], ...] = (
    (r"pleural", "pleura"),
    (r"pericardial", "heart/pericardium"),
    (r"coronary", "heart/coronary artery"),
    (r"heart|cardiomegaly", "heart"),
    (r"trachea|bronch", "trachea and bronchie"),
    (r"esophag|hiatal", "esophagus"),
    (r"aort|great vessels", "mediastinum/aorta"),
    (r"lymph|mediastin", "mediastinum"),
    (r"both lungs|nodule|emphysema|atelectasis|consolidation|opacity|mosaic|sept|sequela", LUNG),
    (r"abdom", "abdomen"),
)


def region_of_sentence(sentence: str) -> str:
    """Path of the anatomy that a sentence speaks of; "" for none or several lobes' worth."""
    words = sentence.lower()
    lobes = {f"lung_{lobe}_lobe_{side}" for lobe, side in _SIDED.findall(words)}
    if len(lobes) == 1:
        return LOBE_PATHS.get(lobes.pop(), LUNG)
    return next((path for pattern, path in _WORDS if re.search(pattern, words)), "")


class Drawn:
    """What one mask holds."""

    def __init__(self, mask: Volume, classes: Mapping[str, int]) -> None:
        self.mask = mask
        self._classes = classes

    def region(self, region: str) -> NDArray[np.bool_]:
        """Where a region of `REGION_MASKS` is, (z, y, x)."""
        values = [self._classes[name] for name in REGION_MASKS[region]]
        return np.isin(self.mask.array, values)

    def places(self, label: str) -> list[str]:
        """Lobes around an abnormality of the lungs, those that hold most of it first."""
        inside = self._inside(label)
        if HOME[label] != LUNG or inside is None:
            return []
        lobes = {value: self._points(self.mask.array == value) for value in self._lobe_values()}
        trees = {value: cKDTree(points) for value, points in lobes.items() if len(points)}
        points = self._points(inside)
        points = points[:: len(points) // SAMPLE + 1]
        distances = {value: tree.query(points)[0] for value, tree in trees.items()}
        nearest = np.array(list(distances))[np.argmin(list(distances.values()), axis=0)]
        values, counts = np.unique(nearest, return_counts=True)
        order = sorted(zip(-counts, values, strict=True))
        names = {self._classes[lobe]: path for lobe, path in LOBE_PATHS.items()}
        return [names[int(value)] for n, value in order if -n >= SHARE * len(points)]

    def size(self, label: str) -> str:
        """ "6x4 mm": extent of the largest piece along its two longest axes; "" if not measured."""
        inside = self._inside(label)
        if label not in MEASURED or inside is None:
            return ""
        pieces, count = ndimage.label(inside)
        largest = int(np.argmax(np.bincount(pieces.ravel(), minlength=count + 1)[1:])) + 1
        box = ndimage.find_objects(pieces)[largest - 1]
        spans = zip(box, self.mask.spacing, strict=True)
        lengths = sorted(((s.stop - s.start) * mm for s, mm in spans), reverse=True)
        return f"{lengths[0]:.0f}x{lengths[1]:.0f} mm"

    def _inside(self, label: str) -> NDArray[np.bool_] | None:
        """Where an abnormality is; None where none of it was drawn."""
        value = self._classes.get(label_class(label))
        inside = None if value is None else np.asarray(self.mask.array == value)
        return inside if inside is not None and inside.any() else None

    def _lobe_values(self) -> list[int]:
        return [self._classes[lobe] for lobe in LOBE_PATHS]

    def _points(self, inside: NDArray[np.bool_]) -> NDArray[Any]:
        """Voxel centres in millimetres, (n, 3)."""
        return np.argwhere(inside) * self.mask.spacing
