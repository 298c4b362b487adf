"""Tables that count lesions organ by organ: "Lesion count: liver 3, kidney 0"."""

from __future__ import annotations

import re
from typing import NamedTuple

from uvlm.registry import ABDOMEN_LABELS

__all__ = ["Count", "is_open", "read_counts"]

_LABELS = dict(zip(("l", "k", "p"), ABDOMEN_LABELS, strict=True)) | {"h": ABDOMEN_LABELS[0]}
_LABELS["r"] = _LABELS["k"]

_WHAT = r"(?:lesions?|cysts?|tumou?rs?|mass(?:es)?)"
_TITLE = (
    r"(?:\(?\d{1,2}[.)]+ ?|[-•*] ?)?(?:(?:total|the|number|no\.?|counts?|of|focal|organ) ){0,4}"
    rf"{_WHAT}(?: (?:counts?|numbers?|burden|load|presence|status|instances?|by|per|in|each|organ)"
    r"){0,4} ?[:=(–-]"
)
_HEAD = re.compile(_TITLE)
_ONLY_HEAD = re.compile(rf"{_TITLE}[ :.=-]*")
_ITEM = re.compile(
    rf"\b(?:liver|hepatic|kidneys?|renal|pancreas|pancreatic)(?: {_WHAT})?(?: ?[:=(] ?| - | )"
    r"(?P<value>none|no|nil|absent|negative|yes|present|positive|\d+)"
    # "Liver 3 cm" is a size, "kidney 1.2" too; "no cyst" goes on.
    r"(?![\w.]*\d)(?! ?(?:[cm]m|ml|cc|x)\b)(?=\s*(?:[,;.)|/]|$| and\b| [a-z]+(?: ?[:=]| \d)))"
)
_LINE = re.compile(r"(?:[-•*] ?)?[a-z][a-z ]{2,25} ?[:=(-]? ?(?:\w+)\)?[ .;,]*")


class Count(NamedTuple):
    """What a table says of one organ."""

    label: str
    some: bool
    """Whether there is at least one."""
    start: int
    end: int


def is_open(low: str) -> bool:
    """Whether a sentence in small letters is nothing but the title of such a table."""
    return _ONLY_HEAD.fullmatch(low) is not None


def read_counts(low: str, counting: bool) -> tuple[Count, ...]:
    """The counts of a sentence in small letters; none where it is no such table.

    With `counting`, the title stood in a line before.
    """
    head = _HEAD.match(low)
    if not head and not (counting and _LINE.fullmatch(low)):
        return ()
    return tuple(
        Count(
            _LABELS[item[0][0]],
            re.fullmatch(r"no\w*|nil|absent|negative|0+", item["value"]) is None,
            *item.span(),
        )
        for item in _ITEM.finditer(low, head.end() if head else 0)
    )
