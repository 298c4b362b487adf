"""What config.json of a pretrained language model says: whether our hooks and our face fit it, and
how long its sequences may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uvlm.errors import MissingExtraError
from uvlm.models.config import PretrainedConfig

__all__ = ["positions_of", "why_not"]

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
LIMITS = ("max_position_embeddings", "sliding_window", "original_max_position_embeddings")
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "final_logit_softcapping": (None,),
    "logits_scaling": (None, 1),
    "logit_scale": (None, 1),
    "embedding_multiplier": (None, 1),
    "quantization_config": (None,),
    "attention_chunk_size": (None,),
}
"""Settings that make a model compute more than embedding, layers, norm and output matrix, see less
than the mask shows it, or keep its weights in another form; and the values with which they do not.
"""

SCALED = ("gemma", "granite", "cohere")
"""Kinds of models that scale embeddings or logits by numbers of their own code."""

ATTENTION = {"full_attention", "sliding_attention"}
"""Kinds of layers that obey a mask; linear attention and state spaces do not."""


def why_not(found: Mapping[str, Any]) -> str | None:
    """What forbids a model with this config.json; None if nothing does."""
    wrong = _unreadable(found)
    if wrong:
        return wrong
    names, kind = found.get("architectures") or [], str(found["model_type"])
    causal = any(str(name).endswith("ForCausalLM") for name in names)
    if not causal or found.get("is_encoder_decoder"):
        return f"{', '.join(map(str, names)) or 'the model'} is no decoder-only causal model"
    if "auto_map" in found and not _in_transformers(kind, names):
        return "the model needs its own code, which is never run"
    if kind.startswith(SCALED):
        return f"{kind} scales its embeddings or logits, which is not supported"
    for key, neutral in NEUTRAL.items():
        if found.get(key) not in neutral:
            return f"its {key} is not supported"
    others = sorted(set(found.get("layer_types") or ()) - ATTENTION)
    return f"its layers of type {', '.join(others)} obey no mask" if others else None


def _unreadable(found: Mapping[str, Any]) -> str | None:
    missing = [key for key in ("model_type", *SIZES) if key not in found]
    if missing:
        return f"it does not say {', '.join(missing)}, as a text model does"
    given = {key: found[key] for key in SIZES}
    given |= {key: found[key] for key in LIMITS if found.get(key) is not None}
    for key, value in given.items():
        if type(value) is not int or value < 1:
            return f"its {key} is {value!r}, not a positive whole number"
    if not isinstance(found.get("architectures") or [], list):
        return "its architectures are not a list"
    return None


def _in_transformers(kind: str, names: list[str]) -> bool:
    """Whether transformers has the model itself: Phi-3's folders bring code that is not needed."""
    try:
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    except ImportError as error:
        raise MissingExtraError("transformers", "llm") from error
    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind) in names


def positions_of(config: PretrainedConfig) -> int:
    """Longest sequence the base can read with full attention and one rotary table."""
    hf = config.hf
    limits = [hf.get("max_position_embeddings")]
    if hf.get("use_sliding_window", True):
        limits.append(hf.get("sliding_window"))
    rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) == "longrope":
        limits += [
            hf.get("original_max_position_embeddings"),
            rope.get("original_max_position_embeddings"),
        ]
    return min((int(limit) for limit in limits if limit), default=1 << 31)
