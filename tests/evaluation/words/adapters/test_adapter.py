"""Metrics with a model: local weights or a stated reason, never the network, never a report."""

import logging
import os
import sys
import types

import numpy as np
import pytest

from uvlm.evaluation.words.adapters import ADAPTERS, radbert
from uvlm.evaluation.words.adapters.offline import FLAGS, offline
from uvlm.evaluation.words.metrics import text_measures
from uvlm.text.labelling.protocol import Labels

SECRET = "patient Jane"
REFERENCES, PREDICTIONS = [f"{SECRET} is well", "no nodule", "clear"], ["a", "", "clear"]


def run(name, folder):
    return text_measures(REFERENCES, PREDICTIONS, [name], {name: folder})


@pytest.fixture
def package(monkeypatch):
    """Puts a made-up package where the real one would be."""

    def put(name, **members):
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.mark.parametrize("name", ADAPTERS)
def test_without_weights_the_reason_says_which_option(name):
    measures, skipped = text_measures(REFERENCES, PREDICTIONS, [name])
    assert measures == []
    assert f"--weights {name}=FOLDER" in skipped[name]


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_folder_that_is_not_there_is_named(name, tmp_path):
    assert "nowhere is not a folder" in run(name, tmp_path / "nowhere")[1][name]


@pytest.mark.parametrize("name", ["radgraph", "ratescore", "green"])
def test_a_package_that_is_not_installed_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, ADAPTERS[name].package, None)
    assert f"{ADAPTERS[name].package} is not installed" in run(name, tmp_path)[1][name]


@pytest.mark.parametrize("name", ["bertscore", "ce_f1@radbert"])
def test_an_empty_folder_is_a_reason_not_a_download(name, tmp_path):
    assert run(name, tmp_path)[1][name]


def test_radgraph_gives_three_scores_and_zero_for_an_empty_prediction(package, tmp_path):
    seen = {}

    class F1RadGraph:
        def __init__(self, **options):
            seen.update(options, offline=[os.environ[flag] for flag in FLAGS])

        def __call__(self, *, refs, hyps):
            seen["number"] = len(refs)
            return (0, 0, 0), ([0.5, 1.0], [0.4, 1.0], [0.2, 1.0]), [], []

    package("radgraph", F1RadGraph=F1RadGraph)
    (tmp_path / "radgraph-xl").mkdir()
    (tmp_path / "radgraph-xl" / "config.json").write_text("{}")
    (found,), _ = run("radgraph", tmp_path)
    assert found.per_study.tolist() == [[0.5, 0.4, 0.2], [0.0] * 3, [1.0] * 3]
    assert found.values(3) == pytest.approx([0.5, 1.4 / 3, 0.4])
    assert seen["model_cache_dir"] == str(tmp_path)
    assert seen["number"] == 2
    assert seen["offline"] == ["1", "1", "1"]


def test_radgraph_without_its_files_does_not_fetch_them(package, tmp_path):
    package("radgraph", F1RadGraph=None)
    assert "has no config.json" in run("radgraph", tmp_path)[1]["radgraph"]


def test_ratescore_reads_both_models_from_the_folder(package, tmp_path):
    class RaTEScore:
        def __init__(self, *, bert_model, eval_model, use_gpu):
            assert os.path.isdir(bert_model)
            assert os.path.isdir(eval_model)

        def compute_score(self, candidates, references):
            return [float(c == r) for c, r in zip(candidates, references, strict=True)]

    package("RaTEScore", RaTEScore=RaTEScore)
    assert "has no folder RaTE-NER-Deberta" in run("ratescore", tmp_path)[1]["ratescore"]
    for name in ("RaTE-NER-Deberta", "BioLORD-2023-C"):
        (tmp_path / name).mkdir()
    (found,), _ = run("ratescore", tmp_path)
    assert found.per_study[:, 0].tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("later", [False, True])
def test_green_leaves_out_what_cannot_be_read_and_says_so(package, tmp_path, later):
    class GREEN:
        def __init__(self, model_name, output_dir="."):
            assert model_name == str(tmp_path)
            assert os.listdir(output_dir) == []

        def __call__(self, refs, hyps):
            return 0.5, 0.1, [None, 0.5], "", None

    class Later(GREEN):
        def __init__(self, model_name, output_dir=".", compute_summary_stats=True):
            assert not compute_summary_stats
            super().__init__(model_name, output_dir)

    package("green_score", GREEN=Later if later else GREEN)
    (found,), _ = run("green", tmp_path)
    np.testing.assert_array_equal(found.per_study[:, 0], [np.nan, 0.0, 0.5])
    assert found.notes[0] == "1 answers could not be read; their studies are left out."


def test_a_library_that_fails_is_a_reason_without_the_report(package, tmp_path, caplog):
    def fails(*_, **__):
        raise RuntimeError(SECRET)

    package("green_score", GREEN=fails)
    with caplog.at_level(logging.DEBUG):
        reason = run("green", tmp_path)[1]["green"]
    assert "green_score failed with RuntimeError" in reason
    assert SECRET not in reason + caplog.text


def test_offline_flags_are_put_back(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    hub = types.ModuleType("huggingface_hub.constants")
    hub.HF_HUB_OFFLINE = False
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", hub)
    with offline():
        assert {os.environ[flag] for flag in FLAGS} == {"1"}
        assert hub.HF_HUB_OFFLINE is True
    assert "HF_HUB_OFFLINE" not in os.environ
    assert os.environ["TRANSFORMERS_OFFLINE"] == "0"
    assert hub.HF_HUB_OFFLINE is False


def test_radbert_labels_both_reports_and_an_empty_one_has_no_label(monkeypatch, tmp_path):
    classes = ("nodule", "effusion")

    class Labeller:
        def __init__(self, folder):
            self.classes = classes

        def label(self, reports):
            return [
                Labels(values={c: int(c in text) for c in classes}, evidence=()) for text in reports
            ]

    monkeypatch.setattr(radbert, "RadBert", Labeller)
    (found,), _ = text_measures(
        ["nodule", "effusion", "nodule"],
        ["nodule", "effusion", ""],
        ["ce_f1@radbert"],
        {"ce_f1@radbert": tmp_path},
    )
    assert found.protocol == "ce_f1@radbert"
    assert found.values(3)[0] == pytest.approx((2 / 3 + 1) / 2)
