"""The text half of a training sequence: prompt, then answer and end of turn, with their places.

The vision tokens stand before it; where they go is the model's matter. The loss reads
`Example.answer`, so that no training step spends itself on the constant words of a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

from uvlm.errors import InputError
from uvlm.text.tokenizer import Tokenizer

__all__ = ["DEFAULT_PROMPT", "Example", "build_example"]

DEFAULT_PROMPT = (
    "<|im_start|>system\n"
    "You are a radiologist. Describe only what the CT images show.<|im_end|>\n"
    "<|im_start|>user\n"
    "Write the report of this CT.<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@dataclass(frozen=True)
class Example:
    """Token ids of one text and the spans within them."""

    ids: list[int]
    """Prompt, answer, end of turn."""

    prompt: slice
    """What is given; ends where the first token to be predicted stands."""

    answer: slice
    """What is to be learned: the answer and the end-of-turn token. Empty without an answer."""


def build_example(tokenizer: Tokenizer, prompt: str, answer: str | None = None) -> Example:
    """Encode `prompt` (special tokens by name) and `answer` (plain text) as one sequence.

    Raises:
        InputError: the answer is empty; a model would learn to say nothing.
    """
    ids = tokenizer.encode(prompt, markup=True)
    start = len(ids)
    if answer is not None:
        if not answer.strip():
            raise InputError("the answer to learn is empty. Leave the study out, or give a report.")
        ids += [*tokenizer.encode(answer), tokenizer.eos_id]
    return Example(ids=ids, prompt=slice(0, start), answer=slice(start, len(ids)))
