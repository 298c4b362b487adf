"""Tiny checkpoints in the layout of the published HSENet code, and what MONAI 1.3's vision
transformer computes from them, written down from its described behaviour, head by head."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.models.tower_config import TextTowerConfig, ViTConfig

SHAPE, PATCH, GRID = (4, 8, 12), (2, 4, 3), (2, 2, 4)
"""Of a turned volume, z y x; theirs is z x y, so the grid there is (2, 4, 2)."""

WIDTH, HEADS, MLP, LAYERS, SLICES, FEATURES, OUT = 8, 2, 12, 2, 3, 6, 5
VOCABULARY, POSITIONS = 20, 9

VIT = ViTConfig(shape=SHAPE, patch=PATCH, heads=HEADS)
TEXT = TextTowerConfig(heads=HEADS)

State = dict[str, Tensor]

KERNEL = (1, 1, 2)
"""Of packers, z y x."""

RANK, ALPHA, DECODER = 3, 12, 32
LINEAR = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
FRONT = "base_model.model."


def numbers(sizes: Mapping[str, tuple[int, ...]], seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.5 * torch.randn(size, generator=generator) for name, size in sizes.items()}


def _linear(name: str, out: int, into: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), **({f"{name}.bias": (out,)} if bias else {})}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def vit(seed: int = 0, *, gated: bool = False) -> State:
    tokens, voxels = 2 * 2 * 4, 2 * 4 * 3
    sizes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "patch_embedding.position_embeddings": (1, tokens, WIDTH),
        **_linear("patch_embedding.patch_embeddings.1", WIDTH, voxels),
    }
    for i in range(LAYERS):
        block = f"blocks.{i}."
        sizes |= _linear(f"{block}mlp.linear1", MLP, WIDTH)
        sizes |= _linear(f"{block}mlp.linear2", WIDTH, MLP)
        sizes |= _norm(f"{block}norm1") | _norm(f"{block}norm2")
        sizes |= _linear(f"{block}attn.out_proj", WIDTH, WIDTH)
        sizes |= _linear(f"{block}attn.qkv", 3 * WIDTH, WIDTH, bias=False)
    sizes |= _norm("norm")
    if gated:
        gate = "slice_guided_attention."
        sizes |= _linear(f"{gate}Wq", WIDTH, WIDTH) | _linear(f"{gate}output_linear", WIDTH, WIDTH)
        sizes |= _linear(f"{gate}Wk", WIDTH, FEATURES) | _linear(f"{gate}Wv", WIDTH, FEATURES)
        sizes |= _norm(f"{gate}norm") | _linear("patch_score_proj", 1, WIDTH)
    return numbers(sizes, seed)


def bert(seed: int = 0, **settings: Any) -> State:
    """Of transformers, pooler included."""
    from transformers import BertConfig, BertModel

    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": MLP,
        "max_position_embeddings": POSITIONS,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = BertModel(BertConfig(**{**sizes, **settings}))
    return {name: tensor.clone() for name, tensor in built.state_dict().items()}


def under(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def clip(seed: int = 0, *, gated: bool = False) -> State:
    """Stage 1 as the published code saves it; gated, what stage 2 trains."""
    heads = numbers(
        {**_linear("mm_vision_proj", OUT, WIDTH), **_linear("mm_language_proj", OUT, WIDTH)}, seed
    )
    positions = torch.arange(POSITIONS)[None]
    return {
        "logit_scale": torch.tensor(2.5 + seed),
        **under("vision_encoder.", vit(seed, gated=gated)),
        **under("language_encoder.", bert(seed)),
        "language_encoder.embeddings.position_ids": positions,
        **heads,
    }


def stage2(seed: int = 0) -> State:
    return clip(seed, gated=True) | under("stage1_pretrained_CLIP.", clip(seed + 1))


def _affine(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", torch.zeros(()))


def _normed(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def _attended(state: Mapping[str, Tensor], name: str, x_TC: Tensor) -> Tensor:
    """Rows of qkv: all heads' queries, then keys, then values."""
    query, key, value = _affine(state, f"{name}.qkv", x_TC).chunk(3, dim=-1)
    each = WIDTH // HEADS
    read = []
    for head in range(HEADS):
        own = slice(head * each, (head + 1) * each)
        weights = (query[:, own] @ key[:, own].T / sqrt(each)).softmax(-1)
        read.append(weights @ value[:, own])
    return _affine(state, f"{name}.out_proj", torch.cat(read, dim=-1))


def published_features(
    state: Mapping[str, Tensor], volume: Tensor, slices: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(C,) of the class token and (N, C) of the patches, of one volume in the order z, x, y."""
    pz, px, py = PATCH[0], PATCH[2], PATCH[1]
    boxes = [
        volume[z : z + pz, x : x + px, y : y + py].flatten()
        for z in range(0, volume.shape[0], pz)
        for x in range(0, volume.shape[1], px)
        for y in range(0, volume.shape[2], py)
    ]
    embedded = _affine(state, "patch_embedding.patch_embeddings.1", torch.stack(boxes))
    tokens = embedded + state["patch_embedding.position_embeddings"][0]
    if slices is not None:
        gate = "slice_guided_attention."
        query, key = _affine(state, f"{gate}Wq", tokens), _affine(state, f"{gate}Wk", slices)
        weights = (query @ key.T / sqrt(WIDTH)).softmax(-1)
        read = _affine(state, f"{gate}output_linear", weights @ _affine(state, f"{gate}Wv", slices))
        guided = _normed(state, f"{gate}norm", query + read)
        tokens = tokens * _affine(state, "patch_score_proj", guided).sigmoid()
    h = torch.cat((state["cls_token"][0], tokens))
    for i in range(LAYERS):
        block = f"blocks.{i}."
        h = h + _attended(state, f"{block}attn", _normed(state, f"{block}norm1", h))
        hidden = F.gelu(_affine(state, f"{block}mlp.linear1", _normed(state, f"{block}norm2", h)))
        h = h + _affine(state, f"{block}mlp.linear2", hidden)
    h = _normed(state, "norm", h)
    return h[0], h[1:]


def published_text(state: Mapping[str, Tensor], tokens_T: Tensor) -> Tensor:
    """(OUT,) of one report, by transformers' own network and names."""
    from transformers import BertConfig, BertModel

    model = BertModel(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, intermediate_size=MLP, max_position_embeddings=POSITIONS,
        )
    ).eval()  # fmt: skip
    prefix = "language_encoder."
    own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    own.pop("embeddings.position_ids", None)
    model.load_state_dict(own)
    with torch.no_grad():
        first = model(input_ids=tokens_T[None]).last_hidden_state[0, 0]
    return F.normalize(_affine(state, "mm_language_proj", first), dim=-1)


def published_image(
    state: Mapping[str, Tensor], volume: Tensor, slices: Tensor | None = None
) -> Tensor:
    prefix = "vision_encoder."
    own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    first, _ = published_features(own, volume, slices)
    return F.normalize(_affine(state, "mm_vision_proj", first), dim=-1)


def _packer(name: str, hidden: int) -> dict[str, tuple[int, ...]]:
    inner = f"{name}.resolution_attention."
    sizes = _linear(f"{name}.proj_mpls.0", hidden, WIDTH) | _norm(f"{inner}norm")
    for part in ("Wq", "Wk", "Wv", "output_linear"):
        sizes |= _linear(inner + part, WIDTH, WIDTH)
    return sizes | _linear(f"{name}.proj_mpls.2", DECODER, hidden)


def packers(base: Mapping[str, Tensor], *, hidden: int = DECODER, second: bool = True) -> State:
    """Packers and adapters as the published trainer saves them, over a Phi-3 of weights `base`."""
    names = ("mm_projector", *(("mm_projector2",) if second else ()))
    sizes: dict[str, tuple[int, ...]] = {}
    for name in names:
        sizes |= _packer(f"{FRONT}model.{name}", hidden)
    for name, weight in base.items():
        if name.removesuffix(".weight").endswith(LINEAR):
            layer = FRONT + name.removesuffix(".weight")
            sizes[f"{layer}.lora_A.default.weight"] = (RANK, weight.shape[1])
            sizes[f"{layer}.lora_B.default.weight"] = (weight.shape[0], RANK)
    return numbers(sizes, 7)


def published_packed(state: Mapping[str, Tensor], name: str, tokens_NC: Tensor) -> Tensor:
    """(R, E): each region of a grid in the order z, x, y asked by its mean, one after another."""
    (gz, gy, gx), (kz, ky, kx) = GRID, KERNEL
    grid, inner = tokens_NC.reshape(gz, gx, gy, -1), f"{name}.resolution_attention."
    packed = []
    for z in range(0, gz, kz):
        for x in range(0, gx, kx):
            for y in range(0, gy, ky):
                own = grid[z : z + kz, x : x + kx, y : y + ky].flatten(0, 2)
                query = _affine(state, f"{inner}Wq", own.mean(0, keepdim=True))
                key, value = _affine(state, f"{inner}Wk", own), _affine(state, f"{inner}Wv", own)
                weights = (query @ key.T / sqrt(WIDTH)).softmax(-1)
                read = _affine(state, f"{inner}output_linear", weights @ value)
                found = _normed(state, f"{inner}norm", query + read)
                hidden = F.gelu(_affine(state, f"{name}.proj_mpls.0", found))
                packed.append(_affine(state, f"{name}.proj_mpls.2", hidden))
    return torch.cat(packed)


def published_logits(
    towers: State, packers: State, base: Any, study: tuple[Tensor, Tensor], text: list[int]
) -> Tensor:
    """(T, V) at the text: adapters merged into `base`, a Phi-3; BOS, both towers' tokens, text.

    Args:
        study: volume (z, x, y) and slices
    """
    merged = base.state_dict()
    for name in merged:
        adapter = f"{FRONT}{name.removesuffix('.weight')}.lora_"
        if f"{adapter}A.default.weight" in packers:
            a, b = (packers[f"{adapter}{part}.default.weight"] for part in "AB")
            merged[name] = merged[name] + ALPHA / RANK * b @ a
    base.load_state_dict(merged)
    seen = []
    second = "mm_projector2" if any("mm_projector2" in name for name in packers) else "mm_projector"
    for prefix, slices, name in (
        ("stage1_pretrained_CLIP.vision_encoder.", None, "mm_projector"),
        ("vision_encoder.", study[1], second),
    ):
        own = {n.removeprefix(prefix): t for n, t in towers.items() if n.startswith(prefix)}
        _, tokens = published_features(own, study[0], slices)
        seen.append(published_packed(packers, f"{FRONT}model.{name}", tokens))
    words = base.get_input_embeddings()(torch.tensor([base.config.bos_token_id, *text]))
    sequence = torch.cat((words[:1], *seen, words[1:]))
    logits: Tensor = base(inputs_embeds=sequence[None]).logits[0, -len(text) :]
    return logits
