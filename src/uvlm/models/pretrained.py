"""A pretrained causal language model of transformers in the place of `Decoder`.

It has the same face, so that the report model, its training and its decoding need not know which
one they have. Visual injection and the hybrid mask enter by hooks (`pretrained_hooks`); the
model's own code is untouched, and its `generate` can be used inside `seeing`.

The base's weights are not made here: a fresh decoder holds none until `load_base_weights` (a run)
or a bundle gives them. Adapters and the rows of new tokens are in 32 bits.

Shapes: B batch, T positions of this call, K visual tokens, E width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from uvlm.errors import ConfigError
from uvlm.models.config import PretrainedConfig
from uvlm.models.injection import VisualPlan
from uvlm.models.language import LanguageDecoder
from uvlm.models.layout import TokenLayout
from uvlm.models.pretrained_architecture import positions_of
from uvlm.models.pretrained_base import base_tokenizer, read_base
from uvlm.models.pretrained_build import adapt, build_causal, transformer_of
from uvlm.models.pretrained_cache import PretrainedCache
from uvlm.models.pretrained_hooks import InjectHook, Sight, look
from uvlm.models.pretrained_weights import load_base_weights, load_own_state, own_state

__all__ = [
    "PretrainedDecoder",
    "base_tokenizer",
    "load_base_weights",
    "load_own_state",
    "own_state",
    "read_base",
]


class PretrainedDecoder(LanguageDecoder):
    """A Qwen3, Phi, Llama or like model.

    Unlike `Decoder`'s, its `hidden` states are normalised already and `head` is the output matrix
    alone; `head(hidden(...))` are the logits of both.

    Attributes:
        model: the model of transformers, with adapters in it if `config.tuning` is "lora"
        embedding: its token embedding

    Raises:
        ConfigError: the base was not read, or its architecture is not supported.
        MissingExtraError: transformers or PEFT is not installed.
    """

    config: PretrainedConfig

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        if not config.layers:
            raise ConfigError("the base of the pretrained decoder was not read; use read_base.")
        self.config = config
        self.positions = positions_of(config)
        self.model: Any = build_causal(config)
        adapt(self.model, config)
        self._sight: Sight | None = None
        inner = transformer_of(self.model)
        inner.register_forward_pre_hook(self._look, with_kwargs=True)
        inner.register_forward_hook(self._looked)
        for number, layer in enumerate(inner.layers, start=1):
            layer.register_forward_pre_hook(InjectHook(number), with_kwargs=True)

    @property
    def embedding(self) -> nn.Embedding:
        found: nn.Embedding = self.model.get_input_embeddings()
        return found

    @property
    def checkpointing(self) -> bool:
        """Compute each layer again in the backward pass instead of keeping what it made."""
        return all(layer.gradient_checkpointing for layer in transformer_of(self.model).layers)

    @checkpointing.setter
    def checkpointing(self, on: bool) -> None:
        # Not by the model's own switch: it makes embeddings require a gradient, which only the
        # reentrant kind needs.
        for layer in transformer_of(self.model).layers:
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
            layer.gradient_checkpointing = on

    def new_cache(self, batch: int, capacity: int) -> PretrainedCache:
        """An empty cache for `capacity` positions, vision included."""
        return PretrainedCache(layers=self.config.layers, batch=batch, capacity=capacity)

    @contextmanager
    def seeing(self, layout: TokenLayout, plan: VisualPlan | None) -> Iterator[None]:
        """Calls of `model` inside the block have the mask of `layout` and receive `plan` at the
        beginning of a sequence. Where `generate` repeats each study, for beams or for several
        answers, its visual tokens are repeated alike.

        Raises:
            ConfigError: the architecture does not hand its layers what it is given.
        """
        before, self._sight = self._sight, Sight(layout=layout, plan=plan)
        try:
            yield
        finally:
            self._sight = before

    def _look(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._sight is None:
            return None
        return look(self._sight, args, kwargs)

    def _looked(self, module: nn.Module, args: tuple[Any, ...], made: Any) -> None:
        """After a whole call; one that an exception ended does not come here."""
        sight = self._sight
        if sight is not None and sight.expected and sight.reached < self.config.layers:
            raise ConfigError(
                f"the layers of {self.config.hf['model_type']} receive nothing from the model "
                "around them, so visual tokens cannot enter; choose a base like Qwen3, Phi or "
                "Llama."
            )

    def head(self, h_BTE: Tensor) -> Tensor:
        """Normalised hidden states to logits."""
        logits: Tensor = self.model.get_output_embeddings()(h_BTE)
        return logits

    def hidden(
        self,
        embeddings_BTE: Tensor,
        layout: TokenLayout,
        plan: VisualPlan | None = None,
        cache: PretrainedCache | None = None,
    ) -> Tensor:
        """Normalised hidden states of this call's positions.

        Raises:
            ConfigError: the sequence is longer than the base can read.
        """
        self.check(embeddings_BTE, layout, plan, cache)
        if len(layout) > self.positions:
            raise ConfigError(
                f"a sequence of {len(layout)} positions does not fit the base model, which reads "
                f"{self.positions}; use a deeper injection.reference_stage or shorter reports."
            )
        if plan is not None and plan.place != "before":
            raise ConfigError("a pretrained decoder takes injection before its layers only.")
        with self.seeing(layout, plan):
            found = transformer_of(self.model)(
                inputs_embeds=embeddings_BTE.to(self.embedding.weight.dtype),
                past_key_values=cache,
                use_cache=cache is not None,
            )
        if cache:
            cache.length = len(layout)
        h_BTE: Tensor = found.last_hidden_state
        return h_BTE
