"""Every option of decoding has its flag, and none changes unasked."""

from __future__ import annotations

import argparse
from dataclasses import fields

import pytest

from uvlm.cli.generation import add_generation, generation_of
from uvlm.errors import ConfigError
from uvlm.inference.decoding.options import GenerateOptions


def read(*argv: str) -> GenerateOptions:
    parser = argparse.ArgumentParser()
    add_generation(parser)
    return generation_of(parser.parse_args(argv))


def test_no_flags_are_the_default() -> None:
    assert read() == GenerateOptions()


def test_every_flag_is_read() -> None:
    argv = "--max-new-tokens 9 --min-new-tokens 2 --temperature 0.7 --top-k 5 --top-p 0.9 --seed 3 "
    argv += "--repetition-penalty 1.2 --no-repeat-ngram 4 --no-speculation"
    found = read(*argv.split(), "--stop", "IMPRESSION:", "--stop", "\n\n")
    assert found == GenerateOptions(
        max_new_tokens=9,
        min_new_tokens=2,
        temperature=0.7,
        top_k=5,
        top_p=0.9,
        seed=3,
        repetition_penalty=1.2,
        no_repeat_ngram=4,
        stop=("IMPRESSION:", "\n\n"),
        speculative=False,
    )
    beams = read("--beams", "4", "--length-penalty", "0.5")
    assert (beams.beams, beams.length_penalty) == (4, 0.5)
    default = GenerateOptions()
    same = [f.name for f in fields(found) if getattr(found, f.name) == getattr(default, f.name)]
    assert same == ["beams", "length_penalty"]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ("--beams 0", "beams"),
        ("--top-p 0", "top_p"),
        ("--beams 2 --temperature 1", "without drawing"),
        ("--top-k 5", "temperature above 0"),
        ("--top-p 0.5", "temperature above 0"),
        ("--beams 2 --top-p 0.5", "temperature above 0"),
        ("--length-penalty 2", "beams of 2"),
        ("--min-new-tokens 600 --max-new-tokens 5", "600 is above max_new_tokens 5"),
        ("--temperature nan", "finite"),
        ("--repetition-penalty nan", "finite"),
        ("--beams 2 --length-penalty inf", "finite"),
        (f"--temperature 1 --seed {2**63}", "64 bits"),
        (f"--temperature 1 --seed {-(2**63) - 1}", "64 bits"),
    ],
)
def test_impossible_options_are_refused(argv: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read(*argv.split())
