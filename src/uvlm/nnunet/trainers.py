"""The trainers that nnU-Net finds: its own training with a residual encoder, and ours.

`nnUNetTrainer_ResEncoderUNet` trains on data that nnU-Net, or `uvlm prepare`, has put into
nnUNet_preprocessed. `nnUNetTrainer_UVLM` and `nnUNetTrainer_UVLM_Qwen3` hand the plan to
`uvlm.training.run.train`, which reads catalogs; of nnU-Net's trainer they keep the folders, the
log file and the commands.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from batchgenerators.utilities.file_and_folder_operations import save_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from uvlm.errors import BundleError, ConfigError, InputError
from uvlm.models.bundle import save_bundle
from uvlm.models.weights import checkpoint_bundle
from uvlm.nnunet.residual import residual_plan
from uvlm.nnunet.results import BUNDLE, RUN, publish
from uvlm.nnunet.run_config import Place, run_config
from uvlm.nnunet.settings import PlanSettings, read_settings
from uvlm.nnunet.validation import validate
from uvlm.training.config import RunConfig
from uvlm.training.run import train

__all__ = [
    "TRAINERS",
    "nnUNetTrainer_ResEncoderUNet",
    "nnUNetTrainer_UVLM",
    "nnUNetTrainer_UVLM_Qwen3",
]

CUDA = torch.device("cuda")
LEFT_RIGHT = 2
"""Axis of the image as it is read, (z, y, x), along which left and right lie."""


class nnUNetTrainer_ResEncoderUNet(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's training of a residual U-Net, which never mirrors left and right.

    A plan whose network is not residual keeps its stages and gets residual blocks. When the
    training is done, the fold's folder holds a bundle beside nnU-Net's checkpoints.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = CUDA,
    ) -> None:
        _check_device(device)
        plans, asked = residual_plan(plans, configuration)
        super().__init__(plans, configuration, fold, dataset_json, device)
        for name, value in asked.items():
            setattr(self, name, value)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:
        """As nnU-Net's, without mirroring along the axis of left and right."""
        *others, axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        turned = list(self.plans_manager.transpose_forward).index(LEFT_RIGHT)
        flat = len(self.configuration_manager.patch_size) == 2
        sideways = turned - 1 if flat else turned
        kept = tuple(axis for axis in axes or () if axis != sideways)
        self.inference_allowed_mirroring_axes = kept
        return *others, kept

    def on_train_end(self) -> None:
        """Also write the bundle; what cannot be one is said in the log, and stays a checkpoint."""
        super().on_train_end()
        if self.local_rank or self.disable_checkpointing:
            return
        folder = Path(self.output_folder)
        try:
            bundle = checkpoint_bundle(folder / "checkpoint_final.pth")
            # A training that went on replaces its bundle, as nnU-Net its checkpoints.
            aside = folder / f".{BUNDLE}.new"
            shutil.rmtree(aside, ignore_errors=True)
            save_bundle(aside, bundle.parts, bundle.modules)
            shutil.rmtree(folder / BUNDLE, ignore_errors=True)
            os.replace(aside, folder / BUNDLE)
            self.print_to_log_file(f"Bundle: {folder / BUNDLE}")
        except (BundleError, ConfigError) as error:
            self.print_to_log_file(f"No bundle was written. {error}")


class nnUNetTrainer_UVLM(nnUNetTrainer):  # type: ignore[misc]
    """Labels, reports, or both, over one encoder; the decoder is trained from scratch.

    Raises:
        ConfigError: a key of the plan is unknown or impossible, the fold is not 0, or there is no
            such device.
    """

    pretrained_decoder = False

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = CUDA,
    ) -> None:
        if fold != 0:
            raise ConfigError(
                f"fold {fold}: labels and reports are validated on the patients of fold 0, in "
                "every task the same. Give fold 0, for the segmentation before as well."
            )
        _check_device(device)
        if device.type not in ("cuda", "cpu"):
            raise ConfigError(f"device {device.type} is not supported; give cuda or cpu.")
        plans = deepcopy(plans)
        self.resume = bool(plans.setdefault("continue_training", False))
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.local_rank = int(os.environ.get("RANK", "0"))
        self.plan_file = Path(self.preprocessed_dataset_folder_base) / (
            f"{self.plans_manager.plans_name}.json"
        )
        kwargs = self.configuration_manager.network_arch_init_kwargs
        self.settings: PlanSettings = read_settings(kwargs, self.plan_file)

    @staticmethod
    def build_network_architecture(*args: Any, **kwargs: Any) -> Any:
        """Refuse: nnU-Net's prediction cannot prepare what these models were trained on.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "nnU-Net cannot apply this model. Use its bundle: uvlm report CT --model FOLD/bundle."
        )

    def initialize(self) -> None:
        """Refuse -pretrained_weights, the one thing nnU-Net calls this for before the training.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "-pretrained_weights is for segmentation. Hand an encoder on with "
            "pretrained_encoder_checkpoint_path, a key of the plan and an option of uvlm_train."
        )

    def load_checkpoint(self, filename_or_checkpoint: Any) -> None:
        """What nnU-Net calls for --c and --val: the run's own checkpoints are gone on from."""
        self.resume = True

    def run_config(self) -> RunConfig:
        """The training run of this plan.

        Raises:
            ConfigError: see `uvlm.nnunet.run_config.run_config`.
        """
        z, y, x = self.configuration_manager.patch_size
        device: Literal["cuda", "cpu"] = "cuda" if self.device.type == "cuda" else "cpu"
        place = Place(
            plan=self.plan_file,
            shape=(z, y, x),
            batch_size=self.configuration_manager.batch_size,
            processes=int(os.environ.get("WORLD_SIZE", "1")),
            device=device,
            out=Path(self.output_folder) / RUN,
            pretrained=self.pretrained_decoder,
        )
        return run_config(self.settings, place)

    def run_training(self) -> None:
        """Train, then put the result where nnU-Net's commands look for it.

        Raises:
            InputError: there is a run already, and it was not asked to go on with it.
            UvlmError: see `uvlm.training.run.train`.
        """
        if self.is_ddp:
            raise ConfigError(
                "-num_gpus is nnU-Net's own; start several processes with "
                "`accelerate launch -m uvlm.nnunet.train ...`."
            )
        if self.disable_checkpointing:
            raise ConfigError("--disable_checkpointing is for segmentation; drop it.")
        config = self.run_config()
        assert config.out is not None
        if config.out.exists() and not self.resume:
            raise InputError.about(
                config.out, "the fold was trained before", "Continue with --c, or move it away."
            )
        base = Path(self.output_folder_base)
        if not self.local_rank:
            save_json(self.plans_manager.plans, str(base / "plans.json"), sort_keys=False)
            save_json(self.dataset_json, str(base / "dataset.json"), sort_keys=False)
        with self._logged():
            bundle = train(config, resume=self.resume)
        if not self.local_rank:
            arguments: Mapping[str, Any] = {
                "configuration": self.configuration_name,
                "fold": self.fold,
            }
            fold = Path(self.output_folder)
            publish(fold, bundle, type(self).__name__, arguments)
            self.print_to_log_file(f"Bundle: {fold / BUNDLE}")
        PartialState().wait_for_everyone()  # the others read what the first has written

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """All validation studies of the fold; metrics go to validation/summary.json."""
        with self._logged():
            metrics = validate(self.run_config(), Path(self.output_folder) / BUNDLE)
        if self.local_rank:
            return
        out = Path(self.output_folder) / "validation"
        out.mkdir(exist_ok=True)
        finite = {name: value if isfinite(value) else None for name, value in metrics.items()}
        save_json(finite, str(out / "summary.json"), sort_keys=False)
        for name, value in metrics.items():
            self.print_to_log_file(f"{name}: {value:.4f}")

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """The package's messages in nnU-Net's log file."""
        handler = _ToLogFile(self)
        logger = logging.getLogger("uvlm")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


class nnUNetTrainer_UVLM_Qwen3(nnUNetTrainer_UVLM):
    """As `nnUNetTrainer_UVLM`, over a pretrained decoder: `llm_model_path` names its folder."""

    pretrained_decoder = True


def _check_device(device: torch.device) -> None:
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no GPU; add -device cpu.")


class _ToLogFile(logging.Handler):
    def __init__(self, trainer: nnUNetTrainer_UVLM) -> None:
        super().__init__()
        self.trainer = trainer

    def emit(self, record: logging.LogRecord) -> None:
        seen = bool(logging.getLogger().handlers)  # then it is on the screen already
        self.trainer.print_to_log_file(record.getMessage(), also_print_to_console=not seen)


TRAINERS: dict[str, type[Any]] = {
    trainer.__name__: trainer
    for trainer in (nnUNetTrainer_ResEncoderUNet, nnUNetTrainer_UVLM, nnUNetTrainer_UVLM_Qwen3)
}
"""Name of the class -> class."""
