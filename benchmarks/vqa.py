"""Twelve questions about a study in one vision pass, against one pass per question.

HSENet's tower of the volume (ViT-B, 2,048 tokens of 4x16x16 voxels) with its packer, 128 visual
tokens, and the package's decoder of 0.1B, all with random weights. The questions are of the four
types of RadGenome-ChestCT in their plainest wording; every answer has as many tokens, so that both
ways do the same work. Ours is `answer_questions` with all of them, the baseline with one at a time;
the answers must be the same. Studies per minute:

- `study in memory`: read and prepared before, so that only the passes count.
- `from the file`: the CT is read and prepared in each pass, as a script for single questions does.

Asked: 6 times as many studies.

    python benchmarks/vqa.py [--small] [--tokens N] [--device cuda] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from harness import Row, machine, medians, publish
from synthetic_ct import chest_ct, write_ct

from uvlm.imaging.preprocess import preset
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.questions import answer_questions
from uvlm.inference.study import Study
from uvlm.models.bundle import Part, save_bundle
from uvlm.models.config import DecoderConfig, InjectionConfig, ReportConfig
from uvlm.models.tower_config import PackerConfig, ViTConfig
from uvlm.models.uvlm import ReportModel
from uvlm.text.prompts import DEFAULT_PROMPT
from uvlm.text.questions import ask
from uvlm.text.tokenizer import train_tokenizer

FINDINGS = ("pulmonary nodule", "pleural effusion", "emphysema", "lymphadenopathy")
PLACE = "lung/lung/left lower lobe"
QUESTIONS = [
    *(ask("presence", PLACE, finding) for finding in FINDINGS),
    *(ask("location", "", finding) for finding in FINDINGS),
    *(ask("size", PLACE, finding) for finding in FINDINGS[:2]),
    *(ask("abnormality", place, "") for place in (PLACE, "heart")),
]
TOWER = ViTConfig()
SMALL = ViTConfig(width=192, layers=6, heads=3, mlp=768)


def bundle(folder: Path, tower: ViTConfig) -> Path:
    """A report bundle with random weights."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([*QUESTIONS, DEFAULT_PROMPT], vocab_size=1024)
    config = ReportConfig(
        encoder=tower,
        packer=PackerConfig(),
        shape=tower.shape,
        injection=InjectionConfig(layers=()),
        decoder=DecoderConfig(vocab_size=tokenizer.vocab_size),
        vision_start_id=tokenizer.vision_start_id,
        vision_end_id=tokenizer.vision_end_id,
    )
    spec = replace(preset("hsenet"), shape=tower.shape)
    part = Part(task="report", config=config, spec=spec, region="chest", trained_on="nothing")
    made = {"report": ReportModel(config)}
    return save_bundle(folder, {"report": part}, made, tokenizer, DEFAULT_PROMPT)


def measure(pipeline: Pipeline, path: Path, tokens: int) -> list[Row]:
    options = GenerateOptions(max_new_tokens=tokens, min_new_tokens=tokens)
    study = pipeline.read(path)

    def one_pass(source: Path | Study) -> list[str]:
        return answer_questions(pipeline, source, QUESTIONS, options)

    def twelve_passes(source: Path | Study) -> list[str]:
        return [answer_questions(pipeline, source, [each], options)[0] for each in QUESTIONS]

    assert one_pass(study) == twelve_passes(study), "an answer depends on the other questions"
    rows = []
    for case, source in (("study in memory", study), ("from the file", path)):
        actions: dict[str, Callable[[], object]] = {
            "ours": partial(one_pass, source),
            "baseline": partial(twelve_passes, source),
        }
        seconds = medians(actions)
        ours, baseline = 60 / seconds["ours"], 60 / seconds["baseline"]
        rows.append(
            Row(
                case=f"{len(QUESTIONS)} questions, {case}",
                value=ours,
                baseline=baseline,
                unit="studies/min",
                ratio=ours / baseline,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Questions in one pass against one pass each.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    parser.add_argument("--small", action="store_true", help="a tower of 4 million parameters")
    parser.add_argument("--tokens", type=int, default=16, metavar="N", help="of each answer")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    described = machine() | {"tokens": args.tokens, "small": args.small}
    with tempfile.TemporaryDirectory() as folder:
        ct = Path(folder) / "ct.nii.gz"
        write_ct(ct, chest_ct((100, 256, 256)))
        made = bundle(Path(folder) / "bundle", SMALL if args.small else TOWER)
        pipeline = Pipeline.load(made, args.device)
        rows = measure(pipeline, ct, args.tokens)
    publish(rows, args.json, described)


if __name__ == "__main__":
    main()
