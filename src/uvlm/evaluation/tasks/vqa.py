"""Answers to questions about studies.

Questions meet their answers by `question_id`, or, as in the `vqa.csv` of `uvlm prepare radgenome`,
by study, type, anatomy and finding together. A question without answer counts as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from uvlm.errors import InputError
from uvlm.evaluation.failed import keyed_predictions
from uvlm.evaluation.joining import (
    Item,
    Joined,
    Keyed,
    Unit,
    keyed,
    patients_of,
    scan_of,
    stand_ins,
)
from uvlm.evaluation.joining import study_key as key_of_study
from uvlm.evaluation.protocols import chosen_protocols
from uvlm.evaluation.results import Result, build_result
from uvlm.evaluation.tables import ID_COLUMNS, Cells, find_column, read_table
from uvlm.evaluation.tasks.common import Inputs, about, in_split
from uvlm.evaluation.vqa import Question, vqa_floors, vqa_measures
from uvlm.evaluation.vqa_answers import answers_of, normalised
from uvlm.preprocessing.table import Table

__all__ = ["AnswerInputs", "evaluate_answers"]

TASK = "vqa"
STUDY_COLUMNS = tuple(name for name in ID_COLUMNS if name != "id")
QUESTION_COLUMNS = ("question_id", "qid")
TYPE_COLUMNS = ("type", "question_type")
ANSWER_COLUMNS = ("answers", "answer")
PREDICTED_COLUMNS = ("prediction", "predicted_answer", "generated_answer", "answer", "output")
SPLIT = "split"
CATALOG = "catalog.csv"
"""Lies beside the `vqa.csv` of `uvlm prepare` and knows its studies' splits."""

PARTS = ("type", "anatomy", "finding", "question")
"""What tells the questions of a study apart where they have no id."""


@dataclass(frozen=True, kw_only=True)
class AnswerInputs(Inputs):
    """Options of this task; `id_column` is the study's."""

    question_column: str | None = None
    type_column: str | None = None
    answer_column: str | None = None
    prediction_column: str | None = None
    types: tuple[str, ...] = ()
    """Score these only."""

    training: Path | None = None
    """Questions whose answers the baseline may know."""


def evaluate_answers(inputs: AnswerInputs) -> Result:
    """Score answers.

    Raises:
        InputError: what is wrong in a table or a question.
    """
    asked = chosen_protocols(TASK, inputs.protocols)
    joined, studies, table = _joined(inputs)
    answer = find_column(
        table,
        inputs.prediction_column,
        PREDICTED_COLUMNS,
        "the predicted answer, --prediction-column",
    )
    given = ["" if found is None else found[1][answer] for found in joined.predictions]
    read = _Reader(read_table(inputs.references), inputs)
    rows = zip(joined.ids, studies, joined.references, given, strict=True)
    questions = [read(key, study, row, answer) for key, study, row, answer in rows]
    types = inputs.types or None
    measures, skipped = vqa_measures(questions, asked, types=types)
    training = None if inputs.training is None else _training(inputs, inputs.training)
    return build_result(
        task=TASK,
        ids=joined.ids,
        patients=joined.patients,
        measures=measures,
        floors=vqa_floors(questions, asked, training=training, types=types),
        about=about(
            inputs,
            joined,
            ("training",),
            {"questions": len(questions), "studies": len(set(studies))},
        ),
        notes=joined.notes,
        skipped=skipped,
        columns={
            "study_id": studies,
            "type": [question.type for question in questions],
            "missing": list(joined.missing),
        },
        resamples=inputs.resamples,
        seed=inputs.seed,
    )


def _joined(inputs: AnswerInputs) -> tuple[Joined, list[str], Table]:
    """Questions beside their predictions, the study of each, and the table of predictions."""
    references = in_split(_with_split(inputs, inputs.references), inputs.split)
    predictions = read_table(inputs.predictions)
    study = find_column(references, inputs.id_column, STUDY_COLUMNS, "the study's id, --id-column")
    keys = _question_keys(inputs, references, predictions, study)
    own = _reduced(keys[0], study, inputs.unit)
    joined = replace(inputs, unit="series").join(own, keys[1])
    studies = [key_of_study(cells[study]) for _, cells in joined.references]
    patients = patients_of(references, joined.references, studies, inputs.patient_column)
    reduced = len(keys[0].rows) - len(own.rows)
    notes = joined.notes
    if reduced:
        are = "question is" if reduced == 1 else "questions are"
        notes = (
            f"{reduced} {are} left out: of each scan the reconstruction with the lowest number "
            "among the references is asked.",
            *notes,
        )
    counts = {**joined.counts, "patients": len(set(patients)), "reconstructions_left_out": reduced}
    return replace(joined, patients=patients, notes=notes, counts=counts), studies, predictions


def _question_keys(
    inputs: AnswerInputs, references: Table, predictions: Table, study: str
) -> tuple[Keyed, Keyed]:
    columns = (inputs.question_column,) if inputs.question_column else QUESTION_COLUMNS
    for column in columns:
        if column in references.columns and column in predictions.columns:
            return (
                keyed(references, column, str.strip, "question"),
                keyed_predictions(predictions, column, str.strip, "question"),
            )
    if inputs.question_column:
        references.require(columns)
        predictions.require(columns)
    theirs = find_column(
        predictions,
        inputs.prediction_id_column or (study if study in predictions.columns else None),
        STUDY_COLUMNS,
        "the study's id, --prediction-id-column",
    )
    parts = [name for name in PARTS if name in references.columns and name in predictions.columns]
    return (
        keyed(*_composed(references, study, parts)),
        keyed_predictions(*_composed(predictions, theirs, parts)),
    )


def _composed(
    table: Table, study: str, parts: Sequence[str]
) -> tuple[Table, str, Callable[[str], str], Item]:
    """Keys made of several columns, for `keyed`."""
    name = " + ".join((study, *parts))
    rows = tuple(
        (number, {**cells, name: _key(key_of_study(cells[study]), *(cells[p] for p in parts))})
        for number, cells in table.rows
    )
    whole = Table(table.path, (*table.columns, name), rows)
    return whole, name, lambda key: key, "question"


def _key(*parts: str) -> str:
    """Different for different parts, wherever their words are divided."""
    return " | ".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts)


def _reduced(questions: Keyed, study: str, unit: Unit | None) -> Keyed:
    """Without the questions about further reconstructions of a scan."""
    studies = {key_of_study(cells[study]) for _, cells in questions.rows.values()}
    if unit == "series" or not any(map(scan_of, studies)):
        return questions
    kept = set(stand_ins(studies))
    rows = {key: row for key, row in questions.rows.items() if key_of_study(row[1][study]) in kept}
    return replace(questions, rows=rows)


class _Reader:
    """Rows of a table to questions; what is wrong in one is said with its row and column."""

    def __init__(self, table: Table, inputs: AnswerInputs) -> None:
        self.table = table
        self.type = find_column(
            table, inputs.type_column, TYPE_COLUMNS, "the type of a question, --type-column"
        )
        self.answers = find_column(
            table, inputs.answer_column, ANSWER_COLUMNS, "the valid answers, --answer-column"
        )

    def valid(self, number: int, cells: Cells) -> tuple[str, ...]:
        """The valid answers of a row."""
        try:
            return answers_of(cells[self.answers])
        except InputError as error:
            found, _, remedy = str(error).partition(". ")
            raise self.table.error(number, self.answers, found, remedy) from None

    def __call__(self, key: str, study: str, row: tuple[int, Cells], prediction: str) -> Question:
        number, cells = row
        if not cells[self.type]:
            remedy = "Name one, such as location; accuracy is averaged over types."
            raise self.table.error(number, self.type, "a question without a type", remedy)
        answers = self.valid(number, cells)
        if not any(map(normalised, answers)):
            remedy = "No prediction could be right: add one, or leave the question out."
            raise self.table.error(number, self.answers, "no valid answer", remedy)
        return Question(
            id=key, study_id=study, type=cells[self.type], answers=answers, prediction=prediction
        )


def _with_split(inputs: AnswerInputs, path: Path) -> Table:
    """The questions; their studies' splits, where one is asked for and the table says none, from
    the catalog that it lies beside."""
    table, catalog = read_table(path), path.with_name(CATALOG)
    if inputs.split is None or SPLIT in table.columns or not catalog.is_file():
        return table
    studies = read_table(catalog)
    studies.require([SPLIT])
    theirs = find_column(studies, None, STUDY_COLUMNS, "the study's id")
    own = find_column(table, inputs.id_column, STUDY_COLUMNS, "the study's id, --id-column")
    splits = {key_of_study(cells[theirs]): cells[SPLIT] for _, cells in studies.rows}
    rows = tuple(
        (number, {**cells, SPLIT: splits.get(key_of_study(cells[own]), "")})
        for number, cells in table.rows
    )
    return Table(table.path, (*table.columns, SPLIT), rows)


def _training(inputs: AnswerInputs, path: Path) -> list[Question]:
    """Without the questions of the split that is scored."""
    table = _with_split(inputs, path)
    if SPLIT in table.columns and inputs.split is not None:
        rows = tuple(row for row in table.rows if row[1][SPLIT] != inputs.split)
        table = Table(table.path, table.columns, rows)
    read = _Reader(table, inputs)
    return [
        Question(
            id=str(number), study_id="", type=cells[read.type], answers=read.valid(number, cells)
        )
        for number, cells in table.rows
    ]
