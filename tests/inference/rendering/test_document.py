"""The page of a study: whole, safe, and the same pathology in one colour everywhere."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.inference.rendering.studies import (
    TEXTS,
    make_findings,
    make_grids,
    make_mask,
    make_volume,
    stated,
)
from uvlm.inference.evidence.lesions import lesions_of
from uvlm.inference.evidence.types import CLASS_METHOD, ReportEvidence, SentenceEvidence
from uvlm.inference.findings import Findings
from uvlm.inference.rendering import keys
from uvlm.inference.rendering.document import html_page
from uvlm.inference.rendering.keys import MOST_IMAGES, scene_of

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Tags with attributes and text; notices tags that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def page() -> str:
    return html_page(make_findings(), make_volume())


def pictures_in(page: str) -> list[Image.Image]:
    codes = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [Image.open(BytesIO(base64.b64decode(code))) for code in codes]


def test_it_says_all_there_is(page):
    text = Reader(page).text
    wanted = [
        "WARNING: Another body region.",
        "A person must look at this study first",
        "It looks like no other study.",
        "2 contradictions",
        "Slices are thick.",
        "Not for clinical use.",
        "Model trained on: made-up studies.",
        "83.0% (calibrated)",
        "Lung nodule 1",
        "30 HU, left, at lung left",
        "lung left 70%, elsewhere 30%",
        "12 of 24, counted from the feet; lung window",
        "Not found: pleural effusion.",
    ]
    assert [words for words in wanted if words not in text] == []
    # Badges and warnings are between the words.
    assert all(part in text for sentence in TEXTS for part in sentence.split("nodule"))


def test_warnings_stand_above_the_report(page):
    text = Reader(page).text
    places = [text.index(words) for words in ("WARNING", "contradictions", "Not for", TEXTS[0])]
    assert places == sorted(places)


def test_a_contradiction_stands_at_its_sentence_too(page):
    sentence = page.split('id="s1"')[1].split("</div>")[0]
    assert "No nodule is 6 mm large." in sentence
    assert 'href="#s1"' in page
    assert "Nobody speaks" not in sentence


def test_one_pathology_has_one_number_in_text_card_and_tables(page):
    text = page.split('id="report"')[1].split('class="views"')[0]
    assert len(re.findall(r'<mark class="k1">', text)) == 2
    assert '<div class="card k1">' in page
    assert 'class="b k2' not in page
    lesions = page.split('id="lesions"')[1].split("</section>")[0]
    assert 'class="b k1' in lesions


def test_what_the_impression_repeats_is_shown_once(page):
    assert page.count('class="card') == 1


def test_the_page_asks_nothing_of_the_network_and_runs_no_script(page):
    reader = Reader(page)
    sources = [value for _, attrs in reader.tags for name, value in attrs.items() if name == "src"]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    links = [attrs["href"] for tag, attrs in reader.tags if tag == "a"]
    assert all(link.startswith("#") for link in links)
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in reader.tags)
    assert re.search(r"url\(|@import|https?:", page) is None


def test_pictures_are_small_and_described(page):
    pictures = pictures_in(page)
    # Axial and coronal of the segmentation; axial, heat map, enlarged and coronal of the nodule.
    assert len(pictures) == 6
    assert max(max(picture.size) for picture in pictures) <= 400
    assert all(attrs["alt"] for tag, attrs in Reader(page).tags if tag == "img")
    assert len(page) < 400_000


def test_text_of_the_report_cannot_become_html():
    bad = '<script>alert("x")</script> & nodule <img src=x onerror=alert(1)>'
    finding = stated(bad, "nodule", "<b>Lung nodule</b>", probability=None)
    sentence = SentenceEvidence(text=bad, section="findings", findings=(finding,))
    findings = make_findings(
        study=bad,
        generated=bad,
        sentences=(bad,),
        flags=(bad,),
        notes=(bad,),
        probabilities={bad: 0.5},
        review=(bad,),
        evidence=replace(make_findings().evidence, sentences=(sentence,)),
        classes={bad: 4},
        manifest={bad: bad},
        model={"parts": {bad: {"trained_on": bad}}},
        timings={bad: 1.0},
    )
    whole = html_page(findings, make_volume())
    reader = Reader(whole)
    assert {"script", "b>", "onerror"}.isdisjoint(tag for tag, _ in reader.tags)
    assert not [attrs for _, attrs in reader.tags if "onerror" in attrs]
    assert reader.text.count('<script>alert("x")</script>') >= 8


@pytest.mark.parametrize("bad", ["<script>alert(1)</script>", "a < b & c"])
def test_a_report_without_evidence_is_escaped_and_shown(bad):
    findings = Findings(study="one", generated=bad, sentences=(bad,))
    whole = html_page(findings, make_volume())
    assert bad not in whole
    assert bad in Reader(whole).text
    assert pictures_in(whole) == []


def test_a_finding_without_lesion_is_shown_where_the_heat_is_and_without_both_not_at_all():
    volume = make_volume()
    evidence = make_findings().evidence
    alone = replace(evidence.sentences[1], lesions=())
    findings = make_findings(evidence=replace(evidence, sentences=(alone,), lesions=()))
    warm = html_page(findings, volume)
    assert "shows none" in warm
    assert "where the sentence says" not in warm
    assert len(pictures_in(warm)) == 5
    assert 'class="card' not in html_page(replace(findings, grids={}), volume)


def test_words_of_two_findings_that_overlap_are_coloured_once_and_numbered_twice():
    text = "Consolidation and atelectasis <i>here</i>."
    findings = (
        stated(text, "Consolidation and atelectasis", "Consolidation"),
        stated(text, "atelectasis", "Atelectasis", status="uncertain"),
    )
    sentence = SentenceEvidence(text=text, section="findings", findings=findings)
    page = html_page(make_findings(evidence=ReportEvidence(sentences=(sentence,))), make_volume())
    line = page.split('id="s0"')[1].split("</div>")[0]
    assert line.count("<mark") == 1
    assert 'class="b k1"' in line
    assert 'class="b k2"' in line
    assert ">2?</span>" in line
    plain = re.sub(r"<span[^>]*>[^<]*</span>|</?mark[^>]*>", "", line).removeprefix(">")
    assert plain == "Consolidation and atelectasis &lt;i&gt;here&lt;/i&gt;."


def test_absent_findings_have_no_colour():
    text = "No pleural effusion is seen."
    finding = stated(text, "pleural effusion", "Pleural effusion", status="absent")
    sentence = SentenceEvidence(text=text, section="findings", findings=(finding,))
    page = html_page(make_findings(evidence=ReportEvidence(sentences=(sentence,))), make_volume())
    assert "<mark" not in page


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2, 2\).*\(24, 48, 80\)"):
        html_page(make_findings(mask=np.zeros((2, 2, 2), np.uint8)), make_volume())


def test_a_segmentation_without_a_report_is_shown():
    findings = make_findings(generated=None, sentences=(), evidence=None, probabilities=None)
    page = html_page(findings, make_volume())
    assert "Segmented volumes" in page
    assert len(pictures_in(page)) == 2


@pytest.mark.parametrize("part", [np.s_[11:12], np.s_[:, 21:22], np.s_[:, :, 60:61]])
def test_a_study_of_one_slice_along_any_axis_has_a_page(part):
    volume, mask = make_volume(), make_mask()[part]
    thin = replace(volume, array=volume.array[part])
    findings = make_findings(mask=mask, grids=make_grids(thin))
    lesions = lesions_of(mask, thin, findings.classes)
    findings = replace(findings, evidence=replace(findings.evidence, lesions=lesions))
    assert len(pictures_in(html_page(findings, thin))) >= 4


DOUBT = "hardly found in validation (Dice 0.01)"


def test_a_lesion_that_the_mask_hardly_ever_finds_is_doubted_and_chooses_no_slice():
    volume, evidence = make_volume(), make_findings().evidence
    doubted = replace(evidence, doubted={"lung_nodule": DOUBT})
    text = Reader(html_page(make_findings(evidence=doubted), volume)).text
    assert f"at lung left; this class was {DOUBT}" in text
    assert "12 of 24, counted" in Reader(html_page(make_findings(), volume)).text
    at = scene_of(make_findings(), volume).warmth(evidence.sentences[1]).peak[0] + 1
    assert at != 12
    assert f"{at} of 24, counted" in text
    table = html_page(make_findings(evidence=doubted), volume).split('id="lesions"')[1]
    assert DOUBT in table.split("</section>")[0]
    # Without a heat map nothing else says where to look.
    blind = make_findings(evidence=doubted, grids={})
    assert 'class="card' not in html_page(blind, volume)


def test_what_the_mask_does_not_show_is_said_only_with_a_mask():
    volume, evidence = make_volume(), make_findings().evidence
    alone = replace(evidence.sentences[1], lesions=())
    elsewhere = make_findings(evidence=replace(evidence, sentences=(alone,)))
    assert "shows none where the sentence says" in html_page(elsewhere, volume)
    doubted = replace(evidence, sentences=(alone,), lesions=(), doubted={"lung_nodule": DOUBT})
    assert f"shows none; this class was {DOUBT}" in html_page(
        make_findings(evidence=doubted), volume
    )
    bare = replace(elsewhere, mask=None, classes={}, measures=())
    assert 'class="card' in html_page(bare, volume)
    assert "<dt>Segmentation" not in html_page(bare, volume)


def test_captions_say_whose_heat_map_it_is():
    volume, evidence = make_volume(), make_findings().evidence
    sentence = evidence.sentences[1]
    by_head = replace(sentence, heat=replace(sentence.heat, method=CLASS_METHOD))
    findings = make_findings(evidence=replace(evidence, sentences=(by_head,)))
    page = html_page(findings, volume)
    assert page.count("Where the image classifier saw it") == 3  # fact, alt text and caption
    assert "decoder" not in page


def test_findings_beyond_the_most_are_counted_and_not_drawn(monkeypatch):
    volume, evidence = make_volume(), make_findings().evidence
    many = replace(evidence, sentences=(evidence.sentences[1],) * (MOST_IMAGES + 3))
    drawn = []
    real = keys.draw
    monkeypatch.setattr(keys, "draw", lambda *a, **k: drawn.append(1) or real(*a, **k))
    page = html_page(make_findings(evidence=many), volume)
    assert page.count('class="card') == MOST_IMAGES
    assert len(drawn) == 2 + 4 * MOST_IMAGES
    assert "3 more findings without pictures." in page
    assert "without pictures" not in html_page(make_findings(), volume)


def test_without_evidence_the_page_knows_of_calibration_and_review():
    findings = make_findings(evidence=None)
    text = Reader(html_page(findings, make_volume())).text
    assert "Calibrated probabilities" in text
    assert "It looks like no other study." in text


def test_a_reason_for_review_is_not_said_again_as_a_note():
    page = html_page(make_findings(review=("Slices are thick.",)), make_volume())
    assert page.count("Slices are thick.") == 1
