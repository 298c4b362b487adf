"""The three trainers, where nnU-Net looks for them."""

from __future__ import annotations

from uvlm.nnunet.trainers import (
    nnUNetTrainer_ResEncoderUNet,
    nnUNetTrainer_UVLM,
    nnUNetTrainer_UVLM_Qwen3,
)

__all__ = ["nnUNetTrainer_ResEncoderUNet", "nnUNetTrainer_UVLM", "nnUNetTrainer_UVLM_Qwen3"]
