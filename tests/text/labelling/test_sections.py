"""What a report asks, recalls or compares with is not what it found."""

import pytest

from uvlm.text.labelling.context import read_sentences


def texts(report: str) -> list[str]:
    return [sentence.text for sentence in read_sentences(report)]


@pytest.mark.parametrize(
    ("report", "sentences"),
    [
        ("Clinical history: effusion? Findings: A clip is seen.", ["A clip is seen."]),
        ("INDICATION: rule out nodule\nLungs are clear.", ["Lungs are clear."]),
        ("Reason for exam: cough. Lungs are clear.", ["Lungs are clear."]),
        ("History: port. Removed later. Heart: Normal.", ["Heart: Normal."]),
        ("Technique: Contrast was given. Thin slices. Findings: A clip.", ["A clip."]),
        ("Comparison: Clip in 2015. Clear lungs. Impression: Normal.", ["Clear lungs.", "Normal."]),
        ("With regard to the history: nothing new. A clip.", None),
        ("Indication: clip. Impression: Nodule.", ["Nodule."]),
        ("The history of the patient is known. A clip.", None),
    ],
)
def test_question_past_and_technique_are_left_out(report, sentences):
    assert texts(report) == (sentences or [part + "." for part in report[:-1].split(". ")])


@pytest.mark.parametrize(
    ("report", "sentences"),
    [
        ("Lungs: Clear\nHeart: Large", ["Lungs: Clear", "Heart: Large"]),
        ("- clip\n- nodule", ["- clip", "- nodule"]),
        ("1. Clip\n2. Nodule", ["1. Clip", "2. Nodule"]),
        ("A clip\n\nA nodule", ["A clip", "A nodule"]),
        ("A clip is seen in\nthe left axilla.", ["A clip is seen in the left axilla."]),
        ("A clip\r\n\r\nA nodule", ["A clip", "A nodule"]),
    ],
)
def test_a_line_of_its_own_is_a_sentence(report, sentences):
    assert texts(report) == sentences
