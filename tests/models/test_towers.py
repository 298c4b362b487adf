"""Towers keep their order, their ablations and the face of an encoder. CPU, a second."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from uvlm.errors import InputError
from uvlm.models.tower_config import TowersConfig, ViTConfig
from uvlm.models.towers import Towers
from uvlm.models.vit import SlicedVolume, ViT

PLAIN = ViTConfig(shape=(4, 8, 8), patch=(2, 4, 4), width=8, layers=1, heads=2, mlp=8)
GATED = replace(PLAIN, width=12, slice_width=6)
BOTH = TowersConfig(volume=PLAIN, slices=GATED)


@pytest.fixture
def x() -> SlicedVolume:
    generator = torch.Generator().manual_seed(0)
    return SlicedVolume(
        torch.rand(2, 1, 4, 8, 8, generator=generator), torch.randn(2, 3, 6, generator=generator)
    )


def make(config: TowersConfig) -> Towers:
    torch.manual_seed(0)
    return Towers(config).eval()


def test_the_volumes_tower_is_stage_1_and_the_slices_the_next(x: SlicedVolume) -> None:
    towers = make(BOTH)
    maps = towers(x)
    assert [tuple(m.shape) for m in maps] == [(2, 8, 2, 2, 2), (2, 12, 2, 2, 2)]
    assert torch.equal(maps[0], towers.volume(x.volume)[0])
    assert torch.equal(maps[1], towers.slices(x)[0])
    assert [tuple(m.shape) for m in maps] == [
        (2, width, *BOTH.stage_grid((4, 8, 8), i)) for i, width in enumerate(BOTH.features, start=1)
    ]


@pytest.mark.parametrize(
    ("config", "children"),
    [
        (BOTH, ["volume", "slices"]),
        (TowersConfig(volume=PLAIN, slices=None), ["volume"]),
        (TowersConfig(volume=None, slices=GATED), ["slices"]),
    ],
    ids=["both", "volume", "slices"],
)
def test_what_is_left_out_is_no_child(
    x: SlicedVolume, config: TowersConfig, children: list[str]
) -> None:
    towers = make(config)
    assert [name for name, _ in towers.named_children()] == children
    assert {name.split(".")[0] for name in towers.state_dict()} == set(children)
    assert len(towers(x)) == config.num_stages == len(children)


def test_the_volumes_tower_alone_needs_no_slices(x: SlicedVolume) -> None:
    towers = make(TowersConfig(volume=PLAIN, slices=None))
    assert torch.equal(towers(x.volume)[0], towers(x)[0])


def test_missing_slices_are_named(x: SlicedVolume) -> None:
    with pytest.raises(InputError, match="gated by slices"):
        make(BOTH)(x.volume)


def mean(stage: Tensor, number: int) -> Tensor:
    return stage.mean((2, 3, 4)) + number


def test_pooled_is_what_pooling_the_maps_gives(x: SlicedVolume) -> None:
    towers = make(BOTH)
    made = towers.pooled(x, mean)
    expected = {i: mean(stage, i) for i, stage in enumerate(towers(x), start=1)}
    assert list(made) == [1, 2]
    assert all(torch.equal(made[i], expected[i]) for i in made)


@pytest.mark.parametrize("wanted", [1, 2])
def test_only_towers_that_are_wanted_run(x: SlicedVolume, wanted: int) -> None:
    towers = make(BOTH)
    ran: list[ViT] = []
    for tower in towers.towers:
        tower.norm.register_forward_hook(lambda *_, tower=tower: ran.append(tower))
    made = towers.pooled(x, mean, [wanted])
    assert list(made) == [wanted]
    assert ran == [towers.towers[wanted - 1]]


def test_gradients_reach_every_parameter(x: SlicedVolume) -> None:
    towers = make(BOTH)
    sum(stage.pow(3).sum() for stage in towers(x)).backward()
    assert [name for name, p in towers.named_parameters() if p.grad is None] == []


def test_checkpointing_is_of_both_towers() -> None:
    towers = make(BOTH)
    assert not towers.checkpointing
    towers.checkpointing = True
    assert [tower.checkpointing for tower in towers.towers] == [True, True]
    towers.volume.checkpointing = False
    assert not towers.checkpointing
