"""A 2D encoder from a local folder: the picture half of an open_clip model, or a plain timm one.

FOLDER/open_clip_model.safetensors   or model.safetensors; `visual.trunk.*`, or timm's own names
FOLDER/open_clip_config.json         mean, std and size of pictures; may be absent

Tensors are taken by name, each must be known and none may lack; sizes follow from their shapes.
Nothing is unpickled.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from math import isfinite, isqrt
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from uvlm.errors import ConfigError
from uvlm.models.slice_encoder import SliceEncoder
from uvlm.models.tower_config import SliceEncoderConfig

__all__ = ["read_slice_encoder"]

log = logging.getLogger(__name__)

WEIGHTS = ("open_clip_model.safetensors", "model.safetensors")
CONFIG = "open_clip_config.json"
TRUNK = "visual.trunk."
CLASSIFIER = ("head.weight", "head.bias")
"""Of a plain timm model; what it classified is of no use here."""

HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16}
"""Of timm's vision transformers by their width; no tensor's shape tells."""

EXPECTED = "Give a vision transformer with a class token, as timm's vit_base_patch16_224."
CONVERT = (
    'Save the weights as safetensors, where they come from a source you trust: python -c "import '
    "torch; from safetensors.torch import save_file; w = torch.load('{name}', weights_only=True); "
    "save_file({{k: v.contiguous() for k, v in w.items() if k.startswith('visual.trunk.')}}, "
    "'open_clip_model.safetensors')\""
)


def read_slice_encoder(
    folder: Path | str, settings: SliceEncoderConfig | None = None
) -> tuple[SliceEncoderConfig, SliceEncoder]:
    """The 2D encoder of `folder`, in evaluation mode on the CPU, with its configuration.

    Args:
        settings: whose number of slices and window are kept; all else is the folder's

    Raises:
        ConfigError: no such folder, no safetensors, a model of another kind (naming missing and
            unexpected tensors), or a configuration that does not fit the weights.
    """
    folder, settings = Path(folder), settings or SliceEncoderConfig()
    file = _weights_file(folder)
    tensors = _trunk(file)
    config = _sizes(file, tensors, settings)
    config = _pictures(folder, config)
    config = replace(config, heads=_heads(folder, file, config.width))
    with torch.device("meta"):
        expected = {name: tuple(t.shape) for name, t in SliceEncoder(config).state_dict().items()}
    _account(file, tensors, expected)
    encoder = SliceEncoder(config)
    encoder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return config, encoder.eval().requires_grad_(False)


def _weights_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError.about(folder, "no such folder", "Give the folder of a 2D encoder.")
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    pickled = sorted(p.name for kind in ("*.bin", "*.pt*") for p in folder.glob(kind))
    if pickled:
        raise ConfigError.about(
            folder,
            f"it holds only pickled weights ({pickled[0]}), which can run code",
            CONVERT.format(name=pickled[0]),
        )
    raise ConfigError.about(
        folder, f"it has neither {' nor '.join(WEIGHTS)}", "Put the weights of a 2D encoder there."
    )


def _trunk(file: Path) -> dict[str, Tensor]:
    """Tensors of the picture half, by timm's names."""
    try:
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
            prefix = TRUNK if any(name.startswith(TRUNK) for name in names) else ""
            return {
                name.removeprefix(prefix): opened.get_tensor(name)
                for name in names
                if name.startswith(prefix) and name not in CLASSIFIER
            }
    except (OSError, SafetensorError) as error:
        raise ConfigError.about(file, f"unreadable ({error})", "Download it again.") from None


def _sizes(
    file: Path, tensors: Mapping[str, Tensor], settings: SliceEncoderConfig
) -> SliceEncoderConfig:
    """What the shapes of three tensors tell."""
    asked = {"patch_embed.proj.weight": 4, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2}
    for name, axes in asked.items():
        if name not in tensors:
            raise ConfigError.about(file, f"it lacks the tensor {name}", EXPECTED)
        if tensors[name].dim() != axes:
            _refuse_shape(file, name, tensors[name])
    width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    side = isqrt(max(tensors["pos_embed"].shape[1] - 1, 0))
    if side < 1 or 1 + side * side != tensors["pos_embed"].shape[1]:
        _refuse_shape(file, "pos_embed", tensors["pos_embed"])
    numbers = {int(found[1]) for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name))}
    return replace(
        settings,
        size=side * patch,
        patch=patch,
        width=width,
        layers=1 + max(numbers),
        mlp=len(tensors["blocks.0.mlp.fc1.weight"]),
    )


def _refuse_shape(file: Path, name: str, tensor: Tensor) -> None:
    raise ConfigError.about(file, f"{name} has the shape {tuple(tensor.shape)}", EXPECTED)


def _account(
    file: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]
) -> None:
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    lists = [
        f"{what} {len(names)} tensors ({', '.join(names[:5])}{', ...' * (len(names) > 5)})"
        for what, names in {"it lacks": missing, "it has beside": unexpected}.items()
        if names
    ]
    if lists:
        raise ConfigError.about(file, "; ".join(lists), EXPECTED)
    for name, shape in expected.items():
        found = tuple(tensors[name].shape)
        if found != shape:
            raise ConfigError.about(file, f"{name} has the shape {found}, not {shape}", EXPECTED)
        if not tensors[name].isfinite().all():
            raise ConfigError.about(
                file, f"{name} holds NaN or infinite numbers", "Download it again."
            )


def _pictures(folder: Path, config: SliceEncoderConfig) -> SliceEncoderConfig:
    """Mean and standard deviation of open_clip_config.json, whose size must be that of the
    weights."""
    path = folder / CONFIG
    if not path.is_file():
        log.warning("%s has no %s: pictures are normalised as CLIP's", folder, CONFIG)
        return config
    content = _json(path)
    shades = _table(content, "preprocess_cfg", path)
    size = _vision(content, path).get("image_size", config.size)
    if size not in (config.size, [config.size, config.size]):
        raise ConfigError.about(
            path,
            f"image_size is {size}, the weights are for {config.size} pixels",
            "Give the configuration that belongs to the weights.",
        )
    return replace(
        config,
        mean=_colours(path, "mean", shades.get("mean", config.mean)),
        std=_colours(path, "std", shades.get("std", config.std)),
    )


def _colours(path: Path, name: str, values: Any) -> tuple[float, float, float]:
    good = isinstance(values, (list, tuple)) and len(values) == 3
    good = good and all(isinstance(v, (int, float)) and isfinite(v) for v in values)
    if not good or (name == "std" and min(values) <= 0):
        raise ConfigError.about(
            path, f"preprocess_cfg.{name} is {values}", "Give three numbers; std above 0."
        )
    red, green, blue = map(float, values)
    return red, green, blue


def _heads(folder: Path, file: Path, width: int) -> int:
    path = folder / CONFIG
    head = _vision(_json(path), path).get("head_width") if path.is_file() else None
    if head is None and width in HEADS:
        return HEADS[width]
    if not isinstance(head, int) or head < 1 or width % head:
        raise ConfigError.about(
            file,
            f"nothing tells how many heads its {width} channels have (head_width is {head})",
            f"Write model_cfg.vision_cfg.head_width, a divisor of {width}, into {CONFIG}.",
        )
    return width // head


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError.about(path, f"unreadable ({error})", "Download it again.") from None
    return _checked(content, path)


def _vision(content: dict[str, Any], path: Path) -> dict[str, Any]:
    return _table(_table(content, "model_cfg", path), "vision_cfg", path)


def _table(content: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    return _checked(content.get(name, {}), path)


def _checked(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ConfigError.about(path, "it is not a table of settings", "Download it again.")
    return content
