"""Each region becomes one token, of its own tokens alone; stages follow one another."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod

import pytest
import torch
from torch import Tensor

from tests.models.tiny import random_stages
from tests.models.tiny_packed import PACKED, UNET_PACKED
from uvlm.errors import ConfigError
from uvlm.models.align import AlignStages
from uvlm.models.bridge import build_bridge
from uvlm.models.config import DecoderConfig, EncoderConfig, InjectionConfig, ReportConfig
from uvlm.models.packer import PackStages, RegionPacker
from uvlm.models.tower_config import PackerConfig, TowersConfig

GRID = (4, 4, 6)
CONFIG = PackerConfig(kernel=(2, 1, 3))
WIDTH, OUT = 8, 10
HSENET = ReportConfig(
    encoder=TowersConfig(),
    shape=(32, 256, 256),
    injection=InjectionConfig(layers=()),
    packer=PackerConfig(),
    decoder=DecoderConfig(vocab_size=8, layers=1, width=3072, heads=24, ffn=8),
    mask="causal",
)


def build(config: PackerConfig = CONFIG, grid: tuple[int, int, int] = GRID) -> RegionPacker:
    torch.manual_seed(0)
    packer = RegionPacker(WIDTH, OUT, grid, config).eval()
    for parameter in packer.parameters():  # else the norm's do nothing
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return packer


def random_tokens(grid: tuple[int, int, int] = GRID, batch: int = 2) -> Tensor:
    return torch.randn(batch, prod(grid), WIDTH, generator=torch.Generator().manual_seed(1))


def regions(grid: tuple[int, int, int], config: PackerConfig) -> list[list[int]]:
    """Indices of each region's tokens, in the order of the regions."""
    (nz, ny, nx), (kz, ky, kx) = grid, config.kernel
    corners = list(product(range(0, nz, kz), range(0, ny, ky), range(0, nx, kx)))
    if config.order == "zxy":
        corners.sort(key=lambda corner: (corner[0], corner[2], corner[1]))
    return [
        [
            ((z + i) * ny + y + j) * nx + x + k
            for i, j, k in product(range(kz), range(ky), range(kx))
        ]
        for z, y, x in corners
    ]


def oracle(packer: RegionPacker, tokens_BNC: Tensor) -> Tensor:
    """The equations as they are written, region by region."""
    rows = []
    for tokens_NC in tokens_BNC:
        made = []
        for region in regions(packer.grid, packer.config):
            x_MC = tokens_NC[region]
            q_C = packer.query(x_MC.mean(0))
            k_MC, v_MC = packer.key(x_MC), packer.value(x_MC)
            weights_M = (k_MC @ q_C / WIDTH**0.5).softmax(0)
            made.append(packer.project(packer.norm(q_C + packer.out(weights_M @ v_MC))))
        rows.append(torch.stack(made))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("config", "grid"),
    [
        (CONFIG, GRID),
        (replace(CONFIG, order="zxy"), GRID),
        (PackerConfig(), (2, 4, 8)),
        (PackerConfig(kernel=(4, 4, 6)), GRID),
        (PackerConfig(kernel=(1, 1, 1), hidden=5), (1, 2, 3)),
    ],
)
def test_it_equals_the_equations_region_by_region(
    config: PackerConfig, grid: tuple[int, int, int]
) -> None:
    packer, tokens = build(config, grid), random_tokens(grid)
    packed = packer(tokens)
    assert packed.shape == (2, len(regions(grid, config)), OUT)
    torch.testing.assert_close(packed, oracle(packer, tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("number", [0, 3, 15])
def test_editing_a_region_changes_its_token_alone(number: int) -> None:
    packer, tokens = build(), random_tokens()
    before = packer(tokens)
    edited = tokens.clone()
    edited[:, regions(GRID, CONFIG)[number][-1]] += 1.0
    changed = (packer(edited) != before).any(-1)
    assert changed.nonzero()[:, 1].tolist() == [number] * 2


def test_a_token_has_no_gradient_from_other_regions() -> None:
    packer, tokens = build(), random_tokens().requires_grad_()
    packer(tokens)[0, 5].sum().backward()
    assert tokens.grad is not None
    touched = tokens.grad.abs().sum(-1).nonzero().tolist()
    assert touched == [[0, index] for index in sorted(regions(GRID, CONFIG)[5])]


def test_every_parameter_and_token_receives_a_gradient() -> None:
    packer, tokens = build(), random_tokens().requires_grad_()
    packer(tokens).square().sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad.abs().sum(-1) > 0).all()
    norms = {name: float(p.grad.norm()) for name, p in packer.named_parameters()}  # type: ignore[union-attr]
    # The bias of the keys adds the same to all scores of a region, and so nothing.
    assert norms.pop("key.bias") < 1e-4
    assert min(norms.values()) > 1e-4


def test_attention_is_shared_out_inside_each_region() -> None:
    weights = build().attention(random_tokens())
    assert weights.shape == (2, 16, 6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 16))


def test_dropout_acts_in_training_only() -> None:
    packer, tokens = build(replace(CONFIG, dropout=0.5)), random_tokens()
    assert packer(tokens).equal(packer(tokens))
    assert not packer.train()(tokens).equal(packer(tokens))


def test_a_kernel_that_does_not_divide_the_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(2, 1, 3\) does not divide a grid of \(4, 4, 4\)"):
        build(grid=(4, 4, 4))


def test_tokens_of_another_number_or_width_are_refused() -> None:
    for wrong in (random_tokens()[:, 1:], random_tokens()[..., 1:]):
        with pytest.raises(ValueError, match="96 tokens of a grid"):
            build()(wrong)


# The paper's size


def test_the_papers_packer_has_14_million_parameters() -> None:
    with torch.device("meta"):
        packer = RegionPacker(768, 3072, (8, 16, 16), PackerConfig())
    count = sum(p.numel() for p in packer.parameters())
    assert count == 14_166_528
    assert round(count / 1e6, 2) == 14.17


def test_two_towers_of_the_papers_size_give_256_visual_tokens() -> None:
    assert HSENET.num_visual_tokens == 256
    assert (HSENET.token_grid, HSENET.packed_grids) == ((8, 4, 4), ((8, 4, 4),) * 2)
    with torch.device("meta"):
        plan = PackStages(HSENET)([torch.empty(1, 768, 8, 16, 16)] * 2)
    assert plan.prefix.shape == (1, 256, 3072)
    assert (plan.per_layer, plan.mask) == ({}, "causal")


# Stages


def pack(config: ReportConfig = PACKED) -> PackStages:
    torch.manual_seed(0)
    return PackStages(config).eval()


def test_stages_follow_one_another_each_by_its_packer() -> None:
    align, stages = pack(), random_stages(PACKED)
    plan = align(stages)
    assert plan.prefix.shape == (2, PACKED.num_visual_tokens, PACKED.decoder.width)
    apart = [align.packers[f"stage{i}"](stages[i - 1].flatten(2).mT) for i in (1, 2)]
    assert plan.prefix.equal(torch.cat(apart, dim=1))


def test_stages_are_packed_in_the_order_that_is_asked_for() -> None:
    assert PACKED.packer is not None
    turned = replace(PACKED, packer=replace(PACKED.packer, stages=(2, 1)))
    align, stages = pack(), random_stages(PACKED)
    other = pack(turned)
    other.load_state_dict(align.state_dict())
    first, second = align(stages).prefix.chunk(2, dim=1)
    assert other(stages).prefix.equal(torch.cat((second, first), dim=1))
    alone = replace(PACKED, packer=replace(PACKED.packer, stages=(2,)))
    assert (pack(alone).stages_used, alone.num_visual_tokens) == ((2,), 8)


@pytest.mark.parametrize("widths", [(4, 6, 8, 8)])
def test_a_shared_packer_serves_stages_of_different_grids(widths: tuple[int, ...]) -> None:
    assert UNET_PACKED.packer is not None
    assert isinstance(UNET_PACKED.encoder, EncoderConfig)
    assert UNET_PACKED.encoder.features == widths
    shared = replace(UNET_PACKED, packer=replace(UNET_PACKED.packer, shared=True))
    align, stages = pack(shared), random_stages(shared)
    assert list(align.packers) == ["shared"]
    assert align(stages).prefix.shape == (2, 32 + 4, shared.decoder.width)
    counts = [sum(p.numel() for p in pack(c).parameters()) for c in (shared, UNET_PACKED)]
    assert 2 * counts[0] == counts[1]


def test_wrong_stages_are_refused_with_both_numbers() -> None:
    align, stages = pack(), random_stages(PACKED)
    with pytest.raises(ValueError, match="expected 2 stages, got 1"):
        align(stages[:1])
    with pytest.raises(ValueError, match=r"grid \(1, 4, 4\), expected \(2, 4, 4\)"):
        align.pool_stage(stages[0][:, :, :1], 1)


def test_the_bridge_is_the_one_that_the_configuration_names() -> None:
    assert isinstance(build_bridge(PACKED), PackStages)
    assert isinstance(
        build_bridge(replace(PACKED, packer=None, injection=InjectionConfig())), AlignStages
    )
