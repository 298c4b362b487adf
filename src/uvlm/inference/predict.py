"""A prepared volume through the parts of a bundle, the shared encoder once.

Arrays are z-scored float32 (z, y, x) on the shape of the part's preprocessing; files, grids and
warnings are the pipeline's matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uvlm.inference.features import Features, encode
from uvlm.inference.generate import generate
from uvlm.inference.segment import sliding_labels
from uvlm.models.bundle import Bundle
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.text.prompts import DEFAULT_PROMPT, build_example

__all__ = ["Prediction", "Predictor"]

Inputs = Callable[[str], NDArray[np.float32]]


@dataclass(kw_only=True)
class Prediction:
    """What the parts said about one volume; None where a part was not asked."""

    text: str | None = None
    """Generated report."""

    cut: bool = False
    """The report reached the token limit before its end."""

    probabilities: dict[str, float] | None = None
    """Per label."""

    labels: NDArray[Any] | None = None
    """(z, y, x) class indices on the prepared grid, 0 is background."""

    timings: dict[str, float] = field(default_factory=dict)
    """Seconds per step."""

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the block's seconds to `timings[step]`."""
        start = time.perf_counter()
        yield
        self.timings[step] = self.timings.get(step, 0.0) + time.perf_counter() - start


class Predictor:
    """The parts of a loaded bundle on one device."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.device = device
        for module in bundle.modules.values():
            module.to(device).eval()

    @torch.inference_mode()
    def predict(self, inputs: Inputs, tasks: tuple[str, ...], max_new_tokens: int) -> Prediction:
        """Run `tasks` ("classification", "report", "segmentation").

        Args:
            inputs: part name -> its prepared array
            max_new_tokens: limit of the report's length
        """
        result = Prediction()
        features = self._encode(inputs, tasks, result)
        if "classification" in tasks:
            with result.timed("classify"):
                result.probabilities = self._classify(features["classification"])
        if "report" in tasks:
            with result.timed("generate"):
                result.text, result.cut = self._report(features["report"], max_new_tokens)
        del features
        if "segmentation" in tasks:
            with result.timed("segment"):
                result.labels = self._segment(inputs("segmentation"))
        return result

    def _encode(
        self, inputs: Inputs, tasks: tuple[str, ...], result: Prediction
    ) -> dict[str, Features]:
        """Features per part; one run where parts share encoder and preprocessing."""
        runs: dict[tuple[int, str], list[str]] = {}
        for task in ("report", "classification"):
            if task in tasks:
                key = (id(self._model(task).encoder), self.bundle.parts[task].spec.hash)
                runs.setdefault(key, []).append(task)
        found: dict[str, Features] = {}
        for members in runs.values():
            x = self._tensor(inputs(members[0]))[None, None]
            align = self._model("report").align if "report" in members else None
            with result.timed("encode"):
                features = encode(self._model(members[0]).encoder, x, align)
            found.update(dict.fromkeys(members, features))
        return found

    def _model(self, task: str) -> Any:
        return self.bundle.modules[task]

    def _classify(self, features: Features) -> dict[str, float]:
        model = cast(ClassificationModel, self.bundle.modules["classification"])
        names = self.bundle.parts["classification"].labels
        values = model.classify([features.deepest])[0].sigmoid().tolist()
        return dict(zip(names, values, strict=True))

    def _report(self, features: Features, max_new_tokens: int) -> tuple[str, bool]:
        model = cast(ReportModel, self.bundle.modules["report"])
        tokenizer = self.bundle.tokenizer
        assert tokenizer is not None, "a bundle with a report part has a tokenizer"
        prompt = build_example(tokenizer, self.bundle.prompt or DEFAULT_PROMPT).ids
        ids = generate(
            model,
            model.align.project(features.tokens),
            prompt,
            max_new_tokens=max_new_tokens,
            eos_id=tokenizer.eos_id,
        )
        cut = len(ids) >= max_new_tokens and ids[-1] != tokenizer.eos_id
        return tokenizer.decode(ids).strip(), cut

    def _segment(self, array: NDArray[np.float32]) -> NDArray[Any]:
        part = self.bundle.parts["segmentation"]
        z, y, x = part.patch or part.spec.shape
        model = cast(SegmentationModel, self.bundle.modules["segmentation"])
        return sliding_labels(model, self._tensor(array), (z, y, x))

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.device)
