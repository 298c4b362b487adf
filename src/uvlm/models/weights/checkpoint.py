"""From a checkpoint of nnU-Net, of the published U-VLM code or of our trainers to a bundle."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvlm.errors import BundleError
from uvlm.models.bundle import Bundle
from uvlm.models.bundle_files import sha256_of
from uvlm.models.weights.authors import tasks_of_uvlm
from uvlm.models.weights.beside import bundle_beside, overlay
from uvlm.models.weights.build import Built, encoder_only, segmentation
from uvlm.models.weights.ledger import Ledger, Record
from uvlm.models.weights.plan import Plan, read_plan
from uvlm.models.weights.reader import read_checkpoint
from uvlm.text.prompts import AUTHORS_PROMPT
from uvlm.text.tokenizer import Tokenizer

__all__ = ["Imported", "checkpoint_bundle", "import_checkpoint"]

log = logging.getLogger(__name__)

VLMS = ("UVLM", "UVLM_Qwen3")


@dataclass(frozen=True, kw_only=True, eq=False)
class Imported:
    """What a checkpoint gave."""

    bundle: Bundle
    record: Record


def checkpoint_bundle(path: Path | str, **options: Any) -> Bundle:
    """`import_checkpoint` for commands that take a bundle; what was left out is logged."""
    found = import_checkpoint(path, **options)
    for reason, names in found.record.left_out.items():
        log.info("%s: %d tensors left out: %s", path, len(names), reason)
    return found.bundle


def import_checkpoint(
    path: Path | str,
    *,
    tokenizer: Path | None = None,
    region: str | None = None,
    plans: Path | None = None,
    dataset: Path | None = None,
    only_encoder: bool = False,
    base: Path | None = None,
) -> Imported:
    """Read a checkpoint of nnU-Net, of the published U-VLM code, or of a trainer of ours.

    Args:
        path: `checkpoint_best.pth` or the like
        tokenizer: `tokenizer.json` of the published code's decoder, or its folder; default the one
            beside the checkpoint or above its fold
        region: body region, where the plan does not name it
        plans, dataset: `plans.json` and `dataset.json`, where they do not lie in the usual place
        only_encoder: take the encoder and leave the rest
        base: folder of the language model, for a trainer of ours with a pretrained decoder

    Raises:
        BundleError: it is no such checkpoint, holds more than tensors and plain values, not every
            tensor has its place, or the bundle beside it says what an argument would.
    """
    path = Path(path)
    folder = None if plans or only_encoder else bundle_beside(path)
    told = {"--tokenizer": tokenizer, "--region": region, "--dataset-json": dataset}
    if folder is not None and any(told.values()):
        raise BundleError.about(
            path,
            f"the bundle beside it says what {' and '.join(k for k, v in told.items() if v)} would",
            "Leave that out.",
        )
    checkpoint = read_checkpoint(path, plans=plans, dataset=dataset)
    if folder is not None:
        bundle, record = overlay(checkpoint, folder, **({"base": base} if base else {}))
        return Imported(bundle=bundle, record=record)
    plan = read_plan(checkpoint, region)
    ledger = Ledger(path, checkpoint.weights)
    used = _tokenizer(path, tokenizer) if ledger.names("llm_report_gen.") else None
    built = _built(plan, ledger, used, only_encoder)
    record = ledger.close()
    report = "report" in built
    bundle = Bundle(
        path=path,
        parts={name: part for name, (part, _) in built.items()},
        modules={name: module for name, (_, module) in built.items()},
        tokenizer=used if report else None,
        prompt=AUTHORS_PROMPT if report else None,
        fingerprint=sha256_of(path)[:16],
    )
    return Imported(bundle=bundle, record=record)


def _built(plan: Plan, ledger: Ledger, tokenizer: Tokenizer | None, only_encoder: bool) -> Built:
    if only_encoder and (plan.is_unet or plan.network in VLMS):
        return encoder_only(plan, ledger)
    if plan.is_unet:
        return segmentation(plan, ledger)
    if plan.network in VLMS:
        return tasks_of_uvlm(plan, ledger, tokenizer)
    raise BundleError.about(
        ledger.path,
        f"its network is a {plan.network}",
        "Only nnU-Net's residual-encoder U-Nets and the published U-VLM can be taken over.",
    )


def _tokenizer(path: Path, given: Path | None) -> Tokenizer | None:
    if given is not None:
        return Tokenizer.load(given)
    folders = (path.parent, path.parent.parent)
    found = next((f for f in (d / "tokenizer.json" for d in folders) if f.is_file()), None)
    return None if found is None else Tokenizer.load(found)
