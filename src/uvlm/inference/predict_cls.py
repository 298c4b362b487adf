"""Probabilities of abnormalities under the published name, over this package's pipeline.

>>> predictor = nnUNetPredictor(device=torch.device("cuda"))  # doctest: +SKIP
>>> predictor.initialize_from_trained_model_folder("fold_0/bundle")  # doctest: +SKIP
>>> predictor.predict_single_npy("study.b2nd")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uvlm.errors import BundleError, ConfigError, ImageError
from uvlm.imaging.volume import Provenance, Volume
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.study import Study, read_study
from uvlm.models.bundle_files import CHECKSUMS

__all__ = ["nnUNetPredictor"]

CHECKPOINTS = ("checkpoint_best.pth", "checkpoint_final.pth")


class nnUNetPredictor:
    """One model on one device.

    Args:
        device: where the model runs
    """

    def __init__(self, device: torch.device | str = "cuda") -> None:
        self.device = torch.device(device)
        self._pipeline: Pipeline | None = None

    def initialize_from_trained_model_folder(
        self,
        model_training_output_dir: Path | str,
        use_folds: Sequence[int | str] | int | str | None = None,
        checkpoint_name: str | None = None,
    ) -> None:
        """Load the class head and its encoder.

        Args:
            model_training_output_dir: folder that `uvlm_train` or nnU-Net wrote (its folds lie in
                it), one of its folds, or a bundle
            use_folds: which fold, where there are several
            checkpoint_name: of the file in the fold; None: the best, or else the final one

        Raises:
            BundleError: there is no such checkpoint, or it has no classification part.
            ConfigError: the device does not exist.
        """
        folder = Path(model_training_output_dir)
        found = folder
        if not (folder / CHECKSUMS).is_file():
            found = _checkpoint(_fold(folder, use_folds), checkpoint_name)
        self._pipeline = Pipeline.load(found, str(self.device), task="classification")

    def predict_single_npy(self, input_image: Path | str | NDArray[Any]) -> dict[str, float]:
        """Label -> probability of one study.

        Args:
            input_image: a `.b2nd` file of `uvlm prepare`, or any other file of a CT; or an array,
                also in a `.npy` file: (z, y, x) or (1, z, y, x) on the grid of the model, HU or
                z-scored, since it is z-scored here

        Raises:
            ConfigError: no model is loaded.
            ImageError: the image cannot be used.
            BundleError: the file was prepared in another way than the model's.
        """
        if self._pipeline is None:
            raise ConfigError(
                "no model is loaded. Call initialize_from_trained_model_folder(FOLDER) first."
            )
        pipeline = self._pipeline
        if isinstance(input_image, np.ndarray):
            study = _study(input_image, "array")
        elif Path(input_image).suffix.lower() == ".npy":
            study = _study(_read_npy(Path(input_image)), str(input_image))
        else:
            study = read_study(Path(input_image))
        spec = pipeline.bundle.parts["classification"].our_spec
        return pipeline.classify_prepared(study.input_for(spec, "classification"))


def _fold(folder: Path, use_folds: Sequence[int | str] | int | str | None) -> Path:
    """The folder of the only fold, or of the one asked for."""
    if use_folds is not None:
        folds = [use_folds] if isinstance(use_folds, (int, str)) else list(use_folds)
        if len(folds) != 1:
            raise BundleError.about(folder, f"{len(folds)} folds were asked for", "Ask for one.")
        return folder / f"fold_{folds[0]}"
    found = sorted(path for path in folder.glob("fold_*") if path.is_dir())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise BundleError.about(folder, f"it holds {names}", "Choose one: use_folds=(0,).")
    return found[0] if found else folder


def _checkpoint(fold: Path, name: str | None) -> Path:
    names = CHECKPOINTS if name is None else (name,)
    for path in (fold / each for each in names):
        if path.is_file():
            return path
    raise BundleError.about(
        fold,
        f"no {' or '.join(names)} in it",
        "Give a folder that uvlm_train or nnU-Net wrote, one of its folds, or a bundle.",
    )


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ImageError.about(path, f"no array can be read ({error})", "Save it again.") from None
    return array


def _study(array: NDArray[Any], name: str) -> Study:
    """An array on the model's grid, like a prepared file without metadata."""
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ImageError.about(
            name,
            f"shape {array.shape}, {array.dtype}, or a value that is not finite",
            "Give numbers (z, y, x) on the grid of the model.",
        )
    provenance = Provenance(path=name, format="npy", checksum="")
    volume = Volume(array=array.astype(np.float32), affine=np.eye(4), provenance=provenance)
    return Study(
        path=Path(name), volume=volume, audit=None, prepared=True, spec_hash=None, notes=()
    )
