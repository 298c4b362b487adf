"""The network of a pretrained language model from its configuration, adapters in it, no weights.

Everything of the base stands on the meta device; adapters stand where torch makes new tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from uvlm.errors import ConfigError, MissingExtraError
from uvlm.models.config import PretrainedConfig
from uvlm.models.pretrained_rows import TokenEmbedding, TokenHead

__all__ = ["adapt", "build_causal", "tie", "transformer_of"]

ADAPTER = "default"
UNSUPPORTED = "choose a base like Qwen3, Phi or Llama."


def build_causal(config: PretrainedConfig) -> Any:
    """The model of transformers, in the data type its weights will have.

    Adapters go over 16-bit weights in bfloat16: float16 would underflow in the gradients that
    pass through them. Weights that are all trained are in 32 bits.
    """
    try:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoModelForCausalLM
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    except ImportError as error:
        raise MissingExtraError("transformers", "llm") from error
    settings = config.hf
    kind = settings["model_type"]
    if kind not in CONFIG_MAPPING:
        raise ConfigError(f"transformers does not know model type {kind!r}; {UNSUPPORTED}")
    stored = str(settings.get("dtype") or settings.get("torch_dtype") or "float32")
    narrow = config.tuning == "lora" and stored in ("bfloat16", "float16")
    with torch.device("meta"):
        try:
            settings |= {"vocab_size": config.vocab_size}
            hf_config = CONFIG_MAPPING[kind].from_dict(settings)
            auto: Any = AutoModelForCausalLM
            model: Any = auto.from_config(hf_config, attn_implementation="sdpa")
        except (ValueError, KeyError, TypeError, StrictDataclassError) as error:
            raise ConfigError(f"model type {kind!r} cannot be built ({error}).") from error
        model = model.to(torch.bfloat16 if narrow else torch.float32)
    _check_shape(model, kind)
    _real_tables(model)
    return model


def transformer_of(model: Any) -> Any:
    """The layers without the output matrix."""
    return model.base_model


def tie(model: Any) -> None:
    """Make the output matrix the embedding again where the base has one for both, as they part
    when a weight is replaced."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if model.config.tie_word_embeddings:
        head.weight = embedding.weight
        if isinstance(head, TokenHead):
            head.rows = embedding.rows


def adapt(model: Any, config: PretrainedConfig) -> None:
    """Decide what is trained: all, or adapters and the rows of new tokens."""
    if config.tuning == "full":
        model.requires_grad_(True)
        return
    model.requires_grad_(False)
    if config.new_tokens:
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        extended = TokenEmbedding(embedding, config.new_tokens)
        shared = extended.rows if model.config.tie_word_embeddings else None
        model.set_input_embeddings(extended)
        model.set_output_embeddings(TokenHead(head, config.new_tokens, shared))
    _add_adapters(model, config)


def _add_adapters(model: Any, config: PretrainedConfig) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer
    except ImportError as error:
        raise MissingExtraError("PEFT", "llm") from error
    rows = [p for name, p in model.named_parameters() if name.endswith(".rows")]
    settings = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=_targets(model, config.targets)
    )
    inject_adapter_in_model(settings, model, ADAPTER)
    adapters: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    place = torch.get_default_device()
    for layer in adapters:
        for part in (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]):
            part.float().to_empty(device=place)
        if place.type != "meta":
            layer.reset_lora_parameters(ADAPTER, True)
    for parameter in rows:  # PEFT freezes all that it did not make
        parameter.requires_grad_(True)


def _targets(model: Any, chosen: tuple[str, ...]) -> list[str]:
    """Names of the layers to adapt, refused if the model has none of that name."""
    inner = transformer_of(model).layers[0]
    linear = {
        path.rpartition(".")[2]: path
        for path, module in inner.named_modules()
        if isinstance(module, nn.Linear)
    }
    unknown = [name for name in chosen if name not in linear]
    if unknown:
        raise ConfigError(
            f"decoder.targets {', '.join(unknown)} are no linear layers of the base; "
            f"it has {', '.join(linear)}."
        )
    return list(chosen) or [name for name, path in linear.items() if "attn" in path]


def _check_shape(model: Any, kind: str) -> None:
    inner = transformer_of(model)
    head = model.get_output_embeddings()
    usual = all(hasattr(inner, name) for name in ("layers", "norm", "embed_tokens"))
    usual = usual and all(hasattr(layer, "gradient_checkpointing") for layer in inner.layers)
    if inner is model or not usual or not isinstance(head, nn.Linear) or head.bias is not None:
        raise ConfigError(f"model type {kind!r} is built in another way; {UNSUPPORTED}")


def _real_tables(model: Any) -> None:
    """Rotary tables are no weights: nothing would load them, so they are computed, in 32 bits."""
    for name, module in list(model.named_modules()):
        own = {key for key, value in module.named_buffers(recurse=False) if value is not None}
        if own & module._non_persistent_buffers_set:
            with torch.device("cpu"):
                made = type(module)(config=model.config)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, made)
