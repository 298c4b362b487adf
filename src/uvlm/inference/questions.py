"""Questions about studies, those of one study answered in one vision pass.

A question takes the place of the user's turn in the prompt that the bundle was trained with. Of
many studies the answers are one file, whole or not at all, and a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from uvlm.data.questions import VQA, QuestionRow, read_questions
from uvlm.errors import InputError, UvlmError
from uvlm.evaluation.joining import study_key
from uvlm.inference.answer_files import (
    RECORDS,
    Asked,
    Record,
    answers_text,
    check_out,
    read_records,
    writing,
)
from uvlm.inference.batch.ahead import read_ahead
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.listed import list_studies
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.inference.faults import describe, exit_code_of
from uvlm.inference.pipeline import GREEDY, Pipeline
from uvlm.inference.study import Study
from uvlm.preprocessing.catalog import write_text
from uvlm.preprocessing.disk import lock
from uvlm.preprocessing.records import RecordLog
from uvlm.preprocessing.stop import stoppable
from uvlm.text.prompts import DEFAULT_PROMPT, question_prompt

__all__ = ["Answered", "answer_questions", "answer_table"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What the questions of a table have come to."""

    out: Path
    questions: int
    studies: int
    now: int
    """Of the studies, looked at by this run."""

    failed: int
    """Of the studies, without answers; the table has the reason."""

    at_fault: int
    """Of the failed, those whose input was wrong."""

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some done, 2 none done by the inputs' fault, 1 none done otherwise."""
        if not self.failed:
            return 0
        if self.failed < self.studies:
            return 3
        return 2 if self.at_fault == self.failed else 1

    def __str__(self) -> str:
        return (
            f"{self.questions} questions about {self.studies} studies, {self.failed} of them "
            f"failed; {self.now} done now: {self.out}"
        )


def answer_questions(
    pipeline: Pipeline,
    source: Path | str | Study,
    questions: Sequence[str],
    options: GenerateOptions = GREEDY,
    series: str | None = None,
) -> list[str]:
    """One answer per question; the study is read and encoded once, and each question asked once.

    Args:
        pipeline: of a bundle with a report part
        source: what `Pipeline.report` takes

    Raises:
        InputError: a question is empty or holds a mark between turns.
        BundleError, ImageError: as `Pipeline.report`.
    """
    pipeline.require("report")
    prompt = pipeline.bundle.prompt or DEFAULT_PROMPT
    prompts = [question_prompt(prompt, question) for question in questions]
    different = list(dict.fromkeys(prompts))
    answers = pipeline.answers(source, different, series, options=options)
    found = dict(zip(different, answers, strict=True))
    return [found[each] for each in prompts]


def answer_table(
    pipeline: Pipeline,
    catalog: Path,
    out: Path,
    *,
    table: Path | None = None,
    split: str | None = None,
    series: str | None = None,
    options: GenerateOptions = GREEDY,
) -> Answered:
    """Answer the questions of a `vqa.csv` about the studies of a catalog.

    A study that cannot be read has rows without prediction that say why; evaluation counts them as
    wrong. The same call again, after a run that did not end, does what is missing.

    Args:
        catalog: a catalog, or another table or folder of studies whose ids are the questions'
        out: a `.jsonl` or `.csv` file
        table: of the questions; None: `vqa.csv` beside the catalog
        split: ask only about the catalog's studies of this split

    Raises:
        InputError: `out` exists or cannot be written, or what lies beside it is of another bundle
            or other options; no question is about a study of the catalog.
        CatalogError: what is wrong in a table; or another run is writing the same file.
        BundleError: the bundle has no report part.
        StoppedError: Ctrl-C or SIGTERM; what is written is kept.
    """
    check_out(out)
    pipeline.require("report")
    asked = _asked(catalog, table or _beside(catalog), split)
    aside = out.with_name(f".{out.name}.partial")
    with writing(aside):
        aside.mkdir(parents=True, exist_ok=True)
    with lock(aside), stoppable(out):
        known = read_records(aside, _identity(pipeline, options, series))
        keys = {item.id: _key(item, rows) for item, rows in asked}
        todo = [
            (item, rows)
            for item, rows in asked
            if item.id not in known or known[item.id].error or known[item.id].key != keys[item.id]
        ]
        work = _Work(pipeline, options, series, keys)
        with writing(aside), RecordLog(aside / RECORDS) as records, logging_redirect_tqdm():
            for record in tqdm(work(todo), total=len(todo), unit="study", disable=None):
                records.add(record)
                known[record.id] = record
        with writing(aside):
            check_out(out)
            write_text(out, answers_text(out, asked, known))
    shutil.rmtree(aside, ignore_errors=True)
    failed = [known[item.id] for item, _ in asked if known[item.id].error]
    return Answered(
        out=out,
        questions=sum(len(rows) for _, rows in asked),
        studies=len(asked),
        now=len(todo),
        failed=len(failed),
        at_fault=sum(record.exit_code == 2 for record in failed),
    )


class _Work:
    """Studies in, records out; the next study is read while one is answered."""

    def __init__(
        self,
        pipeline: Pipeline,
        options: GenerateOptions,
        series: str | None,
        keys: Mapping[str, str],
    ) -> None:
        self.pipeline, self.options, self.series, self.keys = pipeline, options, series, keys

    def __call__(self, asked: Sequence[Asked]) -> Iterator[Record]:
        for (item, rows), study in read_ahead(asked, self._read):
            texts = [row.question for row in rows]
            answers = self._try(self._answer, study, texts)
            key = self.keys[item.id]
            if isinstance(answers, Exception):
                # Reading has said its own reason in the place of a study.
                said = describe(answers)
                if not isinstance(answers, UvlmError):
                    said = f"{item.name}: {said}"
                log.error("%s: %s", item.id, said)
                yield Record(id=item.id, key=key, error=said, exit_code=exit_code_of(answers))
            else:
                yield Record(id=item.id, key=key, answers=tuple(answers))

    def _read(self, asked: Asked) -> Study | Exception:
        found: Study | Exception = self._try(self._open, asked[0])
        return found

    def _open(self, item: Item) -> Study:
        if item.fault:
            raise InputError(item.fault)
        tasks = tuple(task for task in self.pipeline.tasks if task != "segmentation")
        return self.pipeline.read(item.path, self.series, tasks)

    def _answer(self, study: Study | Exception, questions: Sequence[str]) -> list[str]:
        if isinstance(study, Exception):
            raise study
        return answer_questions(self.pipeline, study, questions, self.options)

    @staticmethod
    def _try(do: Callable[..., Any], *given: object) -> Any:
        """What `do` gives, or why it gives nothing: one study must not stop the others."""
        try:
            return do(*given)
        except Exception as error:
            if "CUDA error" in str(error):
                raise  # every later study of this process would fail as well
            return error


def _beside(catalog: Path) -> Path:
    return (catalog if catalog.is_dir() else catalog.parent) / VQA


def _asked(catalog: Path, table: Path, split: str | None) -> list[Asked]:
    """Each study of the catalog with its questions, those alike once; none without."""
    rows = read_questions(table)
    by_study: dict[str, dict[tuple[str, str, str], QuestionRow]] = {}
    for row in rows:
        own = by_study.setdefault(study_key(row.series_id), {})
        own.setdefault((row.type, row.anatomy, row.finding), row)
    found = []
    for each in list_studies(catalog, split):
        questions = by_study.pop(study_key(each.item.id), None)
        if questions:
            found.append((each.item, tuple(questions.values())))
    if not found:
        raise InputError.about(
            table, f"no question is about a study of {catalog}", "Give the catalog it belongs to."
        )
    if by_study:
        log.info("questions about %d studies that are not asked for are left out", len(by_study))
    return found


def _key(item: Item, rows: Sequence[QuestionRow]) -> str:
    said = json.dumps([item.signed().signature, item.fault, *(row.question for row in rows)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _identity(pipeline: Pipeline, options: GenerateOptions, series: str | None) -> dict[str, Any]:
    """All that decides an answer but study and question."""
    given = {name: value for name, value in asdict(options).items() if name != "speculative"}
    return {
        **given,
        "stop": list(options.stop),
        "bundle": pipeline.bundle.fingerprint,
        "precision": pipeline.precision,
        "runtime": pipeline.runtime,
        "series": series,
    }
