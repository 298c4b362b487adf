"""Augmentation is reproducible, keeps left and right, and leaves the random state alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uvlm.data.augment import Augmenter, fixed_random_state
from uvlm.data.config import AugmentConfig
from uvlm.errors import ConfigError

PATCH = (8, 12, 16)
ALL = AugmentConfig(mirror=(0, 1))


def image() -> torch.Tensor:
    return torch.randn(1, *PATCH, generator=torch.Generator().manual_seed(0))


def test_one_seed_gives_one_sample_and_another_seed_another():
    augment = Augmenter(ALL, PATCH)
    first, _ = augment(image(), None, 3)
    again, _ = augment(image(), None, 3)
    other, _ = augment(image(), None, 4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_sample_is_the_same_whatever_the_number_of_threads():
    """Loader processes have one thread, the training process has many."""
    large, augment = (32, 64, 64), Augmenter(ALL, (32, 64, 64))
    volume = torch.randn(1, *large, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        samples = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            samples.append([augment(volume.clone(), None, seed)[0] for seed in range(40)])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*samples, strict=True))


def test_the_global_random_state_is_put_back():
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    with fixed_random_state(5):
        torch.rand(3)
        np.random.rand(3)
    assert (torch.rand(1), np.random.rand()) == expected


def test_left_never_becomes_right():
    bright_left = torch.zeros(1, *PATCH)
    bright_left[..., : PATCH[2] // 2] = 10.0
    augment = Augmenter(ALL, PATCH)
    for seed in range(200):
        out, _ = augment(bright_left.clone(), None, seed)
        left, right = out[..., : PATCH[2] // 2].mean(), out[..., PATCH[2] // 2 :].mean()
        # Gamma with inversion keeps the order of intensities, so the bright side stays the side.
        assert left > right, seed


def test_mirroring_reaches_z_and_y_when_asked():
    ramp = torch.arange(PATCH[0] * PATCH[1], dtype=torch.float32)
    volume = ramp.reshape(1, PATCH[0], PATCH[1], 1).expand(1, *PATCH).contiguous()
    augment = Augmenter(AugmentConfig(spatial=False, intensity=False, mirror=(0, 1)), PATCH)
    corners = {augment(volume.clone(), None, seed)[0][0, 0, 0, 0].item() for seed in range(40)}
    assert corners == {0.0, PATCH[1] - 1.0, (PATCH[0] - 1.0) * PATCH[1], len(ramp) - 1.0}


def test_image_and_mask_move_together():
    augment = Augmenter(AugmentConfig(intensity=False, mirror=(0, 1)), PATCH)
    mask = torch.zeros(1, *PATCH, dtype=torch.int16)
    mask[0, 2:6, 3:9, 4:12] = 1
    for seed in range(20):
        out, seg = augment(mask.float(), mask.clone(), seed)
        assert seg is not None
        assert ((out > 0.5) == (seg == 1)).float().mean() > 0.97


def test_a_larger_volume_is_cropped_to_the_centre():
    volume = torch.zeros(1, 12, 16, 20)
    volume[0, 2:10, 2:14, 2:18] = 1
    out, _ = Augmenter(AugmentConfig(spatial=False, intensity=False), PATCH)(volume, None, 0)
    assert out.shape == (1, *PATCH)
    assert out.min() == 1


def test_mirroring_left_and_right_is_refused():
    with pytest.raises(ConfigError, match="left and right"):
        AugmentConfig(mirror=(2,))


def test_features_of_slices_turn_over_with_the_volume_and_only_then():
    heights = torch.arange(PATCH[0], dtype=torch.float32)
    volume = heights.reshape(1, -1, 1, 1).expand(1, *PATCH).contiguous()
    augment = Augmenter(AugmentConfig(spatial=False, intensity=False, mirror=(0, 1)), PATCH)
    seen = set()
    for seed in range(40):
        out, _, slices = augment.with_slices(volume.clone(), None, heights[:, None], seed)
        assert slices is not None
        assert torch.equal(out[0, :, 0, 0], slices[:, 0])
        seen.add(slices[0, 0].item())
    assert seen == {0.0, PATCH[0] - 1.0}


def test_slices_leave_the_volume_as_it_would_be_without():
    augment = Augmenter(ALL, PATCH)
    for seed in range(20):
        out, _, slices = augment.with_slices(image(), None, torch.ones(4, 2), seed)
        assert torch.equal(out, augment(image(), None, seed)[0])
        assert slices is not None
        assert torch.equal(slices, torch.ones(4, 2))
