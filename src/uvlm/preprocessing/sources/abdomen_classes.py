"""The structures of AbdomenAtlas 3.0: who wins where they overlap, and three ways to number them.

Which voxel belongs to whom, by rank: a lesion wins over a vessel or duct, that over a part of an
organ (liver segments, parts of the pancreas), that over an organ. Within a rank the more specific
structure wins: `portal_vein_and_splenic_vein` over `veins`, `celiac_trunk` over `celiac_aa`.
"""

from __future__ import annotations

from collections.abc import Sequence

from uvlm.errors import ConfigError
from uvlm.preprocessing.masks import Structure
from uvlm.preprocessing.study import Scope
from uvlm.registry import ABDOMEN_STRUCTURES

__all__ = [
    "CLASSES",
    "COARSE",
    "IGNORED",
    "LESIONS",
    "SCOPES",
    "STRUCTURES",
    "VALUES",
    "files_of",
    "scopes_of",
]

SEGMENTS = tuple(f"liver_segment_{number}" for number in range(1, 9))
PARTS = ("pancreas_head", "pancreas_body", "pancreas_tail", *SEGMENTS)
VESSELS = (
    "veins",
    "celiac_aa",
    "aorta",
    "postcava",
    "portal_vein_and_splenic_vein",
    "hepatic_vessel",
    "superior_mesenteric_artery",
    "celiac_trunk",
    "common_bile_duct",
)
"""Vessels and ducts, the more specific ones later."""

LESIONS: dict[str, str] = {
    "Liver lesion": "liver_lesion",
    "Kidney lesion": "kidney_lesion",
    "Pancreas lesion": "pancreatic_lesion",
}
"""Label -> class it is derived from."""

CLASSES = ABDOMEN_STRUCTURES
"""The 41 classes; the first has the value 1."""

VALUES = {name: value for value, name in enumerate(CLASSES, start=1)}

COARSE: dict[str, tuple[str, ...]] = {
    "liver": (
        *SEGMENTS,
        "hepatic_vessel",
        "portal_vein_and_splenic_vein",
        "common_bile_duct",
        "liver_lesion",
    ),
    "spleen": ("spleen",),
    "kidney": (
        "kidney_left",
        "kidney_right",
        "adrenal_gland_left",
        "adrenal_gland_right",
        "kidney_lesion",
    ),
    "stomach": ("stomach", "duodenum", "intestine", "colon", "rectum"),
    "pancreas": ("pancreas_head", "pancreas_body", "pancreas_tail", "pancreatic_lesion"),
    "aorta": ("aorta", "superior_mesenteric_artery", "celiac_trunk", "celiac_aa"),
    "postcava": ("postcava", "veins"),
    "bladder": ("bladder", "prostate"),
    "esophagus": ("esophagus",),
    "gall_bladder": ("gall_bladder",),
    "lung": ("lung_left", "lung_right"),
    "femur": ("femur_left", "femur_right"),
}
"""The 12 coarse classes, in order of value, and what each gathers."""

KINDS: dict[str, tuple[str, ...]] = {
    "liver_lesion": ("liver_tumor", "liver_cyst"),
    "kidney_lesion": ("kidney_tumor", "kidney_cyst"),
    "pancreatic_lesion": (
        "pancreatic_tumor",
        "pancreatic_cyst",
        "pancreatic_pdac",
        "pancreatic_pnet",
    ),
}
"""Files of single kinds of lesion; they join their class."""

IGNORED: tuple[str, ...] = (
    # Whole organs, given by their parts.
    *("liver", "pancreas", "kidney", "lung", "femur", "adrenal_gland"),
    # Structures outside the 41 classes.
    *("pancreatic_duct", "cbd_stent", "renal_vein_left", "renal_vein_right"),
    *("colon_lesion", "esophagus_lesion", "uterus_lesion"),
)
"""Files that releases of this family hold beside the 41 classes and that are not read."""


def files_of(lesion: str) -> tuple[str, ...]:
    """Names of the files that make up a lesion class; any of them will do."""
    return (lesion, *KINDS[lesion])


def _structures() -> tuple[Structure, ...]:
    lesions = tuple(LESIONS.values())
    organs = [name for name in CLASSES if name not in (*PARTS, *VESSELS, *lesions)]
    ranked = [
        *((name, VALUES[name], 0) for name in organs),
        *((name, VALUES[name], 1) for name in PARTS),
        *((name, VALUES[name], 2) for name in VESSELS),
        *((kind, VALUES[name], 3) for name in lesions for kind in files_of(name)),
    ]
    # What a missing file of a lesion means is asked elsewhere: its volume may be known.
    return tuple(
        Structure(name=name, value=value, rank=rank, required=rank < 3)
        for name, value, rank in ranked
    )


STRUCTURES = _structures()
"""Every file that is read, with its value and rank."""


def _gathered(name: str, groups: dict[str, tuple[str, ...]]) -> Scope:
    return Scope(
        name=name,
        classes={group: value for value, group in enumerate(groups, start=1)},
        table={
            VALUES[member]: value
            for value, members in enumerate(groups.values(), start=1)
            for member in members
        },
    )


def _with_lesions(groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Lesions as classes of their own, after the organs."""
    lesions = tuple(LESIONS.values())
    organs = {
        group: tuple(name for name in members if name not in lesions)
        for group, members in groups.items()
    }
    return {**organs, **{name: (name,) for name in lesions}}


SCOPES: dict[str, Scope] = {
    each.name: each
    for each in (
        _gathered("fine+lesions", {name: (name,) for name in CLASSES}),
        _gathered("coarse+lesions", _with_lesions(COARSE)),
        _gathered("coarse", COARSE),
    )
}
"""The three ways to number the structures."""

AUTHORS_NAMES = {
    "seg_basic": "coarse",
    "seg_basic_lesion": "coarse+lesions",
    "seg_full": "fine+lesions",
}


def scopes_of(names: Sequence[str]) -> tuple[Scope, ...]:
    """The scopes of those names, each once; the authors' names (`seg_full`) are known too.

    Raises:
        ConfigError: no name, or an unknown one.
    """
    if not names:
        raise ConfigError(f"no scope; choose from {', '.join(SCOPES)}.")
    own = tuple(AUTHORS_NAMES.get(name, name) for name in names)
    for name in own:
        if name not in SCOPES:
            known = f"{', '.join(SCOPES)} (or {', '.join(AUTHORS_NAMES)})"
            raise ConfigError(f"unknown scope {name!r}; known: {known}.")
    return tuple(SCOPES[name] for name in dict.fromkeys(own))
