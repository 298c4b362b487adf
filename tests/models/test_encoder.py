"""The encoder gives one map per stage and starts as nnU-Net's."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from tests.models.tiny import ENCODER, NEXT_TO_DEEPEST, REPORT, SHAPE
from uvlm.errors import ConfigError
from uvlm.models.align import AlignStages
from uvlm.models.config import EncoderConfig, ReportConfig
from uvlm.models.encoder import Encoder


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(ENCODER)


def test_one_map_per_stage_shallowest_first(encoder: Encoder) -> None:
    stages = encoder(torch.randn(2, 1, *SHAPE))
    expected = [
        (2, channels, *ENCODER.stage_grid(SHAPE, i))
        for i, channels in enumerate(ENCODER.features, start=1)
    ]
    assert [tuple(s.shape) for s in stages] == expected


def test_first_stride_of_two_halves_the_whole_grid() -> None:
    config = EncoderConfig(features=(4, 8), strides=(2, 2), blocks=(1, 1))
    stages = Encoder(config)(torch.randn(1, 1, 8, 8, 16))
    assert [tuple(s.shape[2:]) for s in stages] == [(4, 4, 8), (2, 2, 4)]


def test_state_dict_holds_stem_and_stages_only(encoder: Encoder) -> None:
    assert {key.split(".")[0] for key in encoder.state_dict()} == {"stem", "stages"}


def test_each_weight_has_one_name(encoder: Encoder) -> None:
    assert list(encoder.state_dict()) == [name for name, _ in encoder.named_parameters()]


def test_residual_blocks_start_as_identities(encoder: Encoder) -> None:
    scales = [p for name, p in encoder.named_parameters() if name.endswith("conv2.norm.weight")]
    assert len(scales) == sum(ENCODER.blocks)
    assert not any(scale.any() for scale in scales)


def test_a_volume_that_cannot_be_halved_names_the_divisor(encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match="not divisible by 8"):
        encoder(torch.randn(1, 1, 16, 16, 20))


def randomised(config: EncoderConfig) -> Encoder:
    """Blocks that are no identities, so that every weight matters."""
    torch.manual_seed(0)
    encoder = Encoder(config)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.2)
    return encoder


def gradients(encoder: Encoder, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    encoder.zero_grad()
    stages = encoder(x)
    torch.stack([(stage**2).mean() for stage in stages]).sum().backward()
    found = [p.grad for p in encoder.parameters() if p.grad is not None]
    return [stage.detach() for stage in stages], [grad.clone() for grad in found]


def test_checkpointing_changes_neither_stages_nor_gradients() -> None:
    encoder, x = randomised(ENCODER), torch.randn(2, 1, *SHAPE)
    plain, expected = gradients(encoder, x)
    encoder.checkpointing = True
    again, found = gradients(encoder, x)
    assert len(found) == len(list(encoder.parameters()))
    torch.testing.assert_close(again, plain, rtol=0, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_checkpointing_keeps_only_what_goes_into_each_part() -> None:
    encoder, x = Encoder(ENCODER), torch.randn(1, 1, *SHAPE)
    kept: dict[bool, int] = {}
    for again in (False, True):
        encoder.checkpointing = again
        seen: dict[int, int] = {}

        def pack(tensor: Tensor, seen: dict[int, int] = seen) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            stages = encoder(x)
        kept[again] = sum(seen.values())
        del stages
    assert kept[True] < 0.5 * kept[False]


@pytest.mark.parametrize("config", [REPORT, NEXT_TO_DEEPEST])
def test_pooling_stage_by_stage_is_pooling_all_at_the_end(config: ReportConfig) -> None:
    encoder, align = randomised(config.encoder), AlignStages(config)
    x = torch.randn(2, 1, *config.shape)
    expected = align.pool(encoder(x))
    found = encoder.pooled(x, align.pool_stage, align.stages_used)
    assert list(found) == list(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_stages_that_nobody_wants_are_not_computed() -> None:
    encoder, calls = Encoder(ENCODER), []
    for number, stage in enumerate(encoder.stages, start=1):
        stage.register_forward_hook(lambda *_, n=number: calls.append(n))
    found = encoder.pooled(torch.randn(1, 1, *SHAPE), lambda stage, _: stage.mean(), stages=(1, 3))
    assert (list(found), calls) == ([1, 3], [1, 2, 3])


def test_pooling_lets_go_of_each_map() -> None:
    encoder = Encoder(ENCODER)
    maps: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def pool(stage: Tensor, number: int) -> Tensor:
        maps.append(weakref.ref(stage))
        alive.append(sum(ref() is not None for ref in maps))
        return stage.mean()

    with torch.no_grad():
        encoder.pooled(torch.randn(1, 1, *SHAPE), pool)
    assert alive == [1, 1, 1, 1]
    assert [ref() for ref in maps] == [None] * 4


def test_maps_have_channels_last_on_the_cpu() -> None:
    stages = Encoder(ENCODER)(torch.randn(2, 1, *SHAPE))
    assert all(s.is_contiguous(memory_format=torch.channels_last_3d) for s in stages)
