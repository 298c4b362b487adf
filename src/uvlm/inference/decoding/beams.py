"""Beam search: several beginnings of each report are followed at once, the most probable so far.

The rules are those of transformers' `generate` (early_stopping=False): of the 2W best
continuations of W beams those that end among the best W are finished texts, the best W others go
on; a study is done when the best beam under way is not above the worst of W finished texts.

Shapes: n rows, the beams of all studies under way; S tokens written so far, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.decoding.rows import Rows
from uvlm.inference.decoding.select import ruled
from uvlm.inference.decoding.stopping import Candidate, Ending

__all__ = ["search"]


@dataclass(frozen=True, kw_only=True)
class _Beam:
    ids: list[int] = field(default_factory=list)
    score: float = 0.0
    """Log-probability after the options' rules: what beams are compared by."""
    log_probability: float = 0.0
    row: int = 0
    """Of the step before, which it continues."""


@dataclass(kw_only=True, eq=False)
class _Study:
    running: list[_Beam]
    finished: list[tuple[float, Candidate]] = field(default_factory=list)


@torch.inference_mode()
def search(
    rows: Rows, count: int, options: GenerateOptions, ending: Ending
) -> list[list[Candidate]]:
    """Up to `options.beams` texts of each of the `count` studies in `rows`, the best first."""
    studies = [_Study(running=[_Beam()]) for _ in range(count)]
    owners = list(range(count))
    device = rows.device
    written_nS = torch.empty(count, 0, dtype=torch.long, device=device)
    while owners:
        log_nV = rows.logits_nV.float().log_softmax(dim=-1)
        ruled_nV = ruled(log_nV, written_nS, options, ending.eos_id)
        first = 0
        for study in studies:
            stop = first + len(study.running)
            if first < stop:
                _extend(study, ruled_nV[first:stop], log_nV[first:stop], first, options, ending)
            first = stop
        beams = [beam for study in studies for beam in study.running]
        chosen = [beam.row for beam in beams]
        before = owners
        owners = [number for number, study in enumerate(studies) for _ in study.running]
        if not owners:
            break
        rows.choose(chosen, alike=[before[row] for row in chosen] == before)
        tokens_n = torch.tensor([beam.ids[-1] for beam in beams], device=device)
        written_nS = torch.cat((written_nS[chosen], tokens_n[:, None]), dim=1)
        rows.advance(tokens_n)
    return [[candidate for _, candidate in study.finished] for study in studies]


def _extend(
    study: _Study,
    ruled_bV: Tensor,
    log_bV: Tensor,
    first: int,
    options: GenerateOptions,
    ending: Ending,
) -> None:
    """Let the beams of a study, rows from `first` on, grow by one token."""
    width, vocabulary = options.beams, ruled_bV.shape[1]
    scores_b1 = ruled_bV.new_tensor([[beam.score] for beam in study.running])
    flat = (ruled_bV + scores_b1).flatten()
    best, places = flat.topk(min(2 * width, len(flat)))
    logs = log_bV.flatten()[places].tolist()
    going: list[_Beam] = []
    found = zip(best.tolist(), places.tolist(), logs, strict=True)
    for rank, (score, place, log) in enumerate(found):
        if score == -torch.inf:  # the rules leave nothing better
            break
        parent = study.running[place // vocabulary]
        beam = _Beam(
            ids=[*parent.ids, place % vocabulary],
            score=score,
            log_probability=parent.log_probability + log,
            row=first + place // vocabulary,
        )
        done = ending.of(beam.ids, beam.log_probability)
        if done is None and len(going) < width:
            going.append(beam)
        elif done is not None and rank < width:
            study.finished.append((_per_length(beam, options), done))
    study.finished = sorted(study.finished, key=lambda pair: -pair[0])[:width]
    if going and len(study.finished) == width:
        going = going if _per_length(going[0], options) > study.finished[-1][0] else []
    study.running = going


def _per_length(beam: _Beam, options: GenerateOptions) -> float:
    """What finished texts are compared by."""
    return float(beam.score / len(beam.ids) ** options.length_penalty)
