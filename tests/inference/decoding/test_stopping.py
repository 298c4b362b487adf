"""Texts end before stop strings, wherever tokens are cut, and stream in whole characters."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from tests.inference.decoding.cases import NEVER, PROMPTS, spoken
from uvlm.errors import ConfigError
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.decoding.stopping import Ending
from uvlm.inference.generate import stream, write

MODEL, PLAN, TOKENIZER = spoken()
LETTERS, LETTERS_PLAN, BYTES = spoken(261)
"""A vocabulary of single bytes, in which most characters of random ids are incomplete."""


def ended(ids: list[int], *stop: str) -> list[Any]:
    """What `Ending` says after each token, to the first that ends the text."""
    ending = Ending(GenerateOptions(stop=stop), NEVER, BYTES)
    found: list[Any] = []
    for count in range(1, len(ids) + 1):
        found.append(ending.of(ids[:count]))
        if found[-1] is not None:
            break
    return found


def test_a_stop_string_across_tokens_ends_the_text_before_it() -> None:
    ids = BYTES.encode("No nodule. END of it")
    assert len(ids) == 20
    *before, last = ended(ids, "END")
    assert len(before) == 13
    assert (last.text, last.cut) == ("No nodule. ", False)
    assert last.ids == ids[:11]


def test_the_first_of_several_stop_strings_counts() -> None:
    assert ended(BYTES.encode("a b c d"), "c", "b c", "zz")[-1].text == "a "


def test_a_token_that_the_stop_string_shares_is_kept() -> None:
    ids = TOKENIZER.encode("The lungs are clear")
    pieces = [TOKENIZER.decode([token]) for token in ids]
    last = next(at for at, piece in enumerate(pieces) if len(piece) > 2)
    before, piece = "".join(pieces[:last]), pieces[last]
    stop = piece[1:]
    found = Ending(GenerateOptions(stop=(stop,)), NEVER, TOKENIZER).of(ids[: last + 1])
    assert found is not None
    assert (found.text, found.ids) == (before + piece[0], ids[: last + 1])


def test_a_stop_string_of_characters_of_several_bytes_is_found() -> None:
    assert ended(BYTES.encode("≥ 5 肺 end"), "肺")[-1].text == "≥ 5 "


def test_stop_strings_need_a_tokenizer() -> None:
    with pytest.raises(ConfigError, match="give the tokenizer"):
        write(MODEL, PLAN, PROMPTS[:2], GenerateOptions(stop=("x",)), eos_id=NEVER)


WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 2.0, "seed": 1},
    "beams": {"beams": 3, "no_repeat_ngram": 2},
}


@pytest.mark.parametrize("how", WAYS)
def test_written_texts_end_before_the_stop_string(how: str) -> None:
    free = write(
        LETTERS,
        LETTERS_PLAN,
        PROMPTS[:2],
        GenerateOptions(max_new_tokens=24, **WAYS[how]),
        eos_id=NEVER,
        tokenizer=BYTES,
    )
    text = free[0].text
    assert text is not None
    assert free[0].cut
    stop = text[len(text) // 2 :][:2]
    options = GenerateOptions(max_new_tokens=24, stop=(stop,), **WAYS[how])
    for cached in (True, False):
        stopped = write(
            LETTERS,
            LETTERS_PLAN,
            PROMPTS[:2],
            options,
            eos_id=NEVER,
            tokenizer=BYTES,
            cached=cached,
        )
        for each in stopped:
            assert each.text is not None
            assert stop not in each.text
            assert BYTES.decode(each.ids).startswith(each.text)
        if how != "beams":  # which compare other texts once some have stopped
            assert stopped[0].text == text[: text.index(stop)]
            assert not stopped[0].cut


@pytest.mark.parametrize("seed", range(6))
def test_pieces_of_a_stream_are_the_text(seed: int) -> None:
    """Random bytes: whole and broken characters."""
    plan, prompt = LETTERS_PLAN.rows([0]), PROMPTS[0]
    how: dict[str, Any] = {"temperature": 3.0, "seed": seed, "max_new_tokens": 60}
    (free,) = write(LETTERS, plan, [prompt], GenerateOptions(**how), eos_id=NEVER, tokenizer=BYTES)
    assert free.text is not None
    middle = len(free.text) // 2
    for stop in ((), (free.text[middle : middle + 3],), ("never seen",)):
        options = GenerateOptions(stop=stop, **how)
        (whole,) = write(LETTERS, plan, [prompt], options, eos_id=NEVER, tokenizer=BYTES)
        pieces = list(stream(LETTERS, plan, prompt, options, eos_id=NEVER, tokenizer=BYTES))
        assert "".join(pieces) == whole.text
        assert len(pieces) > 5
        assert all(pieces)


def test_settled_text_is_never_taken_back() -> None:
    random.seed(0)
    text = "".join(random.choices("ab≥肺é \n", k=200))
    ids, ending = BYTES.encode(text), Ending(GenerateOptions(stop=("aab", "b≥≥≥")), NEVER, BYTES)
    before = ""
    for count in range(1, len(ids) + 1):
        now = ending.settled(ids[:count])
        assert text.startswith(now)
        assert now.startswith(before)
        before = now
    assert ending.settled(BYTES.encode("x a")) == "x "
    assert ending.settled(BYTES.encode("x aa")) == "x "
    assert ending.settled(BYTES.encode("x ac")) == "x ac"


def test_a_stream_comes_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    hidden = MODEL.decoder.hidden
    monkeypatch.setattr(MODEL.decoder, "hidden", lambda *args: (calls.append(1), hidden(*args))[1])
    options = GenerateOptions(max_new_tokens=20, temperature=1.0)
    pieces = stream(MODEL, PLAN.rows([0]), PROMPTS[0], options, eos_id=NEVER, tokenizer=TOKENIZER)
    next(pieces)
    assert len(calls) < 6
    assert not torch.is_inference_mode_enabled()
    list(pieces)
    assert len(calls) == 20


def test_what_cannot_be_streamed_is_refused() -> None:
    def begin(plan: Any, **how: Any) -> None:
        options = GenerateOptions(**how)
        next(stream(MODEL, plan, PROMPTS[0], options, eos_id=NEVER, tokenizer=TOKENIZER))

    with pytest.raises(ConfigError, match="beams=1"):
        begin(PLAN.rows([0]), beams=2)
    with pytest.raises(ValueError, match="takes one study, got 2"):
        begin(PLAN)
