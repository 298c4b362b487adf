"""Load a bundle once; then study in, `Findings` out.

>>> import uvlm
>>> pipeline = uvlm.load("bundle")  # doctest: +SKIP
>>> pipeline.report("study.nii.gz").write("out")  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from uvlm import __version__
from uvlm.errors import BundleError
from uvlm.imaging.measure import ClassMeasure, measure
from uvlm.imaging.preprocess import Grid
from uvlm.imaging.volume import Volume
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.evidence.assemble import assemble
from uvlm.inference.evidence.heat import stages_needed
from uvlm.inference.evidence.types import ReportEvidence
from uvlm.inference.findings import Findings
from uvlm.inference.guided.abstain import review_reasons
from uvlm.inference.guided.options import GuideOptions
from uvlm.inference.predict import Inputs, Prediction, Predictor
from uvlm.inference.runtime import Precision, Runtime, check, device_named
from uvlm.inference.study import Study, prepared_inputs, read_study, region_flag
from uvlm.inference.writer import study_name
from uvlm.models.bundle import Bundle, load_bundle
from uvlm.models.uvlm import ReportModel
from uvlm.text.cleaning import split_sentences
from uvlm.text.prompts import spacing_sentence

__all__ = ["Pipeline"]

GREEDY, UNGUIDED = GenerateOptions(), GuideOptions()
TASKS = ("classification", "report", "segmentation")
GIVES = {"classification": "probability of any abnormality", "segmentation": "mask"}


class Pipeline:
    """A loaded bundle on one device. The same input and options give the same result."""

    def __init__(
        self,
        bundle: Bundle,
        device: torch.device,
        precision: Precision = "fp32",
        runtime: Runtime = "torch",
    ) -> None:
        self.bundle = bundle
        self.device = device
        self.precision = precision
        self.runtime = runtime
        self._predictor = Predictor(bundle, device, precision, runtime)

    @classmethod
    def load(
        cls,
        bundle: Path | str,
        device: str = "auto",
        base: Path | str | None = None,
        *,
        task: str | None = None,
        precision: Precision = "fp32",
        runtime: Runtime = "torch",
    ) -> Pipeline:
        """Read, verify and place a bundle.

        Args:
            bundle: folder written by training, or a checkpoint `*.pth` of nnU-Net's folders
            device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
            base: folder of the language model, for a bundle that holds adapters of one
            task: load this part only
            precision: "bf16" for encoder and decoder, where the device calculates in it; "int8"
                for the decoder's weights only, which on a GPU is smaller, not faster
            runtime: what runs the encoder: "torch", "compile", "openvino" or "onnx"

        Raises:
            BundleError: a file is missing or altered, or the base is missing or another one.
            ConfigError: the device does not exist, or cannot do what is asked.
            MissingExtraError: the runtime's library is not installed.
        """
        where = device_named(device)
        check(where, precision, runtime)
        given = Path(base) if base else None
        return cls(load_bundle(Path(bundle), base=given, task=task), where, precision, runtime)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Parts the bundle holds, without those whose preparation only nnU-Net repeats."""
        parts = self.bundle.parts
        return tuple(task for task in TASKS if task in parts and parts[task].spec is not None)

    @property
    def classes(self) -> dict[str, int]:
        """Class name -> value in a mask; empty without a segmentation part."""
        part = self.bundle.parts.get("segmentation")
        return {} if part is None else part.labels

    def require(self, task: str) -> None:
        """Raise BundleError if the bundle has no part for `task`."""
        if task not in self.bundle.parts:
            raise BundleError.about(
                self.bundle.path,
                f"the bundle has no {task} part; it holds {', '.join(self.bundle.parts)}",
                f"Give a bundle that was trained for {task}.",
            )

    def report(
        self,
        path: Path | str | Study,
        series: str | None = None,
        *,
        options: GenerateOptions = GREEDY,
        guide: GuideOptions = UNGUIDED,
        evidence: bool = True,
    ) -> Findings:
        """Report, and probabilities and mask where the bundle has the parts.

        Args:
            path: NIfTI, NRRD, MetaImage, DICOM folder or zip, a prepared `.b2nd`; or what `read`
                gave
            series: DICOM series to read, by number or UID; None follows the documented rule
            options: how the report is written
            guide: how the class head guides it
            evidence: also what each sentence rests on, and what contradicts it

        Raises:
            BundleError: no report part, no class head where one is needed, or the file was prepared
                in another way.
            ImageError: the file is not a usable CT.
        """
        self.require("report")
        return self._run(path, series, self.tasks, options, guide, evidence=evidence)

    def stream(
        self,
        path: Path | str | Study,
        series: str | None = None,
        *,
        options: GenerateOptions = GREEDY,
    ) -> Iterator[str]:
        """`report`'s text piece by piece as it is written, white space at its ends included.

        The study is read and encoded before this returns. Arguments and errors as `report`; and
        ConfigError for beams, which are known at their end only.
        """
        inputs, spacing = self._for_report(path, series)
        return self._predictor.stream(inputs, options, spacing)

    def answers(
        self,
        path: Path | str | Study,
        prompts: Sequence[str],
        series: str | None = None,
        *,
        options: GenerateOptions = GREEDY,
    ) -> list[str]:
        """One text per prompt about a study encoded once; a model knows the prompt it was trained
        with, what it makes of others is its own. Other arguments and errors as `report`."""
        inputs, spacing = self._for_report(path, series)
        return self._predictor.answers(inputs, prompts, options, spacing) if prompts else []

    def classify(self, path: Path | str, series: str | None = None) -> Findings:
        """Probabilities only; arguments and errors as `report`."""
        self.require("classification")
        return self._run(path, series, ("classification",), GREEDY)

    def segment(self, path: Path | str, series: str | None = None) -> Findings:
        """Mask and volumes only; arguments and errors as `report`."""
        self.require("segmentation")
        return self._run(path, series, ("segmentation",), GREEDY)

    def predict_prepared(
        self,
        array: NDArray[np.float32],
        tasks: tuple[str, ...] | None = None,
        *,
        options: GenerateOptions = GREEDY,
        guide: GuideOptions = UNGUIDED,
        grid: Grid | None = None,
        hu: NDArray[Any] | None = None,
    ) -> Prediction:
        """All `tasks` (default: all parts) on one z-scored (z, y, x) array, encoded once.

        The caller answers for the array's preprocessing: one hash for every part asked.

        Args:
            grid: where the array came from, as `prepare` and `read_meta` give it; needed by a
                report part that is told the study's own voxel size
            hu: the same volume in HU; needed by a report part that looks at slices

        Raises:
            BundleError: no such part, or `grid` or `hu` is needed and not given.
        """
        tasks = self.tasks if tasks is None else tasks
        for task in tasks:
            self.require(task)
        spacing = None if grid is None else spacing_sentence(*grid.source_lps)
        inputs = prepared_inputs(self.bundle, array, hu)
        return self._predictor.predict(inputs, tasks, options, spacing, guide=guide)

    def report_prepared(self, array: NDArray[np.float32], grid: Grid | None = None) -> str:
        """Generated text for a z-scored (z, y, x) array."""
        return self.predict_prepared(array, ("report",), grid=grid).text or ""

    def classify_prepared(self, array: NDArray[np.float32]) -> dict[str, float]:
        """Label -> probability for a z-scored (z, y, x) array."""
        return self.predict_prepared(array, ("classification",)).probabilities or {}

    def segment_prepared(self, array: NDArray[np.float32]) -> NDArray[Any]:
        """(z, y, x) class indices for a z-scored (z, y, x) array."""
        labels = self.predict_prepared(array, ("segmentation",)).labels
        assert labels is not None
        return labels

    def read(
        self, path: Path | str, series: str | None = None, tasks: tuple[str, ...] | None = None
    ) -> Study:
        """A study read, checked and prepared for `tasks` (default: all parts), no network asked.

        It may be done in another thread, while the networks are busy with the study before.

        Raises:
            BundleError, ImageError: as `report`.
        """
        start = time.perf_counter()
        study = read_study(Path(path), series)
        study.seconds["read"] = time.perf_counter() - start
        # All inputs before any network: a file that one part must refuse fails at once.
        start = time.perf_counter()
        for task in self.tasks if tasks is None else tasks:
            study.input_for(self.bundle.parts[task].our_spec, task)
        study.seconds["prepare"] = time.perf_counter() - start
        return study

    def _for_report(
        self, path: Path | str | Study, series: str | None
    ) -> tuple[Inputs, str | None]:
        """What a report is written from: inputs of the parts, and the sentence on spacing."""
        self.require("report")
        tasks = tuple(task for task in self.tasks if task != "segmentation")
        study = path if isinstance(path, Study) else self.read(path, series, tasks)
        specs = {task: self.bundle.parts[task].our_spec for task in tasks}
        return study.inputs(self.bundle.parts), study.spacing(specs["report"])

    def _run(
        self,
        path: Path | str | Study,
        series: str | None,
        tasks: tuple[str, ...],
        options: GenerateOptions,
        guide: GuideOptions = UNGUIDED,
        *,
        evidence: bool = False,
    ) -> Findings:
        study = path if isinstance(path, Study) else self.read(path, series, tasks)
        timings = dict(study.seconds)
        specs = {task: self.bundle.parts[task].our_spec for task in tasks}
        result = self._predictor.predict(
            study.inputs(self.bundle.parts),
            tasks,
            options,
            study.spacing(specs["report"]) if "report" in tasks else None,
            keep=stages_needed(self._report_model) if evidence else (),
            guide=guide,
        )
        timings |= result.timings
        start = time.perf_counter()
        mask, measures = self._on_own_grid(study, result)
        if mask is not None:
            timings["restore"] = time.perf_counter() - start
        found = None
        if evidence:
            start = time.perf_counter()
            found = assemble(self.bundle, study, result, mask)
            timings["evidence"] = time.perf_counter() - start
        flags, notes = self._remarks(study, result, tasks)
        return Findings(
            study=study_name(study.path),
            generated=result.text,
            sentences=tuple(split_sentences(result.text or "")),
            probabilities=result.probabilities,
            calibrated=self._calibrated(tasks),
            review=self._review(study, result, found, flagged=bool(flags)),
            evidence=found,
            mask=mask,
            affine=study.volume.affine,
            volume=study.volume,
            grids={spec.hash: study.grid_for(spec) for spec in specs.values()},
            classes=self.classes if mask is not None else {},
            measures=measures,
            flags=flags,
            notes=notes,
            timings=timings,
            manifest=self._manifest(study, tasks) | _chosen(tasks, options, guide),
            model=self._card(tasks),
        )

    @property
    def _report_model(self) -> ReportModel:
        return cast(ReportModel, self.bundle.modules["report"])

    def _calibrated(self, tasks: tuple[str, ...]) -> bool:
        part = self.bundle.parts.get("classification")
        return "classification" in tasks and part is not None and part.calibration is not None

    def _on_own_grid(
        self, study: Study, result: Prediction
    ) -> tuple[NDArray[Any] | None, tuple[ClassMeasure, ...]]:
        if result.labels is None:
            return None, ()
        mask = study.on_own_grid(result.labels, self.bundle.parts["segmentation"].our_spec)
        names = {value: name for name, value in self.classes.items()}
        volume = study.volume
        own = Volume(array=mask, affine=volume.affine, provenance=volume.provenance)
        return mask, tuple(measure(volume, own, names))

    def _remarks(
        self, study: Study, result: Prediction, tasks: tuple[str, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(flags, notes); flags say that nothing can be trusted."""
        flags: dict[str, None] = {}
        notes: dict[str, None] = {}
        for region in dict.fromkeys(self.bundle.parts[task].region for task in tasks):
            flag, note = region_flag(study, region)
            flags |= {flag: None} if flag else {}
            notes |= {note: None} if note else {}
        notes |= dict.fromkeys(study.notes)
        if result.cut:
            notes["The report reached its length limit and ends early."] = None
        if "report" in tasks:
            for task in (t for t in TASKS if t not in self.bundle.parts):
                notes[f"The model has no {task} part, so there is no {GIVES[task]}."] = None
        return tuple(flags), tuple(notes)

    def _review(
        self, study: Study, result: Prediction, found: ReportEvidence | None, *, flagged: bool
    ) -> tuple[str, ...]:
        """Why a person must look first; without evidence nothing is known of contradictions."""
        if result.text is None:
            return ()
        return review_reasons(
            region=None if flagged else self.bundle.parts["report"].region,
            audit=study.audit,
            distance=result.distance,
            contradictions=found.contradictions if found else (),
        )

    def _manifest(self, study: Study, tasks: tuple[str, ...]) -> dict[str, Any]:
        provenance = study.volume.provenance
        return {
            "input": study.path.name or study.path.resolve().name,
            "format": provenance.format,
            "sha256": provenance.checksum,
            "geometry": study.geometry,
            "preprocessing": {task: self.bundle.parts[task].our_spec.hash for task in tasks},
            "bundle": self.bundle.fingerprint,
            "uvlm": __version__,
            "torch": torch.__version__,
            "device": str(self.device),
            "precision": self.precision,
            "runtime": self.runtime,
            "threads": torch.get_num_threads(),
        }

    def _card(self, tasks: tuple[str, ...]) -> Mapping[str, Any]:
        parts = {task: self.bundle.parts[task] for task in tasks}
        return {
            "region": ", ".join(dict.fromkeys(part.region for part in parts.values())),
            "parts": {
                task: {
                    "region": part.region,
                    "trained_on": part.trained_on,
                    "metrics": dict(part.metrics),
                }
                for task, part in parts.items()
            },
        }


def _chosen(
    tasks: tuple[str, ...], options: GenerateOptions, guide: GuideOptions
) -> dict[str, Any]:
    """How the report was written, where that is not the default."""
    if "report" not in tasks:
        return {}
    given = asdict(options) | asdict(guide)
    usual = asdict(GenerateOptions()) | asdict(GuideOptions())
    changed = {name: value for name, value in given.items() if value != usual[name]}
    return {"generation": changed or "greedy"}
