"""Generated reports against reference reports, protocol by protocol, as measures.

Every score of a resample is a matrix product of its weights with a table of counts or of scores
per study: no text is read twice.

Shapes: N studies, M scores of one measure.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
from uvlm.text.labelling.language import other_script

__all__ = ["PROTOCOLS", "check_reports", "floor_reports", "text_measures", "text_measures_beside"]

log = logging.getLogger(__name__)

BLEU_NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "BLEU-mean")
METEOR = "meteor@java"
METEOR_SAMPLE = 200
"""Studies that METEOR scores of a floor: it takes 25 ms per report and core, all others together
take 4."""

Texts = Sequence[str]


@dataclass(frozen=True)
class _Pairs:
    """One prediction per study, and what several protocols make of it."""

    references: Texts
    predictions: Texts

    @cached_property
    def counts_13a(self) -> NDArray[np.float64]:
        """(N, 10) of tokens of mteval-v13a, which are slow to make."""
        tokenize = tokenizer_13a()
        tokens = _split(lambda text: " ".join(tokenize(text)))
        expected = [[words] for words in tokens(self.references)]
        return overlap_counts(expected, tokens(self.predictions))


def text_measures(
    references: Sequence[str],
    predictions: Sequence[str],
    protocols: Sequence[str],
    weights: Mapping[str, Path] | None = None,
) -> tuple[list[Measure], dict[str, str]]:
    """Compute the named protocols over one prediction per study.

    Args:
        references: N reports, none empty
        predictions: N reports in the same order; an empty one counts as a miss
        protocols: names of `PROTOCOLS`
        weights: folder of local weights by protocol, for those that need a model

    Returns:
        The measures in the order named, and for each protocol that could not be computed why.

    Raises:
        InputError: the numbers differ, there is no study, a reference is empty (its position is
            named), or a protocol does not exist.
    """
    measures, _, skipped = text_measures_beside(references, predictions, {}, protocols, weights)
    return measures, skipped


def text_measures_beside(
    references: Sequence[str],
    predictions: Sequence[str],
    floors: Mapping[str, Sequence[str]],
    protocols: Sequence[str],
    weights: Mapping[str, Path] | None = None,
) -> tuple[list[Measure], dict[str, list[Measure]], dict[str, str]]:
    """`text_measures`, and the same of floors: other reports of the same studies.

    METEOR scores a floor on a sample of the studies only, the same for all floors: `members` of
    its measure says which, and a note of the system's measure how many.

    Args:
        floors: name -> N reports

    Returns:
        The measures, by name those of each floor, and for each protocol that was not computed why.

    Raises:
        InputError: as `text_measures`.
    """
    texts = {"": predictions, **floors}
    for said in texts.values():
        check_reports(references, said)
    known = {info.name for info in PROTOCOLS}
    for name in protocols:
        if name not in known:
            raise InputError(f"no protocol {name!r} for reports. Choose from: {', '.join(known)}.")
    pairs = {name: _Pairs(references, said) for name, said in texts.items()}
    found: dict[str, dict[str, Measure]] = {}
    skipped: dict[str, str] = {}
    # METEOR first: Java takes 1.4 GB, before anything else is in memory.
    for protocol in sorted(dict.fromkeys(protocols), key=lambda name: name != METEOR):
        try:
            found[protocol] = _of_all(protocol, pairs, weights or {})
        except (SkippedError, MissingExtraError) as reason:
            skipped[protocol] = str(reason)
    if skipped:
        log.info("skipped, as the result explains: %s", ", ".join(skipped))
    notes = _notes(references, predictions)
    measures, *beside = (
        [found[one][name] for one in dict.fromkeys(protocols) if name in found.get(one, ())]
        for name in texts
    )
    measures = [replace(one, notes=(*one.notes, *notes)) for one in measures]
    return measures, dict(zip(floors, beside, strict=True)), skipped


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


def _of_all(
    protocol: str, pairs: Mapping[str, _Pairs], weights: Mapping[str, Path]
) -> dict[str, Measure]:
    """A protocol's measure of the system, whose name is "", and of each floor."""
    if protocol == METEOR:
        return _meteor(protocol, pairs)
    if protocol in ADAPTERS:
        return _adapted(protocol, pairs, weights.get(protocol))
    return {name: _BUILDERS[protocol](protocol, pair) for name, pair in pairs.items()}


def _adapted(protocol: str, pairs: Mapping[str, _Pairs], folder: Path | None) -> dict[str, Measure]:
    """By a trained model; a floor that it cannot score is left out."""
    found: dict[str, Measure] = {}
    for name, pair in pairs.items():
        try:
            found[name] = ADAPTERS[protocol].measure(
                protocol, pair.references, pair.predictions, folder
            )
        except SkippedError as reason:
            if not name:
                raise
            log.warning("%s has no %s floor: %s", protocol, name, reason)
    return found


def _bleu(tokens: Callable[[Texts], list[Tokens]]) -> Callable[[str, _Pairs], Measure]:
    """BLEU over the tokens that `tokens` makes of a list of texts."""

    def build(name: str, pairs: _Pairs) -> Measure:
        number = len(pairs.references)
        found = tokens([*pairs.references, *pairs.predictions])
        counts = overlap_counts([[words] for words in found[:number]], found[number:])
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


def _rouge_l(name: str, pairs: _Pairs) -> Measure:
    scores = [
        rouge_l([vlm3d_clean(reference)], vlm3d_clean(prediction))
        for reference, prediction in zip(pairs.references, pairs.predictions, strict=True)
    ]
    return mean_measure(name, ("ROUGE-L",), np.array(scores)[:, None])


def _rouge_google(name: str, pairs: _Pairs) -> Measure:
    scores = rouge_google(pairs.references, pairs.predictions)
    return mean_measure(name, ("ROUGE-1", "ROUGE-2", "ROUGE-L"), scores)


def _cider(name: str, pairs: _Pairs) -> Measure:
    tokens = _split(vlm3d_clean)
    scores = cider([[words] for words in tokens(pairs.references)], tokens(pairs.predictions))
    note = f"Document frequencies of all {len(pairs.references)} references, in resamples too."
    return mean_measure(name, ("CIDEr",), scores[:, None], notes=(note,))


def _meteor(protocol: str, pairs: Mapping[str, _Pairs]) -> dict[str, Measure]:
    """All in one call: a start of the program costs as much as 300 reports."""
    everyone = np.arange(len(pairs[""].references))
    some = everyone
    if len(pairs) > 1 and len(everyone) > METEOR_SAMPLE:
        drawn = np.random.default_rng(0).choice(everyone, size=METEOR_SAMPLE, replace=False)
        some = np.sort(drawn)
    chosen = {name: some if name else everyone for name in pairs}
    rows = [(pairs[name], i) for name, studies in chosen.items() for i in studies.tolist()]
    true = [vlm3d_clean(pair.references[i]) for pair, i in rows]
    said = [vlm3d_clean(pair.predictions[i]) for pair, i in rows]
    table = meteor_statistics([[text] for text in true], said)
    ends = np.cumsum([len(studies) for studies in chosen.values()])[:-1]
    parts = np.split(table, ends)
    measures = {
        name: _meteor_measure(protocol, part, chosen[name], len(everyone))
        for name, part in zip(pairs, parts, strict=True)
    }
    notes = []
    if len(some) < len(everyone):
        notes.append(
            f"Floors are scored on {len(some)} of {len(everyone)} studies, drawn once, for METEOR "
            "is slow; the differences from them are of these studies alone, on both sides."
        )
    own = zip(true[: len(everyone)], said, strict=False)
    if long := sum(any(len(text.split()) > LONGEST for text in pair) for pair in own):
        notes.append(f"Studies with a report of more than {LONGEST} words: {long}; see --list.")
    return {**measures, "": replace(measures[""], notes=tuple(notes))}


def _meteor_measure(
    protocol: str, statistics: NDArray[np.float64], chosen: NDArray[np.int64], number: int
) -> Measure:
    """Of some of N studies; the others have no score of their own and add nothing to a sum."""
    counts = np.zeros((number, STATISTICS))
    counts[chosen] = statistics
    alone = np.full((number, 1), np.nan)
    alone[chosen, 0] = meteor_score(statistics)
    measure = sum_measure(protocol, ("METEOR",), counts, lambda sums: meteor_score(sums)[..., None])
    members = np.isin(np.arange(number), chosen) if len(chosen) < number else None
    return replace(measure, per_study=alone, members=members)


def _nltk(name: str, pairs: _Pairs) -> Measure:
    scores = nltk_meteor(
        [nltk_tokens(text) for text in pairs.references],
        [nltk_tokens(text) for text in pairs.predictions],
    )
    return mean_measure(name, ("METEOR",), np.array(scores)[:, None])


def _hsenet(name: str, pairs: _Pairs) -> Measure:
    names = tuple(f"{order}-gram precision" for order in (1, 2, 3, 4))
    shares = ngram_precisions(pairs.counts_13a)
    return mean_measure(name, names, shares, notes=("This is not BLEU; see --list.",))


def _sacrebleu(name: str, pairs: _Pairs) -> Measure:
    return sum_measure(
        name, ("BLEU",), pairs.counts_13a, lambda sums: sacrebleu_score(sums)[..., None]
    )


_BUILDERS: Mapping[str, Callable[[str, _Pairs], Measure]] = {
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
        notes.append(f"Empty predictions, which count as misses: {empty} of {len(predictions)}.")
    if len(predictions) > 1 and len(set(predictions)) == 1:
        notes.append(f"All {len(predictions)} predictions are one and the same text.")
    for what, texts in (("references", references), ("predictions", predictions)):
        if foreign := sum(map(other_script, texts)):
            notes.append(
                f"{foreign} of {len(texts)} {what} are mostly not in Latin letters: tokens split "
                "at spaces may be whole sentences, rouge@google sees none, METEOR has no words."
            )
    return notes
