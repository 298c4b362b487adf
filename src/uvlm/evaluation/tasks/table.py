"""Which module scores which task; imported only when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvlm.evaluation.results import Result

__all__ = ["CALLS", "evaluate_files", "options_of"]

CALLS: Mapping[str, tuple[str, str, str]] = {
    "report": ("report", "ReportInputs", "evaluate_reports"),
    "cls": ("cls", "ClassifierInputs", "evaluate_classifier"),
    "seg": ("seg", "MaskInputs", "evaluate_masks"),
    "detect": ("detect", "DetectionInputs", "evaluate_detection"),
    "retrieval": ("retrieval", "RetrievalInputs", "evaluate_retrieval"),
    "vqa": ("vqa", "AnswerInputs", "evaluate_answers"),
}
"""Task -> (module beside this one, its options, its function)"""


def options_of(task: str) -> type[Any]:
    """The record of the task's options."""
    module, options, _ = CALLS[task]
    found: type[Any] = getattr(_module(module), options)
    return found


def evaluate_files(task: str, options: Any) -> Result:
    """Score the files that `options`, an instance of `options_of(task)`, names.

    Raises:
        InputError: what is wrong in them.
    """
    module, _, function = CALLS[task]
    result: Result = getattr(_module(module), function)(options)
    return result


def _module(name: str) -> Any:
    return importlib.import_module(f"uvlm.evaluation.tasks.{name}")
