"""What a sentence says about a thing it names: there, not there, perhaps, or once."""

import re

import pytest

from uvlm.text.labelling.context import MAX_SENTENCE, Sentence, lowered, read_sentences


def status(text: str, word: str = "effusion") -> str:
    """What `text` says about the first `word` in it."""
    start = text.lower().index(word)
    return Sentence(text).decide(start, start + len(word)).status


@pytest.mark.parametrize(
    "text",
    [
        "No effusion.",
        "There is no pleural or pericardial effusion.",
        "No mass, nodule or effusion was seen in the chest.",
        "Effusion was not observed.",
        "Effusion and pneumothorax were not detected.",
        "Effusion could not be identified on either side.",
        "An effusion isn't seen.",
        "The lungs are clear without effusion.",
        "The pleura is free of effusion.",
        "The examination is negative for effusion.",
        "Neither effusion nor pneumothorax is present.",
        "Neither pneumothorax nor effusion is present.",
        "Effusion is absent.",
        "Effusion: none.",
        "Effusion - no thickening was seen.",
        "Aeration is normal, and no effusion was found.",
        "The heart is normal, effusion was not found.",
        "Apart from this, no effusion was seen.",
        "Effusion was ruled out.",
        "The chest does not show effusion.",
        "There is no increase in the wall thickness of the effusion.",
        "Effusion described before and thought to be malignant was not observed today.",
        "No serous change or effusion is seen.",
        "Effusion not seen.",
        "Effusion absent.",
        "Resolution of the effusion.",
        "Interval removal of the effusion.",
        "Complete regression in the effusion is noted.",
        "Effusion was found in neither lung.",
        "An effusion which was not seen today.",
        "Effusion of 2 cm described before, was not seen.",
        "The effusion was drained.",
        "No increase in heart size and no effusion.",
        "No mass, small or large effusion.",
        "In the examination dated 2019, an effusion was present; it is not seen today.",
        "An effusion was seen previously, but it is no longer present.",
        "Effusion was described before; this is not observed in the current examination.",
    ],
)
def test_denied(text):
    assert status(text) == "absent"


@pytest.mark.parametrize(
    "text",
    [
        "There is an effusion.",
        "No mass was seen, but there is an effusion.",
        "No mass, a small effusion on the left.",
        "No mass was seen, effusion on the left.",
        "Effusion is seen and a mass was not found.",
        "Effusion is seen on the left, no pneumothorax was found.",
        "Effusion without loculation.",
        "Effusion in which no septa were seen.",
        "There was no change in the effusion.",
        "There was no significant increase in the amount of effusion.",
        "Effusion and thickening are highly suspicious for infection.",
        "The effusion is stable without significant change.",
        "An effusion that was not observed in the previous examination is seen.",
        "An effusion is seen and was not detected in the last examination.",
        "No abnormality other than a small effusion was found.",
        "No effusion other than a thin layer was found.",
        "Effusion of 2 cm, a mass was not seen.",
        "No mass, small right effusion.",
        "No size or number change in the effusions.",
        "No resolution of the effusion.",
        "Partial resolution of the effusion.",
        "Effusion due to heart failure?",
        "Effusion is seen in the patient whose catheter was removed.",
        "The collection has turned into an effusion.",
        "Status post lobectomy with effusion.",
        "The effusion on the right persists, the mass has resolved.",
        "Except for an effusion, the chest is normal.",
        "A finding in favor of effusion.",
        "An appearance compatible with effusion is seen.",
        "Effusion (empyema?) is seen on the left.",
        "Effusion is seen, which may be due to heart failure.",
        "Not only effusion but also a mass is seen.",
        "The effusion could not be measured.",
        "A patient with a history of lymphoma, effusion on the left.",
        "It was learned from the history of the patient that there is effusion.",
        "An effusion was seen on the right; it is not seen on the left.",
        "An effusion was seen; it was not seen in the previous examination.",
        "An effusion is seen; it is not enlarged.",
        "An effusion was seen; a nodule is not seen.",
        "An effusion was seen, but its cause was not identified.",
    ],
)
def test_present(text):
    assert status(text) == "present"


@pytest.mark.parametrize(
    "text",
    [
        "Effusion?",
        "A density on the left (effusion?) is seen.",
        "Effusion (?) on the left.",
        "Possible effusion.",
        "This may be effusion.",
        "Suspicious for effusion.",
        "Effusion cannot be excluded.",
        "Effusion is suspected.",
        "Findings worrisome for effusion.",
        "Question of effusion.",
        "Cannot exclude effusion.",
    ],
)
def test_uncertain(text):
    assert status(text) == "uncertain"


def test_a_doubt_ends_at_a_comma():
    assert status("Findings that may be pneumonia, effusion on the left.") == "present"


@pytest.mark.parametrize(
    "text", ["History of effusion.", "Status post effusion.", "Treated for effusion."]
)
def test_history(text):
    assert status(text) == "history"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The effusion has resolved.", "absent"),
        ("The effusion seen before is no longer observed.", "absent"),
        ("The effusion was removed.", "absent"),
        ("The effusion shows complete regression.", "absent"),
        ("The effusion shows complete regression in the interval.", "absent"),
        ("Regression is complete in the effusion.", "absent"),
        ("The effusion was replaced by air.", "absent"),
        ("The effusion has been removed.", "absent"),
        ("The effusion has become smaller and was not seen on the right.", "absent"),
        ("The effusion has decreased.", "present"),
        ("The effusion is new.", "present"),
        ("The effusion regressed.", "present"),
    ],
)
def test_change(text, expected):
    assert status(text) == expected


def test_each_of_several_clauses_has_its_own_say():
    text = "The aorta is wide, an effusion is seen on the left, and a nodule was not detected."
    sentence = Sentence(text)
    assert [text[slice(*clause)] for clause in sentence.clauses] == [
        "The aorta is wide",
        ", an effusion is seen on the left",
        ", and a nodule was not detected.",
    ]
    assert (status(text), status(text, "nodule")) == ("present", "absent")


def test_clauses_cover_the_sentence_without_gap():
    text = (
        "No mass is seen; however, effusion is seen, but it was not measured, and no clot is seen."
    )
    clauses = Sentence(text).clauses
    assert "".join(text[slice(*clause)] for clause in clauses) == text


def test_the_deciding_words_hold_the_thing_and_what_is_said_of_it():
    text = "On the left an effusion was not observed."
    start = text.index("effusion")
    decision = Sentence(text).decide(start, start + len("effusion"))
    assert text[decision.start : decision.end] == "effusion was not observed"


def test_small_letters_keep_every_place():
    text = "İnce EFÜZYON and Effusion"
    assert len(lowered(text)) == len(text)
    assert lowered(text)[-8:] == "effusion"


def test_headers_tell_the_sections():
    found = read_sentences("Findings: The heart is large. A clip is seen. Impression: Large heart.")
    assert [(s.section, s.text) for s in found] == [
        ("findings", "The heart is large."),
        ("findings", "A clip is seen."),
        ("impression", "Large heart."),
    ]


@pytest.mark.parametrize("mark", ['" ', "• ", "· ", "“"])
def test_points_after_the_text_are_the_impression(mark):
    found = read_sentences(f"The heart is large. A clip is seen. {mark}Large heart {mark}Clip")
    assert [(s.section, s.text) for s in found] == [
        ("findings", "The heart is large."),
        ("findings", "A clip is seen."),
        ("impression", "Large heart"),
        ("impression", "Clip"),
    ]


def test_quoted_words_do_not_cut_a_sentence():
    assert len(read_sentences('The so-called "crazy paving" is seen.')) == 1


def test_a_date_with_a_space_ends_no_sentence():
    assert len(read_sentences("The clip seen on the scan of 05.02. 2015 was not seen.")) == 1


def test_a_word_without_end_is_cut():
    (sentence,) = read_sentences("x" * 250)
    assert [len(word) for word in sentence.text.split()] == [100, 100, 50]


def test_the_nearest_match_is_that_with_the_smallest_gap():
    sentence = Sentence("aorta, a large plaque, coronary and aorta")
    start = sentence.low.index("plaque")
    found = sentence.nearest(re.compile("aorta|coronary"), sentence.whole, start, start + 6)
    assert found is not None
    assert sentence.low[slice(*found)] == "coronary"


def test_a_sentence_without_end_is_read_in_pieces():
    pieces = read_sentences("word " * 50_000)
    assert max(len(piece.text) for piece in pieces) <= MAX_SENTENCE
    assert sum(len(piece.text.split()) for piece in pieces) == 50_000


@pytest.mark.parametrize("report", ["", "   ", "Not given.", '"', "Findings: Impression:"])
def test_nothing_gives_no_sentence(report):
    assert read_sentences(report) == []
