"""One self-contained HTML page of a study: report, evidence, key images, numbers.

No script, no network, nothing beside it; follows light and dark mode, prints, and reads on a
telephone. All text is escaped.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from uvlm.imaging.volume import Volume
from uvlm.inference.evidence.structures import is_lesion, labels_of
from uvlm.inference.evidence.types import Lesion, Place, ReportEvidence
from uvlm.inference.findings import Findings
from uvlm.inference.rendering.colours import hex_of, organ_colour
from uvlm.inference.rendering.keys import (
    KeyImage,
    Picture,
    Scene,
    key_images,
    overview,
    scene_of,
    whose,
)
from uvlm.inference.rendering.sentences import badge, contradiction_list, report_text
from uvlm.inference.rendering.style import style_of
from uvlm.preprocessing.quality_page import Html, bar, folded, join, page, paragraph, table

__all__ = ["html_page"]

NAMED = 4
"""Lesions, and places of a heat map, that a caption names."""

Part = tuple[str, str, Html]


def html_page(findings: Findings, volume: Volume) -> str:
    """The page of one study, as text to be written in UTF-8.

    Heat maps on volumes that `findings.grids` does not know are not shown.

    Args:
        volume: the CT in HU on the grid of the findings' mask.

    Raises:
        ValueError: mask and volume differ in shape.
    """
    if findings.mask is not None and findings.mask.shape != volume.shape:
        raise ValueError(
            f"the mask has {findings.mask.shape} voxels (z, y, x), the CT {volume.shape}"
        )
    scene = scene_of(findings, volume)
    parts: list[Part] = []
    if findings.generated is not None:
        parts.append(("report", "Report", _report(findings, scene)))
    elif findings.mask is not None:
        parts.append(("mask", "Segmentation", _views(scene)))
    images, more = key_images(findings, scene)
    if images:
        cards = [_card(image, findings) for image in images]
        if more:
            plural = "" if more == 1 else "s"
            cards.append(paragraph(f"{more} more finding{plural} without pictures.", "soft"))
        parts.append(("images", "Key images", join(cards)))
    if findings.probabilities is not None:
        parts.append(("labels", "Probabilities", _probabilities(findings, scene)))
    if findings.evidence is not None and findings.mask is not None:
        parts.append(("lesions", "Lesions of the segmentation", _lesions(findings, scene)))
    if findings.measures:
        parts.append(("volumes", "Segmented volumes", _volumes(findings, scene)))
    parts.append(("provenance", "Provenance", _provenance(findings)))
    return page(f"CT study {findings.study}", parts, _head(findings, scene))


def _head(findings: Findings, scene: Scene) -> Html:
    """What must be read before anything else."""
    parts: list[str] = [Html(f"<style>{style_of(scene.marks.values())}</style>")]
    parts += [
        Html(f'<div class="look" role="alert"><b>WARNING:</b> {escape(flag)}</div>')
        for flag in findings.flags
    ]
    evidence = findings.evidence
    if findings.review:
        parts.append(_box("look", "A person must look at this study first", findings.review))
    if evidence is not None and evidence.contradictions:
        listed = contradiction_list(evidence.contradictions)
        n = len(evidence.contradictions)
        heading = "1 contradiction" if n == 1 else f"{n} contradictions"
        parts.append(Html(f'<div class="look"><b>{heading}</b>{listed}</div>'))
    notes = [note for note in findings.notes if note not in findings.review]
    if notes:
        parts.append(_box("good", "Notes", notes))
    parts.append(paragraph(findings.disclaimer, "disclaimer"))
    parts.append(paragraph(findings.trained_on, "soft"))
    return join(parts)


def _box(style: str, heading: str, lines: Iterable[str]) -> Html:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return Html(f'<div class="{style}"><b>{escape(heading)}</b><ul>{items}</ul></div>')


def _report(findings: Findings, scene: Scene) -> Html:
    """Text beside the segmentation, as in Figure 2 of the paper."""
    if findings.evidence is not None:
        text = report_text(findings.evidence, scene.marks)
    else:
        text = join(paragraph(sentence) for sentence in findings.sentences)
    legend = "".join(
        f"<span>{badge(mark)} {escape(mark.label)}</span> " for mark in scene.marks.values()
    )
    key = f'<p class="soft legend">{legend}</p>' if legend else ""
    return Html(f'<div class="top"><div>{text}{key}</div>{_views(scene)}</div>')


def _views(scene: Scene) -> Html:
    figures = "".join(_figure(picture) for picture in overview(scene))
    return Html(f'<div class="views">{figures}</div>')


def _figure(picture: Picture) -> Html:
    data = b64encode(picture.jpeg).decode()
    title = escape(picture.title)
    return Html(
        f'<figure><img alt="{title}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{title}</figcaption></figure>"
    )


def _card(image: KeyImage, findings: Findings) -> Html:
    """One pathology of one sentence: what is known of it, and its pictures."""
    evidence = findings.evidence
    assert evidence is not None
    sentence = evidence.sentences[image.sentence]
    unsure = image.stated.status == "uncertain"
    heading = f"{badge(image.mark, unsure)}{escape(image.mark.label)}"
    link = f'<a class="soft" href="#s{image.sentence}">sentence {image.sentence + 1}</a>'
    facts = "".join(
        f"<dt>{escape(what)}</dt><dd>{join([value])}</dd>"
        for what, value in _facts(image, evidence, findings)
    )
    figures = "".join(_figure(picture) for picture in image.pictures if not picture.small)
    beside = "".join(_figure(picture) for picture in image.pictures if picture.small)
    against = "".join(
        f'<p class="warn">{escape(c.message)}</p>'
        for c in evidence.contradictions
        if c.sentence == image.sentence and c.label in (None, image.mark.label)
    )
    return Html(
        f'<div class="card k{image.mark.number}"><h3>{heading}</h3>'
        f'<p class="said">&ldquo;{escape(sentence.text)}&rdquo; {link}</p>{against}'
        f'<dl>{facts}</dl><div class="row">{figures}<div class="beside">{beside}</div></div></div>'
    )


def _facts(
    image: KeyImage, evidence: ReportEvidence, findings: Findings
) -> Iterable[tuple[str, str]]:
    probability = image.stated.probability
    if probability is not None:
        how = "calibrated" if findings.calibrated else "not calibrated"
        yield "Probability", Html(f"{bar(probability)} ({how})")
    for lesion in image.lesions[:NAMED]:
        doubt = evidence.doubted.get(lesion.name)
        text = _described(lesion)
        yield (
            f"{_title(lesion.name)} {lesion.number}",
            f"{text}; this class was {doubt}" if doubt else text,
        )
    if len(image.lesions) > NAMED:
        yield "", f"and {len(image.lesions) - NAMED} more"
    if not image.lesions and findings.mask is not None:
        yield "Segmentation", _none_shown(image.mark.label, evidence, findings.classes)
    sentence = evidence.sentences[image.sentence]
    if sentence.places and sentence.heat is not None:
        seen = whose(sentence.heat)
        yield f"{seen[:1].upper()}{seen[1:]}", _shares(sentence.places)
    shown = f"{image.slice} of {image.slices}, counted from the feet; {image.window.name}"
    yield "Slice", shown


def _none_shown(label: str, evidence: ReportEvidence, classes: Iterable[str]) -> str:
    """What the mask tells of a finding of which the sentence has no lesion."""
    known = [name for name in classes if label in labels_of(name)]
    if not known:
        return "has no class for this"
    text = "shows none"
    if any(lesion.name in known for lesion in evidence.lesions):
        text += " where the sentence says"
    doubts = dict.fromkeys(evidence.doubted[name] for name in known if name in evidence.doubted)
    return f"{text}; this class was {', '.join(doubts)}" if doubts else text


def _shares(places: Sequence[Place]) -> str:
    """The structures with most of the heat, and how much of it lies in none of them."""
    named = [(_readable(place.structure), place.share) for place in places[:NAMED]]
    rest = 1 - sum(share for _, share in named)
    if rest >= 0.005:
        named.append(("elsewhere", rest))
    return ", ".join(f"{name} {share:.0%}" for name, share in named)


def _described(lesion: Lesion) -> str:
    """Size, volume, density and place in one line."""
    text = f"{lesion.diameter_mm:.0f} mm, {_ml(lesion.volume_ml):g} ml, {lesion.mean_hu:.0f} HU"
    text += f", {lesion.side}" if lesion.side else ""
    return text + (f", at {_readable(lesion.structure)}" if lesion.structure else "")


def _ml(volume: float) -> float:
    """Three digits, and none behind the point from 100 ml on."""
    return float(f"{volume:.3g}") if volume < 100 else float(round(volume))


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _title(name: str) -> str:
    text = _readable(name)
    return text[:1].upper() + text[1:]


def _probabilities(findings: Findings, scene: Scene) -> Html:
    probabilities = findings.probabilities or {}
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    rows = [
        (label, bar(value), badge(scene.marks[label]) if label in scene.marks else "")
        for label, value in ranked
    ]
    half = (len(rows) + 1) // 2 if len(rows) > 8 else len(rows)
    header = ("Label", "Probability", "In the report")
    tables = "".join(table(header, part) for part in (rows[:half], rows[half:]) if part)
    how = "Calibrated" if findings.calibrated else "Not calibrated"
    note = paragraph(f"{how} probabilities of the class head, which does not read the report.")
    return Html(f'{note}<div class="columns">{tables}</div>')


def _lesions(findings: Findings, scene: Scene) -> Html:
    evidence = findings.evidence
    if evidence is None or not evidence.lesions:
        return paragraph("None was segmented.")
    spoken = {index for sentence in evidence.sentences for index in sentence.lesions}
    rows = [
        (
            _marked(lesion.name, scene),
            lesion.number,
            round(lesion.diameter_mm, 1),
            _ml(lesion.volume_ml),
            round(lesion.mean_hu),
            lesion.side or "",
            _readable(lesion.structure or ""),
            scene.turned(lesion.centre)[0] + 1,
            "yes" if index in spoken else "no",
            evidence.doubted.get(lesion.name, ""),
        )
        for index, lesion in enumerate(evidence.lesions)
    ]
    header = ("Lesion", "No.", "Axial diameter (mm)", "ml", "Mean HU", "Side", "In or at", "Slice")
    return table((*header, "In the report", "Doubt"), rows)


def _marked(name: str, scene: Scene) -> Html:
    """A class of the mask with the colour it is drawn in."""
    marks = [scene.marks[label] for label in labels_of(name) if label in scene.marks]
    text = escape(_title(name))
    if marks:
        return Html("".join(badge(mark) for mark in marks) + f" {text}")
    if is_lesion(name):
        return Html(text)
    colour = hex_of(organ_colour(scene.classes[name])) if name in scene.classes else "none"
    return Html(f'<span class="swatch" style="background:{colour}"></span>{text}')


def _volumes(findings: Findings, scene: Scene) -> Html:
    present = [m for m in findings.measures if m.mean_hu is not None]
    rows = [(_marked(m.name, scene), _ml(m.volume_ml), round(m.mean_hu or 0)) for m in present]
    absent = [_readable(m.name) for m in findings.measures if m.mean_hu is None]
    half = (len(rows) + 1) // 2 if len(rows) > 8 else len(rows)
    header = ("Structure", "Volume (ml)", "Mean HU")
    tables = "".join(table(header, part) for part in (rows[:half], rows[half:]) if part)
    note = paragraph(f"Not found: {', '.join(absent)}.", "soft") if absent else ""
    return Html(f'<div class="columns">{tables}</div>{note}')


def _provenance(findings: Findings) -> Html:
    rows = list(_flat(findings.manifest))
    for part, card in findings.model.get("parts", {}).items():
        rows.append((f"trained on ({part})", str(card["trained_on"])))
    rows += [(f"seconds: {name}", f"{value:.2f}") for name, value in findings.timings.items()]
    if findings.evidence is not None:
        rows += _flat(findings.evidence.details, "evidence: ")
    return folded("Input, preprocessing, bundle, software, seconds", table(("What", "Value"), rows))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, (list, tuple)):
            yield name, " x ".join(str(item) for item in value)
        else:
            yield name, str(value)
