"""The text half of contrastive pretraining: a BERT, its class token describes the report.

From a local folder with config.json, *.safetensors and tokenizer.json, or from scratch in the sizes
of its configuration. Nothing in the folder is run and nothing is unpickled.

Shapes: B batch, T tokens, E width.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from uvlm.errors import ConfigError, MissingExtraError
from uvlm.models.pretrained_base import base_files, base_fingerprint, read_settings
from uvlm.models.tower_config import TextTowerConfig
from uvlm.text.report_tokens import ReportTokens, load_report_tokens, train_report_tokens

__all__ = ["TextTower", "load_text_weights", "read_text_base", "text_tokenizer"]

DOWNLOAD = "Give the folder of a BERT, as google-bert/bert-base-uncased, as `hf download` fills it."
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
NOT_KEPT = ("_name_or_path", "auto_map", "transformers_version")
UNUSED = ("cls.", "pooler.", "classifier.", "embeddings.position_ids")
"""Heads of the tasks a BERT was trained on, and the numbers of positions that older versions of
transformers stored too."""

RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Names of the first BERTs, which their safetensors files still have."""


class TextTower(nn.Module):
    """Reports in, the class token after the last layer out. Weights are random until
    `load_text_weights`.

    Dropout is as the base's config.json says; there is none from scratch.

    Attributes:
        width: E

    Shape:
        tokens: (B, T) ids, each row beginning with the class token
        mask: (B, T), True at tokens and False at padding, which changes nothing
        result: (B, E)

    Raises:
        ConfigError: the base was not read yet, or cannot be built.
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.bert: Any = _build(config)
        self.width = int(self.bert.config.hidden_size)

    def forward(self, tokens_BT: Tensor, mask_BT: Tensor) -> Tensor:
        found = self.bert(input_ids=tokens_BT, attention_mask=mask_BT.long())
        first_BE: Tensor = found.last_hidden_state[:, 0]
        return first_BE


def read_text_base(config: TextTowerConfig) -> TextTowerConfig:
    """`config` with architecture, fingerprint and vocabulary of its base folder; unchanged without
    a base.

    Raises:
        ConfigError: the folder cannot be used, or is another one than `config` was made with.
    """
    folder = config.base
    if folder is None:
        return config
    if not (folder / "config.json").is_file():
        found = "it has no config.json" if folder.is_dir() else "no such folder"
        raise ConfigError.about(folder, found, DOWNLOAD)
    settings = read_settings(folder / "config.json")
    if wrong := _why_not(settings):
        raise ConfigError.about(folder, wrong, DOWNLOAD)
    base_files(folder)
    known, positions = settings["vocab_size"], settings["max_position_embeddings"]
    if config.max_tokens > positions:
        raise ConfigError.about(
            folder,
            f"it reads {positions} tokens, text.max_tokens is {config.max_tokens}",
            f"Set text.max_tokens to at most {positions}.",
        )
    words = load_report_tokens(folder, config.max_tokens, config.truncate).vocab_size
    if words > known:
        raise ConfigError.about(
            folder, f"its tokenizer has {words} entries, its model {known}", DOWNLOAD
        )
    found = base_fingerprint(folder)
    if config.fingerprint not in ("", found):
        raise _other(config, folder, found)
    kept = {key: value for key, value in settings.items() if key not in NOT_KEPT}
    architecture = json.dumps(kept, sort_keys=True)
    return replace(config, architecture=architecture, fingerprint=found, vocab_size=known)


def text_tokenizer(config: TextTowerConfig, reports: Iterable[str] = ()) -> ReportTokens:
    """The base's tokenizer; from scratch one learned from `reports`, whose `vocab_size` is to
    replace the configuration's.

    Raises:
        ConfigError: the base has none, or vocab_size is too small.
        InputError: there is no report to learn from.
    """
    if config.base is not None:
        return load_report_tokens(config.base, config.max_tokens, config.truncate)
    return train_report_tokens(reports, config.vocab_size, config.max_tokens, config.truncate)


@torch.no_grad()
def load_text_weights(tower: TextTower, base: Path | None = None) -> None:
    """Copy the weights of the base into the tower, each by its name.

    Args:
        base: the base's folder; default the one of the configuration

    Raises:
        ConfigError: the folder is missing, is another model's, or lacks a tensor or has one more.
    """
    folder = base or tower.config.base
    if folder is None:
        raise ConfigError("no folder of the text tower was given (text.base).")
    found = base_fingerprint(folder)
    if found != tower.config.fingerprint:
        raise _other(tower.config, folder, found)
    wanted: dict[str, Tensor] = dict(tower.bert.named_parameters())
    for name, tensor in _tensors(base_files(folder)):
        if name.startswith(UNUSED):
            continue
        own = wanted.pop(name, None)
        if own is None:
            raise ConfigError.about(folder, f"it holds {name}, which a BERT has not", DOWNLOAD)
        if own.shape != tensor.shape:
            raise ConfigError.about(
                folder,
                f"its {name} has shape {tuple(tensor.shape)}, config.json says {tuple(own.shape)}",
                "Download it again.",
            )
        own.copy_(tensor)
    if wanted:
        raise ConfigError.about(
            folder, f"it lacks {len(wanted)} tensors, as {min(wanted)}", "Download it again."
        )


def _tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    """Under the names of today's BertModel."""
    for path in files:
        with safe_open(str(path), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                name = key.removeprefix("bert.")
                for old, new in RENAMED.items():
                    name = name.replace(old, new)
                yield name, file.get_tensor(key)


def _build(config: TextTowerConfig) -> Any:
    try:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import BertConfig, BertModel
    except ImportError as error:
        raise MissingExtraError("transformers", "llm") from error
    if config.base is not None and not config.architecture:
        raise ConfigError(f"the text tower of {config.base} was not read yet (read_text_base).")
    try:
        hf_config = BertConfig.from_dict(config.hf or _from_scratch(config))
        # The class token is read as it is; the pooler would be a layer that never learns.
        built: Any = BertModel
        return built._from_config(
            hf_config, attn_implementation="sdpa", add_pooling_layer=False, dtype=torch.float32
        )
    except (ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise ConfigError(f"the text tower cannot be built ({error}). {DOWNLOAD}") from error


def _from_scratch(config: TextTowerConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "initializer_range": config.width**-0.5,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.ffn,
        "max_position_embeddings": config.max_tokens,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def _why_not(settings: dict[str, Any]) -> str | None:
    """What forbids a tower with this config.json; None if nothing does."""
    kind = settings.get("model_type")
    if kind != "bert":
        return f"its model type is {kind!r}, not 'bert'"
    for key in SIZES:
        if type(settings.get(key)) is not int or settings[key] < 1:
            return f"its {key} is {settings.get(key)!r}, not a positive whole number"
    if settings.get("position_embedding_type", "absolute") != "absolute":
        return f"its position_embedding_type {settings['position_embedding_type']} is not supported"
    return "it is a decoder" if settings.get("is_decoder") else None


def _other(config: TextTowerConfig, folder: Path, found: str) -> Exception:
    return ConfigError.about(
        folder,
        f"its weights have fingerprint {found}, needed are those with "
        f"{config.fingerprint or 'none, from scratch'}",
        "Give the very files that training began with.",
    )
