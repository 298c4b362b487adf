"""Decoding at the paper's size, and what a draft saves on held-out reports.

Eight layers, 151,669 vocabulary entries, 384 visual tokens, a prompt of 32, random weights:

- `256 tokens`, `512 tokens`: the whole `generate`, prefill included. Baseline: every token
  recomputes the whole sequence, by the same SDPA decoder, with logits at every position; timed at
  nine evenly spaced lengths and integrated. A second baseline computes logits at the last position
  only.
- `fp32 of bandwidth` and the like: tokens per second after the prompt beside what memory bandwidth
  allows for the decoder's weights, each read once per token. The bandwidth is the best of three
  ways to read a buffer larger than any cache, measured in turn with the decoder.
- `fp32, batch 8` and the like: tokens per second of eight studies beside those of one.
- `speculation, text forced`: the decoder is made to say held-out reports, by adding to its logits;
  the reports and the draft are those of the demo, in the demo's tokenizer.

With the bundle that `make demo` trains (`--bundle`, `--catalog`; rows left out if there is none):

- `speculation, demo`: held-out studies of the catalog, greedy with and without the draft of the
  training reports, in 32 bits, where alone it is used; the tokens must be identical.
- `bf16, demo` and `int8, demo`: shares of held-out reports, and of their tokens, that narrow
  weights leave unchanged.

    python benchmarks/decode.py [--json FILE] [--bundle FOLDER] [--catalog FILE]
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from decode_demo import Demo, changed_rows, demo_rows, forced_row
from harness import Row, machine, medians, peak_rss_gib, publish
from torch import Tensor

from uvlm.inference.generate import generate, generate_batch
from uvlm.models.config import EncoderConfig, ReportConfig
from uvlm.models.injection import VisualPlan
from uvlm.models.low_bit import Precision, lower
from uvlm.models.uvlm import ReportModel

PROMPT = list(range(1000, 1032))
LENGTHS = 9
NEVER = -1
BUFFER = 2**26
"""Numbers of the buffer that shows the bandwidth: 256 MiB."""


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
        rows.append(rate_row(f"{count} tokens{note}", ours, baseline))
    return rows


def rate_row(case: str, value: float, baseline: float) -> Row:
    return Row(case=case, value=value, baseline=baseline, unit="tokens/s", ratio=value / baseline)


def weight_bytes(model: ReportModel, bits: int) -> int:
    """Of all that a token reads; the embedding is the output matrix too, and counts once."""
    return sum(p.numel() for p in model.decoder.parameters()) * bits // 8


@torch.inference_mode()
def narrow_rows(model: ReportModel, plan: VisualPlan, count: int) -> list[Row]:
    """Each precision beside the bandwidth, and eight studies beside one."""
    buffer = torch.randn(BUFFER)
    grouped = buffer.view(8, -1, 512)
    column = torch.randn(512, 1).expand(8, -1, -1)
    matrix, row = buffer.view(-1, 512), torch.randn(1, 512)
    product = torch.ops.mkldnn._linear_pointwise
    reads: dict[str, Callable[[], object]] = {
        "read sum": buffer.sum,
        "read batched": partial(torch.bmm, grouped, column),
        "read product": lambda: product(row, matrix, None, "none", [], ""),
    }
    bits: dict[Precision, int] = {"fp32": 32, "bf16": 16, "int8": 8}
    sizes = {name: weight_bytes(model, each) for name, each in bits.items()}
    models: dict[Precision, ReportModel] = {name: copy.deepcopy(model) for name in bits}
    for precision, each in models.items():
        lower(each.decoder, precision)
    eight = VisualPlan(
        prefix=plan.prefix.expand(8, -1, -1),
        per_layer={layer: each.expand(8, -1, -1) for layer, each in plan.per_layer.items()},
    )
    options = {"max_new_tokens": count, "eos_id": NEVER}
    actions = dict(reads)
    for name, each in models.items():
        actions[name] = partial(generate, each, plan, PROMPT, **options)
        first = options | {"max_new_tokens": 1}
        actions[f"{name} prompt"] = partial(generate, each, plan, PROMPT, **first)
        actions[f"{name} x 8"] = partial(generate_batch, each, eight, PROMPT, **options)
    seconds = medians(actions)
    bandwidth = max(BUFFER * 4 / seconds[name] for name in reads)
    print(f"bandwidth {bandwidth / 1e9:.1f} GB/s")
    rows = []
    for name, size in sizes.items():
        rate = (count - 1) / (seconds[name] - seconds[f"{name} prompt"])
        rows.append(rate_row(f"{name} of bandwidth", rate, bandwidth / size))
        one, eight_at_once = count / seconds[name], 8 * count / seconds[f"{name} x 8"]
        rows.append(rate_row(f"{name}, batch 8", eight_at_once, one))
    return rows


def main() -> None:
    asked = argparse.ArgumentParser(description="Tokens per second at the paper's size.")
    asked.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    asked.add_argument("--bundle", type=Path, default=Path("demo/report/bundle"))
    asked.add_argument("--catalog", type=Path, default=Path("demo/data/catalog.csv"))
    asked.add_argument("--tokens", type=int, nargs="+", default=[256, 512], metavar="N")
    asked.add_argument("--studies", type=int, default=40, metavar="N", help="held-out ones")
    options = asked.parse_args()
    described = machine()
    model, plan = build()
    generate(model, plan, PROMPT, max_new_tokens=2, eos_id=NEVER)  # first calls are slower
    recompute(model, plan, len(PROMPT), everywhere=True)
    rows = [row for count in options.tokens for row in measure(model, plan, count)]
    rows += narrow_rows(model, plan, options.tokens[-1])
    if options.bundle.is_dir() and options.catalog.is_file():
        demo = Demo(options.bundle, options.catalog, options.studies)
        rows += [forced_row(demo, model, plan, PROMPT), *demo_rows(demo), *changed_rows(demo)]
    else:
        print(f"no demo at {options.bundle}: rows with a draft left out; `make demo` makes it")
    described["peak_rss_gib"] = round(peak_rss_gib(), 2)
    publish(rows, options.json, described)


if __name__ == "__main__":
    main()
