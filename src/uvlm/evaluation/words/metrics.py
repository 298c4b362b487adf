"""Generated reports against reference reports, protocol by protocol, as measures.

Every score of a resample is a matrix product of its weights with a table of counts or of scores
per study: no text is read twice.

Shapes: N studies, M scores of one measure.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError, MissingExtraError
from uvlm.evaluation.measure import Measure, mean_measure, sum_measure
from uvlm.evaluation.words.adapters import ADAPTERS
from uvlm.evaluation.words.bleu import authors_clean, bleu_from_counts, vlm3d_clean
from uvlm.evaluation.words.cider import cider
from uvlm.evaluation.words.floors import floor_reports
from uvlm.evaluation.words.meteor import LONGEST, STATISTICS, meteor_score, meteor_statistics
from uvlm.evaluation.words.ngram_counts import Tokens, overlap_counts
from uvlm.evaluation.words.nltk_meteor import nltk_meteor, nltk_tokens
from uvlm.evaluation.words.protocols import PROTOCOLS
from uvlm.evaluation.words.ptb import ptb_tokens
from uvlm.evaluation.words.rouge import rouge_google, rouge_l
from uvlm.evaluation.words.sacre import ngram_precisions, sacrebleu_score, tokenizer_13a
from uvlm.evaluation.words.skipped import SkippedError

__all__ = ["PROTOCOLS", "check_reports", "floor_reports", "text_measures"]

log = logging.getLogger(__name__)

BLEU_NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "BLEU-mean")
METEOR = "meteor@java"
METEOR_SAMPLE = 200
"""Studies that METEOR scores of a floor: it takes 25 ms per report and core, all others together
take 4."""

Texts = Sequence[str]


def text_measures(
    references: Sequence[str],
    predictions: Sequence[str],
    protocols: Sequence[str],
    weights: Mapping[str, Path] | None = None,
    *,
    quick: bool = False,
) -> tuple[list[Measure], dict[str, str]]:
    """Compute the named protocols over one prediction per study.

    Args:
        references: N reports, none empty
        predictions: N reports in the same order; an empty one counts as a miss
        protocols: names of `PROTOCOLS`
        weights: folder of local weights by protocol, for those that need a model
        quick: METEOR on a fixed sample of 500 studies, for floors; its notes say so

    Returns:
        The measures in the order named, and for each protocol that could not be computed why.

    Raises:
        InputError: the numbers differ, there is no study, a reference is empty (its position is
            named), or a protocol does not exist.
    """
    check_reports(references, predictions)
    known = {info.name for info in PROTOCOLS}
    for name in protocols:
        if name not in known:
            raise InputError(f"no protocol {name!r} for reports. Choose from: {', '.join(known)}.")
    notes = _notes(references, predictions)
    found: dict[str, Measure] = {}
    skipped: dict[str, str] = {}
    # METEOR first: Java takes 1.4 GB, before anything else is in memory.
    for name in sorted(dict.fromkeys(protocols), key=lambda name: name != METEOR):
        try:
            measure = _measure(name, references, predictions, weights or {}, quick)
        except (SkippedError, MissingExtraError) as reason:
            skipped[name] = str(reason)
            log.info("%s is skipped: %s", name, reason)
            continue
        found[name] = replace(measure, notes=(*measure.notes, *notes))
    return [found[name] for name in dict.fromkeys(protocols) if name in found], skipped


def check_reports(references: Sequence[str], predictions: Sequence[str]) -> None:
    """Raise InputError if the two cannot be compared, naming the first position that is wrong."""
    if len(references) != len(predictions) or not references:
        raise InputError(
            f"{len(references)} reference reports and {len(predictions)} generated ones; each "
            "study needs one of each, and there must be a study."
        )
    for kind, texts in (("reference", references), ("generated", predictions)):
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str):
                raise InputError(
                    f"{kind} report {number} is not text but {type(text).__name__}. Give text."
                )
    for number, text in enumerate(references, 1):
        if not any(character.isalnum() for character in text):
            raise InputError(
                f"reference report {number} is empty: no letter or digit in it. Leave that study "
                "out or give its report."
            )


def _measure(
    name: str, references: Texts, predictions: Texts, weights: Mapping[str, Path], quick: bool
) -> Measure:
    if name in ADAPTERS:
        return ADAPTERS[name].measure(name, references, predictions, weights.get(name))
    if name == METEOR:
        return _meteor(name, references, predictions, METEOR_SAMPLE if quick else None)
    return _BUILDERS[name](name, references, predictions)


def _bleu(tokens: Callable[[Texts], list[Tokens]]) -> Callable[[str, Texts, Texts], Measure]:
    """BLEU over the tokens that `tokens` makes of a list of texts."""

    def build(name: str, references: Texts, predictions: Texts) -> Measure:
        found = tokens([*references, *predictions])
        expected = [[words] for words in found[: len(references)]]
        counts = overlap_counts(expected, found[len(references) :])
        return sum_measure(name, BLEU_NAMES, counts, _bleu_scores)

    return build


def _bleu_scores(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 10) -> (..., 5)"""
    scores = bleu_from_counts(counts)
    return np.concatenate([scores, scores.mean(axis=-1, keepdims=True)], axis=-1)


def _split(clean: Callable[[str], str]) -> Callable[[Texts], list[Tokens]]:
    def tokens(texts: Texts) -> list[Tokens]:
        # One object per word, not one per place: a million places take 60 MB otherwise.
        once: dict[str, str] = {}
        return [[once.setdefault(word, word) for word in clean(text).split()] for text in texts]

    return tokens


def _rouge_l(name: str, references: Texts, predictions: Texts) -> Measure:
    scores = [
        rouge_l([vlm3d_clean(reference)], vlm3d_clean(prediction))
        for reference, prediction in zip(references, predictions, strict=True)
    ]
    return mean_measure(name, ("ROUGE-L",), np.array(scores)[:, None])


def _rouge_google(name: str, references: Texts, predictions: Texts) -> Measure:
    return mean_measure(
        name, ("ROUGE-1", "ROUGE-2", "ROUGE-L"), rouge_google(references, predictions)
    )


def _cider(name: str, references: Texts, predictions: Texts) -> Measure:
    tokens = _split(vlm3d_clean)
    scores = cider([[words] for words in tokens(references)], tokens(predictions))
    note = f"Document frequencies of all {len(references)} references, in resamples too."
    return mean_measure(name, ("CIDEr",), scores[:, None], notes=(note,))


def _meteor(name: str, references: Texts, predictions: Texts, sample: int | None) -> Measure:
    number = len(references)
    chosen = np.arange(number)
    notes = []
    if sample is not None and sample < number:
        chosen = np.sort(np.random.default_rng(0).choice(number, size=sample, replace=False))
        notes.append(f"On {sample} of {number} studies, drawn once for all: METEOR is slow.")
    counts = np.zeros((number, STATISTICS))
    texts = [(vlm3d_clean(references[i]), vlm3d_clean(predictions[i])) for i in chosen.tolist()]
    counts[chosen] = meteor_statistics([[true] for true, _ in texts], [said for _, said in texts])
    long = sum(any(len(text.split()) > LONGEST for text in pair) for pair in texts)
    if long:
        notes.append(f"{long} studies have a report of more than {LONGEST} words; see --list.")
    measure = sum_measure(
        name, ("METEOR",), counts, lambda sums: meteor_score(sums)[..., None], notes=tuple(notes)
    )
    alone = np.full((number, 1), np.nan)
    alone[chosen, 0] = meteor_score(counts[chosen])
    return replace(measure, per_study=alone)


def _nltk(name: str, references: Texts, predictions: Texts) -> Measure:
    scores = nltk_meteor(
        [nltk_tokens(text) for text in references], [nltk_tokens(text) for text in predictions]
    )
    return mean_measure(name, ("METEOR",), np.array(scores)[:, None])


def _counts_13a(references: Texts, predictions: Texts) -> NDArray[np.float64]:
    tokenize = tokenizer_13a()
    tokens = _split(lambda text: " ".join(tokenize(text)))
    return overlap_counts([[words] for words in tokens(references)], tokens(predictions))


def _hsenet(name: str, references: Texts, predictions: Texts) -> Measure:
    names = tuple(f"{order}-gram precision" for order in (1, 2, 3, 4))
    shares = ngram_precisions(_counts_13a(references, predictions))
    return mean_measure(name, names, shares, notes=("This is not BLEU; see --list.",))


def _sacrebleu(name: str, references: Texts, predictions: Texts) -> Measure:
    return sum_measure(
        name,
        ("BLEU",),
        _counts_13a(references, predictions),
        lambda sums: sacrebleu_score(sums)[..., None],
    )


_BUILDERS: Mapping[str, Callable[[str, Texts, Texts], Measure]] = {
    "bleu@vlm3d": _bleu(_split(vlm3d_clean)),
    "bleu@authors": _bleu(_split(authors_clean)),
    "bleu@ptb": _bleu(lambda texts: list(ptb_tokens(texts))),
    "rouge_l": _rouge_l,
    "rouge@google": _rouge_google,
    "cider": _cider,
    "meteor@nltk-no-synonyms": _nltk,
    "ngram_precision@hsenet": _hsenet,
    "sacrebleu": _sacrebleu,
}


def _notes(references: Texts, predictions: Texts) -> list[str]:
    """What is said beside every score."""
    notes = []
    empty = sum(not any(c.isalnum() for c in text) for text in predictions)
    if empty:
        notes.append(f"{empty} of {len(predictions)} predictions are empty and count as misses.")
    foreign = sum(map(_other_script, references))
    if foreign:
        notes.append(
            f"{foreign} of {len(references)} references are mostly not in Latin letters: tokens "
            "split at spaces may be whole sentences, rouge@google sees none, METEOR has no words."
        )
    return notes


def _other_script(text: str) -> bool:
    if text.isascii():
        return False
    letters = [character for character in text if character.isalpha()]
    # Latin letters with accents end at U+024F.
    return 2 * sum(ord(letter) > 0x24F for letter in letters) > len(letters)
