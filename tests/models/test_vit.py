"""The 3D vision transformer and its gate, against the equations written out. CPU, seconds."""

from __future__ import annotations

from dataclasses import replace
from math import erf, exp, sqrt

import pytest
import torch
from torch import Tensor, nn

from uvlm.errors import ConfigError, InputError
from uvlm.models.tower_config import ViTConfig
from uvlm.models.tower_sizes import vit_size
from uvlm.models.vit import SlicedVolume, SliceGate, ViT, cut, depth_code

PLAIN = ViTConfig(shape=(4, 8, 12), patch=(2, 4, 4), width=8, layers=2, heads=2, mlp=12)
GATED = replace(PLAIN, slice_width=6)
DEEP = replace(GATED, slice_depth=True)


def make(config: ViTConfig) -> ViT:
    torch.manual_seed(0)
    vit = ViT(config).eval()
    nn.init.normal_(vit.class_token)
    return vit


def volume(batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *PLAIN.shape, generator=torch.Generator().manual_seed(1))


def sliced(slices: int = 5) -> SlicedVolume:
    features = torch.randn(2, slices, 6, generator=torch.Generator().manual_seed(2))
    return SlicedVolume(volume(), features)


def given(config: ViTConfig) -> Tensor | SlicedVolume:
    return sliced() if config.gated else volume()


@pytest.mark.parametrize(
    ("config", "tensors", "parameters"),
    [
        (ViTConfig(), 138, 87_389_184),
        (ViTConfig(slice_width=768), 150, 87_389_184 + 2_364_673),
        (ViTConfig(slice_width=768, slice_depth=True), 151, 87_389_184 + 2_364_674),
    ],
)
def test_the_papers_sizes(config: ViTConfig, tensors: int, parameters: int) -> None:
    with torch.device("meta"):
        weights = list(ViT(config).parameters())
    assert len(weights) == tensors
    assert sum(w.numel() for w in weights) == parameters == vit_size(config).parameters


def test_patches_are_cut_in_z_y_x_order() -> None:
    x = torch.arange(2 * 4 * 6.0).view(1, 1, 2, 4, 6)
    found = cut(x, (1, 2, 3))
    assert found.shape == (1, 8, 6)
    for number, (z, y, column) in enumerate(
        (z, y, c) for z in (0, 1) for y in (0, 2) for c in (0, 3)
    ):
        assert torch.equal(found[0, number], x[0, 0, z, y : y + 2, column : column + 3].flatten())


def layer_norm(row: list[float], state: dict[str, Tensor], name: str) -> list[float]:
    mean = sum(row) / len(row)
    spread = sqrt(sum((v - mean) ** 2 for v in row) / len(row) + 1e-5)
    weight, bias = state[name + ".weight"].tolist(), state[name + ".bias"].tolist()
    return [(v - mean) / spread * w + b for v, w, b in zip(row, weight, bias, strict=True)]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def affine(row: list[float], state: dict[str, Tensor], name: str) -> list[float]:
    weight = state[name + ".weight"].tolist()
    bias = state[name + ".bias"].tolist() if name + ".bias" in state else [0.0] * len(weight)
    return [dot(row, line) + b for line, b in zip(weight, bias, strict=True)]


def read(query: list[float], keys: list[list[float]], values: list[list[float]]) -> list[float]:
    scores = [exp(dot(query, key) / sqrt(len(query))) for key in keys]
    return [dot(scores, list(column)) / sum(scores) for column in zip(*values, strict=True)]


def slow_block(rows: list[list[float]], state: dict[str, Tensor], name: str) -> list[list[float]]:
    """Number by number, two heads."""
    width = len(rows[0])
    qkv = [
        affine(layer_norm(row, state, f"{name}.norm1"), state, f"{name}.attention.qkv")
        for row in rows
    ]
    half = width // 2
    out = []
    for row, line in zip(rows, qkv, strict=True):
        heads: list[float] = []
        for q in (0, half):
            k, v = width + q, 2 * width + q
            keys, values = [r[k : k + half] for r in qkv], [r[v : v + half] for r in qkv]
            heads += read(line[q : q + half], keys, values)
        mixed = affine(heads, state, f"{name}.attention.out")
        out.append([a + b for a, b in zip(row, mixed, strict=True)])
    made = []
    for row in out:
        hidden = affine(layer_norm(row, state, f"{name}.norm2"), state, f"{name}.mlp.0")
        hidden = [h * 0.5 * (1 + erf(h / sqrt(2))) for h in hidden]
        made.append(
            [a + b for a, b in zip(row, affine(hidden, state, f"{name}.mlp.2"), strict=True)]
        )
    return made


def slow_gate(
    rows: list[list[float]], slices: list[list[float]], state: dict[str, Tensor]
) -> list[float]:
    """In the paper's order: attention, output layer, residual of the query, norm, score."""
    keys = [affine(s, state, "gate.key") for s in slices]
    values = [affine(s, state, "gate.value") for s in slices]
    gates = []
    for row in rows:
        query = affine(row, state, "gate.query")
        mixed = affine(read(query, keys, values), state, "gate.out")
        total = [a + b for a, b in zip(query, mixed, strict=True)]
        h = layer_norm(total, state, "gate.norm")
        (score,) = affine(h, state, "gate.score")
        gates.append(1 / (1 + exp(-score)))
    return gates


@pytest.mark.parametrize("config", [PLAIN, GATED], ids=["plain", "gated"])
def test_features_are_those_of_the_equations(config: ViTConfig) -> None:
    vit = make(config).double()
    for weight in vit.parameters():  # biases and scales that start as 0 and 1 must matter
        nn.init.normal_(weight, std=0.5)
    state = dict(vit.state_dict())
    x = volume(1).double()
    patches = [affine(row, state, "patches") for row in cut(x, config.patch)[0].tolist()]
    places = state["positions"][0].tolist()
    rows = [
        [a + b for a, b in zip(p, q, strict=True)] for p, q in zip(patches, places, strict=True)
    ]
    slices = sliced().slices[:1].double()
    if config.gated:
        gates = slow_gate(rows, slices[0].tolist(), state)
        rows = [[g * v for v in row] for g, row in zip(gates, rows, strict=True)]
    rows = [state["class_token"][0, 0].tolist(), *rows]
    for number in range(config.layers):
        rows = slow_block(rows, state, f"blocks.{number}")
    expected_TC = torch.tensor([layer_norm(r, state, "norm") for r in rows], dtype=torch.float64)
    first_BC, tokens_BNC = vit.features(SlicedVolume(x, slices))
    torch.testing.assert_close(first_BC[0], expected_TC[0], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(tokens_BNC[0], expected_TC[1:], atol=1e-9, rtol=1e-9)
    (map_BCdhw,) = vit(SlicedVolume(x, slices))
    assert torch.equal(map_BCdhw.flatten(2).transpose(1, 2), tokens_BNC)


@pytest.mark.parametrize("config", [PLAIN, GATED], ids=["plain", "gated"])
def test_one_map_of_the_grid(config: ViTConfig) -> None:
    (found,) = make(config)(given(config))
    assert found.shape == (2, 8, 2, 2, 3)


@pytest.mark.parametrize("config", [PLAIN, GATED, DEEP], ids=["plain", "gated", "deep"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_parameter(config: ViTConfig, checkpointing: bool) -> None:
    vit = make(config)
    vit.checkpointing = checkpointing
    vit(given(config))[0].pow(3).sum().backward()
    # One number added to every key changes no softmax: that bias has no slope, in the paper too.
    still = [n for n, p in vit.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if name != "gate.key.bias"] == []


@pytest.mark.parametrize("config", [PLAIN, DEEP], ids=["plain", "deep"])
def test_checkpointing_gives_the_same_gradients(config: ViTConfig) -> None:
    def gradients(checkpointing: bool) -> list[Tensor]:
        vit = make(config).train()
        vit.checkpointing = checkpointing
        torch.manual_seed(3)  # the gate's dropout
        vit(given(config))[0].pow(3).sum().backward()
        return [p.grad for p in vit.parameters() if p.grad is not None]

    for plain, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(plain, again, atol=0, rtol=0)


def test_pooled_gives_the_one_stage() -> None:
    vit = make(PLAIN)
    made = vit.pooled(volume(), lambda stage, number: stage.mean((2, 3, 4)) * number)
    assert list(made) == [1]
    torch.testing.assert_close(made[1], vit(volume())[0].mean((2, 3, 4)))


def test_a_plain_one_ignores_slices() -> None:
    vit = make(PLAIN)
    assert torch.equal(vit(sliced())[0], vit(volume())[0])


def test_a_gate_lies_between_0_and_1_and_attention_sums_to_1() -> None:
    vit = make(GATED)
    assert vit.gate is not None
    patches_BNC, slices = torch.randn(2, 12, 8) * 5, sliced().slices
    gate_BN, weights_BNS = vit.gate(patches_BNC, slices), vit.gate.attention(patches_BNC, slices)
    assert gate_BN.shape == (2, 12)
    assert 0 < float(gate_BN.min().detach()) < float(gate_BN.max().detach()) < 1
    assert weights_BNS.shape == (2, 12, 5)
    torch.testing.assert_close(weights_BNS.sum(-1), torch.ones(2, 12))


def turned(x: SlicedVolume) -> SlicedVolume:
    return x._replace(slices=x.slices.flip(1))


def test_slices_have_no_order_without_depth() -> None:
    vit = make(GATED)
    torch.testing.assert_close(vit(sliced())[0], vit(turned(sliced()))[0], atol=1e-5, rtol=0)


def test_depth_starts_as_the_paper_and_gives_slices_an_order() -> None:
    vit, plain = make(DEEP), make(GATED)
    plain.load_state_dict({k: v for k, v in vit.state_dict().items() if k != "gate.depth_scale"})
    assert torch.equal(vit(sliced())[0], plain(sliced())[0])
    assert vit.gate is not None
    assert vit.gate.depth_scale is not None
    nn.init.constant_(vit.gate.depth_scale, 2.0)
    difference = (vit(sliced())[0] - vit(turned(sliced()))[0]).abs().max()
    assert float(difference.detach()) > 1e-3


@pytest.mark.parametrize("width", [1, 6, 7, 768])
def test_every_slice_has_its_own_place(width: int) -> None:
    code = depth_code(32, width)
    assert code.shape == (32, width)
    assert code.abs().max() <= 1
    assert width == 1 or len(code.mul(1e4).round().unique(dim=0)) == 32
    assert depth_code(1, width).isfinite().all()


def test_slices_matter_and_only_those_of_the_same_study() -> None:
    vit = make(GATED)
    x = sliced()
    other = x._replace(slices=torch.cat((x.slices[:1], -x.slices[1:])))
    same, changed = (vit(x)[0] - vit(other)[0]).flatten(1).abs().amax(1).tolist()
    assert same < 1e-6 < 1e-4 < changed


def test_only_training_drops_out() -> None:
    vit = make(GATED)
    assert torch.equal(vit(sliced())[0], vit(sliced())[0])
    vit.train()
    assert not torch.equal(vit(sliced())[0], vit(sliced())[0])


def test_the_gates_dropout_is_the_papers() -> None:
    assert SliceGate(4, 4).dropout.p == 0.1


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, 4, 8, 16), r"takes volumes of \(4, 8, 12\), not \(4, 8, 16\)"),
        ((2, 1, 8, 8, 12), r"not \(8, 8, 12\)"),
        ((2, 3, 4, 8, 12), r"\(batch, 1, z, y, x\), not \(2, 3, 4, 8, 12\)"),
        ((2, 4, 8, 12), r"\(batch, 1, z, y, x\), not \(2, 4, 8, 12\)"),
    ],
)
def test_another_volume_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(PLAIN)(torch.rand(shape))


def test_an_impossible_volume_is_an_error_of_the_setting() -> None:
    with pytest.raises(ConfigError, match="prepare the dataset"):
        make(PLAIN)(torch.rand(2, 1, 4, 8, 8))


def test_missing_slices_are_named() -> None:
    with pytest.raises(InputError, match="gated by slices and got a volume alone"):
        make(GATED)(volume())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 5, 7), "have 7 numbers each, the gate takes 6"),
        ((3, 5, 6), r"are \(3, 5, 6\); the gate takes \(batch 2, slices, 6\)"),
        ((2, 6), r"are \(2, 6\)"),
        ((2, 0, 6), r"are \(2, 0, 6\)"),
    ],
)
def test_other_slices_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(GATED)(SlicedVolume(volume(), torch.rand(shape)))


@pytest.mark.parametrize("config", [PLAIN, DEEP], ids=["plain", "deep"])
def test_mixed_precision_stays_close(config: ViTConfig) -> None:
    vit = make(config)
    exact = vit(given(config))[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = vit(given(config))[0]
    # bfloat16 keeps 8 bits; features after a layer normalisation are of size 1.
    torch.testing.assert_close(found.float(), exact, atol=0.05, rtol=0.05)
