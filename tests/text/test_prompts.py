"""The spans of an example are exactly the prompt and what the loss reads."""

import pytest

from uvlm.errors import InputError
from uvlm.text.prompts import (
    AUTHORS_PROMPT,
    DEFAULT_PROMPT,
    build_example,
    findings_sentence,
    spacing_sentence,
)
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


SENTENCE = "Voxels 0.70 x 0.80 x 1.25 mm, volume 358 x 410 x 400 mm."


def test_the_spacing_sentence_counts_x_before_y_before_z():
    assert spacing_sentence((320, 512, 512), (1.25, 0.8, 0.7)) == SENTENCE


@pytest.mark.parametrize("prompt", [DEFAULT_PROMPT, AUTHORS_PROMPT, "Describe.\n"])
def test_the_spacing_stands_in_the_prompt_and_never_in_the_answer(prompt):
    told = build_example(TOKENIZER, prompt, ANSWER, SENTENCE)
    plain = build_example(TOKENIZER, prompt, ANSWER)
    assert SENTENCE in TOKENIZER.decode(told.ids[told.prompt])
    assert told.ids[told.answer] == plain.ids[plain.answer]
    special = set(TOKENIZER.special_ids.values())
    assert [i for i in told.ids if i in special] == [i for i in plain.ids if i in special]


def test_the_spacing_is_the_same_with_and_without_an_answer():
    trained = build_example(TOKENIZER, DEFAULT_PROMPT, ANSWER, SENTENCE)
    asked = build_example(TOKENIZER, DEFAULT_PROMPT, told=SENTENCE)
    assert asked.ids == trained.ids[trained.prompt]


@pytest.mark.parametrize(
    ("present", "sentence"),
    [
        ((), "Findings: none."),
        (("Lung nodule",), "Findings: lung nodule."),
        (("Lung nodule", "pancreatic_lesion"), "Findings: lung nodule, pancreatic lesion."),
    ],
)
def test_findings_are_named_in_the_words_of_reports(present, sentence):
    assert findings_sentence(present) == sentence
