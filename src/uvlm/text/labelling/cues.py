"""The words that deny, doubt, recall or turn what a sentence says, as one table of patterns.

All are matched against small letters. Every repeat is bounded, so reading grows with the length of
the text and with nothing else.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Cue", "find_cues", "settles"]

_SEEN = (
    r"(?:observed|detected|seen|present|identified|visible|visuali[sz]ed|noted|evident|found"
    r"|demonstrated|encountered|shown|appreciated|discerned|distinguished|selected|monitored"
    r"|followed|watched|noticed|available|noteworthy|remarkable|distinguishable|developed|traced"
    r"|recogni[sz]ed|recorded|existing|exist|in question|considered|thought|suspected|determined"
    r"|viewed|threshold|reported|discovered|mentioned|spotted|perceived|depicted|discernible"
    r"|diagnosed|described|tracked|appear|included|occurred|in favou?r)"
)
_BE = r"(?:is|are|was|were|has|have|had|be|been|being)"
# "No change", "no significant size difference"; not "no fibrotic change", which denies a finding.
_HOW_MUCH = (
    r"(?:(?:significant|notable|marked|apparent|clear|obvious|interval|other|further|new|remarkable"
    r"|appreciable|meaningful|substantial|major|visible|distinct|definite|evident|considerable"
    r"|important|relevant|size|sizes|dimensional|numerical|any|additional|great|serious|such|more"
    r"|statistically|number|numbers|amount|volume|diameter|extent|or|and) ){0,4}"
)
_CHANGE = (
    r"(?:changes?|differences?|decrease|growth|progression|regression|reduction|interval|doubt"
    r"|longer than|more than|less than|new development|alterations?"
    r"|increase(?! in (?:the )?(?:\w+ ){0,6}?(?:thick|densit|attenuation|calib|wall|aerat|trabec"
    r"|heart|cardiac|cardio-?thora|ctr\b|cti\b)))"
)
_EARLIER = r"(?:previous|prior|earlier|old|last|first|former|past)"
_NOW = r"(?:this|today|(?:the )?(?:interval|current|last|new|present|follow))"
_THEN = (
    rf"(?:(?:in|on|at|from|during|within) (?:the |his |her |their )?(?:\w+ )?{_EARLIER}\b"
    r"|previously\b|before\b)"
)
_OTHER = r"(?:other than|apart from|except(?:ing)?(?: for)?|besides|aside from)"

# "Resolution of the effusion"; after the resection of a nodule others may be left.
_END_OF = (
    r"(?:resolution|disappearance|removal|withdrawal|extraction|resorption|clearance|clearing"
    r"|absorption)"
)

# Order matters: of two kinds at one place the first wins, and its words are used up.
_CUES = {
    # Looks like a denial, an exception, a history or a verb, but is none.
    "idle": "|".join(
        (
            rf"\bno {_HOW_MUCH}{_CHANGE}\b",
            rf"\bwithout {_HOW_MUCH}{_CHANGE}\b",
            r"\bnot only\b",
            rf"\b(?:which|that|who) (?:{_BE} )?(?:could |can )?not (?:\w+ ){{0,2}}?{_SEEN} {_THEN}",
            rf"\b(?:{_BE} )?(?:\w+ )?not (?:{_BE} )?(?:\w+ ){{0,2}}?{_SEEN} {_THEN}",
            rf"\b{_OTHER} (?:this|these|that|those|it|them|as|the (?:described|mentioned|defined"
            r"|above)|described|above)\b",
            r"\bhistory of (?:the|this) (?:patient|case)\b",
            rf"\b(?:no|without|partial|incomplete|near|some|ongoing) (?:\w+ ){{0,2}}?{_END_OF}\b",
            r"\b(?:could|can|may|might) not be\b(?! (?:\w+ )?(?:excluded|ruled out)\b)"
            rf"(?! (?:\w+ )?{_SEEN}\b)",
            rf"\b(?:which|that|who) (?:\w+ )?{_BE}\b(?! (?:\w+ )?not\b)",
        )
    ),
    "except": rf"\b{_OTHER}(?: that)?\b|\bwith the exception of\b|\bexcluding\b",
    "gone": "|".join(
        (
            r"\bno longer\b",
            r"\b(?:completely |totally |almost )?(?:resolved|disappeared|vanished)\b",
            r"\b(?:regressed|cleared|resorbed) (?:completely|totally)\b",
            r"\b(?:complete|total|full)(?:ly)? (?:regress|resol|resor)\w+\b"
            rf"(?! of\b)(?! in (?!{_NOW}))",
            r"\b(?:regression|resolution) (?:\w+ )?(?:is|was) (?:complete|total|full)\b(?! in\b)",
            r"\b(?:is|are|was|were|been) replaced by\b",
            r"\b(?:has|have|had) (?:turned|evolved) into\b",
            r"\b(?:has|have|had|is|are|was|were) (?:\w+ )?(?:healed|reopened|re-?expanded)\b",
            r"\bin (?:neither|none)\b",
        )
    ),
    "after": "|".join(  # denies what stands before it
        (
            rf"\b(?:(?:{_BE}|could|can|did|does|do) (?:\w+ )?)?not (?:{_BE} )?"
            rf"(?:\w+ ){{0,3}}?{_SEEN}\b",
            rf"\bcannot (?:be )?(?:\w+ )?{_SEEN}\b",
            rf"n't (?:{_BE} )?(?:\w+ )?{_SEEN}\b",
            rf"\b(?:{_BE} (?:\w+ )?)?(?:absent|negative(?! for)|nonexistent|unlikely)\b",
            rf"\b{_BE} (?:ruled out|excluded)\b",
            rf"\b(?:{_BE} ){{1,2}}(?:removed|withdrawn|extracted|explanted|taken out|resected"
            r"|excised|drained)\b",
            rf"\b{_BE} (?:not|none)\b(?=\s*(?:[.,;]|$))",
            r"(?:: ?|\b)(?:no|none)(?=\s*(?:[.;]|$))|\(-\)",
        )
    ),
    "before": (  # denies what follows
        r"\b(?:no|nor|neither|without|absence of|free (?:of|from)|negative for|lack of|devoid of"
        r"|clear of|never had|rather than|not accompanied by|(?:does|do|did) not (?:contain|show"
        r"|have|reveal|demonstrate)|not contain\w*|not showing|none of)\b"
        rf"|\b(?:complete |interval |total |full )?{_END_OF} of\b"
        r"|\b(?:complete|total|full) regression (?:of|in)\b"
        r"|\b(?:regression|resolution) (?:\w+ )?(?:is|was) (?:complete|total|full) in\b"
    ),
    "maybe_before": (  # doubts what stands before it
        r"\b(?:cannot|could not|can not|can't|may not) be (?:\w+ )?(?:excluded|ruled out)\b"
        r"|\b(?:is|are|was|were) (?:\w+ )?(?:suspicious|suspected|possible|probable|questionable"
        r"|doubtful)\b(?! (?:for|of|in terms)\b)|\?"
    ),
    # Doubts what follows. "In favor of", "compatible with" and "consistent with" assert.
    "maybe_after": (
        r"\b(?:suspicious(?: (?:for|of|in terms of))?|suspicion of|suspected|possible|possibly"
        r"|probable|probably|may|might|could|likely|differential diagnosis|rule out|questionable"
        r"|concern(?:s|ing)? for|worrisome for|perhaps|question of|query"
        r"|(?:cannot|can not|could not|not|to) exclude)\b"
    ),
    "history": (
        r"\b(?:history of|h/o|status post|s/p|operated for|treated for|known to have had"
        r"|previously (?:operated|treated|diagnosed)|followed up (?:for|due to|with))\b"
    ),
    "turn": (
        r";|[,.]? ?\b(?:but|however|although|though|whereas|while|nevertheless|on the other hand)\b"
    ),
    "verb": rf"\bthere {_BE}\b|(?<!\bto )\b{_BE}\b|\b(?:draws?|attracts?) attention\b"
    r"|\b(?:persists?|remains?)\b",
    "rel": r"\b(?:(?:in|of|on|at|to|with|from) )?(?:which|where|whose|whom)\b",
    "pause": r"[,:]|\band\b",
}
_CUE = re.compile("|".join(f"(?P<{kind}>{words})" for kind, words in _CUES.items()))
_SETTLED = re.compile(
    r"\s+(?:\w+ )?(?:normal|natural|open|patent|usual|preserved|clear|intact|regular|unremarkable"
    r"|physiological|ordinary|obvious|midline|in the midline|homogeneous)\b"
)


class Cue(NamedTuple):
    """One such place: its kind, and its characters in the sentence."""

    kind: str
    start: int
    end: int


def find_cues(low: str) -> tuple[Cue, ...]:
    """All cues of a sentence in small letters, in order, none over another."""
    return tuple(Cue(m.lastgroup or "", *m.span()) for m in _CUE.finditer(low))


def settles(low: str, end: int) -> bool:
    """Whether a verb that ends at `end` closes its clause, as "is normal" does."""
    return _SETTLED.match(low, end) is not None
