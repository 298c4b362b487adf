"""The lean encoder gives the encoder's numbers, with less memory and without losing planes."""

from __future__ import annotations

import weakref
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.models.tiny import ENCODER, SHAPE
from uvlm.errors import ConfigError
from uvlm.models import lean, normalisation
from uvlm.models.config import EncoderConfig
from uvlm.models.encoder import Encoder
from uvlm.models.lean import LeanEncoder
from uvlm.models.pooling import block_mean


def randomised(config: EncoderConfig, seed: int = 0) -> Encoder:
    """Blocks that are no identities, so that every weight matters."""
    torch.manual_seed(seed)
    encoder = Encoder(config).eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.2)
    return encoder


@torch.inference_mode()
def exact(encoder: Encoder, x: Tensor) -> list[Tensor]:
    """In 64 bits: the module's own sums in 32 bits are the less exact of the two."""
    stages = encoder.double()(x.double())
    encoder.float()
    return [stage.float() for stage in stages]


@st.composite
def cases(draw: st.DrawFn) -> tuple[EncoderConfig, tuple[int, ...], int]:
    stages = draw(st.integers(2, 3))
    strides = (
        draw(st.sampled_from((1, 2))),
        *(draw(st.sampled_from((1, 2, 3))) for _ in range(stages - 1)),
    )
    config = EncoderConfig(
        features=tuple(draw(st.integers(1, 6)) for _ in range(stages)),
        strides=strides,
        blocks=tuple(draw(st.integers(1, 2)) for _ in range(stages)),
        in_channels=draw(st.sampled_from((1, 3))),
    )
    factor = prod(strides)
    # PyTorch refuses to normalise one voxel.
    shape = tuple(factor * draw(st.integers(1, 3)) for _ in range(2))
    shape = (2 * factor, *shape)
    return config, shape, draw(st.sampled_from((1, 600, 2**24)))


@given(case=cases())
@settings(max_examples=25, deadline=None)
def test_every_stage_is_the_encoders(case: tuple[EncoderConfig, tuple[int, ...], int]) -> None:
    config, shape, slab = case
    encoder = randomised(config)
    x = torch.randn(1, config.in_channels, *shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lean, "SLAB", slab)
        patch.setattr(lean, "CHUNK", 64)
        patch.setattr(normalisation, "ROWS", 64)
        found = list(LeanEncoder(encoder).each_stage(x))
    for ours, theirs in zip(found, exact(encoder, x), strict=True):
        # Few voxels make variances near eps, which blow rounding up.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_moments_of_large_maps_are_exact() -> None:
    """Sums of 32 bits over 262,144 voxels would be off by 1e-4."""
    encoder = randomised(EncoderConfig(features=(8, 8), strides=(1, 2), blocks=(1, 1)))
    x = torch.randn(1, 1, 64, 64, 64)
    for ours, theirs in zip(LeanEncoder(encoder).each_stage(x), exact(encoder, x), strict=True):
        assert (ours - theirs).norm() / theirs.norm() < 1e-5


def test_each_convolution_sees_slabs_of_the_size_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "SLAB", 4 * SHAPE[1] * SHAPE[2] * 4 * 2)  # two planes of stage 1
    seen: list[int] = []
    plain = lean.F.conv3d

    def conv3d(x: Tensor, *args: object) -> Tensor:
        seen.append(x.shape[2])
        return plain(x, *args)

    monkeypatch.setattr(lean.F, "conv3d", conv3d)
    next(iter(LeanEncoder(randomised(ENCODER)).each_stage(torch.randn(1, 1, *SHAPE))))
    assert seen == [4] * (2 * SHAPE[0] // 2)


def test_maps_are_let_go_of() -> None:
    maps: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    for stage in LeanEncoder(randomised(ENCODER)).each_stage(torch.randn(1, 1, *SHAPE)):
        maps.append(weakref.ref(stage))
        del stage
        alive.append(sum(ref() is not None for ref in maps))
    assert alive == [1] * 4
    assert [ref() for ref in maps] == [None] * 4


def test_a_stage_is_not_written_to_by_those_after_it() -> None:
    stages, copies = [], []
    for stage in LeanEncoder(randomised(ENCODER)).each_stage(torch.randn(1, 1, *SHAPE)):
        stages.append(stage)
        copies.append(stage.clone())
    torch.testing.assert_close(stages, copies, rtol=0, atol=0)


def test_neither_input_nor_encoder_changes_and_results_repeat() -> None:
    encoder, x = randomised(ENCODER), torch.randn(1, 1, *SHAPE)
    weights, volume = [p.clone() for p in encoder.parameters()], x.clone()
    made = LeanEncoder(encoder)
    first, second = list(made.each_stage(x)), list(made.each_stage(x))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert x.equal(volume)
    assert all(a.equal(b) for a, b in zip(weights, encoder.parameters(), strict=True))


def test_another_size_after_the_first_is_right_too() -> None:
    encoder = randomised(ENCODER)
    made = LeanEncoder(encoder)
    for shape in (SHAPE, (8, 16, 24), SHAPE):
        x = torch.randn(1, 1, *shape)
        found = list(made.each_stage(x))
        torch.testing.assert_close(found, exact(encoder, x), rtol=1e-4, atol=1e-4)


def test_bfloat16_stays_near() -> None:
    encoder, x = randomised(ENCODER), torch.randn(1, 1, *SHAPE)
    found = list(LeanEncoder(encoder, torch.bfloat16).each_stage(x))
    assert {stage.dtype for stage in found} == {torch.bfloat16}
    for ours, theirs in zip(found, exact(encoder, x), strict=True):
        assert (ours.float() - theirs).norm() / theirs.norm() < 0.05


def test_several_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match="one volume at a time, got 2"):
        next(LeanEncoder(randomised(ENCODER)).each_stage(torch.randn(2, 1, *SHAPE)))


def test_a_volume_that_cannot_be_halved_names_the_divisor() -> None:
    with pytest.raises(ConfigError, match="not divisible by 8"):
        next(LeanEncoder(randomised(ENCODER)).each_stage(torch.randn(1, 1, 16, 16, 20)))


def test_inference_mode_does_not_leak_from_an_unfinished_run() -> None:
    stages = LeanEncoder(randomised(ENCODER)).each_stage(torch.randn(1, 1, *SHAPE))
    next(stages)
    assert not torch.is_inference_mode_enabled()


@given(
    grid=st.tuples(*[st.integers(1, 3)] * 3),
    steps=st.tuples(*[st.integers(1, 3)] * 3),
    last=st.booleans(),
    batch=st.integers(1, 2),
)
@settings(max_examples=40, deadline=None)
def test_block_means_are_adaptive_pooling(
    grid: tuple[int, int, int], steps: tuple[int, int, int], last: bool, batch: int
) -> None:
    x = torch.randn(batch, 5, *(cells * step for cells, step in zip(grid, steps, strict=True)))
    expected = nn.functional.adaptive_avg_pool3d(x, grid)
    if last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(block_mean(x, grid), expected)


def test_block_means_of_a_grid_that_does_not_divide() -> None:
    x = torch.randn(1, 3, 5, 6, 7).contiguous(memory_format=torch.channels_last_3d)
    expected = nn.functional.adaptive_avg_pool3d(x, (2, 4, 3))
    torch.testing.assert_close(block_mean(x, (2, 4, 3)), expected)
