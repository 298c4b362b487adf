"""What the classes of a mask are (lesion, organ, or frame), and which labels they show.

Told from names, for masks come from several sources: the phantoms' (`lung_nodule`), AbdomenAtlas's
(`liver_lesion`), ReXGroundingCT's ("Pulmonary nodules and masses") and TotalSegmentator's
(`lung_upper_lobe_left`). A name that no table and no rule knows is an organ.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from uvlm.phantom.classes import label_class
from uvlm.preprocessing.laterality import side_of_name
from uvlm.preprocessing.sources.abdomen_classes import LESIONS as ABDOMEN_LESIONS
from uvlm.preprocessing.sources.rexgrounding_classes import CATEGORIES
from uvlm.preprocessing.sources.structures import SPACES, rank_of
from uvlm.registry import CT_RATE_LABELS

__all__ = ["is_frame", "is_lesion", "labels_of", "plain", "side_of_class"]


def plain(name: str) -> str:
    """A class name in one spelling: small letters, words joined by underscores."""
    return "_".join(name.casefold().replace("-", " ").replace("_", " ").split())


_OF_CATEGORY: dict[str, tuple[str, ...]] = {
    "1a": ("Peribronchial thickening",),
    "1b": ("Bronchiectasis",),
    "1c": ("Emphysema",),
    "1d": ("Interlobular septal thickening",),
    "1e": ("Lung nodule",),
    "2a": ("Atelectasis", "Pulmonary fibrotic sequela"),
    "2b": ("Consolidation", "Atelectasis"),
    "2c": ("Lung opacity",),
    "2d": ("Lung nodule",),
    "2e": ("Pleural effusion",),
    "2f": ("Pulmonary fibrotic sequela",),
}
"""CT-RATE labels of ReXGroundingCT's categories; 1f, 2g and 2h have none."""

_LABELS: dict[str, tuple[str, ...]] = {
    **{label_class(label): (label,) for label in CT_RATE_LABELS if label != "Cardiomegaly"},
    **{name: (label,) for label, name in ABDOMEN_LESIONS.items()},
    **{plain(name): _OF_CATEGORY.get(code, ()) for code, name in CATEGORIES.items()},
}
"""Lesion class -> labels it is a sign of, the likeliest first."""

_CYSTS = {"kidney_cyst_left": ("Kidney lesion",), "kidney_cyst_right": ("Kidney lesion",)}

_FRAME = {
    *("spine", "vertebra", "vertebrae", "sacrum", "rib", "ribs", "sternum", "costal", "skull"),
    *("bone", "bones", "humerus", "scapula", "clavicula", "clavicle", "femur", "hip"),
    *("muscle", "muscles", "gluteus", "iliopsoas", "autochthon"),
}


@lru_cache(maxsize=1024)
def is_lesion(name: str) -> bool:
    """Whether a class is something abnormal, or put there, rather than anatomy."""
    return plain(name) in _LABELS or rank_of(name) >= 100


@lru_cache(maxsize=1024)
def labels_of(name: str) -> tuple[str, ...]:
    """Labels that voxels of a lesion class speak for; () for organs and unknown lesions."""
    return {**_LABELS, **_CYSTS}.get(plain(name), ())


@lru_cache(maxsize=1024)
def is_frame(name: str) -> bool:
    """Whether a class is bone, muscle or a whole space: what many things touch and none lies in."""
    words = plain(name).split("_")
    return " ".join(words) in SPACES or bool(_FRAME.intersection(words))


def side_of_class(name: str) -> Literal["left", "right"] | None:
    """Side of the body that a class name tells; None for unpaired structures."""
    side = side_of_name(name)
    return None if side is None else "left" if side == "left" else "right"
