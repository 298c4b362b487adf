"""Which token comes next, given what the decoder says of each.

Shapes: n rows, V vocabulary, S tokens written so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from uvlm.inference.decoding.options import GenerateOptions

__all__ = ["draw", "ruled", "select", "uniforms"]


def ruled(scores_nV: Tensor, written_nS: Tensor, options: GenerateOptions, eos_id: int) -> Tensor:
    """Scores (logits or log-probabilities) with what the options forbid or make less likely."""
    if options.repetition_penalty != 1 and written_nS.numel():
        known_nS = scores_nV.gather(1, written_nS)
        penalty = options.repetition_penalty
        less_nS = torch.where(known_nS < 0, known_nS * penalty, known_nS / penalty)
        scores_nV = scores_nV.scatter(1, written_nS, less_nS)
    if 0 < options.no_repeat_ngram <= written_nS.shape[1]:
        scores_nV = _without_repeats(scores_nV, written_nS, options.no_repeat_ngram)
    if written_nS.shape[1] < options.min_new_tokens and eos_id >= 0:
        scores_nV = scores_nV.index_fill(1, written_nS.new_tensor([eos_id]), -torch.inf)
    return scores_nV


def _without_repeats(scores_nV: Tensor, written_nS: Tensor, size: int) -> Tensor:
    """Forbid each token that would end a sequence of `size` tokens seen before."""
    windows = written_nS.unfold(1, size, 1)
    begun = written_nS[:, None, written_nS.shape[1] - size + 1 :]
    repeats = (windows[..., :-1] == begun).all(dim=-1)
    limits = torch.where(repeats, -torch.inf, torch.inf).to(scores_nV.dtype)
    return scores_nV.scatter_reduce(1, windows[..., -1], limits, "amin")


def uniforms(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """(n, count) numbers of [0, 1): each row's own for its own seed, made where every device has
    the same, so that neighbours in the batch and the device leave the text as it is."""
    rows = [torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device)


def draw(scores_nV: Tensor, uniform_n: Tensor, options: GenerateOptions) -> Tensor:
    """One token of each row, by its probability at the options' temperature; (n,)."""
    highest_n1 = scores_nV.amax(dim=-1, keepdim=True)
    scores_nV = (scores_nV.float() - highest_n1) / options.temperature
    ids = None
    if options.top_k:
        scores_nV, ids = scores_nV.topk(min(options.top_k, scores_nV.shape[1]))
    elif options.top_p < 1:
        scores_nV, ids = scores_nV.sort(dim=-1, descending=True)
    chances = scores_nV.softmax(dim=-1)
    sums = chances.cumsum(dim=-1)
    if options.top_p < 1:
        chances = torch.where(sums - chances < options.top_p, chances, 0.0)
        sums = chances.cumsum(dim=-1)
    total_n1 = sums[:, -1:]
    # Rounding must not reach the total, behind which no token stands.
    at_n1 = torch.minimum(uniform_n[:, None] * total_n1, total_n1.nextafter(total_n1 * 0))
    place_n1 = torch.searchsorted(sums, at_n1, right=True)
    return (place_n1 if ids is None else ids.gather(1, place_n1))[:, 0]


def select(
    logits_nV: Tensor,
    written_nS: Tensor,
    uniform_n: Tensor | None,
    options: GenerateOptions,
    eos_id: int,
) -> Tensor:
    """The next token of each row: drawn with `uniform_n`, else the most probable; (n,)."""
    scores_nV = ruled(logits_nV.float(), written_nS, options, eos_id)
    if uniform_n is None:
        return scores_nV.argmax(dim=-1)
    return draw(scores_nV, uniform_n, options)
