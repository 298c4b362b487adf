"""Small contrastive models with every part of the paper's, batches for them, and a tiny BERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, processors

from uvlm.models.config import EncoderConfig
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.tower_config import TextTowerConfig, ViTConfig

SHAPE = (4, 8, 8)
VIT = ViTConfig(shape=SHAPE, patch=(2, 4, 4), width=8, layers=2, heads=2, mlp=16)
GATED = ViTConfig(shape=SHAPE, patch=(2, 4, 4), width=8, layers=2, heads=2, mlp=16, slice_width=6)
UNET = EncoderConfig(features=(4, 8), strides=(1, 2), blocks=(1, 1))
TEXT = TextTowerConfig(vocab_size=40, width=8, layers=2, heads=2, ffn=16, max_tokens=12)

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the lungs are clear . heart is large ##r no fluid"
BERT: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 24,
}


def config(encoder: EncoderConfig | ViTConfig = VIT, **fields: Any) -> ContrastiveConfig:
    return ContrastiveConfig(**{"encoder": encoder, "text": TEXT, "width": 6} | fields)


def model(settings: ContrastiveConfig, seed: int = 0) -> ContrastiveModel:
    torch.manual_seed(seed)
    return ContrastiveModel(settings)


def batch(size: int, *, slices: bool = False, seed: int = 0) -> dict[str, Any]:
    """Random studies with reports of different lengths; the first two share a report's group."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, TEXT.max_tokens, (size, 1), generator=generator)
    mask = torch.arange(TEXT.max_tokens) < lengths
    tokens = torch.randint(3, TEXT.vocab_size, (size, TEXT.max_tokens), generator=generator)
    found = {
        "series_id": [f"s{i}" for i in range(size)],
        "image": torch.randn(size, 1, *SHAPE, generator=generator),
        "text": tokens.where(mask, torch.tensor(0)),
        "text_mask": mask,
        "group": torch.arange(size).clamp(min=1),
    }
    if slices:
        found["slices"] = torch.randn(size, 3, GATED.slice_width, generator=generator)
    return found


def tiny_bert(folder: Path, *, old_names: bool = False) -> Path:
    """Write config.json, weights and tokenizer.json as a downloaded BERT has them, with the head it
    was pretrained with; `old_names` are those of the first BERTs."""
    from safetensors.torch import load_file, save_file
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(1)
    BertForPreTraining(BertConfig(**BERT)).save_pretrained(folder)
    if old_names:
        file = folder / "model.safetensors"
        pairs = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
        state = load_file(file)
        for new, old in pairs:
            state = {name.replace(new, old): tensor for name, tensor in state.items()}
        state["bert.embeddings.position_ids"] = torch.arange(24)[None]
        save_file(state, file)
    words = {word: i for i, word in enumerate(WORDS.split())}
    backend = tokenizers.Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.enable_truncation(4)
    backend.enable_padding()
    backend.save(str(folder / "tokenizer.json"))
    return folder
