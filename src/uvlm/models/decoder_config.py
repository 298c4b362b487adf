"""Configuration of language decoders. No torch import: command-line help and recipes read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from uvlm.errors import ConfigError

__all__ = ["DecoderConfig", "PretrainedConfig"]


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Language decoder; the defaults are the paper's 0.1B."""

    vocab_size: int = 151_669
    """Entries of the tokenizer, special tokens included."""

    layers: int = 8
    """Transformer blocks."""

    width: int = 512
    """Hidden width."""

    heads: int = 8
    """Attention heads."""

    ffn: int = 2048
    """Hidden width of the feed-forward block."""

    rope_base: float = 10_000.0
    """Base of the rotary position code."""

    rotary: Literal["halves", "authors"] = "halves"
    """Pairs turned by one angle each, or the published code's table, which is no rotation."""

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ConfigError(
                f"width ({self.width}) must be an even multiple of heads ({self.heads})."
            )
        if min(self.vocab_size, self.layers, self.width, self.heads, self.ffn) < 1:
            raise ConfigError("every size of the decoder must be positive.")


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """A causal language model of transformers (Qwen3, Phi-4, any like Llama) in place of the
    decoder from scratch."""

    base: Path | None = None
    """Local folder of the model: config.json, *.safetensors, tokenizer.json."""

    architecture: str = ""
    """Text of the base's config.json; read from `base` when a run begins."""

    fingerprint: str = ""
    """16 hexadecimal digits that name the base's weights; read from `base` too."""

    vocab_size: int = 0
    """Entries of the embedding, tokens added for vision included; 0 until the base is read."""

    new_tokens: tuple[int, ...] = ()
    """Entries that the base's own vocabulary lacks (markers of vision and turns); their rows are
    trained beside adapters too. Read from `base`."""

    tuning: Literal["lora", "full"] = "lora"
    """Train low-rank adapters over frozen weights in 16 bits, or all weights, kept in 32 bits."""

    rank: int = 64
    """Rank of the adapters (paper: 64)."""

    alpha: int = 128
    """Scale of the adapters, divided by the rank (paper: 128)."""

    targets: tuple[str, ...] = ()
    """Names of the adapted linear layers; () takes the attention's projections."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1:
            raise ConfigError("rank and alpha must be at least 1.")

    @property
    def hf(self) -> dict[str, Any]:
        """config.json of the base; empty until it is read."""
        found: dict[str, Any] = json.loads(self.architecture) if self.architecture else {}
        return found

    @property
    def layers(self) -> int:
        """Transformer blocks; 0 until the base is read."""
        return int(self.hf.get("num_hidden_layers", 0))

    @property
    def width(self) -> int:
        """Hidden width; 0 until the base is read."""
        return int(self.hf.get("hidden_size", 0))

    @property
    def bos_id(self) -> int | None:
        """The entry that begins every text; None if the base has none, or is not read yet."""
        found = self.hf.get("bos_token_id")
        return None if found is None else int(found)
