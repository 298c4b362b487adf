"""The draft a run leaves holds the reports it trained on, and no held-out one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from uvlm.data.studies import load_studies
from uvlm.models.bundle import load_bundle
from uvlm.text.draft import GAP, Draft
from uvlm.training.config import RunConfig
from uvlm.training.run import train

Build = Callable[[str], RunConfig]
CARD = "contains the training reports in full, readable"


@pytest.mark.parametrize("task", ["report", "joint"])
def test_the_bundle_of_a_run_with_reports_holds_their_draft(
    task: str, tiny_run: Build, tmp_path: Path
) -> None:
    config = tiny_run(task)
    bundle = load_bundle(train(replace(config, out=tmp_path / "run")))
    studies, tokenizer = load_studies(config.data, ["report"]), bundle.tokenizer
    assert tokenizer is not None
    ids = [[*tokenizer.encode(row.report or ""), tokenizer.eos_id] for row in studies.train]
    tokens = bundle.extras["draft"]["tokens"]
    assert tokens.tolist() == [t for report in ids for t in (GAP, *report)] + [GAP]
    draft = Draft.of(bundle.extras["draft"])
    assert draft.propose(ids[0][:4], 1) != []


def test_a_later_run_without_reports_hands_the_draft_on(tiny_run: Build, tmp_path: Path) -> None:
    first = train(replace(tiny_run("report"), out=tmp_path / "report"))
    later = train(replace(tiny_run("segmentation"), init=first, out=tmp_path / "segmentation"))
    before, after = (load_bundle(each).extras["draft"] for each in (first, later))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_reports_there_is_no_draft(tiny_run: Build, tmp_path: Path) -> None:
    bundle = train(replace(tiny_run("segmentation"), out=tmp_path / "segmentation"))
    assert "draft" not in load_bundle(bundle).extras


def test_a_run_may_keep_the_reports_out(tiny_run: Build, tmp_path: Path) -> None:
    config = replace(tiny_run("report"), draft=False)
    bundle = train(replace(config, out=tmp_path / "without"))
    assert not (bundle / "draft.safetensors").exists()
    assert CARD not in (bundle / "model_card.md").read_text()


def test_a_later_run_may_drop_the_reports_of_an_earlier_one(
    tiny_run: Build, tmp_path: Path
) -> None:
    first = train(replace(tiny_run("report"), out=tmp_path / "report"))
    assert CARD in (first / "model_card.md").read_text()
    config = replace(tiny_run("segmentation"), init=first, draft=False)
    later = train(replace(config, out=tmp_path / "later"))
    assert "report" in load_bundle(later).parts
    assert not (later / "draft.safetensors").exists()
