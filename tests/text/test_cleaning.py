"""Cleaning makes text regular and never changes what it says."""

import csv
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uvlm.text.cleaning import clean_report, join_sections, split_sections, split_sentences

FRAGMENTS = ["Findings:", "Impression:", "IMPRESSIONS :", "Technique:", "Not given.", "nan", "none"]
FRAGMENTS += ["1.5 cm", "3 x 2.4 mm.", '""', '"', "\n", "  ", "e.g.", "Dr. X", "1.", "No effusion."]
FRAGMENTS += ["contrast is not given.", "T12. vertebra", "•", "?", "(a)", ".", "nodule"]
REPORTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6))).map(" ".join)
GLUED = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6))).map("".join)
PLAIN = st.from_regex(r"[A-Za-z0-9,; .-]{0,40}", fullmatch=True)


def characters(text: str) -> str:
    return re.sub(r"\s", "", text)


@settings(deadline=None)
@given(st.one_of(REPORTS, GLUED, st.text()))
@example("nan Findings: nan")
@example("Findings: Findings: Not given. Impression:")
def test_cleaning_twice_is_cleaning_once(text):
    assert clean_report(clean_report(text)) == clean_report(text)


@settings(deadline=None)
@given(st.one_of(REPORTS, GLUED))
def test_cleaned_text_is_one_line_of_single_spaces_without_double_quotes(text):
    cleaned = clean_report(text)
    assert cleaned == " ".join(cleaned.split())
    assert '"' not in cleaned


@settings(deadline=None)
@given(st.lists(st.from_regex(r"\d{1,2}\.\d{1,2}", fullmatch=True), max_size=5), REPORTS)
def test_no_decimal_is_pulled_apart(numbers, text):
    mixed = f"{text} " + " mm and ".join(numbers) + " mm."
    assert all(number in clean_report(mixed) for number in numbers)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(categories=["L", "Nd", "P", "S"], exclude_characters='"')))
def test_text_without_headers_loses_no_character(text):
    if ":" not in text and not re.fullmatch(r"(not given|nan|none|n/a)?\.?", text, re.I):
        assert characters(clean_report(f"x {text}")) == "x" + text.replace("\ufeff", "")


@pytest.mark.parametrize("text", ["Not given.", " not given", "nan", "NONE", "", ' "" ', "\n"])
def test_text_that_says_nothing_becomes_empty(text):
    assert clean_report(text) == ""


def test_a_sentence_about_something_not_given_stays():
    text = "Contrast material was not given. The lungs are clear."
    assert clean_report(text) == text


def test_an_empty_section_is_dropped_and_the_others_stay():
    text = "Technique: Not given. Findings: Clear lungs. Impression: Not given."
    assert clean_report(text) == "Findings: Clear lungs."


def test_quotes_left_by_a_csv_are_removed():
    assert clean_report('Heights are preserved. "" Normal chest CT"') == (
        "Heights are preserved. Normal chest CT"
    )


@pytest.mark.parametrize(
    ("findings", "impression", "expected"),
    [
        ("Clear  lungs.", "Normal.", "Findings: Clear lungs. Impression: Normal."),
        ("Clear lungs.", "Not given.", "Findings: Clear lungs."),
        (float("nan"), "Normal.", "Impression: Normal."),
        (None, None, ""),
        ("Not given.", "nan", ""),
        ("Findings: Clear lungs.", "Impressions: Normal.", None),
    ],
)
def test_sections_are_joined_and_missing_ones_left_out(findings, impression, expected):
    expected = "Findings: Clear lungs. Impression: Normal." if expected is None else expected
    assert join_sections(findings, impression) == expected


@settings(deadline=None)
@given(PLAIN, PLAIN)
def test_splitting_undoes_joining(findings, impression):
    joined = join_sections(findings, impression)
    assert split_sections(joined) == (clean_report(findings), clean_report(impression))


def test_text_without_a_header_is_findings():
    assert split_sections("Clear lungs.") == ("Clear lungs.", "")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("A 1.5 cm nodule. No effusion.", ["A 1.5 cm nodule.", "No effusion."]),
        ("A lesion, e.g. Cyst or abscess. End.", ["A lesion, e.g. Cyst or abscess.", "End."]),
        ("Seen by Dr. Smith. Normal.", ["Seen by Dr. Smith.", "Normal."]),
        ("Loss at T12. vertebra level.", ["Loss at T12. vertebra level."]),
        ("Fracture of T1. No other.", ["Fracture of T1.", "No other."]),
        ("1. Nodule. 2. Effusion.", ["1. Nodule.", "2. Effusion."]),
        ("Cyst in segment 3. It is 4 mm.", ["Cyst in segment 3.", "It is 4 mm."]),
        ("Findings: Clear. Impression: Normal.", ["Clear.", "Normal."]),
        ("Nothing seen.No lytic lesion.", ["Nothing seen.", "No lytic lesion."]),
        ("Compared with No. 3 of 2020. Stable.", ["Compared with No. 3 of 2020.", "Stable."]),
        ("Is there an effusion? No. End.", ["Is there an effusion?", "No.", "End."]),
        ("No full stop at the end", ["No full stop at the end"]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text, sentences):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize("words", ["Dr. X ", "1. ", "e.g. Cyst ", "A. ", "• ", "prof.Prof."])
def test_long_text_without_the_end_of_a_sentence_is_read_as_short_text_is(words):
    """60,000 full stops; copying the sentence at each of them would take minutes."""
    long, short = split_sentences(words * 60_000), split_sentences(words * 60)
    assert sum(map(len, long)) >= 1000 * sum(map(len, short)) - 2000
    assert (len(long) > 1) == (len(short) > 1)


@settings(deadline=None)
@given(st.one_of(REPORTS, GLUED))
def test_sentences_hold_every_character_but_the_headers(text):
    without_headers = characters("".join(split_sections(text)))
    # Sorted, since the sections may stand in the other order.
    assert sorted(characters("".join(split_sentences(text)))) == sorted(without_headers)


def test_real_reports_keep_their_words_numbers_and_sentences(real_data):
    with open(real_data / "chest_ct_reports" / "train.csv", encoding="utf-8", newline="") as file:
        reports = [row["report_text"] for row in csv.DictReader(file)]
    assert len(reports) == 800
    for number, report in enumerate(reports):
        cleaned = clean_report(report)
        assert re.findall(r"[\w.,;]+", cleaned) == re.findall(r"[\w.,;]+", report), f"row {number}"
        sentences = split_sentences(report)
        assert characters("".join(sentences)) == characters(cleaned), f"row {number}"
        assert len(sentences) >= 2, f"row {number}"
