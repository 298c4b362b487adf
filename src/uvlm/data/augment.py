"""nnU-Net's training transforms, with left and right kept, and reproducible.

batchgeneratorsv2 draws from the global random states of NumPy and torch; `Augmenter` seeds both
for one sample and restores them, and computes in one thread, as loader processes do, since a mean
over two has other last bits. So a sample depends on its own seed and on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import pi
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from torch import Tensor

from uvlm.data.config import AugmentConfig, Grid

__all__ = ["Augmenter", "fixed_random_state"]

ROTATION = (-30 / 180 * pi, 30 / 180 * pi)
"""Radians about each axis, as nnU-Net uses for volumes that are not strongly anisotropic."""


@contextmanager
def fixed_random_state(seed: int) -> Iterator[None]:
    """Seed NumPy's and torch's global generators; put both back afterwards."""
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()
    np.random.seed(seed % 2**32)
    # Not torch.manual_seed, which would also seed every GPU.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)


def _intensity() -> list[BasicTransform]:
    contrast = BGContrast((0.75, 1.25))
    gamma = BGContrast((0.7, 1.5))
    one_channel = {"synchronize_channels": False, "p_per_channel": 1}
    low_resolution = SimulateLowResolutionTransform(
        scale=(0.5, 1),
        synchronize_channels=False,
        synchronize_axes=True,
        ignore_axes=None,
        allowed_channels=None,
        p_per_channel=0.5,
    )
    # benchmark=False: timing two implementations and taking the faster one, as nnU-Net does,
    # would make the last bits of a sample depend on the machine's load.
    blur = GaussianBlurTransform(
        blur_sigma=(0.5, 1.0),
        synchronize_channels=False,
        synchronize_axes=False,
        p_per_channel=0.5,
        benchmark=False,
    )
    noise = GaussianNoiseTransform(
        noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True
    )
    return [
        RandomTransform(noise, 0.1),
        RandomTransform(blur, 0.2),
        RandomTransform(
            MultiplicativeBrightnessTransform(multiplier_range=contrast, **one_channel), 0.15
        ),
        RandomTransform(
            ContrastTransform(contrast_range=contrast, preserve_range=True, **one_channel), 0.15
        ),
        RandomTransform(low_resolution, 0.25),
        RandomTransform(
            GammaTransform(gamma=gamma, p_invert_image=1, p_retain_stats=1, **one_channel), 0.1
        ),
        RandomTransform(
            GammaTransform(gamma=gamma, p_invert_image=0, p_retain_stats=1, **one_channel), 0.3
        ),
    ]


class _Mirror(MirrorTransform):  # type: ignore[misc]
    """Mirrors what belongs to the volume with it: features of axial slices run along z."""

    def apply(self, data_dict: dict[str, Any], *, axes: list[int]) -> dict[str, Any]:
        changed: dict[str, Any] = super().apply(data_dict, axes=axes)
        if 0 in axes and changed.get("slices") is not None:
            changed["slices"] = changed["slices"].flip(0)
        return changed


class Augmenter:
    """Transform one sample to `patch` voxels; the same seed gives the same sample.

    Shape:
        image: (1, d, h, w) float32, at least `patch`; the centre is kept
        seg:   (1, d, h, w) int16 or None; voxels drawn from outside become background
    """

    def __init__(self, config: AugmentConfig, patch: Grid) -> None:
        transforms: list[BasicTransform] = [
            # With both probabilities 0 this is the centre crop and nothing else.
            SpatialTransform(
                patch,
                patch_center_dist_from_border=0,
                random_crop=False,
                p_rotation=0.2 if config.spatial else 0.0,
                rotation=ROTATION,
                p_scaling=0.2 if config.spatial else 0.0,
                scaling=(0.7, 1.4),
                p_synchronize_scaling_across_axes=1,
                border_mode_seg="zeros",
            )
        ]
        if config.intensity:
            transforms += _intensity()
        if config.mirror:
            transforms.append(_Mirror(allowed_axes=config.mirror))
        self.transform = ComposeTransforms(transforms)

    def __call__(
        self, image: Tensor, seg: Tensor | None, seed: int
    ) -> tuple[Tensor, Tensor | None]:
        image, seg, _ = self.with_slices(image, seg, None, seed)
        return image, seg

    def with_slices(
        self, image: Tensor, seg: Tensor | None, slices_SF: Tensor | None, seed: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Also of features of axial slices, from the feet to the head: mirrored with the volume.

        They are of whole slices: turning, scaling and values of the volume do not reach them.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with fixed_random_state(seed):
                sample = self.transform(image=image, segmentation=seg, slices=slices_SF)
        finally:
            torch.set_num_threads(threads)
        return sample["image"].contiguous(), sample["segmentation"], sample["slices"]
