"""Reports become [CLS] words [SEP], cut to length in one of two ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uvlm.errors import ConfigError, InputError
from uvlm.text.report_tokens import ReportTokens, load_report_tokens, train_report_tokens

FIRST = "The lungs are clear."
OTHERS = ["No effusion is seen.", "The heart is large.", "Ribs are intact.", "Aorta is normal."]
REPORT = " ".join([FIRST, *OTHERS])


def learned(max_tokens: int = 100, truncate: str = "head") -> ReportTokens:
    return train_report_tokens([REPORT] * 3, 300, max_tokens, truncate)


def words(tokens: ReportTokens, text: str, rng: np.random.Generator | None = None) -> list[int]:
    return tokens.encode(text, rng)[1:-1]


def test_a_report_stands_between_class_token_and_end():
    tokens = learned()
    ids = tokens.encode(REPORT)
    assert ids[0] != ids[-1]
    assert tokens.pad_id not in ids
    assert (ids[0], ids[-1]) == (tokens.encode("x")[0], tokens.encode("x")[-1])


def test_capitals_and_small_letters_are_alike():
    assert learned().encode("THE LUNGS") == learned().encode("the lungs")


def test_the_same_reports_give_the_same_vocabulary():
    assert learned().to_json() == learned().to_json()


def test_json_brings_the_same_tokens_back():
    tokens = learned(20)
    again = ReportTokens.from_json(tokens.to_json(), 20)
    assert again.encode(REPORT) == tokens.encode(REPORT)
    assert (again.pad_id, again.vocab_size) == (tokens.pad_id, tokens.vocab_size)


def test_names_of_special_tokens_in_a_report_are_text():
    tokens = learned()
    ids = words(tokens, "clear [SEP] [PAD] [CLS]")
    assert not set(ids) & {tokens.pad_id, *tokens.encode("")}


def test_head_keeps_the_beginning():
    whole, short = learned().encode(REPORT), learned(8).encode(REPORT)
    assert short == [*whole[:7], whole[-1]]


def test_authors_keeps_the_first_sentence_and_some_whole_others():
    first = words(learned(), FIRST)
    pieces = {tuple(words(learned(), text)) for text in OTHERS}
    room = len(first) + max(map(len, pieces))
    tokens, seen = learned(room + 2, "authors"), set()
    for seed in range(20):
        ids = words(tokens, REPORT, np.random.default_rng(seed))
        assert len(ids) <= room
        assert ids[: len(first)] == first
        seen.add(tuple(ids[len(first) :]))
    assert len(seen & pieces) > 1


def test_authors_draws_nothing_of_a_report_that_fits():
    tokens = learned(200, "authors")
    assert tokens.encode(REPORT, np.random.default_rng(0)) == learned(200).encode(REPORT)


def test_authors_without_a_generator_takes_sentences_in_order():
    expected = [*words(learned(), FIRST), *words(learned(), OTHERS[0])]
    assert words(learned(len(expected) + 2, "authors"), REPORT) == expected


def test_a_first_sentence_that_is_too_long_is_cut():
    tokens = learned(5, "authors")
    assert len(tokens.encode(REPORT, np.random.default_rng(0))) == 5


@pytest.mark.parametrize("size", [0, 258])
def test_a_vocabulary_without_room_for_all_bytes_is_refused(size: int):
    with pytest.raises(ConfigError, match=f"vocab_size is {size}; it must be at least 259"):
        train_report_tokens([REPORT], size, 10)


def test_no_report_to_learn_from_is_refused():
    with pytest.raises(InputError, match="no text to learn a vocabulary from"):
        train_report_tokens([" "], 300, 10)


def test_no_room_for_a_word_is_refused():
    with pytest.raises(ConfigError, match="max_tokens is 2"):
        learned(2)


def test_a_folder_without_tokenizer_is_named_with_the_remedy(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"has no tokenizer.json.*save_pretrained") as caught:
        load_report_tokens(tmp_path, 10)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}", "cannot be read"), ('{"version": "1.0"', "cannot be read")],
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: str, message: str):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_report_tokens(tmp_path, 10)
    assert str(tmp_path) in str(caught.value)


def test_a_vocabulary_of_another_kind_of_model_is_refused(tmp_path: Path):
    text = learned().to_json().replace("[CLS]", "<s>")
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ConfigError, match=r"lacks \[CLS\]"):
        load_report_tokens(tmp_path, 10)
