"""What liver, kidneys, pancreas, their neighbours and lesions are called in abdominal reports.

Patterns of small letters. Order matters: of two kinds at one place the first wins, and its words
are used up ("hepatic artery" is no place in the liver).
"""

from __future__ import annotations

import re

__all__ = [
    "BY_NAME",
    "HEADING",
    "KIND",
    "LESION_COUNT",
    "NOTHING",
    "OTHER",
    "PRIMARY",
    "REMOVED_AFTER",
    "SEGMENT",
    "SEGMENTED",
    "SETTLED",
    "SKIPPED",
    "TOUCHES",
    "TREATED_AFTER",
    "TREATED_BEFORE",
    "WORDS",
]

OTHER = "other"
SEGMENT = "segment"
"""A numbered segment: of the liver, or of whatever else has segments."""

BY_NAME: dict[str, str] = {
    "of_liver": "Liver lesion",
    "of_kidney": "Kidney lesion",
    "of_pancreas": "Pancreas lesion",
}
"""Lesions whose name tells the organ -> class."""

_ORGANS = {
    "of_liver": (
        r"hepatocellular (?:carcinoma|adenoma|cancer)s?\b", r"hccs?\b", r"hepatomas?\b", r"fnhs?\b",
        r"focal nodular hyperplasia\b", r"hepatoblastomas?\b",
        r"metast[ae]tic (?:liver|hepatic) (?:disease|involvement)\b",
        r"polycystic liver(?: disease)?\b",
        r"(?:li-?rads|lr)(?: category)?[ -]?[1-5m]\b(?![\d.])",
    ),
    "of_kidney": (
        r"renal cell (?:carcinoma|cancer|ca)s?\b", r"rccs?\b", r"angiomyolipomas?\b", r"amls?\b",
        r"oncocytomas?\b", r"hypernephromas?\b", r"wilms\b", r"adpkd\b",
        r"polycystic kidneys?(?: disease)?(?! and liver)",
        r"bosniak \w+ (?:\w+ ){0,2}?(?:cyst|lesion|mass)\w*",
    ),
    "of_pancreas": (
        r"pdacs?\b", r"pnets?\b", r"pan-?nets?\b", r"ipmns?\b", r"insulinomas?\b",
    ),
}  # fmt: skip

_IDLE = (
    r"(?:hepatic|renal|pancreatic|splenic|portal) (?:and \w+ )?(?:arter|vein|venous|vascul|flexure"
    r"|duct(?!al (?:adeno)?carcinoma)|hil|calyx|calyc|calic|capsul|pedicle|stone|calcul"
    r"|fascia)\w*",
    r"(?:liver|kidney|renal|hepatic|pancreatic) (?:mass )?(?:function|failure|insufficiency"
    r"|(?<!polycystic kidney and liver )disease|enzyme|protocol)\w*",
    r"soft[- ]tissue (?=dens|attenuat|component|mass|nodul|lesion|structure|appearance)",
    r"diaphragmatic (?=dome|surface|face|aspect)",
    r"hepato-?(?:gastric|duoden)\w*", r"gastro-?hepatic", r"porta hepatis",
    r"mass(?:es)? effect", r"body mass", r"muscle mass", r"tumou?r (?:marker|bed|board|thromb)\w*",
    r"lesion protocol", r"(?:enhancement|attenuation|density) relative to \w+",
)  # fmt: skip

_LESION = (
    r"lesions?\b", r"(?:micro|macro|pseudo|mega)?cysts?\b", r"polycystic\b", r"multicystic\b",
    r"cystic (?:\w+ )?(?:area|structure|change|foc|component|appearance)\w*", r"mass(?:es)?\b",
    r"(?<!regenerative )(?<!regenerating )(?<!cirrhotic )nodul(?:e|es)\b", r"tumou?r\w*",
    r"neoplas\w+", r"\w*carcinoma\w*", r"cancers?\b", r"malignan(?:cy|cies|t)\b", r"\w*adenomas?\b",
    r"h(?:a)?emangio(?:ma|mas|mata|endothelioma)\b", r"hamartomas?\b", r"lymphoma\w*\b",
    r"sarcomas?\b", r"abscess\w*", r"hydatid\w*", r"incidentalomas?\b", r"metastas[ei]s\b",
    r"mets\b",
    r"metast[ae]tic (?:disease|deposit|focus|foci|involvement|implant)\w*",
    # A dark or bright spot; fatty change and perfusion are told apart by what stands around.
    r"(?:low|high|hypo|hyper|iso)[- ]?(?:dens|attenuat|enhanc|echo|vascular)\w*(?: \w+){0,2}?"
    r" (?:areas?|foc(?:us|i)|regions?|zones?|spots?|structures?)\b",
    r"(?<!diffuse )hypodense(?: \w+)? (?:appearances?|formations?|images?)\b",
    r"(?<!diffuse )(?<!diffusely )hypo(?:densit|attenuation)(?:y|ies|s)\b",
    r"(?:low|hypo)[- ]attenuations\b",
)  # fmt: skip

_PLACES = {
    "liver": (
        r"livers?\b", r"hepatic\b", r"intrahepatic\b", r"hepat(?:o|es)\w*",
        r"caudate\b", r"quadrate\b",
        r"biliary (?=hamartomas?|cyst\w*)",
    ),
    SEGMENT: (
        r"seg(?:ments?|\.)? (?:[1-8]|i{1,3}|iv|vi{0,3})[ab]?\b(?!\.?\d| ?(?:[cm]m|x)\b)",
    ),
    "kidney": (
        r"kidneys?\b", r"renal(?: pelvis| pelves| sinus(?:es)?)?\b", r"intrarenal\b", r"nephro\w*",
        r"parapelvic\b", r"peripelvic\b", r"parapyelic\b", r"interpolar\b", r"bosniak\b",
        r"cortical (?=cyst)",
    ),
    "pancreas": (
        r"pancreas\b", r"pancreatic\b", r"intrapancreatic\b", r"uncinate\b", r"pancreatic[ao]\w*",
    ),
    OTHER: (
        r"spleens?\b", r"splenic\b", r"adrenals?\b", r"(?:supra|sur)renals?\b",
        r"(?:gall ?)?bladder\b", r"ovar\w+", r"adnex\w+", r"uter(?:us|ine)\b",
        r"prostat\w+", r"endometri\w+",
        r"cervi(?:x|cal)\b", r"lungs?\b", r"pulmonary\b", r"pleura\w*",
        r"(?:upper|middle|lower) lobes?\b",
        r"bas(?:al|ilar)\b", r"bones?\b", r"osseous\b", r"skelet\w+", r"vertebra\w*",
        r"spin(?:e|al)\b", r"ribs?\b", r"sacr\w+", r"femor\w+", r"iliac\b", r"pelvi[sc]\b",
        r"bowels?\b", r"colon(?:ic)?\b", r"sigmoid\b", r"rect(?:um|al)\b", r"stomach\b",
        r"gastric\b", r"duoden\w+", r"jejun\w+", r"ile(?:um|al)\b", r"append\w+", r"o?esophag\w+",
        r"c(?:a)?ec(?:um|al)\b", r"breasts?\b", r"thyroid\b", r"lymph\w*", r"nod(?:al|es)\b",
        r"mesenter\w+", r"oment(?:al|um)\b", r"(?:retro)?periton\w+", r"subcutaneous\b",
        r"muscle\b", r"abdominal wall\b", r"aort\w+", r"brain\b", r"mediastin\w+",
        r"bile ducts?\b", r"biliary\b", r"ureters?\b", r"soft tissues?\b", r"skin\b",
        r"testi\w+", r"diaphragm\w*", r"ampull\w+",
    ),
}  # fmt: skip

WORDS = re.compile(
    r"\b(?:"
    + "|".join(
        f"(?P<{kind}>{'|'.join(words)})"
        for kind, words in {"idle": _IDLE, **_ORGANS, "lesion": _LESION, **_PLACES}.items()
    )
    + ")"
)
"""Every word that the labeller asks about; the group tells its kind."""

KIND = re.compile(
    r"cyst|polycyst|h(?:a)?emangio|carcinom|cancer|metast|adenom|tumou?r|neoplas|hcc|rcc|pdac|pnet"
    r"|pan|ipmn|fnh|focal nod|angiomyo|aml|oncocyt|hepato|renal cell|hamart|lymphom|abscess|hydatid"
    r"|bosniak|hypo|low|malignan|mets"
)
"""Lesions named by what they are: "probably a cyst" doubts the kind, not that one is there."""

TOUCHES = re.compile(
    r"\b(?:adjacent to|next to|near|close to|abut(?:s|ting)|in contact with|contacting|touching"
    r"|neighbou?ring|(?:invad|compress|displac|indent|infiltrat|encas)(?:es|ing)|invasion of"
    r"|extend(?:s|ing) (?:in)?to(?:wards?)?|toward(?:s)?|between|around"
    r"|(?:anterior|posterior|lateral|medial|superior|inferior|cranial|caudal) to|behind|below"
    r"|beneath|above|separate from|outside|compared (?:to|with)|similar to|relative to|than"
    r"|inseparable from|contiguous with|away from|beyond)"
    r" (?:the |a |an |both |its )?(?:\w+ ){0,2}?$"
)
"""What follows these words is beside the lesion, not its place."""

SETTLED = re.compile(
    r"\s*(?:is|are|was|were|appears?|remains?|looks?|:)?\s*(?:\w+ly )?(?:normal|unremarkable"
    r"|natural|clear|intact|atrophic|enlarged|homogeneous|within normal|free of"
    r"|not (?:enlarged|dilated))\b"
)
"""A place followed by this has its own statement."""

_OPERATION = (
    r"(?:\w*ectomy|\w*ectomies|resection|resected|ablation|ablated|whipple\w*|surgery|surgical|operated"
    r"|operation|excision|excised|removal|removed|enucleation|emboli[sz]ation|tace|transplant\w*"
    r"|radiotherapy)"
)
TREATED_BEFORE = re.compile(
    rf"\b{_OPERATION} (?:[\w-]+ ){{0,5}}?(?:for|due to|because of|of|owing to|secondary to|after)"
    r" (?:[\w-]+ ){0,6}?$"
    r"|\b(?:resected|excised|removed|ablated|operated) (?:[\w-]+ ){0,3}?$"
    r"|\bmetastas[ei]s (?:\w+ ){0,2}?(?:from|of|due to|secondary to) (?:[\w-]+ ){0,3}?$"
    r"|(?<!partial )(?<!incomplete )\b(?:resolution|disappearance) of (?:[\w-]+ ){0,4}?$"
    r"|\b(?:mimic\w*|simulat\w*) (?:[\w-]+ ){0,2}?$"
    r"|\b(?:evaluat\w*|assess\w*|screen\w*|search\w*|surveillance|work-?up|indication|presents?"
    r"|ask\w*) for (?:[\w-]+ ){0,3}?$"
)
"""A lesion named after this was treated, is elsewhere, or is what was looked for."""

TREATED_AFTER = re.compile(
    r"[\w ,]{0,30}?\b(?:has been |have been |was |were |is |are |been )?"
    r"(?:surgically |previously )?(?:resected|excised|removed|ablated|enucleated"
    r"|treated (?:by|with) (?:\w+ )?(?:ablation|resection|surgery|excision))\b"
    r"|s? (?:screening|surveillance)\b"
    r"|[\w ]{0,30}?\b(?:which|that) (?:is|are|was|were|can|could) (?:now )?(?:not|no longer)"
    r" (?:be )?(?:\w+ )?(?:seen|visible|present|identified|visuali[sz]ed|found|detected|observed)\b"
    r"(?! (?:\w+ ){0,4}?(?:prior|previous\w*|earlier|before|last)\b)"
)
"""A lesion followed by this is gone."""

REMOVED_AFTER: dict[str, re.Pattern[str]] = {
    label: re.compile(
        r"[^.;]{0,40}?\b(?P<how>(?:after|following|status post|s/p|post|treated (?:with|by)"
        rf"|underwent|had) (?:[\w-]+ ){{0,3}}?(?:{operation}))"
    )
    for label, operation in {
        "Liver lesion": r"hepatectom|transplant|liver resection|segmentectom|ablation",
        "Kidney lesion": r"\w*nephrectom|renal ablation|cryoablation|kidney transplant",
        "Pancreas lesion": r"whipple|\w*pancreat\w*ectom|pancreatic resection",
    }.items()
}
"""Class -> how a report goes on after a primary tumour of the organ that was taken out."""

PRIMARY = re.compile(
    r"\w*carcinoma|cancer|tumou?r|hcc|rcc|pdac|pnet|pan|renal cell|hepato|insulinoma|mass"
    r"|neoplas|ipmn"
)
"""Tumours of the organ itself: a metastasis after an operation elsewhere is still there."""

_VALUE = (
    r"(?P<value>none|nil|nan|no|absent|negative|not \w+|n/a|unremarkable|normal|-|yes|present"
    r"|positive|stable|unchanged|multiple|several|numerous|few|one|two|three|left|right|both|head"
    r"|body|tail|hypo\w+|hyper\w+|iso\w+|\d+(?:\.\d+)?)(?!\w)"
)
LESION_COUNT = re.compile(
    r"(?: in (?:the |both )?\w+)?"
    r"(?: (?:instances?|volume|counts?|numbers?|diameter|burden|location|attenuation|size))*"
    rf"(?:(?: \([^()]{{0,60}}\))? ?[:=] ?{_VALUE}"
    r"|(?<=count|mbers|umber|tance|ances|ounts)(?: (?:is|of|was|are))? (?P<number>\d+)"
    r"| \((?P<zero>0)\))"
)
"""A table's value after the word: "number of liver lesions: 0", "lesion count 2"."""

NOTHING = re.compile(r"no\w*|nil|nan|absent|negative|not \w+|n/a|unremarkable|-|0+(?:\.0+)?")
"""Values that say there is none."""

SEGMENTED = re.compile(
    r"\b(?:lungs?|pulmonary|(?:upper|middle|lower) lobes?|lingula\w*|bronch\w+|coronary|descending"
    r"|circumflex|stern\w+|vertebra\w*|spin(?:e|al)|colon\w*|bowel|sigmoid|rect(?:um|al)|jejun\w+"
    r"|ileum|ileal|duoden\w+|ureter\w*|arter(?:y|ial|ies))\b"
)
"""What else than the liver has segments."""

HEADING = re.compile(
    r"(?:\(?\d{1,2}[.)]+ ?|[-•*] ?)?(?P<name>[a-z][a-z ,/&()-]{2,60}?) ?\d{0,2} ?:"
)
"""At the start of a sentence: what the sentences after it are about."""

SKIPPED = re.compile(
    r"\b(?:clinical (?:information|history|indication|details|data)|indications?"
    r"|reason for \w+(?: \w+)?|(?:patient )?history|comparison|technique|protocol|procedure)\s*:"
)
"""Sections in which nothing of this examination is described."""
