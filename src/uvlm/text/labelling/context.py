"""What a sentence says about the things it names: there, not there, perhaps, or once.

A sentence is cut into clauses, each with one verb where it can be told ("nodules are seen, an
effusion was not detected" has two). Words that deny, doubt or tell of the past then reach over a
part of their clause: "no" and "without" forward, "was not observed" backward, "other than" protects
what follows it from both. The cues are found in one pass over the sentence, so the work grows with
its length; sentences without end are cut (`MAX_SENTENCE`).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from uvlm.text.cleaning import split_sections, split_sentences
from uvlm.text.labelling.cues import Cue, find_cues, settles
from uvlm.text.labelling.protocol import Section, Status
from uvlm.text.labelling.reach import Reach, directly
from uvlm.text.labelling.sections import LINE, described

__all__ = ["MAX_SENTENCE", "Decision", "Sentence", "lowered", "read_sentences"]

MAX_SENTENCE = 2000
"""Characters; a longer run of text without a full stop is read in pieces of at most this length."""

# "Status post operation with an effusion": the effusion is of today.
_WITH = re.compile(r"\bwith\b")

_WAS = re.compile(r"\b(?:was|were|had been)\b")

# "A nodule was present; it is not seen today": the next clause takes the first one back. Up to the
# denial, and behind it: "it is not seen on the left" speaks of a place.
_IT = re.compile(r" ?(?:it|they|this|these|th(?:is|ese) (?:finding|lesion|nodule)s?) $")
_TODAY = re.compile(
    r"(?: (?:seen|present|visible|observed|detected|identified))?"
    r"(?: (?:at present|today|now|currently|any ?more|any longer"
    r"|(?:in|on|at) (?:the |his |her )?(?:current|present|new|this|today's)"
    r" (?:\w+ )?(?:examination|study|scan|ct|images?|sections?)))?(?=\s*(?:[.;,]|$))"
)

# No language has such; rules that look for words apart would try every way to cut it.
_LONG_WORD = re.compile(r"(\S{100})(?=\S)")


class Decision(NamedTuple):
    """What is said about a thing, and the span of the words that say it (the thing included)."""

    status: Status
    start: int
    end: int


@dataclass(frozen=True)
class Sentence:
    """One sentence, read once: its clauses and what each of them denies, doubts or recalls."""

    text: str
    section: Section = "findings"

    @cached_property
    def low(self) -> str:
        """Small letters, character for character as in `text`; what rules are matched against."""
        return lowered(self.text)

    @cached_property
    def cues(self) -> tuple[Cue, ...]:
        """Every word that denies, doubts, recalls, turns or pauses, in order."""
        return find_cues(self.low)

    @cached_property
    def clauses(self) -> tuple[tuple[int, int], ...]:
        """(start, end) of the clauses, in order, covering the sentence."""
        cuts = _cuts(self.low, self.cues)
        return tuple(zip((0, *cuts), (*cuts, len(self.text)), strict=True))

    @property
    def whole(self) -> tuple[int, int]:
        """(start, end) of the sentence."""
        return 0, len(self.text)

    @cached_property
    def _named(self) -> dict[tuple[re.Pattern[str], tuple[int, int]], bool]:
        return {}

    def names(self, words: re.Pattern[str], area: tuple[int, int]) -> bool:
        """Whether `words` are found in `area`; looked for once, however many things ask."""
        key = (words, area)
        if key not in self._named:
            self._named[key] = words.search(self.low, *area) is not None
        return self._named[key]

    @cached_property
    def _spots(self) -> dict[tuple[re.Pattern[str], tuple[int, int]], list[tuple[int, int]]]:
        return {}

    def nearest(
        self, words: re.Pattern[str], area: tuple[int, int], start: int, end: int
    ) -> tuple[int, int] | None:
        """(start, end) of the match of `words` in `area` that is nearest to `start:end`."""
        key = (words, area)
        if key not in self._spots:
            self._spots[key] = [match.span() for match in words.finditer(self.low, *area)]
        spots = self._spots[key]
        number = bisect_right(spots, (start, start))
        close = spots[max(0, number - 1) : number + 1]
        return min(close, key=lambda s: max(s[0] - end, start - s[1]), default=None)

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self.clauses]

    def clause_at(self, position: int) -> tuple[int, int]:
        """The clause that holds a character."""
        return self.clauses[max(0, bisect_right(self._starts, position) - 1)]

    @cached_property
    def _reaches(self) -> dict[tuple[int, int], Reach]:
        return {}

    def decide(self, start: int, end: int) -> Decision:
        """What is said about the thing named at `start:end`.

        A denial wins over a doubt, a doubt over the past.
        """
        clause = self.clause_at(start)
        reach = self._reaches.get(clause)
        if reach is None:
            cues = [c for c in self.cues if c.start >= clause[0] and c.end <= clause[1]]
            reach = self._reaches[clause] = Reach(self.low, cues, clause)
        if reach.denied_within(start, end):
            return Decision("absent", start, end)
        before = reach.before(start)
        if not before.exception and not reach.excepted_after(end):
            denial = before.denial or reach.denied_after(end) or self._taken_back(clause)
            if denial is not None:
                return Decision("absent", min(start, denial.start), max(end, denial.end))
        doubt = before.doubt or reach.doubted_after(end)
        if doubt is not None:
            return Decision("uncertain", min(start, doubt.start), max(end, doubt.end))
        past = before.past
        if past is not None and not _WITH.search(self.low, past.end, start):
            return Decision("history", past.start, end)
        return Decision("present", start, end)

    def _taken_back(self, clause: tuple[int, int]) -> Cue | None:
        """The "it is not seen today" right behind a clause about the past ("was")."""
        number = bisect_left(self._cue_starts, clause[1])
        turn, first, second = (*self.cues[number : number + 3], None, None, None)[:3]
        # "it is no longer present": a verb, then the denial.
        denial = second if first and first.kind == "verb" else first
        if turn is None or first is None or denial is None or turn.kind != "turn":
            return None
        taken = (
            denial.kind in ("after", "gone")
            and _WAS.search(self.low, *clause)
            and _IT.match(self.low[turn.end : first.start])
            and not self.low[first.end : denial.start].strip()
            and _TODAY.match(self.low, denial.end)
        )
        return denial if taken else None

    @cached_property
    def _cue_starts(self) -> list[int]:
        return [cue.start for cue in self.cues]


def lowered(text: str) -> str:
    """Small letters without a change of length ("İ" would become two characters)."""
    low = text.lower()
    if len(low) == len(text):
        return low
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _cuts(low: str, cues: Sequence[Cue]) -> list[int]:
    """Where clauses begin after the first: at turns, and between two verbs."""
    cuts: list[int] = []
    verb: Cue | None = None
    pauses: list[Cue] = []
    for cue in cues:
        if cue.kind == "pause":
            pauses.append(cue)
        elif cue.kind in ("turn", "except"):
            cuts += [cue.start] if cue.kind == "turn" else []
            verb, pauses = None, []
        elif cue.kind in ("verb", "after", "gone"):
            # "is smaller and was not seen": what follows the pause has no subject of its own.
            if verb is not None and pauses and not directly(low, pauses[-1], cue):
                cuts.append(_between(low, verb, pauses))
            verb, pauses = cue, []
        elif cue.kind == "before" and verb is not None and pauses and _opens(low, pauses[-1], cue):
            cuts.append(_opening(pauses))
            verb, pauses = None, []
    return cuts


def _opens(low: str, pause: Cue, cue: Cue) -> bool:
    """Whether a denial right after a pause begins a clause: ", and no effusion was seen"."""
    return low.startswith("no", cue.start) and cue.start - pause.end <= 11


def _opening(pauses: Sequence[Cue]) -> int:
    """Where the last pause begins; ", and" is one."""
    last = pauses[-1]
    if len(pauses) > 1 and last.start - pauses[-2].end <= 1:
        return pauses[-2].start
    return last.start


def _between(low: str, verb: Cue, pauses: Sequence[Cue]) -> int:
    """Which pause between two verbs begins the second clause.

    After "is normal" nothing goes on: the first. Else the list of what is there, or of places, may
    hold commas: the last; an "and" only where there is no comma.
    """
    commas = [p for p in pauses if low[p.start] != "a"]
    if not commas:
        return pauses[-1].start
    return commas[0].start if settles(low, verb.end) else commas[-1].start


# A quotation mark before a capital or a digit, a bullet or a dot in mid-line: how the points of an
# impression are marked in CT-RATE's text.
_POINT = re.compile(r"[\"“]\s*(?=[A-Z0-9])|[\"”]\s*$|•|(?:(?<=\s)|^)·")

# "05.02. 2015": a full stop, but no end.
_TORN_DATE = re.compile(r"(\d[./]\d{1,2}\.) (?=\d{4}\b)")


def read_sentences(report: str) -> list[Sentence]:
    """The sentences of a report that describe the examination, in order, each with its section.

    Without the header "Impression:", what follows the first point mark is the impression.
    """
    found: list[Sentence] = []
    text = _POINT.sub(" • ", described(report))
    findings, impression = split_sections(_TORN_DATE.sub(r"\1", text))
    section: Section = "findings"
    for number, point in enumerate(findings.split("•")):
        if number and not impression:
            section = "impression"
        found += _sentences(point, section)
    for point in impression.split("•"):
        found += _sentences(point, "impression")
    return found


def _sentences(text: str, section: Section) -> list[Sentence]:
    return [
        Sentence(piece, section)
        for line in text.split(LINE)
        for sentence in split_sentences(line)
        for piece in _pieces(sentence)
    ]


def _pieces(sentence: str) -> list[str]:
    """The sentence, cut at spaces where it is longer than `MAX_SENTENCE`."""
    pieces, start = [], 0
    sentence = _LONG_WORD.sub(r"\1 ", sentence)
    while len(sentence) - start > MAX_SENTENCE:
        cut = sentence.rfind(" ", start + 1, start + MAX_SENTENCE)
        cut = cut if cut > 0 else start + MAX_SENTENCE
        pieces.append(sentence[start:cut].strip())
        start = cut
    pieces.append(sentence[start:].strip())
    return [piece for piece in pieces if piece]
