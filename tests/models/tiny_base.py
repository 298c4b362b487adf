"""Folders of tiny random language models, laid out as downloaded ones are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from tests.models.tiny import REPORT
from uvlm.models.config import PretrainedConfig, ReportConfig
from uvlm.models.pretrained import base_tokenizer, load_base_weights, read_base
from uvlm.models.uvlm import ReportModel
from uvlm.text.tokenizer import SPECIAL_TOKENS

TEXT = "The lungs are clear. There is no pleural effusion. The heart is of normal size."
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "initializer_range": 0.3,  # else the text repeats one token
}
KINDS = ("qwen3", "phi3", "phi4", "llama")
"""Qwen3: tied embedding, knows all markers. Phi-3: fused projections, unused rows in its
vocabulary take the markers. Phi-4: the same with a tied embedding. Llama: its vocabulary is full
and grows."""


def tiny_base(
    folder: Path,
    kind: str = "qwen3",
    *,
    dtype: str = "float32",
    shards: int = 1,
    positions: int = 512,
) -> Path:
    """Write config.json, the weights and tokenizer.json of a random model."""
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Phi3Config,
        Phi3ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    entries = _tokenizer(folder, with_markers=kind == "qwen3")
    sizes = SIZES | {"max_position_embeddings": positions}
    sizes |= {"vocab_size": entries} if kind == "llama" else {}
    torch.manual_seed(0)
    if kind == "qwen3":
        model: Any = Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=8, tie_word_embeddings=True))
    elif kind.startswith("phi"):
        model = Phi3ForCausalLM(Phi3Config(**sizes, tie_word_embeddings=kind == "phi4"))
    else:
        model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False))
    model = model.to(getattr(torch, dtype))
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(folder, max_shard_size=size // shards + 1)
    return folder


def _tokenizer(folder: Path, *, with_markers: bool) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(SPECIAL_TOKENS) if with_markers else ["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT], trainer=trainer)
    backend.save(str(folder / "tokenizer.json"))
    return int(backend.get_vocab_size())


def report_config(folder: Path, **fields: Any) -> ReportConfig:
    """`REPORT` with the base in `folder` as its decoder; fields are `PretrainedConfig`'s."""
    settings = {"rank": 4, "alpha": 8} | fields
    tokenizer = base_tokenizer(folder)
    return replace(
        REPORT,
        decoder=read_base(PretrainedConfig(base=folder, **settings)),
        vision_start_id=tokenizer.vision_start_id,
        vision_end_id=tokenizer.vision_end_id,
    )


def report_model(config: ReportConfig, seed: int = 0) -> ReportModel:
    """A model ready to compute; adapters away from their zero start."""
    torch.manual_seed(seed)
    model = ReportModel(config)
    load_base_weights(model)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.1)
    return model
