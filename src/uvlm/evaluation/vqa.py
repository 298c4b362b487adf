"""Answers to questions about a study, scored per type of question.

`vqa_answers` says when an answer is right. The rows of a measure are questions; the weight of a
question in a resample is that of its patient.

Shapes: N questions, T types, R resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.measure import Measure, Weights
from uvlm.evaluation.protocol_info import ProtocolInfo
from uvlm.evaluation.vqa_answers import answers_of, exact_credit, normalised, path_credit

__all__ = [
    "PROTOCOLS",
    "Question",
    "answers_of",
    "majority_answers",
    "vqa_floors",
    "vqa_measures",
]

_COMPARED = (
    "Answers are compared without regard to case, white space, surrounding quotes and closing "
    "punctuation; sizes in mm. Any valid answer is right; an empty one is wrong. "
)
_AVERAGED = (
    "Given for each type of question, as the plain mean over types (macro), and over all "
    "questions. Beside it stands one constant answer per type, the one that is valid for most "
    "questions of the training file or, without one, of the test set itself, which flatters it "
    "and is said; of equals the first in the alphabet; none, and thus wrong, for a type that "
    "training lacks."
)

PROTOCOLS: tuple[ProtocolInfo, ...] = (
    ProtocolInfo(
        name="vqa@exact",
        task="vqa",
        about=f"Share of questions answered exactly. {_COMPARED}{_AVERAGED}",
        source="exact match with several references, as in SQuAD (arXiv 1606.05250)",
    ),
    ProtocolInfo(
        name="vqa@hierarchical",
        task="vqa",
        about=(
            "Credit for the part of an anatomy's path, such as lung/lung/right lung, that is "
            "answered rightly: shared leading elements / elements of the longer path, the best "
            "over the valid answers; without a path it is the exact match. "
            f"{_COMPARED}{_AVERAGED}"
        ),
        source="paths of RadGenome-ChestCT (arXiv 2404.16754); the credit is this project's rule",
    ),
    ProtocolInfo(
        name="vqa@hsenet-major",
        task="vqa",
        about=(
            "HSENet's major class accuracy of questions of type location: what stands before the "
            "first '/' of the prediction is contained in the answer, as any substring, case "
            "ignored. A question with several valid answers is one row per answer, as in its data. "
            "Micro over rows, and macro over its 11 anatomies, each answer belonging to the first "
            "of them that it contains. In the authors' code an empty prediction, and one that "
            "begins with '/', is always right; here it is wrong."
        ),
        source="HSENet eval_HSENet_Rad_Geome_VQA.py (arXiv 2506.09634)",
        default=False,
    ),
)

HSENET_CLASSES = (
    "lung",
    "trachea and bronchie",
    "mediastinum",
    "heart",
    "esophagus",
    "pleura",
    "bone",
    "thyroid",
    "breast",
    "abdomen",
    "others",
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question, its valid answers and what was predicted."""

    id: str
    study_id: str
    type: str
    """Such as abnormality, location, presence or size; any name."""

    answers: tuple[str, ...]
    prediction: str = ""
    """"" is a wrong answer."""

    question: str = ""


def majority_answers(questions: Sequence[Question]) -> dict[str, str]:
    """Type -> the answer that is valid for most of its questions, normalised."""
    counts: dict[str, Counter[str]] = {}
    for question in questions:
        answers = {normalised(answer) for answer in question.answers} - {""}
        counts.setdefault(question.type, Counter()).update(answers)
    return {kind: _most_frequent(answers) for kind, answers in counts.items() if answers}


def _most_frequent(answers: Counter[str]) -> str:
    return min(answers, key=lambda answer: (-answers[answer], answer))


def vqa_measures(
    questions: Sequence[Question],
    protocols: Collection[str] | None = None,
    *,
    types: Sequence[str] | None = None,
) -> tuple[list[Measure], dict[str, str]]:
    """({measures}, {protocol: reason it was skipped}); None: the default protocols.

    Args:
        types: score only these; None: all

    Raises:
        InputError: no question, an id twice, a question without a type or a valid answer, or a
            type that does not occur.
    """
    _check(questions, types)
    given = [question.prediction for question in questions]
    names = _types(questions, types)
    empty = sum(not normalised(q.prediction) for q in questions if q.type in names)
    notes = (f"Empty answers, counted as wrong: {empty}.",) if empty else ()
    wanted = _wanted(protocols)
    skipped = {}
    if "vqa@hsenet-major" in wanted and "location" not in names:
        skipped["vqa@hsenet-major"] = "no question is of type location"
    return _measures(questions, given, names, wanted - set(skipped), notes), skipped


def vqa_floors(
    questions: Sequence[Question],
    protocols: Collection[str] | None = None,
    *,
    training: Sequence[Question] | None = None,
    types: Sequence[str] | None = None,
) -> dict[str, list[Measure]]:
    """{"majority answer (training)" or "... (test set)": measures of the same protocols and names}

    Args:
        training: questions whose answers the baseline may know

    Raises:
        InputError: as `vqa_measures`.
    """
    _check(questions, types)
    answers = majority_answers(questions if training is None else training)
    constant = [answers.get(question.type, "") for question in questions]
    names = _types(questions, types)
    wanted = _wanted(protocols)
    if "location" not in names:
        wanted -= {"vqa@hsenet-major"}
    origin = "test set" if training is None else "training"
    return {f"majority answer ({origin})": _measures(questions, constant, names, wanted, ())}


def _types(questions: Sequence[Question], types: Sequence[str] | None) -> list[str]:
    return sorted({q.type for q in questions if types is None or q.type in types})


def _wanted(protocols: Collection[str] | None) -> set[str]:
    known = {info.name: info.default for info in PROTOCOLS}
    if protocols is None:
        return {name for name, default in known.items() if default}
    return set(protocols) & set(known)


def _measures(
    questions: Sequence[Question],
    given: Sequence[str],
    names: Sequence[str],
    wanted: Collection[str],
    notes: tuple[str, ...],
) -> list[Measure]:
    """Score the answers `given`, one per question."""
    found = []
    for protocol, credit in (("vqa@exact", exact_credit), ("vqa@hierarchical", path_credit)):
        if protocol in wanted:
            credits = [
                credit(answer, question.answers) if question.type in names else np.nan
                for answer, question in zip(given, questions, strict=True)
            ]
            found.append(_by_type(protocol, np.array(credits), questions, names, notes))
    if "vqa@hsenet-major" in wanted:
        found.append(_hsenet(questions, given))
    return found


def _check(questions: Sequence[Question], types: Sequence[str] | None) -> None:
    if not questions:
        raise InputError("there is no question to score.")
    for name, count in Counter(question.id for question in questions).items():
        if count > 1:
            raise InputError(f"question {name!r} occurs {count} times. Give every question one id.")
    for question in questions:
        if not question.type.strip():
            raise InputError(
                f"question {question.id!r} has no type. Name one, such as location; accuracy is "
                "averaged over types."
            )
        if not any(normalised(answer) for answer in question.answers):
            raise InputError(
                f"question {question.id!r} has no valid answer, so that no prediction could be "
                "right. Add one, or leave the question out."
            )
    present = sorted({question.type for question in questions})
    unknown = [kind for kind in types or () if kind not in present]
    if unknown:
        raise InputError(
            f"no question is of type {unknown[0]!r}. Types found: {', '.join(present)}."
        )


def _by_type(
    protocol: str,
    credit: NDArray[np.float64],
    questions: Sequence[Question],
    names: Sequence[str],
    notes: tuple[str, ...],
) -> Measure:
    """Macro, over all, and one score per type; (N,) credit of nan takes no part."""
    what = "accuracy" if protocol == "vqa@exact" else "credit"
    kind = np.array([question.type for question in questions])
    belongs = np.stack([(kind == name) & ~np.isnan(credit) for name in names], axis=1).astype(float)
    points = belongs * np.nan_to_num(credit)[:, None]

    def score(weights: Weights) -> NDArray[np.float64]:
        counts = weights @ belongs
        return _averages(weights @ points, counts)

    own = np.where(belongs > 0, points, np.nan)
    return Measure(
        protocol=protocol,
        names=(f"macro {what}", what, *(f"{what}: {name}" for name in names)),
        score=score,
        per_study=np.column_stack([np.full(len(credit), np.nan), credit, own]),
        notes=notes,
    )


def _averages(points: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, T) sums -> (R, 2 + T): macro over what occurs in the resample, micro, each."""
    with np.errstate(invalid="ignore", divide="ignore"):
        each = points / counts
        occurs = counts > 0
        macro = np.where(occurs, each, 0.0).sum(axis=1) / occurs.sum(axis=1)
        micro = points.sum(axis=1) / counts.sum(axis=1)
    return np.column_stack([macro, micro, each])


def _hsenet(questions: Sequence[Question], given: Sequence[str]) -> Measure:
    index: Mapping[str, int] = {name: column for column, name in enumerate(HSENET_CLASSES)}
    counts = np.zeros((len(questions), len(index)))
    points = np.zeros_like(counts)
    forgiven = 0
    for row, (question, prediction) in enumerate(zip(questions, given, strict=True)):
        if question.type != "location":
            continue
        major = prediction.strip().split("/")[0].lower()
        forgiven += not major
        for answer in question.answers:
            text = answer.lower()
            column = index[next((name for name in HSENET_CLASSES if name in text), "others")]
            counts[row, column] += 1
            points[row, column] += bool(major) and major in text

    def score(weights: Weights) -> NDArray[np.float64]:
        return _averages(weights @ points, weights @ counts)[:, 1::-1]

    single = np.where(counts.sum(axis=1) > 0, counts.sum(axis=1), np.nan)
    return Measure(
        protocol="vqa@hsenet-major",
        names=("major class accuracy", "macro over anatomies"),
        score=score,
        per_study=np.column_stack([points.sum(axis=1) / single, np.full(len(questions), np.nan)]),
        notes=(
            f"Predictions that are empty before the first '/', which the authors' code counts as "
            f"right and which are wrong here: {forgiven}.",
            "Any substring counts, such as 'l' for lung. In RadGenome-ChestCT's public subset "
            "37.7 % of the rows are of the class lung.",
        ),
    )
