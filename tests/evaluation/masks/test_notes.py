"""Many studies with one kind of note give one line, with the range of what differs."""

from uvlm.evaluation.masks.notes import told_together


def test_notes_that_differ_in_numbers_only_are_one_with_their_range():
    notes = [f"The prediction was resampled from {mm:.2f} x 3.00 mm." for mm in (2, 10, 5)]
    assert told_together(["Axes were turned.", *notes]) == [
        "3 studies: The prediction was resampled from 2.00 to 10.00 x 3.00 mm.",
        "1 study: Axes were turned.",
    ]


def test_braces_in_a_note_stay():
    assert told_together(["Class {a} 1 time.", "Class {a} 1 time."]) == [
        "2 studies: Class {a} 1 time."
    ]


def test_no_note_gives_no_line():
    assert told_together([]) == []
