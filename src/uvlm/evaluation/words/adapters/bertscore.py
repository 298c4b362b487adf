"""BERTScore on a model of a local folder, by transformers alone (Zhang et al. 2020).

Shapes: B pairs, T tokens, E width, N studies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["best_layer", "scores"]

BATCH = 16
TOKENS = 512
LAYERS = {
    ("bert", 12): 9,
    ("bert", 24): 18,
    ("roberta", 12): 10,
    ("roberta", 24): 17,
    ("distilbert", 6): 5,
}
"""(architecture, layers of the model) -> layer, from `model2layers` of bert_score/utils.py."""


def best_layer(architecture: str, layers: int) -> int:
    """The layer whose vectors are compared, 1 being the first after the embeddings."""
    return LAYERS.get((architecture, layers), layers)


def scores(
    references: Sequence[str], predictions: Sequence[str], folder: Path
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """((N, 3) precision, recall and F1 of each study, notes)."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    # bert-score puts a space before the first word for RoBERTa, as inside a sentence.
    spaced = {"add_prefix_space": True} if config.model_type in ("roberta", "gpt2") else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **spaced)
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.eval().to(device)
    layer = best_layer(config.model_type, config.num_hidden_layers)
    longest = min(int(tokenizer.model_max_length), _positions(config))
    encoder = _Encoder(tokenizer, model, layer, longest)
    found = np.zeros((len(references), 3))
    # Pairs of like length together waste little on padding.
    order = sorted(range(len(references)), key=lambda i: -len(references[i]) - len(predictions[i]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            theirs = encoder([references[i] for i in batch])
            ours = encoder([predictions[i] for i in batch])
            found[batch] = _match(theirs, ours).cpu().numpy()
    notes = [f"Layer {layer} of {config.num_hidden_layers} ({config.model_type})."]
    if encoder.cut:
        notes.append(f"{encoder.cut} reports are cut at {longest} tokens.")
    return found, tuple(notes)


class _Encoder:
    """Texts to unit vectors."""

    def __init__(self, tokenizer: Any, model: Any, layer: int, longest: int) -> None:
        self.tokenizer, self.model = tokenizer, model
        self.layer, self.longest = layer, longest
        self.cut = 0

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """(vectors (B, T, E), tokens that exist (B, T), tokens that count (B, T))"""
        import torch

        encoded = self.tokenizer(
            [text.strip() for text in texts],
            padding=True,
            truncation=True,
            max_length=self.longest,
            return_tensors="pt",
        )
        mask = encoded["attention_mask"].to(self.model.device)
        ids = encoded["input_ids"].to(self.model.device)
        self.cut += int((mask.sum(dim=1) >= self.longest).sum())
        output = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        vectors_BTE = output.hidden_states[self.layer].float()
        unit_BTE = vectors_BTE / vectors_BTE.norm(dim=-1, keepdim=True)
        # The first and last token may be matched, but do not count themselves.
        ends = torch.tensor(
            [
                i
                for i in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
                if i is not None
            ],
            device=ids.device,
            dtype=ids.dtype,
        )
        return unit_BTE, mask.float(), mask.float() * ~torch.isin(ids, ends)


def _match(
    references: tuple[Tensor, Tensor, Tensor], predictions: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """(B, 3) by greedy matching (`greedy_cos_idf` of bert_score/utils.py)."""
    import torch

    similar = predictions[0] @ references[0].transpose(1, 2)
    similar = similar * (predictions[1][:, :, None] * references[1][:, None, :])
    precision = _mean(similar.amax(dim=2), predictions[2])
    recall = _mean(similar.amax(dim=1), references[2])
    f1 = 2 * precision * recall / (precision + recall)
    return torch.nan_to_num(torch.stack([precision, recall, f1], dim=1))


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    return (values * counted).sum(dim=1) / counted.sum(dim=1)


def _positions(config: Any) -> int:
    """Longest input; RoBERTa's positions begin after that of padding."""
    positions = int(getattr(config, "max_position_embeddings", TOKENS))
    return positions - (int(config.pad_token_id) + 1 if "roberta" in config.model_type else 0)
