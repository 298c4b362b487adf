"""Greedy decoding at the paper's size, with the KV cache and without.

Eight layers, 151,669 vocabulary entries, 384 visual tokens, a prompt of 32. Ours: the whole
`generate`, prefill included. Baseline: every token recomputes the whole sequence, by the same SDPA
decoder, with logits at every position; timed at nine evenly spaced lengths and integrated. A second
baseline computes logits at the last position only.

    python benchmarks/decode.py [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from harness import Row, arguments, machine, medians, peak_rss_gib, publish
from torch import Tensor

from uvlm.inference.generate import generate
from uvlm.models.config import EncoderConfig, ReportConfig
from uvlm.models.injection import VisualPlan
from uvlm.models.uvlm import ReportModel

PROMPT = list(range(1000, 1032))
LENGTHS = 9
NEVER = -1


def build() -> tuple[ReportModel, VisualPlan]:
    """The paper's decoder with random weights; the encoder is not measured, so it is tiny."""
    torch.manual_seed(0)
    encoder = EncoderConfig(features=(8,) * 6, blocks=(1,) * 6)
    config = ReportConfig(encoder=encoder, vision_start_id=151_652, vision_end_id=151_653)
    model = ReportModel(config).eval()
    shape = (1, config.num_visual_tokens, config.decoder.width)
    per_layer = {layer: torch.randn(shape) for layer, _ in config.layer_stages}
    return model, VisualPlan(prefix=torch.randn(shape), per_layer=per_layer)


@torch.inference_mode()
def recompute(model: ReportModel, plan: VisualPlan, num_text: int, everywhere: bool) -> Tensor:
    """One token's worth of work without a cache."""
    tokens = torch.randint(0, 150_000, (1, num_text))
    if not everywhere:
        return model.decode(plan, tokens, logits_at=slice(-1, None))
    embeddings, layout = model.embed(plan, tokens)
    return model.decoder.head(model.decoder.hidden(embeddings, layout, plan))


def integrated(seconds: list[float], count: int) -> float:
    """Seconds for tokens 1 to `count`, from times per token at evenly spaced lengths."""
    middle = sum(seconds[1:-1]) + (seconds[0] + seconds[-1]) / 2
    return count * middle / (len(seconds) - 1)


def measure(model: ReportModel, plan: VisualPlan, count: int) -> list[Row]:
    lengths = [len(PROMPT) + round(i * (count - 1) / (LENGTHS - 1)) for i in range(LENGTHS)]
    actions: dict[str, Callable[[], object]] = {
        "cached": partial(generate, model, plan, PROMPT, max_new_tokens=count, eos_id=NEVER)
    }
    for everywhere in (True, False):
        for length in lengths:
            actions[f"{everywhere} {length}"] = partial(recompute, model, plan, length, everywhere)
    seconds = medians(actions)
    ours = count / seconds["cached"]
    rows = []
    for everywhere, note in ((True, ""), (False, ", baseline with last-position logits")):
        times = [seconds[f"{everywhere} {length}"] for length in lengths]
        baseline = count / integrated(times, count)
        rows.append(
            Row(
                case=f"{count} tokens{note}",
                value=ours,
                baseline=baseline,
                unit="tokens/s",
                ratio=ours / baseline,
            )
        )
    return rows


def main() -> None:
    options = arguments("Tokens per second with and without the KV cache, at the paper's size.")
    described = machine()
    model, plan = build()
    generate(model, plan, PROMPT, max_new_tokens=2, eos_id=NEVER)  # first calls are slower
    recompute(model, plan, len(PROMPT), everywhere=True)
    rows = [row for count in (256, 512) for row in measure(model, plan, count)]
    described["peak_rss_gib"] = round(peak_rss_gib(), 2)
    publish(rows, options.json, described)


if __name__ == "__main__":
    main()
