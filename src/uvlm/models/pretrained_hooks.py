"""Visual injection and the hybrid mask inside a model of transformers.

A pre-hook on the transformer puts mask, positions and plan into its keyword arguments; it hands
them on to every layer, where a second pre-hook takes the plan out and adds that layer's tokens.
As the plan travels with the call, whatever calls the model (training, checkpointing's second
forward, `generate` with its cache) sees the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from uvlm.models.injection import VisualPlan
from uvlm.models.layout import TokenLayout

__all__ = ["InjectHook", "Sight", "look"]

KEY = "uvlm_sight"

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Sight:
    """What the calls of one block see.

    No dataclass: FSDP copies those that pass it, and the copies would do the counting.

    Args:
        layout: its visual part holds for all calls; the number of text tokens follows from each
        plan: injected in the call that begins the sequence; None for later ones

    Attributes:
        expected: whether the call under way should hand the plan to its layers
        reached: layers of that call whose hook found it
    """

    def __init__(self, *, layout: TokenLayout, plan: VisualPlan | None) -> None:
        self.layout = layout
        self.plan = plan
        self.expected = False
        self.reached = 0

    def layout_of(self, length: int) -> TokenLayout:
        return replace(self.layout, num_text=length - self.layout.text.start)


def look(sight: Sight, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """Arguments of the transformer with mask, positions and, at the beginning, the plan."""
    given = kwargs.get("inputs_embeds")
    given = (args[0] if args else kwargs["input_ids"]) if given is None else given
    cache = kwargs.get("past_key_values")
    start = 0 if cache is None else int(cache.get_seq_length())
    stop = start + given.shape[1]
    layout = sight.layout_of(stop)
    visible_TS, positions = (
        layout.visible(start, given.device),
        layout.positions(start, given.device),
    )
    if visible_TS is None:
        visible_TS = torch.ones(given.shape[1], stop, dtype=torch.bool, device=given.device)
    kwargs |= {
        "attention_mask": visible_TS.expand(len(given), 1, -1, -1),
        "position_ids": positions.expand(1, -1) if positions.ndim == 1 else positions,
    }
    sight.expected, sight.reached = start == 0 and sight.plan is not None, 0
    if sight.expected:
        kwargs[KEY] = (sight, layout)
    return args, kwargs


class InjectHook:
    """Pre-hook of one layer; an object, not a closure, so that copies of the model keep it."""

    def __init__(self, layer: int) -> None:
        self.layer = layer

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        sight, layout = kwargs.pop(KEY, (None, None))
        if sight is None:
            return args, kwargs
        sight.reached += 1
        hidden_BTE: Tensor = args[0] if args else kwargs.pop("hidden_states")
        if self.layer in sight.plan.per_layer:
            # The projections give 32 bits; the sum, not its terms, is rounded to the base's 16.
            plan = _for_rows(sight.plan, self.layer, len(hidden_BTE))
            raised_BTE = plan.inject(self.layer, hidden_BTE.float(), layout)
            hidden_BTE = raised_BTE.to(hidden_BTE.dtype)
        return (hidden_BTE, *args[1:]), kwargs


def _for_rows(plan: VisualPlan, layer: int, rows: int) -> VisualPlan:
    """What `layer` receives where `generate` repeated every study, for beams or more answers."""
    times = rows // len(plan.prefix)
    if times < 2:
        return plan
    return replace(
        plan,
        prefix=plan.prefix.repeat_interleave(times, dim=0),
        per_layer={layer: plan.per_layer[layer].repeat_interleave(times, dim=0)},
    )
