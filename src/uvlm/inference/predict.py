"""A prepared volume through the parts of a bundle, the shared encoder once.

Arrays are z-scored float32 (z, y, x) on the shape of the part's preprocessing; files, grids and
warnings are the pipeline's matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uvlm.errors import BundleError
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.encoding import Encoded
from uvlm.inference.evidence.sentences import labeller_for
from uvlm.inference.generate import stream, write
from uvlm.inference.guided.abstain import Distance
from uvlm.inference.guided.choose import choose
from uvlm.inference.guided.options import GuideOptions
from uvlm.inference.guided.typical import Typical, pooled
from uvlm.inference.runtime import Encode, Precision, Runtime, check, encode_with
from uvlm.inference.segment import sliding_labels
from uvlm.models.bundle import Bundle
from uvlm.models.config import ReportConfig
from uvlm.models.exporting import graph_of
from uvlm.models.injection import VisualPlan
from uvlm.models.low_bit import lower
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.models.vit import SlicedVolume
from uvlm.text.draft import Draft
from uvlm.text.prompts import DEFAULT_PROMPT, build_example, findings_sentence
from uvlm.text.tokenizer import Tokenizer

__all__ = ["Prediction", "Predictor", "Written"]

Inputs = Callable[[str], NDArray[np.float32]]

UNGUIDED = GuideOptions()
TOGETHER = 32
"""Prompts about one study that are answered at once; each has a cache of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """A report as the decoder wrote it, and what it saw."""

    prompt: list[int]
    """Token ids before the report."""

    ids: list[int]
    """Of the report, without the closing one."""

    plan: VisualPlan
    encoded: Encoded
    """Of the report part's encoder."""


@dataclass(kw_only=True, eq=False)
class Prediction:
    """What the parts said about one volume; None where a part was not asked."""

    text: str | None = None
    """Generated report."""

    cut: bool = False
    """The report reached the token limit before its end."""

    probabilities: dict[str, float] | None = None
    """Per label, calibrated where the bundle holds a calibration."""

    distance: Distance | None = None
    """To the training studies; None where the bundle does not know what they were like."""

    labels: NDArray[Any] | None = None
    """(z, y, x) class indices on the prepared grid, 0 is background."""

    written: Written | None = None
    """Of the report part."""

    encoded: dict[str, Encoded] = field(default_factory=dict)
    """Of the classification and the report part; the same object where they share an encoder."""

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

    def __init__(
        self,
        bundle: Bundle,
        device: torch.device,
        precision: Precision = "fp32",
        runtime: Runtime = "torch",
    ) -> None:
        check(device, precision, runtime)
        self.bundle = bundle
        self.device = device
        for module in bundle.modules.values():
            module.to(device).eval()
        from uvlm.inference.evidence.heat_methods import finest_stage  # which imports this module

        self._encoders: dict[tuple[int, str], Encode] = {}
        for task in ("report", "classification"):
            # Parts whose preparation only nnU-Net repeats are not run.
            known = task in bundle.parts and bundle.parts[task].spec is not None
            if known and self._key(task) not in self._encoders:
                config: Any = bundle.parts[task].config
                finest = finest_stage(config.encoder, bundle.parts[task].our_spec.shape)
                # What heat maps are made of; only libraries that take a graph ask beforehand.
                graph = graph_of(bundle, task, (finest,))
                made = encode_with(graph, device, precision, runtime)
                self._encoders[self._key(task)] = made
        if "report" in bundle.modules:
            lower(cast(nn.Module, bundle.modules["report"].decoder), precision)

    @torch.inference_mode()
    def predict(
        self,
        inputs: Inputs,
        tasks: tuple[str, ...],
        options: GenerateOptions,
        spacing: str | None = None,
        keep: Collection[int] = (),
        guide: GuideOptions = UNGUIDED,
    ) -> Prediction:
        """Run `tasks` ("classification", "report", "segmentation").

        Args:
            inputs: part name -> its prepared array; "slices" -> (S, P, P) shades of slices, asked
                for by encoders that look at them
            options: how the report is written
            spacing: the sentence on the study's own voxel size, see `wants_spacing`
            keep: numbers of encoder stages to keep unpooled in `Prediction.encoded`
            guide: how the class head guides the report; it is then run as well

        Raises:
            BundleError: the report part needs that sentence, and there is none; or a class head.
        """
        if "report" in tasks:
            self._check_spacing(spacing)
            tasks = self._with_head(tasks, guide)
        result = Prediction()
        for group in self._groups(tasks):
            with result.timed("encode"):
                encoded = self._encode(group, inputs, keep)
            for task in group:
                result.encoded[task] = encoded
                if task == "classification":
                    with result.timed("classify"):
                        result.probabilities = self._classify(encoded)
                else:
                    prompt = self._prompt(spacing, result.probabilities)
                    with result.timed("generate"):
                        self._report(encoded, prompt, options, guide, result)
                result.distance = self._distance(task, encoded) or result.distance
        if "segmentation" in tasks:
            with result.timed("segment"):
                result.labels = self._segment(inputs("segmentation"))
        return result

    def stream(
        self, inputs: Inputs, options: GenerateOptions, spacing: str | None = None
    ) -> Iterator[str]:
        """The report piece by piece as it is written; arguments and errors as `predict`."""
        plan, (prompt,), options = self._asked(inputs, options, spacing, (None,))
        model, tokenizer = cast(ReportModel, self.bundle.modules["report"]), self._tokenizer
        return stream(model, plan, prompt, options, eos_id=tokenizer.eos_id, tokenizer=tokenizer)

    def answers(
        self,
        inputs: Inputs,
        prompts: Sequence[str],
        options: GenerateOptions,
        spacing: str | None = None,
    ) -> list[str]:
        """One text per prompt, the study encoded once; other arguments and errors as `predict`."""
        plan, asked, options = self._asked(inputs, options, spacing, prompts)
        model, tokenizer = cast(ReportModel, self.bundle.modules["report"]), self._tokenizer
        texts = []
        for start in range(0, len(asked), TOGETHER):
            some, end = asked[start : start + TOGETHER], tokenizer.eos_id
            made = write(model, plan, some, options, eos_id=end, tokenizer=tokenizer)
            texts += [str(each.text).strip() for each in made]
        return texts

    @torch.inference_mode()
    def _asked(
        self,
        inputs: Inputs,
        options: GenerateOptions,
        spacing: str | None,
        prompts: Sequence[str | None],
    ) -> tuple[VisualPlan, list[list[int]], GenerateOptions]:
        """A study encoded for the decoder, and what it is asked; None is the bundle's prompt."""
        self._check_spacing(spacing)
        encoded: dict[str, Encoded] = {}
        for group in self._groups(self._with_head(("report",), UNGUIDED)):
            encoded |= dict.fromkeys(group, self._encode(group, inputs, ()))
        known = self._classify(encoded["classification"]) if "classification" in encoded else None
        asked = [self._prompt(spacing, known, prompt) for prompt in prompts]
        model = cast(ReportModel, self.bundle.modules["report"])
        plan = model.align.project(encoded["report"].tokens)
        return plan, asked, _fitting(model, plan, max(map(len, asked)), options)

    def _groups(self, tasks: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Parts that share encoder and preprocessing, which one run of the encoder serves."""
        groups: dict[tuple[int, str], tuple[str, ...]] = {}
        for task in ("classification", "report"):
            if task in tasks:
                groups[self._key(task)] = (*groups.get(self._key(task), ()), task)
        return list(groups.values())

    @property
    def wants_spacing(self) -> bool:
        """Whether the report part was trained to be told the study's own voxel size."""
        part = self.bundle.parts.get("report")
        return part is not None and isinstance(part.config, ReportConfig) and part.config.spacing

    @property
    def wants_findings(self) -> bool:
        """Whether the report part was trained to be told what the class head finds."""
        part = self.bundle.parts.get("report")
        return part is not None and isinstance(part.config, ReportConfig) and part.config.findings

    def _with_head(self, tasks: tuple[str, ...], guide: GuideOptions) -> tuple[str, ...]:
        """`tasks`, and the class head where the report cannot be written without."""
        if not (self.wants_findings or guide.active) or "classification" in tasks:
            return tasks
        if "classification" not in self.bundle.parts:
            why = "its report part is told" if self.wants_findings else "candidates are compared by"
            raise BundleError.about(
                self.bundle.path,
                f"{why} what a class head finds, and it has no classification part",
                "Load the whole bundle, as training wrote it.",
            )
        return ("classification", *tasks)

    def _check_spacing(self, spacing: str | None) -> None:
        if self.wants_spacing and spacing is None:
            raise BundleError.about(
                self.bundle.path,
                "its report part is told the voxel size of the original study, which is unknown "
                "here",
                "Give the original study, or a prepared file with its metadata.",
            )

    @property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = self.bundle.tokenizer
        assert tokenizer is not None, "a bundle with a report part has a tokenizer"
        return tokenizer

    def _prompt(
        self,
        spacing: str | None,
        probabilities: Mapping[str, float] | None,
        prompt: str | None = None,
    ) -> list[int]:
        """Token ids, as in training."""
        told = [spacing] if self.wants_spacing and spacing else []
        if self.wants_findings:
            told.append(findings_sentence(self._present(probabilities or {})))
        prompt = prompt or self.bundle.prompt or DEFAULT_PROMPT
        return build_example(self._tokenizer, prompt, told=" ".join(told)).ids

    def _present(self, probabilities: Mapping[str, float]) -> list[str]:
        """The labels from their thresholds on; from 0.5 where validation gave none."""
        known = self.bundle.parts["classification"].calibration
        limits = {name: known.threshold(name) if known else 0.5 for name in probabilities}
        return [name for name, p in probabilities.items() if p >= limits[name]]

    def _distance(self, task: str, encoded: Encoded) -> Distance | None:
        typical = Typical.of(self.bundle.extras.get("typical", {}), task)
        if typical is None:
            return None
        value = typical.distance(pooled(encoded.deepest))
        return Distance(value=value, limit=typical.limit, rate=typical.rate)

    def _key(self, task: str) -> tuple[int, str]:
        return id(self.bundle.modules[task].encoder), self.bundle.parts[task].our_spec.hash

    def _encode(self, tasks: tuple[str, ...], inputs: Inputs, keep: Collection[int]) -> Encoded:
        encode = self._encoders[self._key(tasks[0])]
        volume, config = (
            self._tensor(inputs(tasks[0]))[None, None],
            self.bundle.parts[tasks[0]].config,
        )
        x: Tensor | SlicedVolume = volume
        if isinstance(config, ReportConfig) and getattr(config.encoder, "gated", False):
            x = SlicedVolume(volume, self._slice_features(inputs))
        return encode(x, "report" in tasks, keep)

    def _slice_features(self, inputs: Inputs) -> Tensor:
        """(1, S, F)"""
        if "slices" not in self.bundle.modules:
            raise BundleError.about(
                self.bundle.path,
                "its encoder looks at features of slices, and the 2D encoder is not in it",
                "Train with --slice-encoder FOLDER, which puts it into the bundle.",
            )
        shades_1SPP = self._tensor(inputs("slices"))[None]
        made: Tensor = self.bundle.modules["slices"](shades_1SPP)
        # As in training, where a bank holds them in half precision.
        return made.half().float()

    def _classify(self, encoded: Encoded) -> dict[str, float]:
        model = cast(ClassificationModel, self.bundle.modules["classification"])
        part = self.bundle.parts["classification"]
        logits_C = model.classify([encoded.deepest])[0]
        if part.calibration is not None:
            logits_C = logits_C / part.calibration.temperature
        return dict(zip(part.labels, logits_C.sigmoid().tolist(), strict=True))

    def _report(
        self,
        encoded: Encoded,
        prompt: list[int],
        options: GenerateOptions,
        guide: GuideOptions,
        into: Prediction,
    ) -> None:
        model = cast(ReportModel, self.bundle.modules["report"])
        tokenizer = self._tokenizer
        plan = model.align.project(encoded.tokens)
        options = _fitting(model, plan, len(prompt), options)
        if guide.active:
            made = choose(
                model,
                plan,
                prompt,
                options,
                guide,
                tokenizer=tokenizer,
                labeller=labeller_for(self.bundle.parts["report"].region),
                probabilities=into.probabilities or {},
            )
        else:
            (made,) = write(
                model,
                plan,
                [prompt],
                options,
                eos_id=tokenizer.eos_id,
                tokenizer=tokenizer,
                draft=self._draft,
            )
        into.written = Written(prompt=prompt, ids=made.ids, plan=plan, encoded=encoded)
        into.text, into.cut = str(made.text).strip(), made.cut

    @cached_property
    def _draft(self) -> Draft | None:
        """What proposes tokens of reports, if the bundle holds it."""
        tensors = self.bundle.extras.get("draft")
        return None if tensors is None else Draft.of(tensors)

    def _segment(self, array: NDArray[np.float32]) -> NDArray[Any]:
        part = self.bundle.parts["segmentation"]
        z, y, x = part.patch or part.our_spec.shape
        model = cast(SegmentationModel, self.bundle.modules["segmentation"])
        return sliding_labels(model, self._tensor(array), (z, y, x))

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self.device)


def _fitting(
    model: ReportModel, plan: VisualPlan, num_prompt: int, options: GenerateOptions
) -> GenerateOptions:
    """`options` for a report no longer than the decoder has positions for."""
    # The last token written is not read again.
    room = model.decoder.positions - len(plan.layout(num_prompt)) + 1
    most = min(options.max_new_tokens, max(room, 1))
    return replace(options, max_new_tokens=most, min_new_tokens=min(options.min_new_tokens, most))
