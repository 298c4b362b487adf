"""The text half of a training sequence: prompt, then answer and end of turn, with their places.

The vision tokens stand before it; where they go is the model's matter. The loss reads
`Example.answer`, so that no training step spends itself on the constant words of a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from uvlm.errors import InputError
from uvlm.text.tokenizer import SPECIAL_TOKENS, TURN_END, TURN_START, Tokenizer

__all__ = [
    "AUTHORS_PROMPT",
    "DEFAULT_PROMPT",
    "Example",
    "build_example",
    "findings_sentence",
    "question_prompt",
    "spacing_sentence",
]

DEFAULT_PROMPT = (
    "<|im_start|>system\n"
    "You are a radiologist. Describe only what the CT images show.<|im_end|>\n"
    "<|im_start|>user\n"
    "Write the report of this CT.<|im_end|>\n"
    "<|im_start|>assistant\n"
)

AUTHORS_PROMPT = (
    "<|im_start|>system\n"
    "You are a radiologist who writes standardized reports based only on images.\n"
    "<|im_start|>user\n"
    "Please write a report:<|im_end|>\n"
    "<|im_start|>assistant\n"
)
"""The published code's, whose system turn is never closed; its checkpoints were trained with it."""

USER = f"{TURN_START}user\n"
MARKS = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))


@dataclass(frozen=True)
class Example:
    """Token ids of one text and the spans within them."""

    ids: list[int]
    """Prompt, answer, end of turn."""

    prompt: slice
    """What is given; ends where the first token to be predicted stands."""

    answer: slice
    """What is to be learned: the answer and the end-of-turn token. Empty without an answer."""


def spacing_sentence(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> str:
    """What resizing erases: voxel size and extent of the study itself, in mm, x before y before z.

    Args:
        shape, spacing: of the study's own grid turned to LPS, both (z, y, x); voxels and mm
    """
    voxels = " x ".join(f"{mm:.2f}" for mm in reversed(spacing))
    extent = " x ".join(
        f"{n * mm:.0f}" for n, mm in zip(reversed(shape), reversed(spacing), strict=True)
    )
    return f"Voxels {voxels} mm, volume {extent} mm."


def findings_sentence(present: Sequence[str]) -> str:
    """What a report will have to speak of, by the names of labels: "Findings: lung nodule."."""
    names = ", ".join(name.replace("_", " ").lower() for name in present)
    return f"Findings: {names or 'none'}."


def question_prompt(prompt: str, question: str) -> str:
    """`prompt` with `question` in the place of what its last user turn says.

    Of a prompt without turns, which is a question alone, only the white space at the end stays.

    Raises:
        InputError: the question is empty or holds the name of a special token, which would end
            its turn; or the prompt has turns and none is the user's.
    """
    question = " ".join(question.split())
    if not question:
        raise InputError("the question is empty. Ask something.")
    if found := MARKS.search(question):
        raise InputError(f"the question holds {found[0]}, a mark between turns. Leave it out.")
    before, user, rest = prompt.rpartition(USER)
    end = MARKS.search(rest)
    if user:
        return f"{before}{user}{question}{rest[end.start() :] if end else ''}"
    if end:
        raise InputError(
            f"the prompt has no turn that begins with {USER.strip()}. Name its turns so, or give a "
            "prompt without turns."
        )
    return question + prompt[len(prompt.rstrip()) :]


def build_example(
    tokenizer: Tokenizer, prompt: str, answer: str | None = None, told: str | None = None
) -> Example:
    """Encode `prompt` (special tokens by name) and `answer` (plain text) as one sequence.

    Args:
        told: what is known of this study, put at the end of the prompt's last turn, see
            `spacing_sentence` and `findings_sentence`

    Raises:
        InputError: the answer is empty; a model would learn to say nothing.
    """
    if told:
        before, turn_end, after = prompt.rpartition(TURN_END)
        prompt = f"{before} {told}{turn_end}{after}" if turn_end else f"{prompt}{told}\n"
    ids = tokenizer.encode(prompt, markup=True)
    start = len(ids)
    if answer is not None:
        if not answer.strip():
            raise InputError("the answer to learn is empty. Leave the study out, or give a report.")
        ids += [*tokenizer.encode(answer), tokenizer.eos_id]
    return Example(ids=ids, prompt=slice(0, start), answer=slice(start, len(ids)))
