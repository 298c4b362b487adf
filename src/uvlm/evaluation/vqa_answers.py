"""When is an answer right? Any of several valid answers is, an empty one never.

Answers are compared after `normalised`: Unicode NFKC, case folded, white space collapsed, none
around "/", surrounding quotes and closing punctuation dropped; an answer that is wholly a size with
a unit becomes its numbers in mm, largest first. Nothing else is forgiven: a sentence that contains
the answer is not the answer.

A location is a path, `lung/lung/right lung`. Its credit is the number of leading elements that
prediction and answer share, divided by the number of elements of the longer one; of several valid
answers the best counts. Only the whole path gives 1, and going too deep costs as much as stopping
too early. An answer without "/" is a path of one element, so that the credit is 1 or 0.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable

from uvlm.errors import InputError
from uvlm.preprocessing.sources.radgenome_tables import millimetres

__all__ = ["answers_of", "exact_credit", "normalised", "path_credit"]


def answers_of(cell: str) -> tuple[str, ...]:
    """Valid answers of a cell: a JSON list of texts (as in `vqa.csv`), or one plain text.

    Raises:
        InputError: it begins like a list and is none.
    """
    if not cell.lstrip().startswith("["):
        return (cell.strip(),) if cell.strip() else ()
    try:
        values = json.loads(cell)
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(
            f"answers of {len(cell)} characters begin with '[' and are no JSON list of texts. "
            'Write ["left lung", "right lung"], or one answer without brackets.'
        )
    return tuple(value.strip() for value in values if value.strip())


def normalised(answer: str) -> str:
    """The form in which answers are compared; "" if nothing is left."""
    text = " ".join(unicodedata.normalize("NFKC", answer).casefold().split())
    text = re.sub(r"\s*/\s*", "/", text).strip("\"'`“”‘’ ").rstrip(".,;:!? ")
    text = text.rstrip("\"'`“”‘’ ")
    size = millimetres(text)
    if size is None:
        return text
    return " x ".join(f"{value:g}" for value in sorted(size, reverse=True)) + " mm"


def exact_credit(prediction: str, answers: Iterable[str]) -> float:
    """1.0 if the prediction is one of the answers, else 0.0; an empty one is never."""
    found = normalised(prediction)
    return float(bool(found) and any(found == normalised(answer) for answer in answers))


def path_credit(prediction: str, answers: Iterable[str]) -> float:
    """Best over the answers of shared leading elements / elements of the longer path."""
    found = _path(prediction)
    best = 0.0
    for answer in answers:
        right = _path(answer)
        shared = 0
        for one, other in zip(found, right, strict=False):
            if one != other:
                break
            shared += 1
        best = max(best, shared / max(len(found), len(right), 1))
    return best


def _path(answer: str) -> list[str]:
    return [part for part in normalised(answer).split("/") if part]
