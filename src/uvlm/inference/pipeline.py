"""Load a bundle once; then study in, `Findings` out.

>>> import uvlm
>>> pipeline = uvlm.load("bundle")  # doctest: +SKIP
>>> pipeline.report("study.nii.gz").write("out")  # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uvlm import __version__
from uvlm.errors import BundleError, ConfigError
from uvlm.imaging.measure import ClassMeasure, measure
from uvlm.imaging.preprocess import Grid
from uvlm.imaging.volume import Volume
from uvlm.inference.findings import Findings
from uvlm.inference.predict import Prediction, Predictor
from uvlm.inference.study import Study, read_study, region_flag
from uvlm.inference.writer import study_name
from uvlm.models.bundle import Bundle, load_bundle
from uvlm.text.cleaning import split_sentences
from uvlm.text.prompts import spacing_sentence

__all__ = ["MAX_NEW_TOKENS", "Pipeline"]

MAX_NEW_TOKENS = 512
TASKS = ("classification", "report", "segmentation")
GIVES = {"classification": "probability of any abnormality", "segmentation": "mask"}


class Pipeline:
    """A loaded bundle on one device. Greedy decoding: the same input gives the same result."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.device = device
        self._predictor = Predictor(bundle, device)

    @classmethod
    def load(
        cls,
        bundle: Path | str,
        device: str = "auto",
        base: Path | str | None = None,
        *,
        task: str | None = None,
    ) -> Pipeline:
        """Read, verify and place a bundle.

        Args:
            bundle: folder written by training, or a checkpoint `*.pth` of nnU-Net's folders
            device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
            base: folder of the language model, for a bundle that holds adapters of one
            task: load this part only

        Raises:
            BundleError: a file is missing or altered, or the base is missing or another one.
            ConfigError: the device does not exist.
        """
        where = _device(device)
        given = Path(base) if base else None
        return cls(load_bundle(Path(bundle), base=given, task=task), where)

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
        path: Path | str,
        series: str | None = None,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> Findings:
        """Report, and probabilities and mask where the bundle has the parts.

        Args:
            path: NIfTI, NRRD, MetaImage, DICOM folder or zip, or a prepared `.b2nd`
            series: DICOM series to read, by number or UID; None follows the documented rule

        Raises:
            BundleError: no report part, or the file was prepared in another way.
            ImageError: the file is not a usable CT.
        """
        self.require("report")
        return self._run(Path(path), series, self.tasks, max_new_tokens)

    def classify(self, path: Path | str, series: str | None = None) -> Findings:
        """Probabilities only; arguments and errors as `report`."""
        self.require("classification")
        return self._run(Path(path), series, ("classification",), MAX_NEW_TOKENS)

    def segment(self, path: Path | str, series: str | None = None) -> Findings:
        """Mask and volumes only; arguments and errors as `report`."""
        self.require("segmentation")
        return self._run(Path(path), series, ("segmentation",), MAX_NEW_TOKENS)

    def predict_prepared(
        self,
        array: NDArray[np.float32],
        tasks: tuple[str, ...] | None = None,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        grid: Grid | None = None,
    ) -> Prediction:
        """All `tasks` (default: all parts) on one z-scored (z, y, x) array, encoded once.

        The caller answers for the array's preprocessing: one hash for every part asked.

        Args:
            grid: where the array came from, as `prepare` and `read_meta` give it; needed by a
                report part that is told the study's own voxel size

        Raises:
            BundleError: no such part, or the grid is needed and not given.
        """
        tasks = self.tasks if tasks is None else tasks
        for task in tasks:
            self.require(task)
        spacing = None if grid is None else spacing_sentence(*grid.source_lps)
        return self._predictor.predict(lambda part: array, tasks, max_new_tokens, spacing)

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

    def _run(
        self, path: Path, series: str | None, tasks: tuple[str, ...], max_new_tokens: int
    ) -> Findings:
        start = time.perf_counter()
        study = read_study(path, series)
        timings = {"read": time.perf_counter() - start}
        specs = {task: self.bundle.parts[task].our_spec for task in tasks}
        # All inputs before any network: a file that one part must refuse fails at once.
        start = time.perf_counter()
        for task, spec in specs.items():
            study.input_for(spec, task)
        timings["prepare"] = time.perf_counter() - start
        result = self._predictor.predict(
            lambda part: study.input_for(specs[part], part),
            tasks,
            max_new_tokens,
            study.spacing(specs["report"]) if "report" in tasks else None,
        )
        timings |= result.timings
        start = time.perf_counter()
        mask, measures = self._on_own_grid(study, result)
        if mask is not None:
            timings["restore"] = time.perf_counter() - start
        flags, notes = self._remarks(study, result, tasks)
        return Findings(
            study=study_name(path),
            generated=result.text,
            sentences=tuple(split_sentences(result.text or "")),
            probabilities=result.probabilities,
            mask=mask,
            affine=study.volume.affine,
            classes=self.classes if mask is not None else {},
            measures=measures,
            flags=flags,
            notes=notes,
            timings=timings,
            manifest=self._manifest(study, tasks),
            model=self._card(tasks),
        )

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


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} is not available here. Use --device cpu, or auto."
        ) from error
    return device
