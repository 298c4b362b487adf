"""What each sentence states, found again in its own characters."""

from __future__ import annotations

import pytest

from tests.inference.evidence.made import lesion
from uvlm.inference.evidence.sentences import (
    as_large,
    labeller_for,
    read_report,
    sections_of,
    spoken_of,
)
from uvlm.text.cleaning import split_sentences
from uvlm.text.labelling.abdomen import ABDOMEN
from uvlm.text.labelling.chest import CHEST

REPORT = (
    "Findings: There is a nodule of 8 mm in the left upper lobe. No pleural effusion is seen. "
    "Impression: Lung nodule."
)
AWKWARD = {
    "line breaks": "Findings:\n- Left lung nodule\n- No pleural\neffusion\nImpression: Nodule",
    "quotes": 'Findings: A "nodule" is seen. Impression: "Lung nodule." "No pleural effusion."',
    "spaces": "Findings:  A  nodule   is seen .  No  pleural effusion.",
    "torn date": "Findings: A nodule, as on 05.02. 2015, is seen. No pleural effusion.",
    "no full stop": "Findings: A nodule is seen Impression: No pleural effusion",
    "the same twice": "Findings: Nodule. Nodule. No pleural effusion. Impression: Nodule.",
    "other order": "Impression: Lung nodule. Findings: A nodule is seen. No pleural effusion.",
    "long word": f"A nodule {'x' * 250} is seen. No pleural effusion.",
    "endless": "A nodule is seen " + "and so on " * 400 + "with no pleural effusion",
    "accents": "İİ: a nodule is seen. No pleural effusion.",
}


def test_a_sentence_knows_its_section_findings_and_sizes():
    first, second, third = read_report(REPORT, CHEST, {"Lung nodule": 0.75})
    assert [s.section for s in (first, second, third)] == ["findings", "findings", "impression"]
    (nodule,) = first.findings
    assert (nodule.label, nodule.status) == ("Lung nodule", "present")
    assert (nodule.sides, nodule.probability) == (("left",), 0.75)
    assert first.sizes_mm == (8.0,)
    (effusion,) = second.findings
    assert (effusion.label, effusion.status) == ("Pleural effusion", "absent")
    assert (effusion.words, effusion.sides, effusion.probability) == (
        "No pleural effusion",
        (),
        None,
    )
    assert third.findings[0].probability == 0.75


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("labeller", [CHEST, ABDOMEN], ids=["chest", "abdomen"])
def test_all_a_labeller_finds_is_found_again_in_the_sentences(name, labeller):
    report = AWKWARD[name]
    sentences = read_report(report, labeller)
    (labels,) = labeller.label([report])
    assert [s.text for s in sentences] == split_sentences(report)
    found = [f for s in sentences for f in s.findings]
    words = sorted("".join(e.words.split()).rstrip(".") for e in labels.evidence)
    assert sorted("".join(f.words.split()).rstrip(".") for f in found) == words
    for sentence in sentences:
        assert all(sentence.text[f.start : f.end] == f.words for f in sentence.findings)


def test_the_same_sentence_twice_is_two_sentences():
    sentences = read_report(AWKWARD["the same twice"], CHEST)
    assert [[f.label for f in s.findings] for s in sentences] == [
        ["Lung nodule"],
        ["Lung nodule"],
        ["Pleural effusion"],
        ["Lung nodule"],
    ]


def test_sections_in_the_other_order():
    sections = [section for _, section in sections_of(AWKWARD["other order"])]
    assert sections == ["impression", "findings", "findings"]


def test_an_abdominal_report_is_read_by_the_abdominal_labeller():
    assert labeller_for("abdomen") is ABDOMEN
    assert labeller_for("chest") is CHEST
    (sentence,) = read_report("A 12 mm cyst is seen in the left kidney.", ABDOMEN)
    assert [(f.label, f.sides) for f in sentence.findings] == [("Kidney lesion", ("left",))]


@pytest.mark.parametrize("report", ["", "   ", "Findings: Impression:"])
def test_nothing_written_has_no_sentences(report):
    assert read_report(report, CHEST) == ()


LESIONS = (
    lesion("lung_nodule", side="left", diameter_mm=8),
    lesion("lung_nodule", side="left", diameter_mm=25),
    lesion("lung_nodule", side="right", diameter_mm=8),
    lesion("pleural_effusion", side="both", diameter_mm=90),
    lesion("lung_nodule", side=None, diameter_mm=40),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A nodule of 8 mm is seen in the left lung.", (0,)),
        ("A nodule is seen in the left lung.", (0, 1, 4)),
        ("Nodules of 8 mm and 25 mm are seen.", (0, 1, 2)),
        ("Nodules are seen.", (0, 1, 2, 4)),
        ("A nodule of 100 mm is seen.", (0, 1, 2, 4)),
        ("No nodule is seen.", ()),
        ("There is a left pleural effusion.", (3,)),
        ("Nodules and pleural effusion are seen.", (0, 1, 2, 3, 4)),
        ("The heart is normal.", ()),
        ("Nodules of 25 mm, and an aorta of 8 mm.", (1,)),
    ],
)
def test_a_sentence_may_speak_of_lesions_of_its_class_side_and_size(text, expected):
    (sentence,) = read_report(text, CHEST)
    assert spoken_of(sentence, LESIONS) == expected


@pytest.mark.parametrize(
    ("diameter", "mm", "expected"),
    [(8, 8, True), (13, 8, True), (13.1, 8, False), (130, 100, True), (131, 100, False)],
)
def test_sizes_agree_to_within_5_mm_or_30_percent(diameter, mm, expected):
    assert as_large(lesion(diameter_mm=diameter), mm) is expected
