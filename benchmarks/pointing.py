"""Do heat maps fall on what the sentence is about? On synthetic chest studies, whose lesions are
known.

Ours: how often the peak of a sentence's heat map lies in the finding's mask, grown by two voxels.
Baseline: how often a random voxel of the body does. The ratio is ours over that chance.

The first held-out studies are for choosing. On these every method is tried, on the true reports as
if the decoder had written them; on the last, twice as many, the two that stayed in the package, on
true reports ("held out") and on what the decoder writes itself, where it is right ("written").
`centre` always points at the middle of the volume, `atlas` where the training studies most often
have the finding; neither looks at the image. What the class head does not know (AUROC below 0.8 in
validation) nothing made of the same encoder can point at; "known" leaves it out.

    python benchmarks/pointing.py BUNDLE CATALOG [--studies N] [--json FILE]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from harness import Row, machine, publish
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from uvlm.imaging.store import read_store
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.evidence.heat import class_heat_maps, heat_maps, on_prepared, stages_needed
from uvlm.inference.evidence.heat_methods import frozen
from uvlm.inference.evidence.pointing import (
    Pointed,
    accuracy,
    is_widespread,
    point,
    truth_class,
)
from uvlm.inference.evidence.spans import token_spans
from uvlm.inference.evidence.types import HeatMap
from uvlm.inference.predict import Prediction, Predictor, Written
from uvlm.models.bundle import Bundle, load_bundle
from uvlm.models.decoder import Attention, rotate
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.preprocessing.catalog import Row as Study
from uvlm.preprocessing.catalog import read_catalog
from uvlm.text.cleaning import split_sentences
from uvlm.text.labelling.chest import CHEST

Array = NDArray[Any]
Heats = dict[str, list[Array]]

KNOWN = 0.8
BODY_HU = -400
ATLAS = 60
"""Training studies of which the atlas is made."""


@dataclass
class Case:
    """A sentence that says something is there which is."""

    label: str
    span: range
    truth: Array


@dataclass
class Scene:
    """One study, encoded, with a report."""

    written: Written
    prediction: Prediction
    cases: list[Case]
    body: Array


@dataclass
class Bench:
    """Models, studies, and what was scored."""

    bundle: Bundle
    atlas: Mapping[str, Array]
    found: dict[tuple[str, str], list[tuple[str, Pointed, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """(part, method) -> (label, score, patient)."""

    @property
    def report(self) -> ReportModel:
        return cast(ReportModel, self.bundle.modules["report"])

    @property
    def head(self) -> ClassificationModel:
        return cast(ClassificationModel, self.bundle.modules["classification"])

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.bundle.parts["report"].our_spec.shape

    @property
    def hash(self) -> str:
        return self.bundle.parts["report"].our_spec.hash

    def add(self, part: str, scene: Scene, patient: str, heats: Heats) -> None:
        for method, maps in heats.items():
            for case, heat in zip(scene.cases, maps, strict=True):
                score = point(heat, case.truth, scene.body)
                self.found[part, method].append((case.label, score, patient))


def cases_of(report: str, written: Written, bundle: Bundle, mask: Array) -> list[Case]:
    assert bundle.tokenizer is not None
    sentences = split_sentences(report)
    cases = []
    for sentence, span in zip(
        sentences, token_spans(bundle.tokenizer, written.ids, sentences), strict=True
    ):
        (labels,) = CHEST.label([sentence])
        stated = {e.label for e in labels.evidence if e.status == "present"}
        for label in sorted(stated):
            truth = mask == CHEST_CLASSES[truth_class(label)]
            if truth.any():
                cases.append(Case(label, span, truth))
    return cases


def scenes(bench: Bench, row: Study, write: bool) -> Iterator[tuple[str, Scene]]:
    """The study with its true report, and with the decoder's own if that is to be written."""
    bundle = bench.bundle
    assert bundle.tokenizer is not None
    assert row.mask is not None
    assert row.report is not None
    hu = read_store(row.image).astype(np.float32)
    mask = read_store(row.mask)
    predictor = Predictor(bundle, torch.device("cpu"))
    prediction = predictor.predict(
        lambda part: (hu - hu.mean()) / hu.std(),
        ("classification", "report"),
        GenerateOptions(max_new_tokens=512 if write else 1),
        keep=stages_needed(bench.report),
    )
    assert prediction.written is not None
    body = ndimage.binary_fill_holes(hu > BODY_HU)
    told = replace(prediction.written, ids=bundle.tokenizer.encode(row.report))
    yield "true", Scene(told, prediction, cases_of(row.report, told, bundle, mask), body)
    if write:
        own = prediction.written
        yield (
            "written",
            Scene(own, prediction, cases_of(prediction.text or "", own, bundle, mask), body),
        )


def on_grid(maps: Sequence[HeatMap], shape: tuple[int, int, int]) -> list[Array]:
    return [on_prepared(heat, shape) for heat in maps]


def kept_methods(bench: Bench, scene: Scene) -> Heats:
    """What the package offers."""
    spans = [case.span for case in scene.cases]
    groups = [[case.label] for case in scene.cases]
    encoded = scene.prediction.encoded["classification"]
    decoder = heat_maps(bench.report, scene.written, spans, bench.hash)
    head = class_heat_maps(bench.head, encoded, groups, bench.hash)
    return {"decoder": on_grid(decoder, bench.shape), "class head": on_grid(head, bench.shape)}


def positions(bench: Bench, scene: Scene) -> Heats:
    """What needs no image."""
    centre = np.zeros(bench.shape, np.float32)
    centre[tuple(n // 2 for n in bench.shape)] = 1
    return {
        "centre": [centre for _ in scene.cases],
        "atlas": [bench.atlas[case.label] for case in scene.cases],
    }


class Watch:
    """Attention weights of every layer, mean over heads, recomputed as the decoder runs."""

    def __init__(self, model: ReportModel) -> None:
        self.layers: list[Tensor] = []
        modules = [m for m in model.modules() if isinstance(m, Attention)]
        self.hooks = [m.register_forward_pre_hook(self.look) for m in modules]

    def look(self, module: Any, args: tuple[Any, ...]) -> None:
        x_BTE, rotary, visible_TS = args[:3]
        parts = module.qkv(x_BTE).unflatten(-1, (3, module.heads, -1))
        q_BHTF, k_BHTF = rotate(parts[:, :, :2], rotary).permute(2, 0, 3, 1, 4)
        scores = q_BHTF @ k_BHTF.transpose(-1, -2) / q_BHTF.shape[-1] ** 0.5
        weights = scores.masked_fill(~visible_TS, -torch.inf).softmax(-1)
        self.layers.append(weights[0].mean(0).detach())


def token_methods(bench: Bench, scene: Scene) -> Heats:
    """On the visual tokens themselves: attention, gradient times input, and leaving them out."""
    model, written = bench.report, scene.written
    ids = torch.tensor([*written.prompt, *written.ids])
    first = len(written.prompt)
    grid = model.config.token_grid
    num = model.config.num_visual_tokens

    def said(tokens: Mapping[int, Tensor]) -> Tensor:
        plan = model.align.project(tokens)
        rows = len(plan.prefix)
        logits = model.decode(plan, ids.expand(rows, -1), logits_at=slice(first - 1, len(ids) - 1))
        said_RT = logits.log_softmax(-1).gather(-1, ids[first:].expand(rows, -1)[..., None])
        return said_RT[..., 0]

    with frozen(model):
        tokens = {s: t.clone().requires_grad_() for s, t in written.encoded.tokens.items()}
        watch = Watch(model)
        probability_T = said(tokens)[0]
        for hook in watch.hooks:
            hook.remove()
        seen = torch.stack(watch.layers)
        rollout = torch.eye(seen.shape[-1])
        for layer in seen:
            rollout = (layer + torch.eye(len(layer))) / 2 @ rollout
        without = {s: t.detach().repeat(num, 1, 1) for s, t in tokens.items()}
        for k in range(num):
            for s, t in tokens.items():
                without[s][k, k] = t.detach()[0].mean(0)
        with torch.no_grad():
            drop_KT = probability_T.detach() - said(without)
        found = defaultdict(list)
        for case in scene.cases:
            one = slice(case.span.start, case.span.stop)
            # The positions that predicted the sentence's tokens.
            at = slice(num + 1 + first + case.span.start, num + 1 + first + case.span.stop)
            look = seen[:, at, 1 : 1 + num].mean(1)
            found["attention, all layers"].append(look.mean(0))
            found["attention, last layer"].append(look[-1])
            found["attention rollout"].append(rollout[at, 1 : 1 + num].mean(0))
            found["occlusion of tokens"].append(drop_KT[:, one].sum(1).relu())
            gradients = torch.autograd.grad(
                probability_T[one].sum(), list(tokens.values()), retain_graph=True
            )
            parts = [
                (g * (t - t.mean(1, keepdim=True)).detach()).sum(-1)[0].relu()
                for g, t in zip(gradients, tokens.values(), strict=True)
            ]
            found["gradient of tokens"].append(
                torch.stack([p / p.sum().clamp_min(1e-12) for p in parts]).sum(0)
            )
    return {
        method: [
            F.interpolate(h.view(1, 1, *grid), size=bench.shape, mode="trilinear")[0, 0].numpy()
            for h in maps
        ]
        for method, maps in found.items()
    }


def unpooled(bench: Bench, scene: Scene) -> Heats:
    """The tokens' gradients handed to the finer map they were pooled from, and no further."""
    model, written = bench.report, scene.written
    (stage,) = stages_needed(model)
    ids = torch.tensor([*written.prompt, *written.ids])
    first = len(written.prompt)
    found = []
    with frozen(model):
        kept = written.encoded.kept[stage].clone().requires_grad_()
        tokens = {s: t.clone() for s, t in written.encoded.tokens.items()}
        tokens[stage] = model.align.pool_stage(kept, stage)
        at = slice(first - 1, len(ids) - 1)
        logits = model.decode(model.align.project(tokens), ids[None], logits_at=at)[0]
        said_T = -F.cross_entropy(logits, ids[first:], reduction="none")
        for case in scene.cases:
            of = said_T[case.span.start : case.span.stop].sum()
            (gradient,) = torch.autograd.grad(of, kept, retain_graph=True)
            over = (kept - kept.mean((2, 3, 4), keepdim=True)).detach()
            heat = (gradient * over).sum(1, keepdim=True).relu()
            fine = F.interpolate(heat, size=bench.shape, mode="trilinear")
            found.append(fine[0, 0].numpy())
    return {"gradient unpooled": found}


def atlas_of(rows: Sequence[Study], labels: Sequence[str]) -> dict[str, Array]:
    """Where training studies have each finding, smoothed by a voxel."""
    total = {label: np.zeros(1, np.float32) for label in labels}
    for row in rows:
        assert row.mask is not None
        mask = read_store(row.mask)
        for label in labels:
            total[label] = total[label] + (mask == CHEST_CLASSES[truth_class(label)])
    return {label: ndimage.gaussian_filter(t.astype(np.float32), 1) for label, t in total.items()}


Chosen = Callable[[str], bool]


def rows_of(bench: Bench, part: str, group: str, chosen: Chosen) -> list[Row]:
    rows = []
    for (of, method), found in bench.found.items():
        mine = [(score, patient) for label, score, patient in found if chosen(label)]
        if of != part or not mine:
            continue
        a = accuracy([score for score, _ in mine], [patient for _, patient in mine])
        interval = f"{a.low:.2f}-{a.high:.2f}, n {a.count}"
        rows.append(
            Row(
                case=f"{part}, {group}: {method} ({interval})",
                value=a.hits,
                baseline=a.chance,
                unit="pointing",
                ratio=a.hits / a.chance,
            )
        )
        if part != "choosing" and method in ("decoder", "class head", "atlas"):
            rows.append(
                Row(
                    case=f"{part}, {group}: {method}, heat inside",
                    value=a.energy,
                    baseline=a.share,
                    unit="share",
                    ratio=a.energy / a.share,
                )
            )
            if np.isfinite(a.side):
                rows.append(
                    Row(
                        case=f"{part}, {group}: {method}, right side",
                        value=a.side,
                        baseline=0.5,
                        unit="share",
                        ratio=a.side / 0.5,
                    )
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="with a report and a classification part")
    parser.add_argument("catalog", type=Path, help="of synthetic chest studies with masks")
    parser.add_argument("--studies", type=int, default=48, help="held-out studies in all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    given = parser.parse_args()
    described = machine()
    bundle = load_bundle(given.bundle)
    studies = read_catalog(given.catalog).rows
    labels = tuple(bundle.parts["classification"].labels)
    training = [row for row in studies if row.split == "train"][:ATLAS]
    bench = Bench(bundle, atlas_of(training, labels))
    held_out = [row for row in studies if row.split == "valid"]
    few = min(given.studies, len(held_out)) // 3
    for number, row in enumerate([*held_out[:few], *held_out[-2 * few :]]):
        choosing = number < few
        for name, scene in scenes(bench, row, write=not choosing):
            part = "choosing" if choosing else "held out" if name == "true" else "written"
            heats = kept_methods(bench, scene) | positions(bench, scene)
            if choosing:
                heats |= token_methods(bench, scene) | unpooled(bench, scene)
            bench.add(part, scene, row.patient_id, heats)
    metrics = bundle.parts["classification"].metrics
    known = {label for label in labels if metrics.get(f"auroc/{label}", 0) >= KNOWN}
    groups: dict[str, Chosen] = {
        "focal": lambda label: not is_widespread(label),
        "focal, known": lambda label: not is_widespread(label) and label in known,
        "widespread": is_widespread,
    }
    rows = [
        row
        for part in ("choosing", "held out", "written")
        for group, chosen in groups.items()
        for row in rows_of(bench, part, group, chosen)
    ]
    publish(rows, given.json, described)


if __name__ == "__main__":
    main()
