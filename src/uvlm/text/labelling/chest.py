"""Rules of the other classes of CT-RATE, and the labeller over all eighteen."""

from __future__ import annotations

from uvlm.registry import CT_RATE_LABELS
from uvlm.text.labelling.calcification import CALCIFICATION_RULES
from uvlm.text.labelling.devices import DEVICE_RULES
from uvlm.text.labelling.lung import LUNG_RULES
from uvlm.text.labelling.rules import Rule, RuleLabeller

__all__ = ["CHEST", "CHEST_RULES"]

# Between an organ and its effusion: neither another organ nor a word that ends what is said.
_PLAIN = r"(?!abdom|periton|peri-?ren|cyst|fat\b|no\b|not\b|without|normal|natural)"
_AND = r"(?:,| and| or| ?[/-]) ?"
_PLACED = (
    r"(?: (?:the|a|an|its|both|bilateral|left|right|leaves|leaflets|layers|of|anterior|posterior"
    r"|inferior|superior)){0,4}"
)

_GROWN = (
    r"(?:increas|enlarg|larger|bigger|dilat|greater than|more than|above|wider|prominen|hypertroph"
    r"|expand)"
)
_SIZE = r"(?:size|dimension|diameter|volume|contour|shadow|silhouette|area|configuration|chamber)"
_OTHER_PART = (
    r"(?:aort|pulmon|arter|vein|vascul|vessel|fail|stasis|effus|fluid|fat|valv|rate|load|output"
    r"|apex|motion|artifact|puls|beat|function|patholog|diseas|origin"
    r"|anomal|border|level|near|adjacent|not\b|no\b|nor\b|without|cannot)"
)
_BE = r"(?:is|are|was|were|appears?|looks?|seems?|has|have)"

HEART_RULES: tuple[Rule, ...] = (
    Rule(label="Cardiomegaly", terms=(r"cardio-?meg\w*", r"cardiomeal\w*")),
    Rule(
        label="Cardiomegaly",
        terms=(
            r"(?<!left )(?<!right )(?<!to the )(?<!around the )(?:heart|cardiac)(?:'s)?(?: and)?"
            rf"(?: {_SIZE}\w*)?"
            rf"(?::|,(?= (?:and )?(?:its )?{_SIZE})|[ -](?!{_OTHER_PART})\w+){{0,5}}?"
            rf" {_GROWN}\w*(?: (?:\w+ )?normal)?",
            rf"(?:heart|cardiac {_SIZE}\w*):? (?:{_BE} )?(?:\w+ )?(?:large|big)\b",
            rf"(?:increas|enlarg|dilat)\w* (?:(?:in|of) )?"
            rf"(?:(?:the|all|four|overall|total|both) ){{0,2}}"
            rf"(?:{_SIZE}\w* (?:of|in) (?:the )?)?(?:heart|cardiac)\b(?! {_OTHER_PART})"
            rf"(?: {_SIZE}\w*)?",
            rf"(?:large|big) (?:heart\b|cardiac {_SIZE}\w*)(?! {_OTHER_PART})",
        ),
        unless=(
            r"(?:heart|cardiac) (?:\w+ ){0,4}?(?:natural|(?<!than )(?<!above )normal)\b(?! limit)",
        ),
    ),
    Rule(
        label="Cardiomegaly",
        terms=(rf"its {_SIZE}\w* (?:{_BE} )?(?:\w+ ){{0,2}}?{_GROWN}\w*",),
        needs=(r"heart (?:contour|shape|configuration)",),
        scope="sentence",
    ),
    Rule(
        label="Cardiomegaly",
        terms=(r"cardio-?thora\w* (?:index|ratio|rate)\w*", r"ctr\b", r"cti\b", r"cto\b"),
        needs=(_GROWN, r"in favou?r of (?:the )?(?:ctr )?heart", r"high\b", r"over\b"),
        unless=(
            r"natural",
            r"within normal",
            rf"not (?:\w+ )?{_GROWN}",
            r"not (?:\w+ )?high",
        ),
    ),
    Rule(
        label="Pericardial effusion",
        terms=(
            rf"peri[ck]ard\w*(?:[ /-]+(?!pleur){_PLAIN}[\w.]+){{0,8}}?[ /-]+(?:effusion|fluid)\w*",
            r"(?:leaves|layers|space|sac) of the peri[ck]ard\w*, (?:\w+ ){0,2}?(?:effusion|fluid)",
            r"peri[ck]ard\w*(?: (?:space|area|cavity|sac|leaves|leaflets|layers|recess|region)s?,"
            rf"|:) (?:(?!pleur){_PLAIN}\w+ ){{0,4}}?(?:effusion|fluid)s?",
            rf"peri[ck]ard\w*{_AND}(?:{_PLAIN}\w+ ){{0,3}}?pleur\w* (?:\w+ )?(?:effusion|fluid)s?",
            r"(?:effusion|fluid|collection)s?(?: (?!and |no )[\w.,/-]+){0,12}?"
            r"(?: and)? (?:in|of|around|between|within|at|on|along|into|surrounding|with)"
            rf"(?: (?:the )?pleur\w*(?:,| and| or))?{_PLACED} peri[ck]ard\w*",
            r"(?:effusion|fluid|collection)s?(?: (?!and |no )[\w.,/-]+){0,4}?"
            rf" (?:around|surrounding){_PLACED} (?:heart|cardiac)\b",
            r"h(?:a?)emo-?peri[ck]ard\w*",
            r"hydro-?peri[ck]ard\w*",
            r"(?:pericardial|cardiac) tamponade",
        ),
    ),
)

_JUNCTION = (
    r"(?:o?esophago-?gastric|gastro-?o?esophag\w*|cardio-?o?esophag\w*|g\.?e\.?|ogj|gej|cardia\b)"
)

HERNIA_RULES: tuple[Rule, ...] = (
    Rule(
        label="Hiatal hernia",
        terms=(
            r"hiat(?:al|us|ial|e|usal)\b(?:[ -]\w+){0,2}?[ -]herni\w*\b(?! (?:repair|operat|surg))",
            r"herni\w*(?: \w+){0,10}? hiat(?:al|us|ial)\w*",
            r"(?:sl?idd?ing|siliding|(?:para-?)?o?esophageal|gastric)(?: [\w-]+){0,3} herni\w*",
        ),
    ),
    Rule(
        label="Hiatal hernia",
        terms=(
            r"herni\w*(?: [\w-]+){0,3} (?:stomach|gastric|fundus)",
            r"(?:stomach|gastric)(?: [\w-]+){0,6} herni\w*",
            rf"herni\w*(?: [\w-]+){{0,12}}? {_JUNCTION}",
            rf"{_JUNCTION}(?: junction)?,?(?: [\w-]+){{0,6}}? herni\w*",
        ),
        unless=(r"umbilic", r"inguin", r"incision", r"ventral", r"abdominal wall", r"lumbar"),
    ),
)

# Neither a heading before "normal" nor an operation.
_NODE = (
    r"lymph[ -]?(?:nodes?|nodules?|glands?)\b"
    r"(?! stations?\b| dissect| biops| sampl| excis| evaluat| assess)"
    r"(?! ?: (?:no\b|none|normal|natural|unremark|not\b|negative|within))"
)
_STATION = (
    r"(?:mediastin\w*|hilar|subcarinal|(?:para|pre)-?tracheal|pre-?carinal|pre-?vascular|axillary"
    r"|supra-?clavicular|infra-?clavicular|cervical|internal mammary|cardio-?phrenic"
    r"|para-?o?esophageal|aorto-?pulmonary|ap window|para-?aortic|interlobar|thoracic"
    r"|diaphragmatic)"
)
_LARGE = r"(?:enlarged|pathologi\w*|metastatic|necrotic|conglomerate\w*|bulky|large)"
_TEN_MM = r"(?:[1-9]\d(?:[.,]\d+)? ?mm|[1-9](?:[.,]\d+)? ?cm)"
_SHORT = r"short(?:est)?(?: |-)(?:axis|axes|diameter)"
_IN_LUNG = (
    r"(?:intra-?(?:pulmonary|parenchymal)|sub-?pleural|pleura\w*|fissur\w*)(?:[ -][\w.]+){0,4}?"
    r" lymph",
    r"lymph[ -]?nod\w+(?: (?!hil|mediast)[\w-]+){0,8}? (?:fissur|sub-?pleur|intra-?pulm)",
)
_WELL = (
    r"(?:normal|natural|unremarkable|within normal|of normal|not (?:\w+ )?(?:enlarged|increased))"
)
# Said of the nodes as such; "small nodes that are not enlarged" are there.
_ORDINARY = (
    rf"nodes?(?: in [\w ]{{1,30}})? (?:is|are|was|were) {_WELL}",
    r"normal (?:[\w-]+ ){0,4}?(?:lymph )?nodes?\b",
)
_HILUM = (
    r"(?<!fatty )(?<!fat )(?<!spleen )(?<!splenic )(?<!liver )(?<!portal )(?<!hepatic )"
    r"(?<!renal )hil"
)

NODE_RULES: tuple[Rule, ...] = (
    Rule(
        label="Lymphadenopathy",
        terms=(
            r"(?:lymph[ -]?)?ade(?:no|n|o)(?:path|megal)\w*",
            r"lymph[ -]?adeni\w*",
            r"laps?\b(?! band)",
            rf"{_LARGE} (?:[\w-]+ ){{0,2}}?{_NODE}",
            rf"{_LARGE} (?:(?:left|right|bilateral|and|or|{_STATION}) ){{1,3}}nodes?\b",
            rf"{_NODE} enlargement",
            rf"enlargement of (?:the )?(?:\w+ )?{_NODE}",
        ),
        unless=_IN_LUNG,
    ),
    # Ten millimetres across are too many anywhere.
    Rule(
        label="Lymphadenopathy",
        terms=(_NODE,),
        needs=(
            rf"{_SHORT}(?: (?!less|below|under|smaller|not\b)[\w-]+){{0,6}}? {_TEN_MM}",
            rf"{_TEN_MM}(?: (?:in|on|at|along|for|as|the|its|their)){{0,3}} {_SHORT}",
        ),
        unless=_IN_LUNG,
    ),
    Rule(
        label="Lymphadenopathy",
        terms=(r"(?<!lymph )(?<!lymph-)nodes?\b(?! station)",),
        needs=(_STATION, r"mediastin", r"hila\b"),
        unless=(
            r"lungs?\b",
            r"lob(?:e|ar)",
            r"schmorl",
            r"sinus",
            r"thyroid",
            r"lymph",
            *_ORDINARY,
        ),
        scope="sentence",
    ),
    # In the chest any node that is mentioned counts in CT-RATE, small ones too; elsewhere only
    # those called enlarged.
    Rule(
        label="Lymphadenopathy",
        terms=(_NODE,),
        unless=(*_IN_LUNG, *_ORDINARY),
        at=(
            r"mediast",
            rf"{_HILUM}(?:ar|um|us|a|i|ers)?\b",
            r"\w*carin",
            r"\w*tr[ae]+ch",
            r"\w*vascular",
            r"\w*aort\w*-? ?pulm",
            r"\w*bronch",
            r"thora[cx]",
            r"lungs?\b",
            r"pericard",
            r"\w*card",
            r"internal mammar",
            r"\w*esophag",
        ),
        not_in=(
            r"axill",
            r"intra-?abdom",
            r"abdom",
            r"mes[eo]",
            r"\w*col(?:ic|on)",
            r"\w*iliac",
            r"inguin",
            r"retroperit",
            r"celiac",
            r"\w*gastric",
            r"port[ao]",
            r"splen",
            r"liver",
            r"breast",
            r"cervical",
            r"neck",
        ),
    ),
)

EFFUSION_RULES: tuple[Rule, ...] = (
    Rule(
        label="Pleural effusion",
        terms=(
            r"(?:hydro|ha?emo|chylo|pyo)-?(?:p\w{1,4}mo-?)?thora\w*",
            r"empyema\w*",
            rf"pleur\w*(?:[ /-]+(?!peri[ck]ard){_PLAIN}[\w.]+){{0,5}}?[ /-]+"
            r"(?:effusion|fluid|collection)\w*",
            rf"pleur\w*{_AND}(?:\w+ )?peri[ck]ard\w* (?:\w+ )?(?:effusion|fluid)s?",
            r"(?:effusion|fluid|collection)s?(?: (?!and |no )[\w.,/-]+){0,14}?"
            r"(?: and)? (?:in|of|between|within|at|on|along|into)"
            rf"(?: (?:the )?peri[ck]ard\w*(?:,| and| or))?{_PLACED}"
            r"(?: (?:major|minor|oblique|horizontal))?"
            r" (?:pleura\w*|hemithora\w*|fissur\w*|costo-?phrenic|sinus(?:es)?\b"
            r"|(?:thoracic|chest) cavit\w*)",
            rf"pleura\w*: (?:(?!peri[ck]ard){_PLAIN}\w+ ){{0,4}}?(?:effusion|fluid)s?",
            r"(?:inter-?)?(?:fissur|lobar)\w* (?:\w+ )?(?:fluid|effusion)s?\b",
        ),
        unless=(
            r"(?:effusion|fluid)s?(?: (?!and\b|in\b)[\w.,/-]+){0,8} in the peri[ck]ard\w*\b"
            r"(?! and| or)",
            r"peri[ck]ardial sinus",
            r"(?:para-?nasal|maxillary|frontal|sphenoid|renal) sinus",
        ),
    ),
    Rule(
        label="Pleural effusion",
        terms=(r"effusions?\b",),
        unless=(
            r"pericard",
            r"(?:around|surrounding) the heart",
            r"(?:intra-?)?abdom",
            r"(?:peri|sub|para)-?(?:renal|nephric|hepatic|splenic|colic)",
            r"around (?:the )?(?:liver|spleen|bowel|gall)",
            r"kidney",
            r"pelvi",
            r"joints?\b",
            r"(?:knee|elbow|hip|ear|ears|bursa|scrotum)\b",
            r"peritone",
            r"subcutan",
            r"tissue",
            r"mastoid",
            r"in the (?:\w+ )?mediastin",
            r"lodge",
            r"incision",
            r"mastectom",
        ),
    ),
)

CHEST_RULES = (*CALCIFICATION_RULES, *HEART_RULES, *HERNIA_RULES, *NODE_RULES, *EFFUSION_RULES)

CHEST = RuleLabeller("rules@chest18", CT_RATE_LABELS, (*DEVICE_RULES, *CHEST_RULES, *LUNG_RULES))
"""The 18 classes of CT-RATE, in the order of its label files."""
