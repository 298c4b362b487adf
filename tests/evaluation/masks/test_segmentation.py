"""Which classes count as large organs."""

import pytest

from uvlm.evaluation.masks.segmentation import kind_of, segmentation_scores


def test_bones_are_no_large_organs():
    study = {"ribs": 0.4, "vertebrae_L1": 0.5, "hiatal_hernia": 0.1, "liver": 0.9}
    scores = segmentation_scores([study], [dict.fromkeys(study, 900.0)], ["Hiatal hernia"])
    assert [row.kind for row in scores.classes] == ["organ", "bone", "bone", "lesion"]
    assert scores.large_organs == pytest.approx(0.9)
    assert scores.lesions == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pancreatic_lesion", "lesion"),
        ("Liver tumour", "lesion"),
        ("kidney_cyst_left", "lesion"),
        ("cystic_duct", "organ"),
        ("rib_left_1", "bone"),
        ("liver", "organ"),
    ],
)
def test_names_say_what_a_class_is(name, kind):
    assert kind_of(name) == kind


def test_a_label_makes_its_class_a_lesion_in_any_spelling():
    assert kind_of("pleural_effusion") == "organ"
    assert kind_of("pleural_effusion", ["Pleural effusion"]) == "lesion"
