"""Checkpoints of the published HSENet code (MONAI 1.3's names) and of M3D-CLIP, taken by name.

    vision_encoder.*               vision transformer; of stage 2 the one gated by slices
    language_encoder.*             BERT
    mm_vision_proj, mm_language_proj, logit_scale
    stage1_pretrained_CLIP.*       the same once more: the frozen teacher inside stage 2

The published code hands weights on by their position in a list; a tensor more or less shifts all
that follow. Here each is named, and every one of the file is used or left out for a reason.

HSENet's scripts store volumes with x before y. Weights are turned to this package's z, y, x, so
that a turned volume gives the same features.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from uvlm.errors import BundleError, ConfigError
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.tower_config import TextTowerConfig, ViTConfig
from uvlm.models.vit import ViT
from uvlm.models.weights.bert import text_config
from uvlm.models.weights.ledger import Ledger, Record
from uvlm.models.weights.reader import read_checkpoint

__all__ = [
    "Axes",
    "ImportedContrastive",
    "contrastive_from_authors",
    "open_authors",
    "vit_from_authors",
]

Axes = Literal["zxy", "zyx"]
"""Order of the axes of the volumes that a checkpoint was trained on."""

FILES = ("model.safetensors", "pytorch_model.bin")
"""What trainers of transformers write into their folder."""

REMEDY = (
    "Give a checkpoint of the published HSENet code (stage 1, or stage 2 with stage 1 inside) or "
    "of M3D-CLIP, whole, with the sizes it was trained with."
)
TEACHER = "stage1_pretrained_CLIP."
VISION, TEXT = "vision_encoder.", "language_encoder."
GATE = "slice_guided_attention."

VIT = (
    (r"class_token", "cls_token"),
    (r"positions", "patch_embedding.position_embeddings"),
    (r"patches\.(\w+)", r"patch_embedding.patch_embeddings.1.\1"),
    (r"blocks\.(\d+)\.attention\.qkv\.(\w+)", r"blocks.\1.attn.qkv.\2"),
    (r"blocks\.(\d+)\.attention\.out\.(\w+)", r"blocks.\1.attn.out_proj.\2"),
    (r"blocks\.(\d+)\.mlp\.0\.(\w+)", r"blocks.\1.mlp.linear1.\2"),
    (r"blocks\.(\d+)\.mlp\.2\.(\w+)", r"blocks.\1.mlp.linear2.\2"),
    (r"gate\.query\.(\w+)", rf"{GATE}Wq.\1"),
    (r"gate\.key\.(\w+)", rf"{GATE}Wk.\1"),
    (r"gate\.value\.(\w+)", rf"{GATE}Wv.\1"),
    (r"gate\.out\.(\w+)", rf"{GATE}output_linear.\1"),
    (r"gate\.norm\.(\w+)", rf"{GATE}norm.\1"),
    (r"gate\.score\.(\w+)", r"patch_score_proj.\1"),
)
"""Our name of a vision transformer's tensor -> theirs; norms have one name in both."""

CLIP = (
    (r"text\.bert\.(.+)", rf"{TEXT}\1"),
    (r"image_projection\.(\w+)", r"mm_vision_proj.\1"),
    (r"text_projection\.(\w+)", r"mm_language_proj.\1"),
    (r"scale", "logit_scale"),
)

LEFT_OUT = (
    (r"(^|\.)blocks\.\d+\.norm_cross_attn\.", "a norm that newer MONAI writes and never reads"),
    (r"(^|\.)language_encoder\.pooler\.", "BERT's pooler, which the class token does not pass"),
    (r"(^|\.)language_encoder\.embeddings\.(position|token_type)_ids$", "numbers of positions"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImportedContrastive:
    """What a checkpoint of a contrastive stage gave; networks in eval mode, on the CPU."""

    path: Path
    """The file that was read."""

    model: ContrastiveModel
    """Stage 1, or the student of stage 2."""

    teacher: ContrastiveModel | None
    """The frozen stage 1 inside a checkpoint of stage 2."""

    record: Record

    @property
    def config(self) -> ContrastiveConfig:
        return self.model.config


def contrastive_from_authors(
    path: Path | str,
    *,
    vit: ViTConfig | None = None,
    text: TextTowerConfig | None = None,
    axes: Axes = "zxy",
) -> ImportedContrastive:
    """Read stage 1, stage 2 or M3D-CLIP; which it is, its names tell.

    M3D-CLIP has the layout of stage 1; stage 2, which begins from it, brings a gate of its own
    (`take_over`).

    Args:
        path: `pytorch_model.bin` or `model.safetensors`, or the folder that holds one
        vit: shape, patch and heads, which no tensor's shape tells; default the published ones
        text: the text tower as `read_text_base` gave it, whose tokenizer is then known, or heads
            and truncation alone; sizes are those of the file
        axes: "zxy" as HSENet's scripts store CT-RATE, "zyx" for M3D-CLIP

    Raises:
        BundleError: no such checkpoint, or a tensor is missing, unknown, or of another shape.
    """
    ledger = open_authors(Path(path))
    vit, text = vit or ViTConfig(), text or TextTowerConfig()
    teacher = None
    if ledger.names(TEACHER):
        teacher = _contrastive(ledger, TEACHER, vit, text, axes)
        teacher.requires_grad_(False)
    model = _contrastive(ledger, "", vit, text, axes)
    record = close(ledger)
    return ImportedContrastive(path=ledger.path, model=model, teacher=teacher, record=record)


def vit_from_authors(
    ledger: Ledger, prefix: str = VISION, *, like: ViTConfig | None = None, axes: Axes = "zxy"
) -> tuple[ViTConfig, dict[str, Tensor]]:
    """Configuration and `ViT.state_dict()` of a transformer whose names begin with `prefix`.

    Args:
        like: shape (z, y, x), patch and heads, which no tensor's shape tells; default published
        axes: of the volumes it was trained on

    Raises:
        BundleError: a tensor is missing or of another shape, or the sizes do not fit `like`.
    """
    config = _vit_config(ledger, prefix, like or ViTConfig())
    with torch.device("meta"):
        wanted = ViT(config).state_dict()
    state = {
        name: ledger.take(prefix + renamed(VIT, name), tensor.shape)
        for name, tensor in wanted.items()
    }
    if axes == "zxy":
        (gz, gy, gx), (pz, py, px) = config.grid, config.patch
        state["positions"] = _swapped(state["positions"], 1, (gz, gx, gy))
        state["patches.weight"] = _swapped(state["patches.weight"], 1, (pz, px, py))
    return config, state


def open_authors(path: Path, remedy: str = REMEDY) -> Ledger:
    """The tensors of a file, or of the one file in a trainer's folder; nothing in it is run.

    Raises:
        BundleError: there is none, or it holds more than tensors and plain values.
    """
    if path.is_dir():
        there = [path / name for name in FILES if (path / name).is_file()]
        if not there:
            raise BundleError.about(path, f"it has neither {' nor '.join(FILES)}", remedy)
        path = there[0]
    if path.suffix != ".safetensors":
        return Ledger(path, read_checkpoint(path).weights, remedy)
    try:
        return Ledger(path, load_file(path), remedy)
    except (OSError, SafetensorError) as error:
        raise BundleError.about(
            path, f"it is no safetensors file ({type(error).__name__})", "Copy it again."
        ) from error


def renamed(names: Iterable[tuple[str, str]], ours: str) -> str:
    """Their name of a tensor of ours; the same where none of `names` fits."""
    for pattern, theirs in names:
        if found := re.fullmatch(pattern, ours):
            return found.expand(theirs)
    return ours


def close(ledger: Ledger) -> Record:
    """What became of every tensor, with those named that no network of ours has.

    Raises:
        BundleError: a tensor belongs nowhere.
    """
    for pattern, reason in LEFT_OUT:
        ledger.leave([name for name in ledger.tensors if re.search(pattern, name)], reason)
    return ledger.close()


def _contrastive(
    ledger: Ledger, prefix: str, vit: ViTConfig, text: TextTowerConfig, axes: Axes
) -> ContrastiveModel:
    encoder, vision = vit_from_authors(ledger, prefix + VISION, like=vit, axes=axes)
    config = ContrastiveConfig(
        encoder=encoder,
        text=text_config(ledger, prefix + TEXT, text),
        width=(*ledger.shape(f"{prefix}mm_vision_proj.weight"), 0)[0],
        temperature="authors",
        duplicates="negatives",
    )
    # Not on the meta device: BERT keeps tables there that no checkpoint holds.
    with torch.random.fork_rng(devices=()):
        model = ContrastiveModel(config)
    state = {f"encoder.{name}": tensor for name, tensor in vision.items()}
    for name, tensor in model.state_dict().items():
        if name not in state:
            state[name] = ledger.take(prefix + renamed(CLIP, name), tensor.shape)
    model.load_state_dict(state)
    return model.eval()


def _vit_config(ledger: Ledger, prefix: str, like: ViTConfig) -> ViTConfig:
    """Sizes from the tensors' shapes; shape, patch and heads from `like`."""

    def size(name: str, axis: int, axes: int) -> int:
        found = ledger.shape(prefix + name)
        if len(found) != axes:
            _refuse(ledger, f"{prefix}{name} has the shape {found}")
        return found[axis]

    blocks = (re.match(r"blocks\.(\d+)\.", name[len(prefix) :]) for name in ledger.names(prefix))
    numbers = [int(found[1]) for found in blocks if found]
    gated = f"{prefix}{GATE}Wk.weight" in ledger
    try:
        config = replace(
            like,
            width=size("cls_token", 2, 3),
            layers=1 + max(numbers, default=0),
            mlp=size("blocks.0.mlp.linear1.weight", 0, 2),
            slice_width=size(f"{GATE}Wk.weight", 1, 2) if gated else 0,
            slice_depth=False,
        )
    except ConfigError as error:
        _refuse(ledger, f"its vision transformer cannot be built ({error})")
    return config


def _refuse(ledger: Ledger, found: str) -> NoReturn:
    raise BundleError.about(ledger.path, found, REMEDY)


def _swapped(tensor: Tensor, axis: int, grid: tuple[int, int, int]) -> Tensor:
    """With the last two axes of the grid that `axis` holds in the other order."""
    before, after = tensor.shape[:axis], tensor.shape[axis + 1 :]
    apart = tensor.reshape(*before, *grid, *after)
    return apart.transpose(axis + 1, axis + 2).reshape(tensor.shape)
