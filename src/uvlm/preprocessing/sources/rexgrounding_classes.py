"""The 49 classes of the chest masks (background, 34 of anatomy, 14 lesions), and what becomes them.

Values and names are those of the released Dataset141_ReXGroundingCT. The published configuration
`rexgrounding_ct_config.json` names the same values otherwise (4 `liver_right_lobe`, 17 `thyroid`)
and is wrong: its own merge table fits the names below, but for the gallbladder, which it counts as
liver. That, too, is kept here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from uvlm.errors import ConfigError
from uvlm.preprocessing.study import Scope

__all__ = [
    "AIRWAY",
    "ANATOMY",
    "CATEGORIES",
    "CLASSES",
    "COARSE",
    "LESIONS",
    "RANKS",
    "SCOPES",
    "STRUCTURES",
    "UNPLACED",
    "VESSELS",
    "category_of",
    "lesion_scope",
    "scope_named",
]

ANATOMY: tuple[str, ...] = (
    "Spleen", "Kidney R", "Kidney L", "Gallbladder", "Liver", "Stomach", "Pancreas",
    "Adrenal gland R", "Adrenal gland L", "Lung upper lobe L", "Lung lower lobe L",
    "Lung upper lobe R", "Lung middle lobe R", "Lung lower lobe R", "Esophagus",
    "Trachea and Airway", "Small bowel", "Duodenum", "Colon", "Spine", "Heart", "Aorta",
    "Pulmonary vein", "Head and neck vessels", "Superior vena cava", "Inferior vena cava",
    "Portal vein and splenic vein", "Upper limb bones", "Spinal cord", "Muscles", "Ribs",
    "Sternum", "Costal cartilages", "Pulmonary artery",
)  # fmt: skip
"""Values 1 to 34, in order."""

CATEGORIES: dict[str, str] = {
    "1a": "Bronchial wall thickening",
    "1b": "Bronchiectasis",
    "1c": "Emphysema",
    "1d": "Septal thickening",
    "1e": "Micronodules",
    "1f": "Other non-focal lung abnormalities",
    "2a": "Linear abnormalities",
    "2b": "Atelectasis and consolidation",
    "2c": "Groundglass opacity",
    "2d": "Pulmonary nodules and masses",
    "2e": "Pleural effusion or thickening",
    "2f": "Honeycombing",
    "2g": "Pneumothorax",
    "2h": "Other focal lung abnormalities",
}
"""Code of a finding's category to its class, values 35 to 48 in order. 1x are not focal, 2x are."""

CLASSES: dict[str, int] = {
    name: value for value, name in enumerate((*ANATOMY, *CATEGORIES.values()), 1)
}
LESIONS: dict[str, int] = {code: CLASSES[name] for code, name in CATEGORIES.items()}
"""Code to value."""

AIRWAY = CLASSES["Trachea and Airway"]
VESSELS = {"artery": CLASSES["Pulmonary artery"], "vein": CLASSES["Pulmonary vein"]}

COARSE: dict[str, tuple[str, ...]] = {
    "spleen": ("Spleen",),
    "kidney": ("Kidney R", "Kidney L", "Adrenal gland R", "Adrenal gland L"),
    "liver": ("Liver", "Gallbladder", "Portal vein and splenic vein"),
    "stomach": ("Stomach", "Small bowel", "Duodenum", "Colon"),
    "pancreas": ("Pancreas",),
    "lung": (
        "Lung upper lobe L", "Lung lower lobe L", "Lung upper lobe R", "Lung middle lobe R",
        "Lung lower lobe R", "Pulmonary artery", "Pulmonary vein",
    ),
    "esophagus": ("Esophagus",),
    "trachea": ("Trachea and Airway",),
    "heart": ("Heart", "Head and neck vessels"),
    "aorta": ("Aorta",),
    "vena_cava": ("Superior vena cava", "Inferior vena cava"),
    "spine": ("Spine", "Spinal cord"),
    "ribs": ("Ribs", "Costal cartilages", "Upper limb bones"),
    "sternum": ("Sternum",),
    "muscles": ("Muscles",),
}  # fmt: skip
"""The 15 groups of the scope `coarse`, values 1 to 15 in order; lesions count as lung there."""

SCOPES = ("coarse", "coarse+lesions", "fine+lesions")

SIDES = ("left", "right")
_VESSELS = (
    "Trachea and Airway", "Aorta", "Pulmonary vein", "Head and neck vessels", "Superior vena cava",
    "Inferior vena cava", "Portal vein and splenic vein", "Pulmonary artery",
)  # fmt: skip

_PARTS: dict[str, tuple[str, ...]] = {
    "Spleen": ("spleen",),
    "Kidney R": ("kidney_right", "kidney_cyst_right"),
    "Kidney L": ("kidney_left", "kidney_cyst_left"),
    "Gallbladder": ("gallbladder",),
    "Liver": ("liver",),
    "Stomach": ("stomach",),
    "Pancreas": ("pancreas",),
    "Adrenal gland R": ("adrenal_gland_right",),
    "Adrenal gland L": ("adrenal_gland_left",),
    "Lung upper lobe L": ("lung_upper_lobe_left",),
    "Lung lower lobe L": ("lung_lower_lobe_left",),
    "Lung upper lobe R": ("lung_upper_lobe_right",),
    "Lung middle lobe R": ("lung_middle_lobe_right",),
    "Lung lower lobe R": ("lung_lower_lobe_right",),
    "Esophagus": ("esophagus",),
    "Trachea and Airway": ("trachea",),
    "Small bowel": ("small_bowel",),
    "Duodenum": ("duodenum",),
    "Colon": ("colon",),
    "Spine": (
        "sacrum", "vertebrae_S1", *(f"vertebrae_L{n}" for n in range(1, 6)),
        *(f"vertebrae_T{n}" for n in range(1, 13)), *(f"vertebrae_C{n}" for n in range(1, 8)),
    ),
    "Heart": ("heart", "atrial_appendage_left"),
    "Aorta": ("aorta",),
    "Pulmonary vein": ("pulmonary_vein",),
    "Head and neck vessels": (
        "brachiocephalic_trunk", "brachiocephalic_vein_left", "brachiocephalic_vein_right",
        "subclavian_artery_left", "subclavian_artery_right", "common_carotid_artery_left",
        "common_carotid_artery_right",
    ),
    "Superior vena cava": ("superior_vena_cava",),
    "Inferior vena cava": ("inferior_vena_cava",),
    "Portal vein and splenic vein": ("portal_vein_and_splenic_vein",),
    "Upper limb bones": tuple(
        f"{bone}_{side}" for bone in ("humerus", "scapula", "clavicula") for side in SIDES
    ),
    "Spinal cord": ("spinal_cord",),
    "Muscles": tuple(
        f"{muscle}_{side}"
        for muscle in (
            "gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas",
        )
        for side in SIDES
    ),
    "Ribs": tuple(f"rib_{side}_{n}" for side in SIDES for n in range(1, 13)),
    "Sternum": ("sternum",),
    "Costal cartilages": ("costal_cartilages",),
    "Pulmonary artery": ("pulmonary_artery",),
}  # fmt: skip
"""Class to the structures of TotalSegmentator (version 2, task `total`) within it, and the
pulmonary artery, which version 1 has."""

STRUCTURES: dict[str, int] = {
    name: CLASSES[each] for each, names in _PARTS.items() for name in names
}
"""Structure to value."""

RANKS: dict[int, int] = {
    value: 0 if name == "Muscles" else 2 if name in _VESSELS else 1
    for name, value in CLASSES.items()
}
"""Which structure wins where they overlap, by value: airway and vessels over organs and bones over
muscles. Lesions win over all of them."""

UNPLACED: tuple[str, ...] = (
    "thyroid_gland", "urinary_bladder", "prostate", "iliac_artery_left", "iliac_artery_right",
    "iliac_vena_left", "iliac_vena_right", "femur_left", "femur_right", "hip_left", "hip_right",
    "brain", "skull",
)  # fmt: skip
"""Structures of TotalSegmentator that none of the 34 classes has a place for."""


_NAMES: dict[str, str] = {
    "bronchial wall thickening": "1a",
    "bronchiectasis": "1b",
    "emphysema": "1c",
    "septal thickening": "1d",
    "micronodules": "1e",
    "other non-focal": "1f",
    "other non-focal lung abnormalities": "1f",
    "linear": "2a",
    "linear opacities": "2a",
    "linear abnormalities": "2a",
    "atelectasis/consolidation": "2b",
    "atelectasis / consolidation": "2b",
    "atelectasis and consolidation": "2b",
    "ground-glass": "2c",
    "ground-glass opacity": "2c",
    "groundglass opacity": "2c",
    "nodules/masses": "2d",
    "pulmonary nodules / masses": "2d",
    "pulmonary nodules and masses": "2d",
    "pleural effusion/thickening": "2e",
    "pleural effusion / thickening": "2e",
    "pleural effusion or thickening": "2e",
    "honeycombing": "2f",
    "pneumothorax": "2g",
    "other focal": "2h",
    "other focal lung abnormalities": "2h",
}


def category_of(value: str) -> str | None:
    """The code of a category given as code ("2d", "2d. Pulmonary nodules") or name; None if it is
    none of the 14."""
    text = " ".join(value.lower().split())
    code = re.match(r"([1-9]\d?[a-z]?)[.:)]?(?: (?!.*\d[a-z]\b)|$)", text)
    if code is not None:
        return code[1] if code[1] in CATEGORIES else None
    return _NAMES.get(text)


def scope_named(name: str) -> Scope:
    """One of `SCOPES` over the 48 values.

    Raises:
        ConfigError: another name.
    """
    if name not in SCOPES:
        raise ConfigError(f"unknown scope {name!r}; known: {', '.join(SCOPES)}.")
    if name == "fine+lesions":
        return Scope(name=name, classes=CLASSES, table={v: v for v in CLASSES.values()})
    classes = {group: value for value, group in enumerate(COARSE, 1)}
    table = {CLASSES[each]: classes[group] for group, parts in COARSE.items() for each in parts}
    for code, lesion in CATEGORIES.items():
        if name == "coarse+lesions":
            classes[lesion] = len(classes) + 1
        table[LESIONS[code]] = classes[lesion if name == "coarse+lesions" else "lung"]
    return Scope(name=name, classes=classes, table=table)


def lesion_scope() -> Scope:
    """The 14 lesions alone, for masks without anatomy."""
    classes: Mapping[str, int] = {name: index for index, name in enumerate(CATEGORIES.values(), 1)}
    table = {CLASSES[name]: index for name, index in classes.items()}
    return Scope(name="lesions", classes=classes, table=table)
