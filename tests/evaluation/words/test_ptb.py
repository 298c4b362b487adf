"""PTB tokens equal pycocoevalcap's wrapper, which needs a writable site-packages; ours does not."""

import shutil

import pytest
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from uvlm.evaluation.words import ptb
from uvlm.evaluation.words.ptb import ptb_tokens

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine")

TEXTS = [
    'The lungs (both) are "clear"; no effusion, 1.5 cm - stable.',
    "",
    "The patient's heart isn't enlarged...\nEn fran\u00e7ais!",
]


@needs_java
def test_tokens_equal_pycocoevalcap(capfd):
    theirs = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(TEXTS)})
    assert ptb_tokens(TEXTS) == [theirs[i][0].split() for i in range(len(TEXTS))]


@needs_java
def test_rare_line_separators_do_not_shift_the_reports():
    assert ptb_tokens(["one\u2028two\x85three", "four"]) == [["one", "two", "three"], ["four"]]


def test_punctuation_is_dropped(monkeypatch):
    monkeypatch.setattr(ptb, "run_java", lambda *_: [["clear . , -LRB- -lrb- 1.5"]])
    assert ptb_tokens(["x"]) == [["clear", "-lrb-", "1.5"]]
