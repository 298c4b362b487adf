"""A table of rules becomes labels, each with the words it rests on."""

import pytest

from uvlm.text.labelling.protocol import Labeller
from uvlm.text.labelling.rules import PRESENT_OR_UNCERTAIN, Rule, RuleLabeller

NODULE = Rule(
    label="nodule",
    terms=(r"nodul\w*",),
    at=(r"lungs?\b", r"lobe"),
    not_in=(r"thyroid", r"liver"),
)
PLAQUE = Rule(label="plaque", terms=(r"plaques?\b",), needs=(r"aorta",), unless=(r"abdominal",))
FLUID = Rule(label="fluid", terms=(r"fluid",), counts=PRESENT_OR_UNCERTAIN)
LABELLER = RuleLabeller("rules@test", ("nodule", "plaque", "fluid"), (NODULE, PLAQUE, FLUID))


def ones(report: str) -> set[str]:
    return {label for label, value in LABELLER.label([report])[0].values.items() if value}


def test_a_rule_labeller_is_a_labeller():
    labeller: Labeller = LABELLER
    assert (labeller.name, labeller.classes) == ("rules@test", ("nodule", "plaque", "fluid"))


def test_every_class_is_answered_in_order():
    (labels,) = LABELLER.label(["Fluid is seen."])
    assert list(labels.values.items()) == [("nodule", 0), ("plaque", 0), ("fluid", 1)]


def test_the_place_must_stand_in_the_same_clause():
    assert ones("Plaques are seen in the aorta.") == {"plaque"}
    assert ones("Plaques are seen in the trachea, and the aorta is wide.") == set()


def test_what_must_not_stand_there_rules_out():
    assert ones("Plaques are seen in the abdominal aorta.") == set()


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("A nodule in the left lung.", {"nodule"}),
        ("A nodule in the left lobe of the thyroid, but a nodule in the lung too.", {"nodule"}),
        ("A nodule in the thyroid.", set()),
        ("The thyroid is large. The largest nodule measures 4 mm.", set()),
        ("The thyroid is large. A nodule in the lung.", {"nodule"}),
        ("A nodule of 4 mm.", {"nodule"}),
    ],
)
def test_another_organ_is_known_from_clause_sentence_or_the_one_before(report, expected):
    assert ones(report) == expected


def test_doubts_count_where_the_rule_says_so():
    assert ones("Possible fluid.") == {"fluid"}
    assert ones("Possible nodule.") == set()


def test_words_are_where_they_are_said_to_be():
    report = "Nodules in both lungs were not seen. Fluid, right. Plaques line the wide aorta."
    (labels,) = LABELLER.label([report])
    assert [(e.label, e.status, e.words) for e in labels.evidence] == [
        ("nodule", "absent", "Nodules in both lungs were not seen"),
        ("fluid", "present", "Fluid"),
        ("plaque", "present", "Plaques line the wide aorta"),
    ]
    assert all(e.sentence[e.start : e.end] == e.words for e in labels.evidence)
    assert [e.sides for e in labels.evidence] == [{"left", "right"}, {"right"}, set()]


def test_a_sentence_met_again_in_another_section_keeps_its_section():
    (labels,) = LABELLER.label(["Findings: Fluid is seen. Impression: Fluid is seen."])
    assert [e.section for e in labels.evidence] == ["findings", "impression"]


def test_words_that_end_alike_are_one_decision():
    free = Rule(label="fluid", terms=(r"free fluid",))
    twice = RuleLabeller("twice", ("fluid",), (FLUID, free))
    assert [e.words for e in twice.label(["Free fluid is seen."])[0].evidence] == ["Free fluid"]


def test_reports_are_answered_one_by_one_in_order():
    reports = ["Fluid is seen.", "", "No fluid is seen."]
    assert [labels.values["fluid"] for labels in LABELLER.label(reports)] == [1, 0, 0]
    assert LABELLER.label([]) == []


def test_a_rule_for_an_unknown_class_is_refused():
    with pytest.raises(ValueError, match="fluid"):
        RuleLabeller("broken", ("nodule",), (FLUID,))


def test_a_rule_without_terms_is_refused():
    with pytest.raises(ValueError, match="no terms"):
        RuleLabeller("broken", ("x",), (Rule(label="x", terms=()),)).label(["Text."])
