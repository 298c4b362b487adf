"""Rules of the airways and of the lung's frame: emphysema, mosaic pattern, bronchi, septa.

What the hand labels of CT-RATE count is not always what a text book would:

- emphysema is any, that under the skin or in the mediastinum too; bullae and blebs count, air cysts
  do not;
- peribronchial thickening is that around the bronchi ("peribronchial", "sheath", "cuffing"); a
  thick bronchial wall alone is not;
- septal thickening includes that of the interstitium; a crazy paving pattern alone does not count.
"""

from __future__ import annotations

from uvlm.text.labelling.rules import Rule

__all__ = ["AIRWAY_RULES"]

# Findings that a list may put between "peribronchial" and "thickening": "peribronchial
# consolidation and pleural thickening" has no thick sheath.
_OTHER = (
    r"(?!pleur|sept|inter|consol|nodul|lymph|ground|glass|fissur|esoph|oesoph|infiltr|opaci"
    r"|mass|lesion|no\b|not\b|without|normal)"
)
_WORDS = rf"(?:[ ,/–-]+{_OTHER}\w+)"
_OF_THESE = r"(?<!septal )(?<!septa )(?<!pleural )(?<!fissural )(?<!esophageal )"
# "Of normal thickness" is no thickening.
_AS_USUAL = (
    r"(?! (?:(?:is|are|was|were|measures?|measured|within|in|remains?|appears?|of|the|also|both)"
    r" ){0,4}(?:normal|natural|preserved|physiologic|usual|unremarkable|ordinary))"
)
_THICK = rf"{_OF_THESE}(?:thick\w*\b{_AS_USUAL}|cuff\w*)"
_AROUND = r"(?:peri[ -]?bronch\w*|bronchovascular)"
# After "thickening and peribronchial": another finding, or the interstitium (a septal thickening).
_ITSELF = r"\b(?![ -](?:\w+ )?(?:consol|nodul|lymph|ground|dens|opac|infilt|interstit|bud))"

# "Interlobular septa", "interlobar septal", "interseptal"; of both kinds the one named last.
_SEPTA = (
    r"(?:(?:(?:inter|intra)[ -]?)?lob\w+[ -])?(?:(?:inter|intra)[ -]?)?"
    r"sept(?:al|um|a|ae|as|ums|ations?)\b"
)
_ANOTHER = (
    r"(?!pleur|bronch|nodule|wall|fissur|esoph|oesoph|disease|pneumon|emphy|effus|consol|no\b|not\b"
    r"|without|normal)"
)
_FEW = rf"(?:[ -]+{_ANOTHER}\w+)"
# The same over the commas of a list: "thickening of the upper lobe, lingula and interstitium".
_LISTED = rf"(?:[ ,-]+{_ANOTHER}(?!ground|glass|opaci|atelec)\w+)"
_TISSUE = r"(?:elements?|tissues?|structures?|markings?|lines?)"
_INTERSTITIUM = rf"interstiti(?:um|al(?: \w+)? {_TISSUE})\b"
# How a translator says that a line is more visible than it should be, as noun and as adjective.
_PROMINENCE = r"(?:prominences?|clarifications?|clarity|accentuation|conspicuity|distinctness)"
_PROMINENT = r"(?:prominent|thick|marked|evident|distinct|conspicuous|accentuated|clarified)\b"
_VERB = r"(?:is|are|was|were|has|have|become|became|more|also|clearly|slightly|mildly|markedly)"
_NOT_LUNG = (
    r"kidney", r"renal", r"cyst\b", r"cysts\b", r"cystic lesion", r"liver", r"spleen", r"ovar",
    r"adnex", r"interventricular", r"interatrial", r"atrial", r"ventric", r"nasal", r"gallbladder",
    r"pancrea", r"collection", r"breast", r"myocard",
)  # fmt: skip
_IN_LUNG = (
    r"lungs?\b",
    r"pulmonary",
    r"lob(?:e|es|ar|ular)\b",
    r"interlob",
    r"intralob",
    r"parenchyma",
)

AIRWAY_RULES: tuple[Rule, ...] = (
    Rule(
        label="Emphysema",
        terms=(
            r"\w*[ea][mn](?:ph?|f)[yie]{0,2}[sz]{1,2}[ea]{0,2}m\w*\b"
            r"(?! (?:cholecyst|pyelo|cystitis|gastr))",
            r"bull?(?:a|as|ae|e?ous|ae?s|es|e|osis)\b",
            r"bulls?(?= formation|[- ]bleb)",
            r"blebs?\b",
        ),
        not_in=(r"ethmoid",),
    ),
    Rule(label="Mosaic attenuation pattern", terms=(r"mo[sz](?:ai|ia|a|ay)[ck]\w*",)),
    Rule(
        label="Peribronchial thickening",
        terms=(
            rf"{_AROUND}{_WORDS}{{0,6}}?[ ,/-]+{_THICK}",
            rf"{_THICK}{_WORDS}{{0,8}}?[ /-]+{_AROUND}{_ITSELF}",
            rf"(?:bronch\w*|{_AROUND})(?: \w+)? cuff\w*",
            rf"{_THICK}{_WORDS}{{0,4}}? around (?:\w+ ){{0,4}}?bronch\w*",
        ),
    ),
    Rule(
        label="Peribronchial thickening",
        terms=(rf"{_AROUND} sheaths?",),
        needs=(r"increas", r"enlarg", r"promin", r"expan", r"widen", r"swell", r"swollen"),
    ),
    Rule(
        label="Bronchiectasis",
        terms=(
            r"\w*bronchi?o?l?[ -]?ecta[st]\w*",
            # Spelled wrongly: "brochiectasis", "broncheictasis", "bronchiestasis".
            r"bron?\w{1,5}[ei]{1,2}c?s?ta[st]\w*",
            r"bronch\w* (?:\w+ )?ectasi\w*",
            r"ectasi\w*(?=(?: (?!aort|arter|vein|duct|calyc|calic)\w+){0,9}? bronch)",
            r"bronch\w* (?:\w+ ){0,6}?ectatic",
            r"ectatic (?:\w+ ){0,2}?bronch\w*",
            r"bronch\w* (?:lumen\w* )?dilat\w*",
            r"bronch\w*(?: (?:lumen|structure|tree|branch|segment)\w*)?"
            r" (?:is|are|was|were|appears?|looks?|seems?) (?:also |\w+ly )?dilat\w*",
            r"dilat\w*(?: (?:is|are|was|were|seen|observed|noted|present|detected|of|in|and|the"
            r"|both|segment\w*|subsegment\w*|lobar|central|distal)){0,6} bronchi(?!al wall)\w*",
        ),
    ),
    Rule(
        label="Interlobular septal thickening",
        terms=(
            rf"{_SEPTA}{_FEW}{{0,4}}?[ -]+thick\w*\b{_AS_USUAL}(?! of the (?:heart|ventric))",
            rf"(?<!pleural )thick\w*{_FEW}{{0,6}}?[ -]+{_SEPTA}",
            r"(?:inter|intra)lobular (?:interstitial )?thick\w*",
            rf"interstitial (?:(?:and|reticular|{_TISSUE}) ){{0,2}}"
            r"(?:(?:is|are|was|were) (?:\w+ )?)?thick\w*",
            r"interstitium (?:is|was|are|were) (?:\w+ )?thick\w*",
            rf"(?<!pleural )thick\w*(?: (?:is|are|was|were)(?: \w+)?)? (?:of|in|along|at)\b"
            rf"{_LISTED}{{0,12}}?[ ,-]+{_INTERSTITIUM}",
            rf"(?<!pleural )thick\w* (?:pulmonary )?{_INTERSTITIUM}",
            # "Prominent in the septa" may be said of something else.
            rf"{_PROMINENT}(?: (?!in\b|on\b|and\b)\w+){{0,2}} {_SEPTA}",
            rf"{_PROMINENCE}{_FEW}{{0,4}} {_SEPTA}",
            rf"{_SEPTA}(?: {_VERB}){{1,4}} (?:{_PROMINENT}|noted|noticed|observed|seen|visible"
            r"|noteworthy|thick\w*|remarkable|increased)",
            rf"{_SEPTA} (?:(?:line|marking)s? )?(?:{_PROMINENCE}|{_PROMINENT})",
            rf"{_SEPTA} (?:lines|markings)",
            r"kerley\w*",
        ),
        unless=(
            r"septated", r"loculat", r"encapsulat",
            r"septa of (?:the )?(?:\w+ )?(?:cyst|effusion|fluid|lesion|mass|collection)",
        ),
        not_in=_NOT_LUNG,
        at=_IN_LUNG,
    ),
)  # fmt: skip
"""Emphysema, mosaic attenuation pattern, peribronchial thickening, bronchiectasis, septal
thickening."""
