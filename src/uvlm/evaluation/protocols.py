"""All protocols, as the modules that compute them describe them."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Sequence

from uvlm.errors import InputError
from uvlm.evaluation.protocol_info import ProtocolInfo

__all__ = ["TASKS", "all_protocols", "chosen_protocols", "explain", "reference_page"]

TASKS = ("report", "cls", "seg", "detect", "retrieval", "vqa")

MODULES: tuple[str, ...] = (
    "words.metrics",
    "labels.clinical",
    "labels.probabilities",
    "masks.metrics",
    "masks.detection_measures",
    "retrieval",
    "volume_similarity",
    "vqa",
)
"""Each has `PROTOCOLS`."""


def all_protocols(task: str | None = None) -> tuple[ProtocolInfo, ...]:
    """Every protocol, or those of one task, in the order of their modules."""
    found: list[ProtocolInfo] = []
    for name in MODULES:
        found += importlib.import_module(f"uvlm.evaluation.{name}").PROTOCOLS
    return tuple(info for info in found if task in (None, info.task))


def chosen_protocols(task: str, named: Sequence[str] = ()) -> tuple[str, ...]:
    """The protocols named, or the task's default ones.

    Raises:
        InputError: a name is none of the task's.
    """
    known = {info.name: info for info in all_protocols(task)}
    wrong = [name for name in named if name not in known]
    if wrong:
        raise InputError(
            f"no protocol {wrong[0]!r} for {task}. Choose from: {', '.join(known)}; "
            f"`uvlm evaluate {task} --list` explains each."
        )
    return tuple(dict.fromkeys(named)) or tuple(n for n, info in known.items() if info.default)


def explain(task: str | None = None) -> str:
    """One paragraph per protocol, for a terminal."""
    return "\n\n".join(_paragraph(info) for info in all_protocols(task))


def _paragraph(info: ProtocolInfo) -> str:
    head = f"{info.name}  ({info.task}{'' if info.default else ', only when named'})"
    parts = [info.about, f"Source: {_sentence(info.source)}"]
    if info.needs:
        parts.append(f"Needs: {_sentence(info.needs)}")
    return "\n".join([head, *map(_filled, parts)])


def _filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 96, initial_indent="  ", subsequent_indent="  ")


def reference_page() -> str:
    """docs/reference/protocols.md; a test compares the two, `scripts/protocols` writes it."""
    blocks = [_PAGE_HEAD]
    for task in TASKS:
        blocks.append(f"## {task}")
        blocks += [_entry(info) for info in all_protocols(task)]
    return "\n\n".join(blocks) + "\n"


_PAGE_HEAD = """# Protocols

A protocol is a named way to compute a metric: what one code base calls BLEU or F1 is not what
another computes under the same name. `uvlm evaluate TASK --list` prints this page. Written by
`scripts/protocols` from the code; do not edit it."""


def _entry(info: ProtocolInfo) -> str:
    when = "" if info.default else " (only when named)"
    needs = f"\n\nNeeds: {_sentence(info.needs)}" if info.needs else ""
    return f"### `{info.name}`{when}\n\n{info.about}\n\nSource: {_sentence(info.source)}{needs}"


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
