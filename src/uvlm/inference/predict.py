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

from uvlm.errors import BundleError
from uvlm.inference.generate import generate
from uvlm.inference.segment import sliding_labels
from uvlm.models.bundle import Bundle
from uvlm.models.config import ReportConfig
from uvlm.models.encoder import Encoder
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
    def predict(
        self,
        inputs: Inputs,
        tasks: tuple[str, ...],
        max_new_tokens: int,
        spacing: str | None = None,
    ) -> Prediction:
        """Run `tasks` ("classification", "report", "segmentation").

        Args:
            inputs: part name -> its prepared array
            max_new_tokens: limit of the report's length
            spacing: the sentence on the study's own voxel size, see `wants_spacing`

        Raises:
            BundleError: the report part needs that sentence, and there is none.
        """
        prompt = self._prompt(spacing) if "report" in tasks else []
        result = Prediction()
        key, stages = None, list[Tensor]()
        for task in ("classification", "report"):
            if task not in tasks:
                continue
            # Parts that share encoder and preprocessing share one run; otherwise the stages of
            # the one before go before the next are made.
            if self._key(task) != key:
                key, stages = self._key(task), []
                with result.timed("encode"):
                    stages = self._encode(task, inputs(task))
            self._read(task, stages, prompt, max_new_tokens, result)
        del stages
        if "segmentation" in tasks:
            with result.timed("segment"):
                result.labels = self._segment(inputs("segmentation"))
        return result

    @property
    def wants_spacing(self) -> bool:
        """Whether the report part was trained to be told the study's own voxel size."""
        part = self.bundle.parts.get("report")
        return part is not None and isinstance(part.config, ReportConfig) and part.config.spacing

    def _prompt(self, spacing: str | None) -> list[int]:
        """Token ids, as in training."""
        tokenizer = self.bundle.tokenizer
        assert tokenizer is not None, "a bundle with a report part has a tokenizer"
        if self.wants_spacing and spacing is None:
            raise BundleError.about(
                self.bundle.path,
                "its report part is told the voxel size of the original study, which is unknown "
                "here",
                "Give the original study, or a prepared file with its metadata.",
            )
        prompt = self.bundle.prompt or DEFAULT_PROMPT
        told = spacing if self.wants_spacing else None
        return build_example(tokenizer, prompt, spacing=told).ids

    def _key(self, task: str) -> tuple[int, str]:
        return id(self.bundle.modules[task].encoder), self.bundle.parts[task].our_spec.hash

    def _encode(self, task: str, array: NDArray[np.float32]) -> list[Tensor]:
        encoder = cast(Encoder, self.bundle.modules[task].encoder)
        stages: list[Tensor] = encoder(self._tensor(array)[None, None])
        return stages

    def _read(
        self,
        task: str,
        stages: list[Tensor],
        prompt: list[int],
        max_new_tokens: int,
        into: Prediction,
    ) -> None:
        if task == "classification":
            with into.timed("classify"):
                into.probabilities = self._classify(stages)
        else:
            with into.timed("generate"):
                into.text, into.cut = self._report(stages, prompt, max_new_tokens)

    def _classify(self, stages: list[Tensor]) -> dict[str, float]:
        model = cast(ClassificationModel, self.bundle.modules["classification"])
        names = self.bundle.parts["classification"].labels
        values = model.classify(stages)[0].sigmoid().tolist()
        return dict(zip(names, values, strict=True))

    def _report(
        self, stages: list[Tensor], prompt: list[int], max_new_tokens: int
    ) -> tuple[str, bool]:
        model = cast(ReportModel, self.bundle.modules["report"])
        tokenizer = self.bundle.tokenizer
        assert tokenizer is not None
        plan = model.visual_plan(stages)
        # The last token written is not read again.
        room = model.decoder.positions - len(plan.layout(len(prompt))) + 1
        most = min(max_new_tokens, max(room, 1))
        ids = generate(model, plan, prompt, max_new_tokens=most, eos_id=tokenizer.eos_id)
        return tokenizer.decode(ids).strip(), len(ids) == most

    def _segment(self, array: NDArray[np.float32]) -> NDArray[Any]:
        part = self.bundle.parts["segmentation"]
        z, y, x = part.patch or part.our_spec.shape
        model = cast(SegmentationModel, self.bundle.modules["segmentation"])
        return sliding_labels(model, self._tensor(array), (z, y, x))

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.device)
