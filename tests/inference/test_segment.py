"""The sliding window gives what whole-volume sums would give, with one slab of memory."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from nnunetv2.inference.sliding_window_prediction import (
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from torch import Tensor, nn

from uvlm.inference.segment import sliding_labels


class Thresholds(nn.Module):
    """Three classes by intensity, voxel by voxel."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((-x.abs(), x, -x), dim=1)


class PositionInPatch(nn.Module):
    """Disagrees with itself where patches overlap, so that the weighting decides."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(1, 4, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, x.shape[2])[:, None, None]
        result: Tensor = self.conv(x) + ramp * torch.tensor([0.0, 1, -1, 0.5])[:, None, None, None]
        return result


def whole_volume_sums(
    network: nn.Module, volume: Tensor, patch: tuple[int, int, int]
) -> np.ndarray:
    weight = compute_gaussian(patch, dtype=torch.float32, device=torch.device("cpu"))
    total: Tensor | None = None
    for z, y, x in product(*compute_steps_for_sliding_window(tuple(volume.shape), patch, 0.5)):
        window = (slice(z, z + patch[0]), slice(y, y + patch[1]), slice(x, x + patch[2]))
        logits = network(volume[window][None, None])[0]
        if total is None:
            total = torch.zeros(len(logits), *volume.shape)
        total[(slice(None), *window)] += logits * weight
    assert total is not None
    return total.argmax(0).numpy()


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 20, 30), (40, 16, 23), (48, 32, 32)])
def test_labels_equal_those_of_whole_volume_sums(shape):
    volume = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    network = PositionInPatch().eval()
    with torch.no_grad():
        expected = whole_volume_sums(network, volume, (16, 16, 16))
    np.testing.assert_array_equal(sliding_labels(network, volume, (16, 16, 16)), expected)


def test_a_voxelwise_network_is_reproduced_exactly():
    volume = torch.randn(30, 40, 50, generator=torch.Generator().manual_seed(2))
    expected = Thresholds()(volume[None, None])[0].argmax(0).numpy()
    np.testing.assert_array_equal(sliding_labels(Thresholds(), volume, (16, 24, 16)), expected)


def test_a_volume_smaller_than_the_patch_keeps_its_shape():
    volume = torch.randn(5, 40, 9, generator=torch.Generator().manual_seed(3))
    expected = Thresholds()(volume[None, None])[0].argmax(0).numpy()
    np.testing.assert_array_equal(sliding_labels(Thresholds(), volume, (16, 16, 16)), expected)


def test_the_volume_is_left_as_it_was():
    volume = torch.randn(20, 20, 20, generator=torch.Generator().manual_seed(4))
    before = volume.clone()
    sliding_labels(Thresholds(), volume, (16, 16, 16))
    assert torch.equal(volume, before)
