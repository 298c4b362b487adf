"""Label map of a whole volume from a network that sees patches.

Patches overlap by half and are weighted by a Gaussian, as in nnU-Net (Isensee et al. 2021). Sums
are kept only for one slab of the patch's depth: once the window has moved past a plane along z,
its labels are final. 118 classes on 192x256x256 so need 3 GB instead of 6.

Shapes: C classes with background, D H W voxels along z y x of the volume, d h w of the patch.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from nnunetv2.inference.sliding_window_prediction import (
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["sliding_labels"]

OVERLAP_STEP = 0.5


@torch.inference_mode()
def sliding_labels(network: nn.Module, volume: Tensor, patch: tuple[int, int, int]) -> NDArray[Any]:
    """Most likely class of each voxel. No test-time mirroring: left and right stay apart.

    Args:
        network: (1, 1, d, h, w) -> logits (1, C, d, h, w)
        volume: (D, H, W) float32, z-scored, on the network's device; may be smaller than the patch
        patch: (d, h, w)

    Returns:
        (D, H, W) class indices, 0 is background; uint8, or int16 of more than 256 classes.
    """
    D, H, W = volume.shape
    missing = [max(0, p - n) for p, n in zip(patch, volume.shape, strict=True)]
    # z-scored volumes have mean 0, so padding with 0 is neutral.
    padded = F.pad(volume, (0, missing[2], 0, missing[1], 0, missing[0]))
    weight = compute_gaussian(patch, dtype=torch.float32, device=volume.device)
    steps = compute_steps_for_sliding_window(tuple(padded.shape), patch, OVERLAP_STEP)
    labels = torch.zeros(padded.shape, dtype=torch.int16, device=volume.device)
    sums: Tensor | None = None  # (C, d, H, W), planes z0 to z0 + d
    for z, following in zip(steps[0], [*steps[0][1:], padded.shape[0]], strict=True):
        for y, x in product(steps[1], steps[2]):
            window = (slice(z, z + patch[0]), slice(y, y + patch[1]), slice(x, x + patch[2]))
            logits = network(padded[window][None, None])[0].float()
            if sums is None:
                sums = torch.zeros(len(logits), patch[0], *padded.shape[1:], device=volume.device)
            sums[:, :, window[1], window[2]].addcmul_(logits, weight)
        assert sums is not None
        done = following - z
        # Dividing by the summed weights would not change the largest class.
        labels[z:following] = sums[:, :done].argmax(0).short()
        kept = patch[0] - done
        for channel in sums:
            channel[:kept] = channel[done:].clone()
            channel[kept:] = 0
    assert sums is not None
    small = labels.to(torch.uint8) if len(sums) <= 256 else labels
    return small[:D, :H, :W].cpu().numpy()
