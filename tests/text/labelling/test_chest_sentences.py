"""The classes outside the lungs, sentence by sentence: said, denied, gone, of another organ."""

from __future__ import annotations

from pathlib import Path

import pytest

from uvlm.registry import CT_RATE_LABELS
from uvlm.text.labelling.chest import CHEST

LETTERS = dict(zip("MAHPCGN", CT_RATE_LABELS[:7], strict=True)) | {"E": "Pleural effusion"}
LINES = (Path(__file__).parent / "chest_sentences.txt").read_text(encoding="utf-8").splitlines()
CASES = [tuple(line.split("| ", 1)) for line in LINES if line and not line.startswith("#")]


def test_every_class_is_said_and_denied_often():
    said = "".join(letters for letters, _ in CASES)
    assert all(said.count(letter) >= 40 for letter in LETTERS)
    assert sum(not letters.strip() for letters, _ in CASES) >= 300


@pytest.mark.parametrize(("letters", "sentence"), CASES)
def test_a_sentence_tells_its_classes(letters, sentence):
    (labels,) = CHEST.label([sentence])
    found = {letter for letter, label in LETTERS.items() if labels.values[label]}
    assert found == set(letters.strip())
