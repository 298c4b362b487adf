"""Runs a table of rules over reports.

A rule names the words of a finding, the words that must or must not stand near them (its place),
and which statuses count. The value of a class is 1 where any of its rules finds a counted status.
Patterns are matched against small letters; each starts at the start of a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from uvlm.text.labelling.context import Sentence, read_sentences
from uvlm.text.labelling.language import is_english
from uvlm.text.labelling.protocol import Evidence, Labels, Status
from uvlm.text.sides import sides_in

__all__ = ["PRESENT", "PRESENT_OR_UNCERTAIN", "Rule", "RuleLabeller", "any_of"]

PRESENT: frozenset[Status] = frozenset({"present"})
PRESENT_OR_UNCERTAIN: frozenset[Status] = frozenset({"present", "uncertain"})

_REMEMBERED = 20_000
"""Sentences whose reading is kept: reports of a hospital share most of theirs."""


def any_of(words: Sequence[str]) -> re.Pattern[str] | None:
    """One pattern for any of the regular expressions, at the start of a word; None for none."""
    return re.compile(rf"\b(?:{'|'.join(words)})") if words else None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a class is spoken of."""

    label: str

    terms: tuple[str, ...]
    """Regular expressions of the finding, in small letters; what they match is the evidence."""

    needs: tuple[str, ...] = ()
    """One of these (a place, an adjective) must stand in the same `scope`."""

    unless: tuple[str, ...] = ()
    """None of these may stand in the same `scope`."""

    scope: Literal["clause", "sentence"] = "clause"
    """Where `needs` and `unless` are looked for."""

    not_in: tuple[str, ...] = ()
    """Words of other organs. Looked for in the clause; in a clause that names no place of its own
    (`at`), in the sentence, then in the sentence before."""

    at: tuple[str, ...] = ()
    """Words of the right organ: with one of them in the clause, `not_in` is not asked further."""

    counts: frozenset[Status] = PRESENT
    """The statuses that make the class 1."""

    @cached_property
    def _terms(self) -> re.Pattern[str]:
        pattern = any_of(self.terms)
        if pattern is None:
            raise ValueError(f"a rule of {self.label} has no terms; name at least one.")
        return pattern

    @cached_property
    def _needs(self) -> re.Pattern[str] | None:
        return any_of(self.needs)

    @cached_property
    def _unless(self) -> re.Pattern[str] | None:
        return any_of(self.unless)

    @cached_property
    def _not_in(self) -> re.Pattern[str] | None:
        return any_of(self.not_in)

    @cached_property
    def _at(self) -> re.Pattern[str] | None:
        return any_of(self.at)

    def read(self, sentence: Sentence, before: Sentence | None = None) -> list[Evidence]:
        """Everything `sentence` says about the class; `before` is the sentence before it."""
        found = []
        for match in self._terms.finditer(sentence.low):
            if match.end() > match.start() and self._fits(sentence, before, match.start()):
                found.append(self._evidence(sentence, *match.span()))
        return found

    def _near(self, sentence: Sentence, position: int) -> tuple[int, int]:
        """(start, end) of where `needs` are looked for, for a term at `position`."""
        return sentence.clause_at(position) if self.scope == "clause" else sentence.whole

    def _evidence(self, sentence: Sentence, first: int, last: int) -> Evidence:
        status, start, end = sentence.decide(first, last)
        if self._needs:
            # The place is part of what decided.
            place = sentence.nearest(self._needs, self._near(sentence, first), first, last)
            if place:
                start, end = min(start, place[0]), max(end, place[1])
        return Evidence(
            label=self.label,
            status=status,
            sentence=sentence.text,
            words=sentence.text[start:end],
            start=start,
            end=end,
            section=sentence.section,
            sides=sides_in(sentence.text[slice(*sentence.clause_at(first))]),
        )

    def _fits(self, sentence: Sentence, before: Sentence | None, position: int) -> bool:
        clause = sentence.clause_at(position)
        area = clause if self.scope == "clause" else sentence.whole
        if self._needs and not sentence.names(self._needs, self._near(sentence, position)):
            return False
        if self._unless and sentence.names(self._unless, area):
            return False
        return not (self._not_in and self._elsewhere(sentence, before, clause))

    def _elsewhere(
        self, sentence: Sentence, before: Sentence | None, clause: tuple[int, int]
    ) -> bool:
        places = [(sentence, clause), (sentence, sentence.whole)]
        if before is not None:
            places.append((before, before.whole))
        for text, area in places:
            if self._at and text.names(self._at, area):
                return False
            if self._not_in and text.names(self._not_in, area):
                return True
        return False


def _start(item: Evidence) -> int:
    return item.start


class RuleLabeller:
    """A labeller made of rules; see `Labeller`."""

    def __init__(self, name: str, classes: Sequence[str], rules: Sequence[Rule]) -> None:
        unknown = sorted({rule.label for rule in rules} - set(classes))
        if unknown:
            raise ValueError(f"rules for {unknown}, which are not among the classes {classes}")
        self._name, self._classes, self._rules = name, tuple(classes), tuple(rules)
        self._known: dict[tuple[str, str], tuple[tuple[Evidence, bool], ...]] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def label(self, reports: Sequence[str]) -> list[Labels]:
        """One `Labels` per report; all zeros without evidence where nothing is said, or not in
        English."""
        return [self._label(report) for report in reports]

    def _label(self, report: str) -> Labels:
        values = dict.fromkeys(self._classes, 0)
        evidence: list[Evidence] = []
        before: Sentence | None = None
        for sentence in read_sentences(report) if is_english(report) else []:
            for item, counts in self._read(sentence, before):
                evidence.append(replace(item, section=sentence.section))
                values[item.label] |= counts
            before = sentence
        return Labels(values=values, evidence=tuple(evidence))

    def _read(
        self, sentence: Sentence, before: Sentence | None
    ) -> tuple[tuple[Evidence, bool], ...]:
        """What every rule makes of a sentence, and whether it counts; kept for the next report."""
        key = (sentence.text, before.text if before else "")
        known = self._known.get(key)
        if known is None:
            # Two words that end alike ("calcified plaques") are one decision, the longer one.
            found: dict[tuple[str, str, int], tuple[Evidence, bool]] = {}
            for rule in self._rules:
                for item in rule.read(sentence, before):
                    spot = (item.label, item.status, item.end)
                    counts = item.status in rule.counts
                    if spot in found:
                        other, counted = found[spot]
                        item, counts = min(item, other, key=_start), counts or counted
                    found[spot] = (item, counts)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[key] = tuple(sorted(found.values(), key=lambda pair: pair[0].start))
        return known
