"""The configuration of a BERT inside a checkpoint, from its tensors' shapes."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from uvlm.errors import BundleError, ConfigError
from uvlm.models.tower_config import TextTowerConfig
from uvlm.models.weights.ledger import Ledger

__all__ = ["text_config"]


def text_config(ledger: Ledger, prefix: str, like: TextTowerConfig) -> TextTowerConfig:
    """`like` with the sizes of the BERT whose names begin with `prefix`.

    Args:
        like: heads and truncation, which no shape tells. With an architecture it is kept as it is;
            whether it fits shows when tensors are taken.

    Raises:
        BundleError: a tensor that tells a size is missing, or the sizes are impossible.
    """
    if like.architecture:
        return like
    vocabulary, width = _pair(ledger, f"{prefix}embeddings.word_embeddings.weight")
    positions, _ = _pair(ledger, f"{prefix}embeddings.position_embeddings.weight")
    kinds, _ = _pair(ledger, f"{prefix}embeddings.token_type_embeddings.weight")
    ffn, _ = _pair(ledger, f"{prefix}encoder.layer.0.intermediate.dense.weight")
    layer = re.compile(re.escape(prefix) + r"encoder\.layer\.(\d+)\.")
    numbers = {int(found[1]) for name in ledger.tensors if (found := layer.match(name))}
    settings = {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": 1 + max(numbers),
        "num_attention_heads": like.heads,
        "intermediate_size": ffn,
        "max_position_embeddings": positions,
        "type_vocab_size": kinds,
    }
    try:
        return replace(
            like,
            architecture=json.dumps(settings, sort_keys=True),
            vocab_size=vocabulary,
            width=width,
            layers=1 + max(numbers),
            ffn=ffn,
            max_tokens=min(like.max_tokens, positions),
        )
    except ConfigError as error:
        raise BundleError.about(
            ledger.path,
            f"its text tower cannot be built ({error})",
            "Give the number of heads it was trained with (text.heads).",
        ) from error


def _pair(ledger: Ledger, name: str) -> tuple[int, int]:
    found = ledger.shape(name)
    if len(found) != 2:
        raise BundleError.about(
            ledger.path, f"{name} has the shape {found}", "Give a checkpoint with a BERT."
        )
    return found[0], found[1]
