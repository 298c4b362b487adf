"""Folders of tiny random 2D encoders, laid out as downloaded ones are."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

WIDTH, HEAD, MLP, PATCH, SIZE, LAYERS = 16, 4, 24, 4, 8, 2
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def timm_tensors(
    *, width: int = WIDTH, layers: int = LAYERS, size: int = SIZE, seed: int = 0
) -> dict[str, Tensor]:
    """Of a vision transformer by timm's names, written down by hand."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + (size // PATCH) ** 2, width),
        "patch_embed.proj.weight": (width, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(layers):
        shapes |= {
            f"blocks.{i}.norm1.weight": (width,),
            f"blocks.{i}.norm1.bias": (width,),
            f"blocks.{i}.attn.qkv.weight": (3 * width, width),
            f"blocks.{i}.attn.qkv.bias": (3 * width,),
            f"blocks.{i}.attn.proj.weight": (width, width),
            f"blocks.{i}.attn.proj.bias": (width,),
            f"blocks.{i}.norm2.weight": (width,),
            f"blocks.{i}.norm2.bias": (width,),
            f"blocks.{i}.mlp.fc1.weight": (MLP, width),
            f"blocks.{i}.mlp.fc1.bias": (MLP,),
            f"blocks.{i}.mlp.fc2.weight": (width, MLP),
            f"blocks.{i}.mlp.fc2.bias": (width,),
        }
    return {n: 0.4 * torch.randn(shape, generator=generator) for n, shape in shapes.items()}


def tiny_slice_encoder(
    folder: Path, tensors: dict[str, Tensor] | None = None, *, size: int = SIZE, seed: int = 0
) -> Path:
    """Write a folder as open_clip's are: the picture half among other tensors, and its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = timm_tensors(size=size, seed=seed) if tensors is None else tensors
    named = {f"visual.trunk.{name}": tensor for name, tensor in tensors.items()}
    others = {"visual.head.proj.weight": torch.ones(3, WIDTH), "logit_scale": torch.ones(1)}
    save_file(named | others, folder / "open_clip_model.safetensors")
    settings = {
        "model_cfg": {
            "embed_dim": 3,
            "vision_cfg": {"timm_pool": "", "image_size": size, "head_width": HEAD},
        },
        "preprocess_cfg": {"mean": MEAN, "std": STD},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    return folder
