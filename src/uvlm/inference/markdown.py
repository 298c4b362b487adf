"""`Findings.to_dict()` as Markdown, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from uvlm.text.cleaning import split_sections, split_sentences

__all__ = ["markdown"]

PLACES = 3
"""Places of a heat map, and lesions, that are named under a sentence."""


def markdown(content: Mapping[str, Any]) -> str:
    """Warnings, report with what does not fit, probabilities, lesions, volumes, provenance."""
    evidence = content["evidence"]
    blocks = [f"# CT study {_plain(content['study'])}", *_on_top(content)]
    blocks.append(f"**{content['disclaimer']}** {_plain(content['trained_on'])}")
    if content["report"] is not None:
        blocks += ["## Report", *_report(content["generated"], evidence)]
    if content["probabilities"] is not None:
        ranked = sorted(content["probabilities"].items(), key=lambda item: -item[1])
        rows = [(name, f"{value:.2f}") for name, value in ranked]
        kind = "Calibrated probability" if content["calibrated"] else "Probability"
        blocks += ["## Abnormalities", _table(("Label", kind), rows)]
    if evidence is not None and evidence["lesions"]:
        blocks += ["## Segmented lesions", _lesions(evidence["lesions"])]
    if content["mask"] is not None:
        blocks += ["## Segmented volumes", _volumes(content["mask"])]
    blocks += ["## Provenance", _provenance(content)]
    return "\n\n".join(blocks) + "\n"


def _on_top(content: Mapping[str, Any]) -> list[str]:
    """Warnings, and why a person must look at the study first."""
    review = content["review"]
    others = (text for text in content["warnings"] if text not in review)
    lines = [f"> **Warning:** {_plain(text)}" for text in others]
    lines += [f"> **For review:** {_plain(text)}" for text in review]
    return ["\n>\n".join(lines)] if lines else []


def _report(generated: str, evidence: Mapping[str, Any] | None) -> list[str]:
    """Findings, and impression under a heading of its own, a line per sentence."""
    if evidence is None:
        sections = split_sections(generated)
        parts = [[f"- {_plain(s)}" for s in split_sentences(text)] for text in sections]
        apart = []
    else:
        parts = [_marked(evidence, section) for section in ("findings", "impression")]
        found = evidence["contradictions"]
        apart = [f"- **Check:** {_plain(c['message'])}" for c in found if c["sentence"] is None]
    findings, impression = ("\n".join(lines) for lines in parts)
    blocks = [findings] if findings else []
    if impression:
        blocks += ["### Impression", impression]
    blocks = blocks or ["(The model wrote nothing.)"]
    return [*blocks, "### Not in the report", "\n".join(apart)] if apart else blocks


def _marked(evidence: Mapping[str, Any], section: str) -> list[str]:
    """The sentences of a section, under each what does not fit and what it rests on."""
    lines = []
    for index, sentence in enumerate(evidence["sentences"]):
        if sentence["section"] == section:
            lines.append(f"- {_plain(sentence['text'])}")
            marks = (c["message"] for c in evidence["contradictions"] if c["sentence"] == index)
            lines += [f"  - **Check:** {_plain(message)}" for message in marks]
            known = "; ".join(_known(sentence, evidence["lesions"]))
            lines += [f"  - {_plain(known)}"] if known else []
    return lines


def _known(sentence: Mapping[str, Any], lesions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of a sentence that states something: probabilities, places of the heat, lesions."""
    stated = [f for f in sentence["findings"] if f["status"] in ("present", "uncertain")]
    odds = {f["label"]: f["probability"] for f in stated if f["probability"] is not None}
    if odds:
        yield ", ".join(f"{label} {value:.0%}" for label, value in odds.items())
    if sentence["heat"] is not None and sentence["places"]:
        places = sentence["places"][:PLACES]
        rest = 1 - sum(place["share"] for place in places)
        where = ", ".join(f"{place['structure']} {place['share']:.0%}" for place in places)
        elsewhere = f", elsewhere {rest:.0%}" if rest >= 0.005 else ""
        yield f"heat ({sentence['heat']['method']}): {where}{elsewhere}"
    if sentence["lesions"]:
        spoken = [lesions[index] for index in sentence["lesions"][:PLACES]]
        more = len(sentence["lesions"]) - len(spoken)
        named = [f"{x['name']} {x['number']}{' (doubted)' if x['doubt'] else ''}" for x in spoken]
        yield "segmented: " + ", ".join([*named, f"{more} more"] if more else named)


def _lesions(lesions: Sequence[Mapping[str, Any]]) -> str:
    head = (
        "Lesion",
        "Largest axial diameter (mm)",
        "Volume (ml)",
        "Mean HU",
        "Side",
        "In",
        "Doubt",
    )
    return _table(head, _lesion_rows(lesions))


def _lesion_rows(lesions: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for lesion in lesions:
        yield (
            f"{lesion['name']} {lesion['number']}",
            f"{lesion['diameter_mm']:.0f}",
            f"{lesion['volume_ml']:.2f}",
            f"{lesion['mean_hu']:.0f}",
            lesion["side"] or "-",
            lesion["structure"] or "-",
            lesion["doubt"] or "-",
        )


def _volumes(mask: Mapping[str, Any]) -> str:
    present = {n: s for n, s in mask["statistics"].items() if s["volume_ml"] > 0}
    absent = [name for name in mask["statistics"] if name not in present]
    rows = [
        (name, f"{values['volume_ml']:.1f}", f"{values['mean_hu']:.0f}")
        for name, values in present.items()
    ]
    text = _table(("Structure", "Volume (ml)", "Mean HU"), rows) if rows else "Nothing segmented."
    return text + (f"\n\nNot found: {_plain(', '.join(absent))}." if absent else "")


def _provenance(content: Mapping[str, Any]) -> str:
    rows = list(_flat(content["manifest"]))
    for part, card in content["model"].get("parts", {}).items():
        rows.append((f"trained on ({part})", str(card["trained_on"])))
    rows.append(("seconds", ", ".join(f"{k} {v:.1f}" for k, v in content["timings"].items())))
    return _table(("What", "Value"), rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, (list, tuple)):
            yield name, " x ".join(str(item) for item in value)
        else:
            yield name, str(value)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    escaped = (" | ".join(_plain(cell).replace("|", "\\|") for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in escaped)


def _plain(text: str) -> str:
    """Text that no reader of Markdown takes for HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
