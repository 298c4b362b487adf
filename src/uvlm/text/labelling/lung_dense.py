"""Rules of the lung classes where lung is denser than air should be.

Lung nodule, lung opacity, consolidation, atelectasis and fibrotic sequela share words ("nodular
consolidation", "density increases of sequela"), so they are told apart here, side by side. The
wording is that of CT-RATE: Turkish reports in English, where one term has several translations
("buzlu cam" is ground glass, frosted glass or icy glass).
"""

from __future__ import annotations

from uvlm.text.labelling.rules import PRESENT_OR_UNCERTAIN, Rule

__all__ = ["DENSE_RULES"]

_ELSEWHERE = (
    # Head, neck and chest wall.
    r"brain", r"cereb", r"encephal", r"maxill", r"nasal", r"tonsil", r"tongue", r"phary", r"laryn",
    r"vocal", r"(?:hemi)?thyroid", r"parathyroid", r"isthmus", r"parotid", r"submandibular",
    r"cervi(?:cal|x)", r"carotid", r"breasts?\b", r"mammar", r"retro-?areolar", r"areola",
    r"axill", r"gynecomast", r"(?:sub)?cutaneous", r"skin\b", r"muscles?\b", r"(?:intra)?muscular",
    r"pectoral", r"soft tissue plan", r"(?:chest|thora\w+|abdominal) wall",
    # Mediastinum.
    r"(?:antero|pre)?mediastin", r"thym(?:us|ic)", r"o?esophag", r"(?:epi|peri)cardi(?:al|um)",
    r"prevascular", r"subcarinal", r"aort\w*-?pulm", r"lymph", r"laps?\b", r"tracheal?\b",
    r"paratracheal", r"(?:inter)?ventric", r"atri(?:um|al)", r"myocard",
    # Abdomen.
    r"liver", r"(?:peri|sub|intra)?-?hepat", r"kidney", r"(?:peri|para|supra|sur)?renal",
    r"perinephr", r"gerota", r"adrenal", r"crus\b", r"spleen", r"(?:peri)?splenic",
    r"(?:peri)?pancrea", r"gall ?bladder", r"bile\b", r"stomach", r"(?:peri)?gastric", r"bowel",
    r"intestin", r"(?:meso|peri)?colon", r"pericolic", r"sigmoid", r"ca?ec(?:um|al)\b",
    r"ile(?:um|al)\b", r"jejun", r"append", r"rect(?:al|um)", r"duoden", r"mesent", r"oment",
    r"(?:retro|extra|intra)?-?periton", r"(?:intra)?abdom", r"pelvi", r"bladder", r"prostat",
    r"uter(?:us|ine)", r"myom", r"ovar", r"adnex", r"inguinal", r"umbilic", r"(?:ilio)?psoas",
    r"ureter", r"(?:pre)?sacr", r"iliac",
    # Bones; "elevation" is a translation of rib.
    r"bones?\b", r"bony", r"(?:inter|para)?vertebr", r"ribs?\b", r"(?:inter)?costal?\b", r"costae",
    r"costo-?chondr", r"elevations?\b", r"(?:para|retro|pre)?stern(?:um|al|oto)", r"(?:sub)?scapul",
    r"(?:supra|infra|sub)?clavic", r"humer", r"femor", r"fractur", r"corpus",
    r"(?:para)?spin(?:e|al|ous)\b", r"end ?plate", r"s[ch]*morl",
    # Nodules of the lung are not described so.
    r"(?:hypo|hyper|iso)-?dens", r"hypo-?echo", r"exophytic",
)  # fmt: skip
"""Organs other than the lung, where nodules, sequelae and densities are found too."""

_LUNG = (
    r"lungs?\b", r"(?:intra-?)?pulmonary", r"(?:both|each) parenchyma",
    r"parenchymal? (?:window|area|of both)", r"(?:upper|middle|lower)(?: and \w+|-\w+)? lobes?",
    r"azygos lobe", r"lingul", r"fissur", r"(?:sub-?)?pleural\b", r"pleuro-?parenchym",
    r"centr\w*(?:acinar|lobular)", r"peri-?bronch", r"apico-?posterior", r"superior segment",
    r"(?:latero|postero|antero|medio)\w*basal", r"basal segment", r"apical", r"apex", r"apices",
)  # fmt: skip
"""Words that place a finding in the lung, whatever else the sentence names."""

_THEN = r"(?:in|at|on|from) the (?:previous|prior|old|earlier|former|last)"
_EARLIER = (
    rf"{_THEN} (?:\w+ ){{0,5}}?\w+,? there (?:was|were|is|are)\b",
    rf"there (?:was|were|is|are) (?:[\w-]+ ){{0,16}}?{_THEN} (?:\w+ )?\w+ ?(?:\(|[.,;]|$)",
)
"""A clause that only tells what an earlier examination showed."""

_MEANS = r"(?:(?:consistent|compatible) with|in favou?r of)"

NODULE_RULES = (
    Rule(
        label="Lung nodule",
        # A "lymph nodule" is a node; a pleural nodule lies outside the lung; what could not be
        # judged is not seen.
        terms=(
            r"(?<!\blymph[ -])(?<!(?<!-)\bpleural )(?<!thyroid )(?<!adrenal )(?<!breast )"
            r"(?<!liver )(?<!evaluation of )(?<!assessment of )(?:micro|macro|pseudo)?"
            r"nod[uü]l(?:es?|us|ations?)?\b(?! (?:(?:cannot|could not|can not) be (?:evalu|assess)"
            r"|may be (?:over|miss)))",
        ),
        at=_LUNG,
        not_in=_ELSEWHERE,
    ),
    # "Nodular" alone describes consolidation and the like; with a thing it is a nodule.
    Rule(
        label="Lung nodule",
        terms=(
            r"(?<!(?<!-)\bpleural )(?<!centriacinar )(?<!centrilobular )(?:micro)?"
            r"nodul[ae]r(?:y|ous)?"
            r"(?:[ -](?!consolid|infiltr|ground|frosted|thick|enhanc|contrast)[\w-]+){0,3}?"
            r"[ -](?:lesion|formation|appearance|structure|pattern|mass|opacit|space-occup"
            r"|component|configuration|foc)\w*",
            r"(?:centriacinar|centrilobular) (?:micro)?nodul[ae]r "
            r"(?:appearance|pattern|opacit|lesion)\w*",
        ),
        unless=(rf"{_MEANS} (?:[\w-]+ ){{0,3}}?(?:lymph|at[ael]+ct|consolid)",),
        at=_LUNG,
        not_in=_ELSEWHERE,
    ),
    Rule(
        label="Lung nodule",
        terms=(r"nodul[ae]r (?:[\w-]+ ){0,2}?densit\w*",),
        needs=(r"[\d.,x]+ ?(?:mm|cm)\b", r"diameter", r"milli?met"),
        at=_LUNG,
        not_in=_ELSEWHERE,
    ),
)  # fmt: skip

_NO_SCAR = r"(?<!sequela )(?<!sequelae )(?<!sequel )(?<!fibrotic )"
_NO_COLLAPSE = r"(?<!atelectasis )(?<!atelectatic )"
_ELSEWHERE_DENSE = (
    r"pleur(?:o|a|al)?[ -]?parenchymal (?:\w+ ){0,2}densit",
    r"increas\w* in pleur(?:o|a|al)?[ -]?parenchym",
    rf"{_MEANS} (?:\w+ ){{0,2}}pleuro-?parenchym",
    rf"{_MEANS} (?:\w+ ){{0,3}}?consolid",
    r"(?:in|of) (?:the )?(?:\w+ )?(?:bones?\b|fat\b|fatty|kidney|liver|mediast|muscle)",
    r"subcutan", r"bud\b", r"suture", r"breast", r"retroareol", r"gynecomast", r"perirenal",
    r"mesent", r"oment",
)  # fmt: skip
"""Densities that are no opacity: sequela, consolidation, those outside the lung."""

OPACITY_RULES = (
    Rule(
        label="Lung opacity",
        terms=(
            r"(?:gr?o?u?n?d|frost(?:ed|y)?|iced?|icy|frozen|opaque|matt?e?|cloudy)[ -]{0,3}gl?ass?"
            r"(?:y|es|-like)?\b",
            r"glass[- ](?:like )?(?:densit|opacit|appear|area)\w*",
            r"icy (?:densit|appear|area)\w*",
            r"buzlu cam",
            r"ggos?\b",
        ),
        unless=(*_EARLIER, r"dysplasia", r"mesent", r"oment"),
        # Asked is its cause ("viral pneumonia?"), hardly ever the ground glass.
        counts=PRESENT_OR_UNCERTAIN,
    ),
    Rule(
        label="Lung opacity",
        # Nodular and acinar opacities are small nodules.
        terms=(rf"{_NO_SCAR}{_NO_COLLAPSE}(?<!nodular )(?<!acinar )opaci(?:ty|ties|fi\w+)",),
        unless=_EARLIER,
        at=_LUNG,
        not_in=_ELSEWHERE,
    ),
    # Density increases without a name; those named sequela or consolidation belong there.
    Rule(
        label="Lung opacity",
        terms=(
            rf"{_NO_SCAR}{_NO_COLLAPSE}densit(?:y|ies) (?:\w+ )?incre\w*",
            rf"{_NO_SCAR}increas\w* (?:(?:in|of) )?(?:(?!sequel|fibrotic|atelec)[\w-]+ ){{0,3}}?"
            r"densit\w*",
            r"(?:dep[ae]nd[ae]nt|acinar|alveolar|patchy|linear|nonspecific|subpleural|reticular"
            r"|irregular) densities",
        ),
        needs=(*_LUNG, r"hemithora"),
        unless=_ELSEWHERE_DENSE,
    ),
)  # fmt: skip

CONSOLIDATION_RULES = (
    Rule(
        label="Consolidation",
        # "Ground-glass consolidations" are ground glass.
        terms=(
            r"(?<!glass[ -])(?<!loss of )(?<!observed as )(?<!seen as )"
            r"con[sd][oa]?l[ioa]?d[iae]\w*",
        ),
        unless=_EARLIER,
        at=_LUNG,
        # Bone that heals consolidates too.
        not_in=(r"fractur", r"callus"),
    ),
)

ATELECTASIS_RULES = (
    Rule(
        label="Atelectasis",
        # Fibroatelectasis and "sequelae of atelectasis" are scars. Misspellings are many.
        terms=(
            r"(?<!fibro[ -])(?<!fibrotic )(?<!sequela )(?<!sequelae )(?<!sequel )(?<!sequelae of )"
            r"(?<!sequela of )(?:micro|sub)?at{1,2}h?(?:el{1,2}|al|l|e)[ea]?[ckt]\w{2,}",
        ),
        unless=_EARLIER,
    ),
    Rule(
        label="Atelectasis",
        terms=(r"collaps\w*",),
        needs=(r"lungs?\b", r"lob(?:e|es|ar)\b", r"parenchym", r"segment"),
        unless=(
            r"(?:inter)?vertebr", r"fractur", r"bowel", r"intestin", r"loops?\b", r"stomach",
            r"(?:gall ?)?bladder", r"o?esophag", r"veins?\b", r"cava", r"trachea", r"disc",
            r"height", r"corpus",
        ),
    ),
)  # fmt: skip

# "Sequela rib fractures", "sequelae of calcified lymph nodes": of something else.
_OF_ELSE = (
    r"(?! (?:(?!and\b|with\b|in\b|chang|densit)[\w-]+ ){0,3}?"
    r"(?:fractur|ribs?\b|costa|lymph|nodul|vertebr))"
)
SEQUELA_RULES = (
    Rule(
        label="Pulmonary fibrotic sequela",
        terms=(
            r"(?<!fracture )(?<!fractures )(?:fibro|[a-z]+-)?"
            rf"(?:seq(?:ue|ua|eu|u)|sek[eu]|squ?e|secue)l\w*\b{_OF_ELSE}",
            r"fibro[- ]?at{1,2}h?(?:el{1,2}|al|l|e)[ea]?[ckt]\w{2,}",
            r"(?<!cystic )fibro(?:tic|s[ie]s)\b",
            r"fibro-?(?:linear|nodular|cicatri\w*|reticul\w*)",
            r"fibro-?calcif\w*\b(?! (?:\w+ )?(?:athero|plaq))",
            r"fibrous (?:band|change|tissue|densit|strand|streak|line)\w*",
            r"(?<!thickening of )(?<!thickening in )"
            r"(?:parenchymal|sub-?pleural|pleuro-?parenchymal)(?: peripheral)?(?: linear)? bands?\b"
            r"(?! at[ael]+)",
            r"pleur(?:o|a|al)?[ -]?parenchymal (?!at[ael]+)(?:\w+ ){0,2}?"
            r"(?:densit|recession|retract|band|change|irregular|line|streak|opacit)\w*",
            r"parenchymal recession\w*",
        ),
        at=_LUNG,
        not_in=_ELSEWHERE,
    ),
    Rule(
        label="Pulmonary fibrotic sequela",
        terms=(r"scars?\b", r"scarring", r"scarred", r"cicatri[cszx]\w*"),
        needs=_LUNG,
        unless=(r"skin\b", r"incision", r"mastectom", r"stern", r"operat", r"surg"),
    ),
)  # fmt: skip

DENSE_RULES: tuple[Rule, ...] = (
    *NODULE_RULES,
    *OPACITY_RULES,
    *CONSOLIDATION_RULES,
    *ATELECTASIS_RULES,
    *SEQUELA_RULES,
)
