"""Tiny random bundles of the real classes, and small CT files to run them on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from uvlm.imaging.preprocess import PreprocessSpec, preset
from uvlm.models.bundle import Part, save_bundle
from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    EncoderConfig,
    InjectionConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.registry import CT_RATE_LABELS
from uvlm.text.prompts import DEFAULT_PROMPT
from uvlm.text.tokenizer import Tokenizer, train_tokenizer

SHAPE = (32, 32, 32)
PATCH = (16, 32, 32)
CLASSES = ("lung", "heart", "liver")
TASKS = ("segmentation", "classification", "report")
ENCODER = EncoderConfig(features=(4, 8, 8), strides=(1, 2, 2), blocks=(1, 1, 1))
TEXTS = (
    "Findings: The lungs are clear. There is no pleural effusion. Impression: Normal chest.",
    "Findings: There is a nodule of 8 mm in the left upper lobe. Impression: Lung nodule.",
)


def tiny_spec(shape: tuple[int, int, int] = SHAPE) -> PreprocessSpec:
    return preset("paper", shape=shape)


def tiny_tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, vocab_size=300)


def tiny_bundle(
    folder: Path,
    tasks: Sequence[str] = TASKS,
    *,
    region: str = "chest",
    spec: PreprocessSpec | None = None,
    seed: int = 0,
) -> Path:
    """Write a bundle of untrained models; classification and report share one encoder."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    spec = spec or tiny_spec()
    segmentation = SegmentationConfig(encoder=ENCODER, classes=CLASSES)
    classification = ClassificationConfig(encoder=ENCODER, classes=CT_RATE_LABELS, heads=2)
    report = ReportConfig(
        encoder=ENCODER,
        shape=(32, 32, 32),
        injection=InjectionConfig(hidden=16),
        decoder=DecoderConfig(vocab_size=tokenizer.vocab_size, layers=4, width=32, heads=2, ffn=64),
        vision_start_id=tokenizer.vision_start_id,
        vision_end_id=tokenizer.vision_end_id,
    )
    report = replace(report, shape=spec.shape)
    modules: dict[str, nn.Module] = {
        "segmentation": SegmentationModel(segmentation),
        "classification": ClassificationModel(classification),
        "report": ReportModel(report),
    }
    modules["report"].encoder.load_state_dict(modules["classification"].encoder.state_dict())
    configs = {"segmentation": segmentation, "classification": classification, "report": report}
    parts = {
        task: Part(
            task=task,
            config=configs[task],
            spec=spec,
            region=region,
            trained_on=f"random weights ({task})",
            patch=PATCH if task == "segmentation" else None,
            metrics={},
        )
        for task in tasks
    }
    with_text = "report" in tasks
    save_bundle(
        folder,
        parts,
        {task: modules[task] for task in tasks},
        tokenizer if with_text else None,
        DEFAULT_PROMPT if with_text else None,
    )
    return folder


def chest_array(shape: tuple[int, int, int] = (40, 64, 64), seed: int = 0) -> NDArray[np.int16]:
    """(z, y, x) HU: air, a body ellipse, two lungs, a heart and a spine; enough for the audit."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000.0)
    body = (y / 0.7) ** 2 + (x / 0.9) ** 2 < 1
    hu[body] = -100
    hu[(y / 0.62) ** 2 + (x / 0.82) ** 2 < 1] = 50
    for side in (-1, 1):
        lung = ((x - side * 0.42) / 0.3) ** 2 + (y / 0.48) ** 2 + (z / 0.95) ** 2 < 1
        hu[lung] = -850
    hu[(x / 0.1) ** 2 + ((y - 0.45) / 0.12) ** 2 < 1] = 400
    noise = np.random.default_rng(seed).normal(0, 10, shape)
    return np.clip(hu + noise, -1024, 3071).astype(np.int16)


def write_ct(path: Path, array: NDArray[np.int16] | None = None, *, mm: float = 6.0) -> Path:
    """A NIfTI CT (z, y, x) in LPS order, slices twice as thick, off-centre."""
    array = chest_array() if array is None else array
    affine = np.diag([-mm, -mm, 1.5 * mm, 1.0])
    affine[:3, 3] = (150.0, 190.0, -300.0)
    image = nib.Nifti1Image(array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path
