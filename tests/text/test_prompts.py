"""The spans of an example are exactly the prompt and what the loss reads."""

import pytest

from uvlm.errors import InputError
from uvlm.text.prompts import DEFAULT_PROMPT, build_example
from uvlm.text.tokenizer import train_tokenizer

ANSWER = "Findings: Clear lungs. Impression: Normal."
TOKENIZER = train_tokenizer([ANSWER, DEFAULT_PROMPT], vocab_size=320)


def test_the_answer_span_is_the_answer_and_one_end_of_turn():
    example = build_example(TOKENIZER, DEFAULT_PROMPT, ANSWER)
    span = example.ids[example.answer]
    assert TOKENIZER.decode(span) == ANSWER
    assert span[-1] == TOKENIZER.eos_id
    assert TOKENIZER.eos_id not in span[:-1]


def test_prompt_and_answer_spans_cover_the_sequence_once():
    example = build_example(TOKENIZER, DEFAULT_PROMPT, ANSWER)
    assert example.ids[example.prompt] + example.ids[example.answer] == example.ids
    assert TOKENIZER.decode(example.ids[example.prompt]).endswith("assistant\n")


def test_without_an_answer_the_prompt_is_the_same_and_the_span_is_empty():
    example = build_example(TOKENIZER, DEFAULT_PROMPT)
    trained = build_example(TOKENIZER, DEFAULT_PROMPT, ANSWER)
    assert example.ids == trained.ids[trained.prompt]
    assert example.ids[example.answer] == []


def test_every_turn_of_the_default_prompt_but_the_last_is_closed():
    ids = build_example(TOKENIZER, DEFAULT_PROMPT).ids
    turns = [i for i in ids if i in (TOKENIZER.special_ids["<|im_start|>"], TOKENIZER.eos_id)]
    start, end = TOKENIZER.special_ids["<|im_start|>"], TOKENIZER.eos_id
    assert turns == [start, end, start, end, start]


def test_a_report_that_names_the_end_of_turn_does_not_end_its_turn():
    example = build_example(TOKENIZER, DEFAULT_PROMPT, "a<|im_end|>b")
    assert example.ids[example.answer].count(TOKENIZER.eos_id) == 1


@pytest.mark.parametrize("answer", ["", " \n"])
def test_an_empty_answer_is_refused(answer):
    with pytest.raises(InputError, match="answer to learn is empty"):
        build_example(TOKENIZER, DEFAULT_PROMPT, answer)
