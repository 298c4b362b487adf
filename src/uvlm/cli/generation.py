"""Arguments on how a report is written, for every command that writes one."""

from __future__ import annotations

import argparse

from uvlm.inference.decoding.options import GenerateOptions

__all__ = ["add_generation", "generation_of"]

DEFAULT = GenerateOptions()


def add_generation(parser: argparse.ArgumentParser) -> None:
    """Flags of `GenerateOptions`; `generation_of` reads them."""
    group = parser.add_argument_group("how the report is written")
    numbers = (
        ("--max-new-tokens", "max_new_tokens", "longest report, in tokens"),
        ("--min-new-tokens", "min_new_tokens", "the report may not end before"),
        ("--temperature", "temperature", "0: most probable token; above: tokens are drawn"),
        (
            "--top-k",
            "top_k",
            "with a temperature: draw among so many of the most probable tokens; 0: all",
        ),
        (
            "--top-p",
            "top_p",
            "with a temperature: draw among the most probable tokens of this total probability",
        ),
        ("--seed", "seed", "of the drawing; the same seed gives the same report"),
        ("--beams", "beams", "beginnings of the report that are followed at once"),
        ("--length-penalty", "length_penalty", "with beams: above 1 prefers longer reports"),
        ("--repetition-penalty", "repetition_penalty", "above 1: what was written comes rarer"),
        (
            "--no-repeat-ngram",
            "no_repeat_ngram",
            "so many tokens in a row never come twice; 0: may",
        ),
    )
    for flag, name, text in numbers:
        default = getattr(DEFAULT, name)
        group.add_argument(
            flag,
            type=type(default),
            default=default,
            metavar="N" if isinstance(default, int) else "X",
            help=f"{text} (default {default})",
        )
    group.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="the report ends before this text; may be given several times",
    )
    group.add_argument(
        "--no-speculation",
        action="store_true",
        help="one token at a time, also where the bundle's draft could propose several, as in "
        "fp32; the report is the same",
    )


def generation_of(args: argparse.Namespace) -> GenerateOptions:
    """The options that were given.

    Raises:
        ConfigError: they are impossible, alone or together.
    """
    return GenerateOptions(
        max_new_tokens=args.max_new_tokens,
        min_new_tokens=args.min_new_tokens,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        seed=args.seed,
        beams=args.beams,
        length_penalty=args.length_penalty,
        repetition_penalty=args.repetition_penalty,
        no_repeat_ngram=args.no_repeat_ngram,
        stop=tuple(args.stop),
        speculative=not args.no_speculation,
    )
