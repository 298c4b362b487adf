"""Sides named by sentences: what counts, what only looks like a side, what is denied."""

import pytest

from uvlm.text.sides import BOTH, Mention, finding_sides, mentions, sides_in

LEFT, RIGHT, NONE = {"left"}, {"right"}, set()


@pytest.mark.parametrize(
    ("sentence", "sides"),
    [
        ("A nodule of 5 mm in the left upper lobe.", LEFT),
        ("Right-sided pleural effusion.", RIGHT),
        ("There is volume loss on the right.", RIGHT),
        ("Atelectasis in the lingula.", LEFT),
        ("Linear atelectasis in the lingular segment.", LEFT),
        ("A nodule in the middle lobe.", RIGHT),
        ("A nodule in the left lung middle lobe.", LEFT),
        ("Consolidation in RUL and RML.", RIGHT),
        ("LLL consolidation.", LEFT),
        ("A port in the Rt. chest wall.", RIGHT),
        ("Nodule, L lung.", LEFT),
        ("Effusion (R).", RIGHT),
        ("Effusion, R>L.", BOTH),
        ("The left main bronchus is narrowed.", LEFT),
        ("A nodule in the right thyroid lobe.", RIGHT),
    ],
)
def test_one_sided_words(sentence, sides):
    assert sides_in(sentence) == sides


@pytest.mark.parametrize(
    "sentence",
    [
        "Bilateral pleural effusion.",
        "Emphysema in both lungs.",
        "Consolidation in the lower lobes of both lungs.",
        "A stone in each kidney.",
        "Bibasilar atelectasis.",
        "B/l effusion.",
        "Effusion, right greater than left.",
        "Bilateral effusion, more prominent on the right.",
        "A mass in the left lung that reaches the contralateral lung.",
        "Thickening of both fissures.",
        "Nodules in the middle lobe and the lingula.",
    ],
)
def test_both_sides(sentence):
    assert sides_in(sentence) == BOTH


@pytest.mark.parametrize(
    "sentence",
    [
        "The left ventricle is dilated.",
        "The catheter ends in the right atrium.",
        "Right and left atria are enlarged.",
        "Plaques in the left anterior descending coronary artery.",
        "Calcification of the left main coronary artery.",
        "Right heart failure.",
        "Left-right shunt.",
        "A right-to-left shunt is suspected.",
        "A cyst in the left lobe of the liver.",
        "A cyst in the medial segment of the liver left lobe.",
        "Metastases in both lobes of the liver.",
        "Left-facing scoliosis of the thoracic spine.",
        "The mediastinum is shifted to the right.",
        "Levoscoliosis of the spine, convex to the left.",
        "The drain was left in place.",
        "The catheter is left unchanged.",
        "The lesion was left as it is.",
        "The vessel leaves at a right angle.",
        "Osteophytes bridging each other.",
        "Changes secondary to RT.",
        "Both axial and coronal images were read.",
        "The lungs are clear.",
        "",
    ],
)
def test_words_that_only_look_like_a_side(sentence):
    assert sides_in(sentence) == NONE


def test_a_structure_without_side_hides_no_side_beside_it():
    assert sides_in("A lead enters the right ventricle from the left chest wall.") == LEFT
    assert sides_in("Both upper and lower lobes of the right lung are consolidated.") == RIGHT
    assert sides_in("The effusion is on the left in place of the drain.") == LEFT


@pytest.mark.parametrize(
    ("sentence", "negated"),
    [
        ("No effusion on the left.", True),
        ("There is no effusion.", True),
        ("Effusion was not observed on the right.", True),
        ("The effusion on the right is no longer seen.", True),
        ("A nodule without calcification in the right lung.", False),
        ("No significant change in the nodule of the left lung.", False),
        ("The nodule, not seen in the previous examination, is in the left lung.", False),
    ],
)
def test_denials(sentence, negated):
    assert [mention.negated for mention in mentions(sentence)] == [negated]


def test_a_turn_keeps_what_is_denied_from_what_is_seen():
    assert mentions("No effusion on the left, but an effusion on the right.") == [
        Mention("No effusion on the left", frozenset({"left"}), True),
        Mention("an effusion on the right.", frozenset({"right"}), False),
    ]


@pytest.mark.parametrize(
    ("report", "sides"),
    [
        ("Pleural effusion on the left. No effusion on the right.", LEFT),
        ("Pleural effusion on the left, no effusion on the right.", LEFT),
        ("Pleural effusion on the left and there is no effusion on the right.", LEFT),
        ("There is no pleural effusion on the left.", NONE),
        ("Pleural effusion is not seen on the left.", NONE),
        ("In the left hemithorax, there is a pleural effusion.", LEFT),
        ("No consolidation, there is an effusion on the right.", RIGHT),
        ("An effusion on the left without pneumothorax.", LEFT),
        ("Pneumothorax on the left without effusion.", NONE),
        ("An effusion on the right, not seen in the previous examination.", RIGHT),
        ("A nodule in the left lung. Pleural effusion.", NONE),
        ("Findings: Left effusion. Impression: Right effusion.", BOTH),
        ("", NONE),
    ],
)
def test_sides_of_a_finding(report, sides):
    assert finding_sides(report, ["effusion"]) == sides


def test_a_term_starts_a_word():
    assert finding_sides("Micronodules in the left lung.", ["nodul"]) == NONE
    assert finding_sides("Nodular opacity in the left lung.", ["nodul", "mass"]) == LEFT


def test_other_places_do_not_count():
    report = "A thyroid nodule on the left. A nodule in the right lung."
    assert finding_sides(report, ["nodul"], unless=["thyroid"]) == RIGHT
    assert finding_sides(report, ["nodul"]) == BOTH
    assert finding_sides(report, []) == NONE


def test_what_is_no_longer_seen_is_denied_behind_the_finding_too():
    assert finding_sides("The right effusion is no longer seen.", ["effusion"]) == NONE
    report = "The right effusion is no longer seen. A nodule on the left."
    assert finding_sides(report, ["nodul"]) == LEFT


def test_each_mention_of_a_finding_is_judged_by_itself():
    report = "No effusion on the left; effusion on the right, no pneumothorax on the left."
    assert finding_sides(report, ["effusion"]) == RIGHT
    assert finding_sides(report, ["pneumothora"]) == NONE
