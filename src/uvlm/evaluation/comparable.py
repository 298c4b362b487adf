"""Whether two scores of one name are of one kind: the same classes, labeller, truth and settings.

A score over two classes is not the score over eighteen, though its protocol and name are the same;
nor is one whose labels another labeller made. `about` of a result records these things.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from uvlm.evaluation.labels.clinical import PROTOCOLS as LABEL_PROTOCOLS
from uvlm.evaluation.published import PublishedRow, classes_of
from uvlm.evaluation.result_files import Stored
from uvlm.evaluation.results import PER_CLASS

__all__ = ["Key", "beside_all", "class_set", "differing", "shown", "told"]

Key = tuple[str, str]
"""(protocol, name of the score)"""

CLASSES = "class_names"

SHOWN = 3
"""Classes named of a long list."""

OF_LABELS = frozenset(info.name for info in LABEL_PROTOCOLS)

WORDS = {
    CLASSES: "classes",
    "truth_from": "source of the true labels",
    "predictions_from": "source of the predicted labels",
    "labels": "file of labels",
    "classes": "file of classes",
    "tolerance_mm": "tolerance",
    "lesion_iou": "overlap of lesions",
    "lesions": "lesion classes",
    "others": "rule for other voxels",
}
"""Key of `about` -> how it is called; others by their own name."""


def class_set(about: Mapping[str, Any]) -> frozenset[str] | None:
    """The classes scored; None where that is not recorded."""
    names = about.get(CLASSES)
    if not names:
        return None
    return frozenset(names.split(", ") if isinstance(names, str) else names)


def differing(first: Stored, other: Stored, key: Key) -> str:
    """What makes the score another one in the two results, the key of `about`; "" if nothing."""
    return next((name for name in _bearing(first.task, key) if _differs(first, other, name)), "")


def _differs(first: Stored, other: Stored, name: str) -> bool:
    if name == CLASSES:
        return class_set(first.about) != class_set(other.about)
    return bool(first.about.get(name) != other.about.get(name))


def _bearing(task: str, key: Key) -> Iterator[str]:
    """Keys of `about` that decide what a score is."""
    protocol, name = key
    if PER_CLASS not in name and _over_classes(task, protocol):
        yield CLASSES
    if task == "report" and protocol in OF_LABELS:
        yield from ("region", "labeller", "truth_from", "labels", "predictions_from")
    if task == "detect":
        yield "truth_from"
    if task == "seg":
        yield from ("classes", "others")
        if "surface" in protocol:
            yield "tolerance_mm"
        if "lesion" in protocol:
            yield from ("lesions", "lesion_iou")
    if task == "retrieval" and not protocol.startswith("retrieval@"):
        yield "labels"


def _over_classes(task: str, protocol: str) -> bool:
    return task == "cls" or (task == "report" and protocol in OF_LABELS)


def told(name: str) -> str:
    """`name` of `about` in words."""
    return WORDS.get(name, name.replace("_", " "))


def shown(result: Stored, name: str) -> str:
    """What a result has there, shortly."""
    if name != CLASSES:
        return str(result.about.get(name, "not given"))
    names = sorted(class_set(result.about) or ())
    if not names:
        return "not recorded"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{more})"


def beside_all(results: Sequence[Stored], key: Key, row: PublishedRow) -> bool:
    """Whether a published value is over the classes of every result, as far as they are known."""
    protocol, name = key
    expected = classes_of(row.dataset)
    if PER_CLASS in name or not _over_classes(results[0].task, protocol) or expected is None:
        return True
    return all(class_set(result.about) in (None, expected) for result in results)
