"""Checkpoints in the layout of the published U-VLM code and of nnU-Net, at toy size, and what the
published decoder computes, written down from its described behaviour one position at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, sin
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import Tensor, nn

from uvlm.text.tokenizer import Tokenizer, train_tokenizer

FEATURES = (4, 6, 8, 8)
BLOCKS = (1, 1, 2, 1)
SHAPE = (16, 16, 32)
WIDTH, HEADS, FFN = 16, 2, 24
LABELS = ("nodule", "effusion", "emphysema")
CLASSES = ("lung", "heart")

ARCH: dict[str, Any] = {
    "n_stages": 4,
    "features_per_stage": list(FEATURES),
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * 4,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
    "n_blocks_per_stage": list(BLOCKS),
    "n_conv_per_stage_decoder": [1, 1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
STOCK = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"


def tokenizer() -> Tokenizer:
    return train_tokenizer(["The lungs are clear. There is a nodule of 8 mm."], vocab_size=300)


def stock_unet(classes: int = 1 + len(CLASSES), seed: int = 0) -> ResidualEncoderUNet:
    """nnU-Net's network with weights of no special kind, in eval mode without deep supervision."""
    torch.manual_seed(seed)
    kinds = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    network = ResidualEncoderUNet(1, num_classes=classes, **{**ARCH, **kinds}).eval()
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return network


def plans(network: str = STOCK, name: str = "nnUNetPlans", **arch: Any) -> dict[str, Any]:
    whole = network.endswith("UVLM")
    setup = {
        "patch_size": list(SHAPE if whole else (8, 16, 16)),
        "median_image_size_in_voxels": [float(n) for n in SHAPE],
        "spacing": [1.5, 1.0, 1.0],
        "architecture": {"network_class_name": network, "arch_kwargs": {**ARCH, **arch}},
    }
    lowres = {"batch_size": 2}
    return {
        "dataset_name": "Dataset201_Toy",
        "plans_name": name,
        "transpose_forward": [0, 1, 2],
        "configurations": {"3d_fullres": setup, "other": {**lowres, "inherits_from": "3d_fullres"}},
    }


def dataset(classes: tuple[str, ...] = CLASSES) -> dict[str, Any]:
    values = {name: value for value, name in enumerate(("background", *classes))}
    return {"channel_names": {"0": "CT"}, "labels": values, "file_ending": ".b2nd"}


def save(
    path: Path,
    weights: Mapping[str, Any],
    plan: dict[str, Any],
    described: dict[str, Any],
    *,
    trainer: str = "nnUNetTrainer",
    configuration: str = "3d_fullres",
    **init: Any,
) -> Path:
    """As nnU-Net's trainers save, NumPy numbers of the logger and the device included."""
    content = {
        "network_weights": dict(weights),
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "epochs": [np.int64(1)]},
        "_best_ema": np.float64(0.7),
        "current_epoch": 3,
        "init_args": {
            "plans": plan,
            "configuration": configuration,
            "fold": 0,
            "dataset_json": described,
            "device": torch.device("cpu"),
            **init,
        },
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": (0, 1),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


@dataclass(frozen=True, kw_only=True)
class Published:
    """Settings of a published network."""

    mode: str = "only_report"
    inject: bool = True
    skip: int = 1
    per_stage: int = 2
    source: int = -1
    gate: bool = False
    vocabulary: int = 300

    @property
    def layers(self) -> int:
        return (4 - self.skip) * self.per_stage if self.inject else self.per_stage

    @property
    def source_index(self) -> int:
        return 4 + self.source

    @property
    def kwargs(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "cls_columns": list(LABELS),
            "use_deepstack": self.inject,
            "deepstack_skip_stages": self.skip,
            "layers_per_stage": self.per_stage,
            "visual_token_length_source_stage": self.source,
            "num_heads": HEADS,
            "use_gate": self.gate,
            "tokenizer_path": "/somewhere/Qwen3-4B",
        }

    def weights(self, seed: int = 1) -> dict[str, Tensor]:
        """Every tensor under its published name, second entries included."""
        found = {k: v for k, v in stock_unet().state_dict().items() if k.startswith("encoder.")}
        torch.manual_seed(seed)
        if self.mode != "only_report":
            found |= _head()
        if self.mode != "only_cls":
            found |= self._decoder()
        return found

    def _decoder(self) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        for i, channels in enumerate(FEATURES[self.skip :]):
            made |= _norm(f"pool_norm_list.{i}", channels)
            made |= _linear(f"vision_projection_list.{i}.0", channels, 2 * WIDTH)
            made |= _linear(f"vision_projection_list.{i}.2", 2 * WIDTH, WIDTH)
            made |= _norm(f"vision_norm_list.{i}", WIDTH)
        root = "llm_report_gen.llm_model"
        embedding = torch.randn(self.vocabulary, WIDTH)
        made[f"{root}.token_embedding.weight"] = embedding
        for i in range(self.layers):
            layer = f"{root}.layers.{i}"
            for name in ("self_attn_norm", "ffn_norm"):
                made |= _norm(f"{layer}.{name}", WIDTH)
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                made |= _linear(f"{layer}.{name}", WIDTH, WIDTH)
            made |= _linear(f"{layer}.ffn.0", WIDTH, FFN)
            made |= _linear(f"{layer}.ffn.2", FFN, WIDTH)
            if self.inject and self.gate:
                made |= _linear(f"{layer}.gate_proj.0", WIDTH, WIDTH // 4)
                made |= _linear(f"{layer}.gate_proj.2", WIDTH // 4, WIDTH)
        made |= _norm(f"{root}.ln_f", WIDTH)
        made[f"{root}.lm_head.weight"] = embedding
        return made

    def save(self, path: Path, weights: Mapping[str, Tensor] | None = None, **init: Any) -> Path:
        """As the published trainer saves: the settings in force stand in `init_args` too."""
        plan = plans("uvlm.networks.uvlm.UVLM", "UVLM_ResEncUNetLPlans_chest_report")
        return save(
            path,
            self.weights() if weights is None else weights,
            plan,
            dataset(LABELS),
            trainer="nnUNetTrainer_UVLM",
            network_arch_init_kwargs={**ARCH, **self.kwargs},
            **init,
        )


def _linear(name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
    weight = torch.randn(outputs, inputs) / inputs**0.5
    return {f"{name}.weight": weight, f"{name}.bias": 0.1 * torch.randn(outputs)}


def _norm(name: str, width: int) -> dict[str, Tensor]:
    return {
        f"{name}.weight": 1 + 0.1 * torch.randn(width),
        f"{name}.bias": 0.1 * torch.randn(width),
    }


def _head() -> dict[str, Tensor]:
    root, width, count = "cls_head_list.0.pooling", FEATURES[-1], len(LABELS)
    made = {f"{root}.class_query": torch.randn(count, width)}
    joint = _linear("in_proj", width, 3 * width)
    made[f"{root}.cross_attention.in_proj_weight"] = joint["in_proj.weight"]
    made[f"{root}.cross_attention.in_proj_bias"] = joint["in_proj.bias"]
    made |= _linear(f"{root}.cross_attention.out_proj", width, width)
    made |= _norm(f"{root}.norm", width)
    return made | _linear(f"{root}.classifier", count * width, count)


# What the published code computes


def published_probabilities(weights: Mapping[str, Tensor], deepest: Tensor) -> Tensor:
    """Logits of the class head for one deepest stage (C, D, H, W): four heads, no positions."""
    root, width = "cls_head_list.0.pooling", FEATURES[-1]
    w = {name: tensor.double() for name, tensor in weights.items()}
    wide, bias = (
        w[f"{root}.cross_attention.in_proj_weight"],
        w[f"{root}.cross_attention.in_proj_bias"],
    )
    tokens = deepest.double().flatten(1).T
    q = w[f"{root}.class_query"] @ wide[:width].T + bias[:width]
    k = tokens @ wide[width : 2 * width].T + bias[width : 2 * width]
    v = tokens @ wide[2 * width :].T + bias[2 * width :]
    size, read = width // 4, []
    for head in range(4):
        part = slice(head * size, (head + 1) * size)
        scores = q[:, part] @ k[:, part].T / size**0.5
        read.append(scores.softmax(-1) @ v[:, part])
    out = f"{root}.cross_attention.out_proj"
    joined = torch.cat(read, dim=1) @ w[f"{out}.weight"].T + w[f"{out}.bias"]
    flat = _layer_norm(w, f"{root}.norm", joined).flatten()
    return w[f"{root}.classifier.weight"] @ flat + w[f"{root}.classifier.bias"]


def published_logits(
    settings: Published,
    weights: Mapping[str, Tensor],
    stages: list[Tensor],
    tokens: list[int],
    markers: tuple[int, int],
) -> Tensor:
    """(T, V) logits at the text positions of one study; `stages` are (C, D, H, W)."""
    w = {name: tensor.double() for name, tensor in weights.items()}
    root = "llm_report_gen.llm_model"
    embedding = w[f"{root}.token_embedding.weight"]
    prefix, added = _visual(settings, w, [stage.double() for stage in stages])
    start, end = markers
    x = torch.cat((embedding[[start]], prefix, embedding[[end]], embedding[tokens]))
    count = len(prefix)
    for layer in range(settings.layers):
        name = f"{root}.layers.{layer}"
        x = x + _attention(w, name, _layer_norm(w, f"{name}.self_attn_norm", x), count)
        if added:
            x = _inject(settings, w, name, x, added[layer // settings.per_stage])
        inner = F.gelu(_apply(w, f"{name}.ffn.0", _layer_norm(w, f"{name}.ffn_norm", x)))
        x = x + _apply(w, f"{name}.ffn.2", inner)
    return (_layer_norm(w, f"{root}.ln_f", x) @ embedding.T)[count + 2 :]


def _apply(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _layer_norm(w: Mapping[str, Tensor], name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (x.var(-1, keepdim=True, unbiased=False) + eps).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _visual(
    settings: Published, w: Mapping[str, Tensor], stages: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Input tokens, and what enters each group of layers, deepest stage first."""
    grid = stages[settings.source_index].shape[1:]
    projected: dict[int, Tensor] = {}
    for index in range(settings.skip, 4):
        if not settings.inject and index != settings.source_index:
            continue
        cells = stages[index]
        if index < settings.source_index:
            for axis, size in enumerate(grid, start=1):
                cells = cells.unflatten(axis, (size, -1)).mean(axis + 1)
        tokens = cells.flatten(1).T
        i = index - settings.skip
        hidden = _layer_norm(w, f"pool_norm_list.{i}", tokens)
        hidden = F.gelu(_apply(w, f"vision_projection_list.{i}.0", hidden))
        hidden = _apply(w, f"vision_projection_list.{i}.2", hidden)
        projected[index] = _layer_norm(w, f"vision_norm_list.{i}", hidden, eps=1e-6)
    prefix = projected[settings.source_index]
    if not settings.inject:
        return prefix, []
    added = []
    for index in reversed(range(settings.skip, 4)):
        padded = torch.zeros_like(prefix)
        padded[: len(projected[index])] = projected[index]
        added.append(padded)
    return prefix, added


def _attention(w: Mapping[str, Tensor], name: str, x: Tensor, count: int) -> Tensor:
    length, size = len(x), WIDTH // HEADS
    q, k, v = (_apply(w, f"{name}.{each}_proj", x).view(length, HEADS, size) for each in "qkv")
    q, k = _turned(q), _turned(k)
    out = torch.zeros(length, HEADS, size, dtype=torch.float64)
    for query in range(length):
        # The block of the visual tokens is laid over positions 0 to K - 1, one too early.
        seen = list(range(count)) if query < count else list(range(query + 1))
        for head in range(HEADS):
            scores = k[seen, head] @ q[query, head] / size**0.5
            out[query, head] = scores.softmax(0) @ v[seen, head]
    return _apply(w, f"{name}.out_proj", out.flatten(1))


def _turned(x: Tensor) -> Tensor:
    """Neighbouring channels as pairs, each of the two with another frequency."""
    size = x.shape[-1]
    half = size // 2
    frequency = [10_000.0 ** (-(2 * i) / size) for i in range(half)]
    result = x.clone()
    for position in range(len(x)):
        for pair in range(half):
            even, odd = x[position, :, 2 * pair], x[position, :, 2 * pair + 1]
            a = position * frequency[(2 * pair) % half]
            b = position * frequency[(2 * pair + 1) % half]
            result[position, :, 2 * pair] = even * cos(a) - odd * sin(a)
            result[position, :, 2 * pair + 1] = even * sin(b) + odd * cos(b)
    return result


def _inject(
    settings: Published, w: Mapping[str, Tensor], name: str, x: Tensor, added: Tensor
) -> Tensor:
    result = x.clone()
    for token in range(len(added)):
        here, addition = x[1 + token], added[token]
        if settings.gate:
            inner = F.gelu(_apply(w, f"{name}.gate_proj.0", here))
            addition = torch.sigmoid(_apply(w, f"{name}.gate_proj.2", inner)) * addition
        result[1 + token] = here + addition
    return result
