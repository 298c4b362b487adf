"""What names of classes tell, over every table of names the package knows."""

from __future__ import annotations

import pytest

from uvlm.inference.evidence.structures import is_frame, is_lesion, labels_of, side_of_class
from uvlm.phantom.classes import CHEST_CLASSES, LOBES
from uvlm.preprocessing.sources.rexgrounding_classes import ANATOMY, CATEGORIES
from uvlm.registry import ABDOMEN_LABELS, ABDOMEN_STRUCTURES, CT_RATE_LABELS


def test_chest_phantoms_have_a_lesion_class_for_every_label_but_cardiomegaly():
    lesions = {name for name in CHEST_CLASSES if is_lesion(name)}
    labels = {label for name in lesions for label in labels_of(name)}
    assert labels == set(CT_RATE_LABELS) - {"Cardiomegaly"}
    assert len(lesions) == len(CT_RATE_LABELS) - 1


def test_the_abdomen_has_three():
    lesions = [name for name in ABDOMEN_STRUCTURES if is_lesion(name)]
    assert sorted(labels_of(name)[0] for name in lesions) == sorted(ABDOMEN_LABELS)


def test_grounding_masks_have_fourteen_and_their_anatomy_none():
    assert all(map(is_lesion, CATEGORIES.values()))
    assert not any(map(is_lesion, ANATOMY))
    assert {label for n in CATEGORIES.values() for label in labels_of(n)} <= set(CT_RATE_LABELS)


@pytest.mark.parametrize(
    ("name", "lesion", "labels"),
    [
        ("Pulmonary nodules and masses", True, ("Lung nodule",)),
        ("Other focal lung abnormalities", True, ()),
        ("kidney_cyst_left", True, ("Kidney lesion",)),
        ("colon_tumor", True, ()),
        ("something new", False, ()),
        ("gall_bladder", False, ()),
    ],
)
def test_names_beyond_the_tables(name, lesion, labels):
    assert (is_lesion(name), labels_of(name)) == (lesion, labels)


@pytest.mark.parametrize(
    ("name", "side"),
    [("Kidney L", "left"), ("lung_upper_lobe_right", "right"), ("heart", None)],
)
def test_sides(name, side):
    assert side_of_class(name) == side


def test_bones_and_spaces_are_the_frame_and_lobes_are_not():
    assert all(map(is_frame, ("ribs", "vertebrae_T4", "Costal cartilages", "mediastinum")))
    assert not any(map(is_frame, (*LOBES, "liver", "aorta")))
