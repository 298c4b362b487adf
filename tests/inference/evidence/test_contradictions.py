"""What does not fit is said, and only where the witness is to be believed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.inference.evidence.made import lesion
from uvlm.inference.evidence.contradictions import contradictions_of
from uvlm.inference.evidence.sentences import read_report
from uvlm.inference.evidence.structures import labels_of
from uvlm.inference.evidence.witnesses import Witnesses
from uvlm.models.bundle_files import Calibration, OperatingPoint
from uvlm.preprocessing.sources.rexgrounding_classes import CATEGORIES
from uvlm.text.labelling.abdomen import ABDOMEN
from uvlm.text.labelling.chest import CHEST

NODULE, EFFUSION = "Lung nodule", "Pleural effusion"


def head(low: float | None = 0.1, high: float | None = 0.8) -> Calibration:
    points = tuple(
        OperatingPoint(label=label, threshold=0.5, low=low, high=high, positives=30, studies=100)
        for label in (NODULE, EFFUSION)
    )
    return Calibration(temperature=1.0, studies=100, points=points)


def found(text: str, **witnesses: Any) -> list[tuple[str, int | None, str | None]]:
    result = contradictions_of(read_report(text, CHEST), Witnesses(**witnesses))
    return [(c.kind, c.sentence, c.label) for c in result]


@pytest.mark.parametrize(
    ("text", "p", "expected"),
    [
        ("A nodule is seen.", 0.05, [("denied", 0, NODULE)]),
        ("A nodule is seen.", 0.1, [("denied", 0, NODULE)]),
        ("A nodule is seen.", 0.11, []),
        ("A nodule and another nodule are seen.", 0.05, [("denied", 0, NODULE)]),
        ("The heart is normal. A nodule is seen.", 0.05, [("denied", 1, NODULE)]),
        ("A possible nodule is seen.", 0.05, []),
        ("No nodule is seen.", 0.05, []),
        ("No nodule is seen.", 0.9, [("denied", 0, NODULE)]),
        ("No nodule is seen.", 0.79, []),
        ("No nodule is seen on the left. A nodule is seen on the right.", 0.9, []),
        ("No nodule is seen. No other nodule.", 0.9, [("denied", 0, NODULE)]),
        (
            "No nodule is seen. Impression: Lung nodule.",
            0.9,
            [("denied", 0, NODULE), ("itself", 1, NODULE)],
        ),
        ("No nodule in the left lung.", 0.9, []),
        ("No nodule in the left lung. No nodule is seen.", 0.9, [("denied", 1, NODULE)]),
        ("No nodule in both lungs.", 0.9, [("denied", 0, NODULE)]),
        ("A nodule is seen. No other nodule. Impression: Lung nodule.", 0.9, []),
        ("The heart is normal.", 0.8, [("unmentioned", None, NODULE)]),
        ("The heart is normal.", 0.79, []),
        ("A possible nodule is seen.", 0.9, []),
        ("", 0.9, [("unmentioned", None, NODULE)]),
    ],
)
def test_report_against_class_head(text, p, expected):
    assert found(text, probabilities={NODULE: p}, calibration=head()) == expected


@pytest.mark.parametrize(
    "text", ["A nodule is seen.", "No nodule is seen.", "The heart is normal."]
)
@pytest.mark.parametrize("calibration", [None, head(None, None), head()])
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_head_without_limits_or_of_other_labels_contradicts_nobody(text, calibration, p):
    label = NODULE if calibration != head() else "Unheard of"
    assert found(text, probabilities={label: p}, calibration=calibration) == []


@pytest.mark.parametrize(
    ("text", "sides", "expected"),
    [
        ("A nodule in the left lung.", ["right"], 1),
        ("A nodule in the left lung.", ["right", "right"], 1),
        ("A nodule in the left lung.", ["right", "left"], 0),
        ("A nodule in the left lung.", ["both"], 0),
        ("A nodule in the left lung.", [None], 0),
        ("Nodules in both lungs.", ["right"], 0),
        ("Nodules in both lungs.", [], 0),
        ("A nodule is seen.", ["right"], 0),
        ("No nodule in the left lung.", ["right"], 0),
    ],
)
def test_side_against_mask(text, sides, expected):
    lesions = [lesion(side=side) for side in sides]
    result = found(text, lesions=lesions, lesion_classes=["lung_nodule"])
    assert result == [("side", 0, NODULE)] * expected
    assert found(text, lesions=lesions, lesion_classes=[]) == []


@pytest.mark.parametrize(
    ("text", "sides", "expected"),
    [
        ("Bilateral pleural effusion.", ["right"], 1),
        ("Bilateral pleural effusion.", ["right", "left"], 0),
        ("Bilateral pleural effusion.", ["both"], 0),
        ("Bilateral pleural effusion.", [], 0),
        ("Left pleural effusion.", ["right", "left"], 0),
    ],
)
def test_both_sides_against_mask(text, sides, expected):
    lesions = [lesion("pleural_effusion", side=side) for side in sides]
    result = found(text, lesions=lesions, lesion_classes=["pleural_effusion"])
    assert result == [("side", 0, EFFUSION)] * expected


@pytest.mark.parametrize(
    ("text", "share", "expected"),
    [
        ("A nodule in the left lung.", 0.2, 1),
        ("A nodule in the left lung.", 0.21, 0),
        ("A nodule in the right lung.", 0.8, 1),
        ("A nodule in the right lung.", 0.1, 0),
        ("A nodule in the right lung.", None, 0),
        ("A nodule is seen.", 0.0, 0),
        ("A nodule in the right lung, a pleural effusion on the left.", 0.9, 0),
        ("A nodule in the right lung. A nodule in the left lung.", 0.9, 0),
        ("A nodule in the right lung. Possible nodule in the left lung.", 0.9, 0),
        ("A nodule in the right lung. No nodule in the left lung.", 0.9, 1),
        ("A nodule in the right lung. A pleural effusion in the left lung.", 0.9, 1),
    ],
)
def test_side_against_heat_map(text, share, expected):
    known = {"left_shares": [share], "recognised": [NODULE, EFFUSION]}
    assert found(text, **known) == [("side", 0, NODULE)] * expected


def test_the_heat_of_what_the_head_does_not_recognise_tells_no_side():
    text, shares = "A nodule and an effusion in the left lung.", [0.0]
    probabilities = {NODULE: 0.5, EFFUSION: 0.5}
    for recognised in ((), (NODULE,), (EFFUSION,)):
        known = {"left_shares": shares, "probabilities": probabilities, "recognised": recognised}
        assert found(text, **known) == []
    known["recognised"] = (NODULE, EFFUSION)
    assert [kind for kind, _, _ in found(text, **known)] == ["side", "side"]


def test_a_mask_that_agrees_on_the_side_outweighs_the_heat_map():
    known = {"lesions": [lesion(side="left")], "lesion_classes": ["lung_nodule"]}
    text = "A nodule in the left lung."
    assert found(text, left_shares=[0.0], recognised=[NODULE], **known) == []


@pytest.mark.parametrize(
    "text",
    [
        "Small right pleural effusion, none on the left.",
        "Compared with the left, the right pleural effusion is increased.",
        "Pleural effusion on the right is larger than on the left.",
        "Bilateral nodules, right pleural effusion, none on the left.",
    ],
)
def test_both_sides_told_one_by_one_are_not_disputed(text):
    lesions = [lesion("pleural_effusion", side="right")]
    assert found(text, lesions=lesions, lesion_classes=["pleural_effusion"]) == []


def test_a_class_with_more_pieces_than_are_known_is_not_asked():
    known = {"lesions": [lesion(diameter_mm=30)] * 25, "lesion_classes": ["lung_nodule"]}
    text = "A nodule of 8 mm in the left lung."
    assert [kind for kind, _, _ in found(text, **known)] == ["side", "size"]
    assert found(text, cut_short=["lung_nodule"], **known) == []


ITSELF = [
    ("Findings: No pleural effusion. Impression: Bilateral pleural effusion.", EFFUSION, 1),
    ("Findings: Pleural effusion. Impression: No pleural effusion.", EFFUSION, 1),
    ("No pleural effusion. The heart is normal. A pleural effusion is seen.", EFFUSION, 2),
    ("A nodule. No nodule. A nodule.", NODULE, 1),
]


@pytest.mark.parametrize(("text", "label", "sentence"), ITSELF)
def test_a_report_that_states_and_denies_the_same_contradicts_itself(text, label, sentence):
    assert found(text) == [("itself", sentence, label)]


@pytest.mark.parametrize(
    "text",
    [
        "A nodule is seen. No other nodule is seen.",
        "No new nodule. Known nodule in the left lung.",
        "No nodule in the left lung. Impression: A nodule in the right lung.",
        "A nodule is seen, but no nodule in the apex.",
        "No pleural effusion. A pericardial effusion is seen.",
        "No pleural effusion. Possible pleural effusion.",
        "No nodule. No nodule. Impression: No nodule.",
    ],
)
def test_denials_of_something_else_are_no_contradiction(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("No pleural effusion.", {}, [("denied", 0, EFFUSION)]),
        ("No pleural effusion.", {"volume_ml": 0.9}, []),
        ("No pleural effusion.", {"diameter_mm": 9.9}, []),
        ("No left pleural effusion.", {}, []),
        ("No right pleural effusion.", {}, [("denied", 0, EFFUSION)]),
        ("No right pleural effusion.", {"side": "both"}, [("denied", 0, EFFUSION)]),
        ("No right pleural effusion.", {"side": None}, []),
        ("Right pleural effusion, resolved on the left.", {}, []),
        ("Pleural effusion. No other pleural effusion.", {}, []),
        ("Possible pleural effusion.", {}, []),
        ("The heart is normal.", {}, []),
    ],
)
def test_denials_against_mask(text, fields, expected):
    shown = lesion("pleural_effusion", **({"volume_ml": 1.0, "diameter_mm": 10.0} | fields))
    assert found(text, **sure(shown)) == expected
    assert found(text, **(sure(shown) | {"spacing_mm": 2.5})) == expected
    assert found(text, **(sure(shown) | {"spacing_mm": 2.6})) == []
    assert found(text, **(sure(shown) | {"sure_classes": []})) == []


def sure(shown):
    """A mask that is believed about the class of a lesion."""
    return {"lesions": [shown], "lesion_classes": [shown.name], "sure_classes": [shown.name]}


def test_the_mask_is_silent_where_the_head_denies_as_the_report_does():
    known = sure(lesion("pleural_effusion", volume_ml=50.0)) | {"calibration": head()}
    text = "No pleural effusion."
    assert found(text, probabilities={EFFUSION: 0.1}, **known) == []
    assert found(text, probabilities={EFFUSION: 0.11}, **known) == [("denied", 0, EFFUSION)]


def test_a_class_that_shows_what_is_stated_too_denies_nothing():
    either = next(n for n in CATEGORIES.values() if len(labels_of(n)) > 1)
    first, second = labels_of(either)[:2]
    known = sure(lesion(either, volume_ml=5.0))
    denial = f"No {first.lower()} is seen."
    assert found(denial, **known) == [("denied", 0, first)]
    assert found(f"{denial} {second} is seen.", **known) == []


def test_what_head_and_mask_both_show_is_said_once():
    known = sure(lesion("pleural_effusion", volume_ml=50.0))
    known |= {"probabilities": {EFFUSION: 0.9}, "calibration": head()}
    assert found("No pleural effusion.", **known) == [("denied", 0, EFFUSION)]
    sentences = read_report("No right pleural effusion.", CHEST)
    (one,) = contradictions_of(sentences, Witnesses(**known))
    assert one.message == (
        "The report says there is no pleural effusion on the right, but the segmentation shows it "
        "(10 mm, 50.0 ml)."
    )


@pytest.mark.parametrize(
    ("text", "diameters", "expected"),
    [
        ("A nodule of 8 mm is seen.", [8], 0),
        ("A nodule of 8 mm is seen.", [30, 12], 0),
        ("A nodule of 8 mm is seen.", [30], 1),
        ("A nodule of 8 mm is seen.", [], 1),
        ("A nodule of 1.2 x 0.8 cm is seen.", [12], 0),
        ("A nodule is seen.", [30], 0),
        ("No nodule of 8 mm is seen.", [], 0),
        ("Nodules less than 8 mm are seen.", [30], 0),
        ("Nodules of 8 mm and 60 mm are seen.", [8], 1),
        ("A nodule, 8 mm in short axis, is seen.", [30], 0),
        ("Pleural effusion of 30 mm is seen.", [], 0),
        ("A nodule of 8 mm and an effusion 90 mm thick.", [8], 0),
        ("The 12 mm nodule, previously 6 mm, has grown.", [12], 0),
        ("A nodule of 12 mm (6 mm on the prior CT of 2021).", [12], 0),
        ("The ascending aorta measures 42 mm and there is a 6 mm nodule.", [6], 0),
        ("The ascending aorta has a diameter of 42 mm, with a nodule of 6 mm.", [6], 0),
        ("A nodule is seen; the ascending aorta measures 42 mm.", [6], 0),
        ("The diameter of the ascending aorta is 42 mm, a nodule is seen.", [6], 0),
        ("A nodule of 8 mm, with calcification of 30 mm, is seen.", [8], 0),
        ("A nodule in the apex of 8 mm next to the aorta.", [30], 1),
    ],
)
def test_size_against_mask(text, diameters, expected):
    lesions = [lesion(diameter_mm=mm) for mm in diameters]
    result = found(text, lesions=lesions, lesion_classes=["lung_nodule", "pleural_effusion"])
    assert result == [("size", 0, NODULE)] * expected
    assert found(text, lesions=lesions) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The liver measures 17 cm and contains a hypodense lesion of 12 mm.", 0),
        ("Hypodense lesion of 12 mm in the left kidney and spleen of 13 cm.", 0),
        ("Hypodense lesion of 90 mm in the left kidney and spleen of 13 cm.", 1),
        ("There is a hypodense lesion in the liver measuring 90 mm.", 1),
    ],
)
def test_sizes_of_organs_are_none_of_lesions(text, expected):
    lesions = [lesion("liver_lesion", diameter_mm=12), lesion("kidney_lesion", diameter_mm=12)]
    known = {"lesions": lesions, "lesion_classes": ["liver_lesion", "kidney_lesion"]}
    result = contradictions_of(read_report(text, ABDOMEN), Witnesses(**known))
    assert [c.kind for c in result if c.kind != "side"] == ["size"] * expected


@pytest.mark.parametrize(
    ("diameters", "expected"),
    [
        ({"right": 14, "left": 3}, ["side"]),
        ({"right": 14, "left": 14}, []),
        ({"right": 40, "left": 3}, ["size"]),
        ({"right": 14}, ["side"]),
        ({"right": 40}, ["side", "size"]),
    ],
)
def test_a_lesion_of_the_size_on_the_other_side_alone_is_a_contradiction(diameters, expected):
    lesions = [lesion(side=side, diameter_mm=mm) for side, mm in diameters.items()]
    result = found(
        "A 14 mm nodule in the left lower lobe.", lesions=lesions, lesion_classes=["lung_nodule"]
    )
    assert [kind for kind, _, _ in result] == expected


@pytest.mark.parametrize(("spacing", "expected"), [(0, 1), (3.9, 1), (4, 1), (4.1, 0)])
def test_a_lesion_too_small_for_the_segmentation_is_not_missed(spacing, expected):
    known = {"lesion_classes": ["lung_nodule"], "spacing_mm": spacing}
    assert found("A nodule of 8 mm.", **known) == [("size", 0, NODULE)] * expected


def test_messages_are_sentences_that_say_both_sides():
    result = contradictions_of(
        read_report("A nodule of 8 mm is seen in the left lung.", CHEST),
        Witnesses(
            probabilities={NODULE: 0.001, EFFUSION: 0.9},
            calibration=head(),
            lesions=[lesion(diameter_mm=30, side="right")],
            lesion_classes=["lung_nodule"],
        ),
    )
    assert [c.message for c in result] == [
        "The report says there is lung nodule, but the image classifier finds it unlikely "
        "(under 1 %).",
        "The report places lung nodule on the left, but the segmentation shows it on the right "
        "only.",
        "The report names lung nodule of 8 mm, but the nearest in size of those that the "
        "segmentation shows has 30 mm.",
        "No sentence mentions pleural effusion, but the image classifier is confident of it "
        "(90 %).",
    ]


def test_the_message_of_a_heat_map_says_whose_evidence_it_is():
    sentences = read_report("A nodule in the left lung.", CHEST)
    (one,) = contradictions_of(sentences, Witnesses(left_shares=[0.1], recognised=[NODULE]))
    assert one.message == (
        "The report places lung nodule on the left, but the image classifier's evidence for it "
        "lies on the right (90 %)."
    )
