"""Questions of a study share one vision pass; those of a catalog become one file or none."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.inference.bundle_factory import tiny_bundle, write_ct
from uvlm.errors import BundleError, InputError
from uvlm.evaluation.tasks.vqa import AnswerInputs, evaluate_answers
from uvlm.inference import predict
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.questions import answer_questions, answer_table

QUICK = GenerateOptions(max_new_tokens=3)
ASKED = ["Is there a nodule in the lung?", "Where is the effusion?", "How large is the nodule?"]
TABLE = """series_id,type,anatomy,finding,answers
a,presence,lung,nodule,"[""yes""]"
a,location,,effusion,"[""pleura""]"
b,presence,lung,nodule,"[""no""]"
b,presence,lung,nodule,"[""no""]"
elsewhere,presence,lung,nodule,"[""no""]"
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tiny_bundle(tmp_path_factory.mktemp("bundles") / "report", ("report",))
    return Pipeline.load(folder, "cpu")


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    for name in "ab":
        write_ct(tmp_path / f"{name}.nii.gz")
    (tmp_path / "vqa.csv").write_text(TABLE)
    path = tmp_path / "catalog.csv"
    path.write_text("series_id,blosc2_path,split\na,a.nii.gz,valid\nb,b.nii.gz,train\n")
    return path


@pytest.fixture
def encoded(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per run of the encoder."""
    runs: list[int] = []
    predictor: Any = pipeline._predictor
    plain = predictor._encode

    def count(*given: Any) -> Any:
        runs.append(1)
        return plain(*given)

    monkeypatch.setattr(predictor, "_encode", count)
    return runs


def test_all_questions_of_a_study_share_one_vision_pass(pipeline, catalog, encoded, monkeypatch):
    study = catalog.parent / "a.nii.gz"
    together = answer_questions(pipeline, study, ASKED, QUICK)
    assert len(encoded) == 1
    monkeypatch.setattr(predict, "TOGETHER", 2)
    assert answer_questions(pipeline, study, ASKED, QUICK) == together
    assert len(encoded) == 2
    alone = [answer_questions(pipeline, study, [each], QUICK)[0] for each in ASKED]
    assert alone == together


def test_a_question_that_is_asked_twice_is_answered_twice(pipeline, catalog):
    study = catalog.parent / "a.nii.gz"
    first, _, third = answer_questions(pipeline, study, [*ASKED[:2], ASKED[0]], QUICK)
    assert third == first
    assert answer_questions(pipeline, study, [], QUICK) == []


def test_an_empty_question_is_refused_before_the_study_is_read(pipeline, tmp_path):
    with pytest.raises(InputError, match="the question is empty"):
        answer_questions(pipeline, tmp_path / "absent.nii.gz", ["", ASKED[0]], QUICK)


def test_an_unreadable_study_is_an_error(pipeline, tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"bad\.nii\.gz"):
        answer_questions(pipeline, tmp_path / "bad.nii.gz", ASKED, QUICK)


def test_a_bundle_without_a_report_part_answers_nothing(tmp_path):
    pipeline = Pipeline.load(tiny_bundle(tmp_path / "cls", ("classification",)), "cpu")
    with pytest.raises(BundleError, match="no report part"):
        answer_questions(pipeline, tmp_path / "a.nii.gz", ASKED)
    with pytest.raises(BundleError, match="no report part"):
        answer_table(pipeline, tmp_path, tmp_path / "answers.csv")


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.csv"])
def test_the_answers_of_a_catalog_are_what_evaluation_reads(pipeline, catalog, encoded, name):
    out = catalog.parent / name
    done = answer_table(pipeline, catalog, out, options=QUICK)
    assert (done.questions, done.studies, done.failed, done.exit_code) == (3, 2, 0, 0)
    assert len(encoded) == 2
    assert [path.name for path in catalog.parent.glob(".*")] == []
    truth = catalog.parent / "truth.csv"
    lines = TABLE.splitlines(keepends=True)
    truth.write_text("".join([*lines[:4]]))
    result = evaluate_answers(AnswerInputs(references=truth, predictions=out, resamples=10))
    assert len(result.ids) == 3
    assert [note for notes in result.notes.values() for note in notes if "missing" in note] == []


def test_the_answers_of_a_split_are_scored_by_the_catalog_s_split(pipeline, catalog):
    out = catalog.parent / "answers.jsonl"
    answer_table(pipeline, catalog, out, split="train", options=QUICK)
    table = catalog.parent / "vqa.csv"
    lines = TABLE.splitlines(keepends=True)
    table.write_text("".join([*lines[:4], lines[5]]))
    result = evaluate_answers(
        AnswerInputs(references=table, predictions=out, training=table, split="train", resamples=10)
    )
    assert len(result.ids) == 1


def test_a_split_leaves_the_other_studies_out(pipeline, catalog):
    out = catalog.parent / "answers.jsonl"
    assert answer_table(pipeline, catalog, out, split="valid", options=QUICK).studies == 1
    with pytest.raises(InputError, match="Splits found: train, valid"):
        answer_table(pipeline, catalog, catalog.parent / "x.csv", split="test", options=QUICK)


def test_a_study_that_fails_says_why_in_its_rows(pipeline, catalog):
    (catalog.parent / "b.nii.gz").write_bytes(b"")
    out = catalog.parent / "answers.csv"
    done = answer_table(pipeline, catalog, out, options=QUICK)
    assert (done.failed, done.exit_code) == (1, 3)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["series_id"] for row in rows if "b.nii.gz" in row["error"]] == ["b"]
    assert rows[-1]["prediction"] == ""


def test_a_run_that_ended_early_leaves_no_file_and_goes_on(pipeline, catalog, encoded, monkeypatch):
    out = catalog.parent / "answers.jsonl"
    plain, calls = pipeline.answers, []

    def once(*given: Any, **options: Any) -> list[str]:
        calls.append(given)
        if len(calls) > 1:
            raise RuntimeError("CUDA error: the GPU is gone")
        return plain(*given, **options)

    monkeypatch.setattr(pipeline, "answers", once)
    with pytest.raises(RuntimeError, match="CUDA error"):
        answer_table(pipeline, catalog, out, options=QUICK)
    assert not out.exists()
    monkeypatch.setattr(pipeline, "answers", plain)
    with pytest.raises(InputError, match="another bundle or other options"):
        answer_table(pipeline, catalog, out, options=GenerateOptions(max_new_tokens=2))
    with (catalog.parent / ".answers.jsonl.partial/answers.jsonl").open("a") as torn:
        torn.write('{"id": "b", "ans')
    done = answer_table(pipeline, catalog, out, options=QUICK)
    assert (done.now, done.studies, len(encoded)) == (1, 2, 2)
    whole = [json.loads(line) for line in out.read_text().splitlines()]
    fresh = catalog.parent / "fresh.jsonl"
    answer_table(pipeline, catalog, fresh, options=QUICK)
    assert whole == [json.loads(line) for line in fresh.read_text().splitlines()]


def test_nothing_is_overwritten_and_every_name_is_not_good(pipeline, catalog):
    out = catalog.parent / "answers.csv"
    out.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        answer_table(pipeline, catalog, out)
    assert out.read_text() == "mine"
    with pytest.raises(InputError, match=r"does not end in \.jsonl or \.csv"):
        answer_table(pipeline, catalog, catalog.parent / "answers")


def test_questions_about_other_studies_are_no_questions(pipeline, catalog):
    (catalog.parent / "vqa.csv").write_text(TABLE.splitlines()[0] + "\n" + TABLE.splitlines()[-1])
    with pytest.raises(InputError, match="no question is about a study"):
        answer_table(pipeline, catalog, catalog.parent / "answers.csv")
