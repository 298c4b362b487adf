"""Write several reports for one study and take the one that the class head agrees with best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.generate import Candidate, candidates
from uvlm.inference.guided.options import GuideOptions
from uvlm.inference.guided.rerank import rerank
from uvlm.models.injection import VisualPlan
from uvlm.models.uvlm import ReportModel
from uvlm.text.labelling.protocol import Labeller
from uvlm.text.tokenizer import Tokenizer

__all__ = ["choose", "per_token", "write_candidates"]


def choose(
    model: ReportModel,
    plan: VisualPlan,
    prompt_ids: Sequence[int],
    options: GenerateOptions,
    guide: GuideOptions,
    *,
    tokenizer: Tokenizer,
    labeller: Labeller,
    probabilities: Mapping[str, float],
) -> Candidate:
    """The best of `guide.candidates` reports.

    Args:
        plan: of one study
        probabilities: of the class head, per label

    Raises:
        InputError: labeller and class head share no class.
    """
    written = write_candidates(model, plan, prompt_ids, options, guide.candidates, tokenizer)
    ranked = rerank(
        [str(candidate.text) for candidate in written],
        [per_token(candidate) for candidate in written],
        labeller,
        probabilities,
        guide.agreement,
    )
    return written[ranked[0].place]


def per_token(candidate: Candidate) -> float:
    """Mean log-probability of the tokens written, the closing one included."""
    assert candidate.log_probability is not None, "candidates are scored"
    return candidate.log_probability / max(len(candidate.ids) + (not candidate.cut), 1)


def write_candidates(
    model: ReportModel,
    plan: VisualPlan,
    prompt_ids: Sequence[int],
    options: GenerateOptions,
    count: int,
    tokenizer: Tokenizer,
) -> list[Candidate]:
    """`count` reports: beams, as many as are asked for at least, or with a temperature drawn."""
    if options.temperature == 0:
        options = replace(options, beams=max(options.beams, count))
    return candidates(
        model,
        plan,
        prompt_ids,
        options,
        eos_id=tokenizer.eos_id,
        tokenizer=tokenizer,
        count=count,
    )
