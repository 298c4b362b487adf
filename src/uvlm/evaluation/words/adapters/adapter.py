"""What every metric that needs a model has in common: local weights, or a reason.

Shapes: N studies, M scores.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uvlm.errors import UvlmError
from uvlm.evaluation.measure import Measure, mean_measure
from uvlm.evaluation.words.adapters.offline import offline
from uvlm.evaluation.words.skipped import SkippedError

__all__ = ["Adapter", "no_weights"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One metric; its module is imported when it is computed, not before."""

    module: str
    """In this package; has `scores(references, predictions, folder) -> ((N, M), notes)`, or
    `measure(name, references, predictions, folder) -> Measure`."""

    package: str
    """To install, as it is imported."""

    about: str
    source: str

    names: tuple[str, ...] = ()
    """Of the M scores."""

    gives_measure: bool = False
    """Whether the module makes the measure and minds empty predictions itself."""

    def measure(
        self, name: str, references: Sequence[str], predictions: Sequence[str], folder: Path | None
    ) -> Measure:
        """Score each study with the weights in `folder`; the measure is the mean over studies.

        Models do not see empty predictions; those score 0.

        Raises:
            SkippedError: no folder is given, it or the package is absent, or the model fails.
        """
        where = _checked(name, self.package, folder)
        try:
            with offline():
                code = importlib.import_module(f"uvlm.evaluation.words.adapters.{self.module}")
                if self.gives_measure:
                    found: Measure = code.measure(name, references, predictions, where)
                    return found
                return self._mean(code.scores, name, references, predictions, where)
        except SkippedError:
            raise
        except (UvlmError, ImportError) as error:
            raise SkippedError(str(error)) from error
        except Exception as error:
            # The library's own message may quote a report.
            log.debug("%s failed with %s", name, type(error).__name__)
            raise SkippedError(
                f"{self.package} failed with {type(error).__name__} on the weights in {where}."
            ) from error

    def _mean(
        self,
        scores: Callable[[list[str], list[str], Path], tuple[Any, tuple[str, ...]]],
        name: str,
        references: Sequence[str],
        predictions: Sequence[str],
        where: Path,
    ) -> Measure:
        there = [i for i, text in enumerate(predictions) if text.strip()]
        table = np.zeros((len(predictions), len(self.names)))
        notes: tuple[str, ...] = ()
        if there:
            table[there], notes = scores(
                [references[i] for i in there], [predictions[i] for i in there], where
            )
        return mean_measure(name, self.names, table, notes=notes)


def no_weights(name: str) -> str:
    """Why an adapter without weights is skipped."""
    return f"no weights are given. Give a local folder: --weights {name}=FOLDER"


def _checked(name: str, package: str, folder: Path | None) -> Path:
    if folder is None:
        raise SkippedError(no_weights(name))
    if not Path(folder).is_dir():
        raise SkippedError(f"{folder} is not a folder. Give the folder of the weights.")
    if not _installed(package):
        raise SkippedError(f"the package {package} is not installed.")
    return Path(folder)


def _installed(package: str) -> bool:
    try:
        spec: Any = importlib.util.find_spec(package)
    except ValueError:
        # A module put in place by hand has no specification.
        return True
    return spec is not None
