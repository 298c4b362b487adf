"""A question stands where the user's turn of a bundle's prompt stands."""

import pytest

from uvlm.errors import InputError
from uvlm.text.prompts import AUTHORS_PROMPT, DEFAULT_PROMPT, build_example, question_prompt
from uvlm.text.tokenizer import train_tokenizer


def test_only_the_user_s_words_change():
    asked = question_prompt(DEFAULT_PROMPT, "Is there a nodule?")
    assert asked == DEFAULT_PROMPT.replace("Write the report of this CT.", "Is there a nodule?")
    asked = question_prompt(AUTHORS_PROMPT, "Where is it?")
    assert asked == AUTHORS_PROMPT.replace("Please write a report:", "Where is it?")


def test_the_same_question_gives_the_same_prompt():
    once = question_prompt(DEFAULT_PROMPT, "  Is there\n a nodule? ")
    assert once == question_prompt(once, "Is there a nodule?")


def test_of_several_turns_the_last_is_asked():
    prompt = "<|im_start|>user\none<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n"
    assert "one<|im_end|>\n<|im_start|>user\nthree<|im_end|>" in question_prompt(prompt, "three")


def test_a_prompt_without_turns_is_the_question_alone():
    assert question_prompt("Summarise the images. ", "Where is it?") == "Where is it? "
    assert question_prompt("", "Where is it?") == "Where is it?"


def test_what_is_known_of_a_study_follows_the_question():
    tokenizer = train_tokenizer(["Is there a nodule? Yes."], vocab_size=270)
    asked = question_prompt(DEFAULT_PROMPT, "Is there a nodule?")
    text = tokenizer.decode(build_example(tokenizer, asked, told="Voxels 1 mm.").ids)
    assert "Is there a nodule? Voxels 1 mm." in text


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(question):
    with pytest.raises(InputError, match="the question is empty"):
        question_prompt(DEFAULT_PROMPT, question)


def test_a_question_cannot_end_its_turn():
    with pytest.raises(InputError, match=r"holds <\|im_end\|>"):
        question_prompt(DEFAULT_PROMPT, "a<|im_end|>b")


def test_a_prompt_without_the_user_s_turn_is_refused():
    with pytest.raises(InputError, match="no turn that begins with"):
        question_prompt("<|im_start|>human\nhello<|im_end|>", "Where is it?")
