"""Questions about a CT in words: templates for each type that RadGenome-ChestCT asks, and for
reports.

A type has several templates of one meaning, so that a model learns the question and not its
wording; the first is the plainest. `{finding}` and `{anatomy}` are filled in; of an anatomy's path,
lung/lung/right lung, the last element is said. All were written for this package.
"""

from __future__ import annotations

from typing import Literal, get_args

from numpy.random import Generator

from uvlm.errors import InputError

__all__ = ["CAPTIONS", "TEMPLATES", "TYPES", "QuestionType", "ask", "ask_report", "closed"]

QuestionType = Literal["abnormality", "location", "presence", "size"]
TYPES: tuple[QuestionType, ...] = get_args(QuestionType)

WHOLE = "scan"
"""Said in the place of an anatomy that is not named."""

TEMPLATES: dict[QuestionType, tuple[str, ...]] = {
    "abnormality": (
        "Which abnormalities does the {anatomy} show?",
        "What is abnormal about the {anatomy}?",
        "Name every abnormal finding of the {anatomy}.",
        "Looking at the {anatomy}, what departs from normal?",
        "Report what is wrong with the {anatomy} on this CT.",
        "What would a radiologist remark on in the {anatomy}?",
        "List the pathology visible in the {anatomy}.",
        "Does anything stand out in the {anatomy}, and if so, what?",
        "Give the abnormal findings that concern the {anatomy}.",
        "Assess the {anatomy}: what disease or change do you see?",
        "What changes has the {anatomy} undergone?",
        "Please go over the {anatomy} and state what is not normal.",
        "Under the heading '{anatomy}', which findings belong in the report?",
        "Sum up the abnormalities of the {anatomy} in this study.",
    ),
    "location": (
        "Which part of the anatomy shows {finding}?",
        "In which structure does this CT show {finding}?",
        "Where in this scan do you find {finding}?",
        "Name the anatomical site of {finding}.",
        "{finding}: in what region is it seen?",
        "Which organ or part of one is affected by {finding}?",
        "Point out, in words, where {finding} lies.",
        "State the place at which {finding} is visible.",
        "At what anatomical level or structure would you mark {finding}?",
        "If asked to localise {finding}, which structure would you name?",
        "Give the position of {finding} within this volume.",
        "The report mentions {finding}. Of which structure?",
        "To which anatomical region does {finding} belong here?",
        "Trace {finding} to the structure it lies in.",
    ),
    "presence": (
        "Is there {finding} in the {anatomy}?",
        "Does the {anatomy} show {finding}?",
        "Yes or no: {finding} in the {anatomy}?",
        "Can {finding} be seen in the {anatomy}?",
        "Is the {anatomy} affected by {finding}?",
        "Would you report {finding} for the {anatomy}?",
        "Check the {anatomy} for {finding}: is it there?",
        "On this CT, does {finding} involve the {anatomy}?",
        "Is {finding} a finding of the {anatomy} in this study?",
        "Does anything in the {anatomy} amount to {finding}?",
        "Decide whether the {anatomy} has {finding}.",
        "Do the images of the {anatomy} support {finding}?",
        "Is it true that the {anatomy} presents {finding}?",
        "Should {finding} be listed among the findings of the {anatomy}?",
    ),
    "size": (
        "How large is {finding} in the {anatomy}?",
        "What does {finding} in the {anatomy} measure?",
        "Give the size of {finding} seen in the {anatomy}.",
        "Measure {finding} in the {anatomy}.",
        "{finding}, {anatomy}: what are its dimensions?",
        "How many millimetres or centimetres across is {finding} in the {anatomy}?",
        "State the diameter or dimensions of {finding} in the {anatomy}.",
        "What extent does {finding} have within the {anatomy}?",
        "Which measurement belongs to {finding} of the {anatomy}?",
        "Put a number with its unit to {finding} in the {anatomy}.",
        "Taking callipers to {finding} in the {anatomy}, what do you read?",
        "Estimate how big {finding} in the {anatomy} is.",
        "For follow-up, record the size of {finding} in the {anatomy}.",
        "What are the measurements of {finding} reported for the {anatomy}?",
    ),
}
"""Type -> templates; the first is what `ask` says without a generator."""

CAPTIONS: tuple[str, ...] = (
    "Write the report of this CT.",
    "Report on this CT.",
    "What does this CT show? Answer as a radiology report.",
    "Please draft the findings section for this scan.",
    "Go through the scan organ by organ and put down what you see.",
    "Dictate the findings of this examination.",
    "Read this CT and write up the result.",
    "Set out, in full sentences, what can be seen in this volume.",
    "As the reading radiologist, what would your report say?",
    "Turn this scan into a written report.",
    "State the normal and the abnormal findings of this study.",
    "Give a complete account of the findings on this CT.",
    "Compose a report that covers every organ in view.",
    "What findings should the referring physician be told of?",
    "Look at the whole volume and report all findings.",
    "Prepare the text of the findings for this examination.",
    "Explain in report form what this CT reveals.",
    "Interpret the study and document your findings.",
    "Put your reading of these images into words.",
    "Fill in the findings of the report that goes with this scan.",
)
"""Questions whose answer is a whole report."""


def closed(kind: str) -> bool:
    """Whether only yes and no can be answers.

    Raises:
        InputError: an unknown type.
    """
    return _known(kind) == "presence"


def ask(kind: str, anatomy: str, finding: str, rng: Generator | None = None) -> str:
    """A question in words.

    Args:
        kind: "abnormality", "location", "presence" or "size"
        anatomy: path or name; "" for the whole scan; not said in a question of where something is
        finding: what is asked about; not said in a question of what is there
        rng: draws a template; None takes the first

    Raises:
        InputError: an unknown type, or a question that needs a finding and has none.
    """
    templates = TEMPLATES[_known(kind)]
    if kind != "abnormality" and not finding.strip():
        raise InputError(f"a question of type {kind} names no finding. Give one.")
    place = anatomy.rstrip("/ ").rsplit("/", 1)[-1].strip()
    said = templates[0 if rng is None else rng.integers(len(templates))]
    said = said.format(finding=finding.strip(), anatomy=place or WHOLE)
    return said[0].upper() + said[1:]


def ask_report(rng: Generator | None = None) -> str:
    """A question whose answer is a whole report; None takes the first."""
    return CAPTIONS[0 if rng is None else rng.integers(len(CAPTIONS))]


def _known(kind: str) -> QuestionType:
    for known in TYPES:
        if kind == known:
            return known
    # The type may be a cell of a table of patients: it is not repeated at length.
    shown = repr(kind) if len(kind) <= 40 else f"of {len(kind)} characters"
    raise InputError(f"unknown type of question {shown}. Known types: {', '.join(TYPES)}.")
