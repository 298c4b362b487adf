"""Which lengths a sentence names."""

from __future__ import annotations

import pytest

from uvlm.inference.evidence.sizes import sizes_in


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A nodule of 8 mm is seen.", [(8.0,)]),
        ("A 1.5 cm mass.", [(15.0,)]),
        ("A mass of 1,5 cm.", [(15.0,)]),
        ("Nodule of 12 x 9 mm.", [(12.0, 9.0)]),
        ("Nodule of 1.2x0.8 cm.", [(12.0, 8.0)]),
        ("Mass of 12 mm x 9 mm.", [(12.0, 9.0)]),
        ("Mass of 30 × 20 × 10 mm.", [(30.0, 20.0, 10.0)]),
        ("Nodules of 5-8 mm.", [(5.0, 8.0)]),
        ("An 8-mm nodule.", [(8.0,)]),
        ("An 8mm nodule and one of 2 centimeters.", [(8.0,), (20.0,)]),
        ("Nodules, the largest 19 mm.", [(19.0,)]),
        ("Nodules up to 6 mm.", [(6.0,)]),
        ("Nodules less than 4 mm.", []),
        ("Nodes smaller than 10 mm.", []),
        ("Nodules < 4 mm.", []),
        ("Obtained in 5 mm slices.", []),
        ("Slice thickness of 1.5 mm.", []),
        ("A tube 3 cm above the carina.", []),
        ("Segment 8 mmHg.", []),
        ("A volume of 8 mm3 or 8 cm³.", []),
        ("No size at T12.", []),
        ("A 12 mm nodule, previously 6 mm.", [(12.0,)]),
        ("It measured 6 mm previously and 12 mm now.", [(12.0,)]),
        ("A nodule of 12 mm (6 mm on the prior CT of 2021).", [(12.0,)]),
        ("A nodule of 12 mm, in 2019 it was 6 mm.", [(12.0,)]),
        ("A nodule of 12 mm, formerly measuring 6 mm.", [(12.0,)]),
        ("It has grown from 6 to 12 mm.", [(12.0,)]),
        ("It has grown from 6 mm to 12 mm.", [(12.0,)]),
        ("Nodules ranging from 4 to 15 mm.", [(4.0, 15.0)]),
        ("The nodule was measured as 8 mm.", [(8.0,)]),
        ("A nodule of 0 mm.", []),
        ("", []),
    ],
)
def test_lengths_in_millimetres(text, expected):
    assert [size.mm for size in sizes_in(text)] == expected


def test_the_words_of_a_size_are_found_in_the_text():
    text = "Nodules of 12 x 9 mm and 1.5 cm are seen."
    assert [text[s.start : s.end] for s in sizes_in(text)] == ["12 x 9 mm", "1.5 cm"]
    assert [s.largest for s in sizes_in(text)] == [12.0, 15.0]
