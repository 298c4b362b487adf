"""Findings to JSON, Markdown and mask: warnings on top, whole or not at all, never overwritten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.inference.evidence.made import lesion
from uvlm.errors import InputError
from uvlm.imaging.measure import ClassMeasure
from uvlm.imaging.volume import Provenance, Volume
from uvlm.inference import writer
from uvlm.inference.evidence.types import (
    Contradiction,
    HeatMap,
    Place,
    ReportEvidence,
    SentenceEvidence,
    StatedFinding,
)
from uvlm.inference.findings import Findings
from uvlm.registry import DISCLAIMER

FLAG = "Another body region: this looks like abdomen, the model was trained on chest."
NOTE = "The field of view is small."
AFFINE = np.array([[0.7, 0, 0, -150], [0, 0.7, 0, -190], [0, 0, 5, -300], [0, 0, 0, 1]])


@pytest.fixture
def findings() -> Findings:
    mask = np.zeros((3, 4, 5), np.uint8)
    mask[1] = 2
    return Findings(
        study="case",
        generated="Findings: Clear lungs. No effusion.",
        sentences=("Clear lungs.", "No effusion."),
        probabilities={"Emphysema": 0.25, "Atelectasis": 0.75},
        mask=mask,
        affine=AFFINE,
        classes={"lung": 1, "heart": 2},
        measures=(
            ClassMeasure(name="lung", label=1, voxels=0, volume_ml=0.0, mean_hu=None),
            ClassMeasure(name="heart", label=2, voxels=20, volume_ml=49.0, mean_hu=41.5),
        ),
        flags=(FLAG,),
        notes=(NOTE,),
        timings={"read": 0.5},
        manifest={"input": "case.nii.gz", "geometry": {"shape": [3, 4, 5]}},
        model={"parts": {"report": {"trained_on": "300 synthetic chest studies"}}},
    )


def test_flags_stand_before_everything_else(findings):
    assert findings.warnings == (FLAG, NOTE)
    assert findings.report.startswith(f"WARNING: {FLAG}")
    lines = [line for line in writer.markdown(findings.to_dict()).splitlines() if line]
    assert FLAG in lines[1]


def test_every_output_says_what_it_is_not_for_and_what_trained_the_model(findings, tmp_path):
    written = findings.write(tmp_path)
    for text in (findings.report, written.json.read_text(), written.markdown.read_text()):
        assert DISCLAIMER in text
        assert "300 synthetic chest studies" in text


def test_json_holds_what_findings_hold(findings, tmp_path):
    content = json.loads(findings.write(tmp_path).json.read_text())
    assert content["sentences"] == ["Clear lungs.", "No effusion."]
    assert content["probabilities"] == {"Emphysema": 0.25, "Atelectasis": 0.75}
    assert content["mask"]["file"] == "case_mask.nii.gz"
    assert content["mask"]["classes"] == {"lung": 1, "heart": 2}
    assert content["mask"]["statistics"] == {
        "lung": {"volume_ml": 0.0, "mean_hu": None},
        "heart": {"volume_ml": 49.0, "mean_hu": 41.5},
    }
    assert content["warnings"] == [FLAG, NOTE]


def test_markdown_ranks_probabilities_and_lists_absent_structures(findings):
    text = writer.markdown(findings.to_dict())
    assert text.index("Atelectasis | 0.75") < text.index("Emphysema | 0.25")
    assert "| heart | 49.0 | 42 |" in text
    assert "Not found: lung." in text


def test_the_mask_lies_on_the_given_grid(findings, tmp_path):
    image = nib.load(findings.write(tmp_path).mask)
    np.testing.assert_array_equal(np.asarray(image.dataobj), findings.mask.transpose(2, 1, 0))
    np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ AFFINE, atol=1e-5)


def test_without_mask_there_is_no_mask_file(findings, tmp_path):
    bare = replace(findings, mask=None, measures=(), classes={})
    assert bare.write(tmp_path).mask is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case.json", "case.md"]


def test_statistics_are_a_file_of_their_own_when_asked(findings, tmp_path):
    written = findings.write(tmp_path, statistics=True)
    assert json.loads(written.statistics.read_text())["heart"] == {
        "volume_ml": 49.0,
        "mean_hu": 41.5,
    }


@pytest.mark.parametrize("existing", ["case.json", "case.md", "case_mask.nii.gz"])
def test_what_exists_is_never_overwritten(findings, tmp_path, existing):
    (tmp_path / existing).write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        findings.write(tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(existing, "mine")]


def test_a_failed_write_leaves_nothing(findings, tmp_path, monkeypatch):
    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "write_nifti", full_disk)
    with pytest.raises(InputError, match="No space"):
        findings.write(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_out_that_is_a_file_is_refused(findings, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        findings.write(tmp_path / "out")


def test_table_cells_cannot_break_the_table():
    content = Findings(study="a", probabilities={"a|b": 0.5}).to_dict()
    assert "a\\|b" in writer.markdown(content)


def test_nothing_generated_is_said(findings):
    empty = replace(findings, generated="", sentences=())
    assert "wrote nothing" in writer.markdown(empty.to_dict())
    assert replace(findings, generated=None).report is None


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b.nii.gz", "b"), ("b.NII.GZ", "b"), ("dicom.folder", "dicom.folder"), (".nii", ".nii")],
)
def test_study_names(path, name):
    assert writer.study_name(Path(path)) == name


def test_the_impression_stands_under_its_own_heading(findings):
    text = "Findings: Clear lungs. No effusion. Impression: Normal chest."
    page = writer.markdown(replace(findings, generated=text).to_dict())
    before, impression = page.split("### Impression")
    assert "- Clear lungs.\n- No effusion." in before
    assert "- Normal chest." in impression
    assert "Findings:" not in page


EVIDENCE = ReportEvidence(
    sentences=(
        SentenceEvidence(
            text="Nodule of 8 mm in the left lung.",
            section="findings",
            findings=(
                StatedFinding(
                    label="Lung nodule",
                    status="present",
                    words="Nodule",
                    start=0,
                    end=6,
                    sides=("left",),
                    probability=0.03,
                ),
            ),
            heat=HeatMap(
                values=np.ones((2, 2, 2), np.float32) / 8,
                spec_hash="x",
                method="gradient",
                peak=(1, 2, 3),
                peak_mm=(-147.90001, -188.6, -295.0),
            ),
            places=(Place(structure="heart", share=0.51234),),
            lesions=(0,),
            sizes_mm=(8.0,),
        ),
        SentenceEvidence(text="Normal chest.", section="impression"),
    ),
    lesions=(lesion(side=None),),
    contradictions=(
        Contradiction(kind="denied", message="Unlikely.", sentence=0, label="Lung nodule"),
        Contradiction(kind="unmentioned", message="Missing.", label="Emphysema"),
    ),
    doubted={"lung_nodule": "hardly found in validation (Dice 0.01)"},
    details={"distance": None},
)


def test_json_holds_the_evidence_but_no_voxels(findings, tmp_path):
    content = json.loads(
        replace(findings, evidence=EVIDENCE, calibrated=True).write(tmp_path).json.read_text()
    )
    assert content["calibrated"] is True
    evidence = content["evidence"]
    first, second = evidence["sentences"]
    assert first == {
        "text": "Nodule of 8 mm in the left lung.",
        "section": "findings",
        "findings": [
            {
                "label": "Lung nodule",
                "status": "present",
                "words": "Nodule",
                "start": 0,
                "end": 6,
                "sides": ["left"],
                "probability": 0.03,
            }
        ],
        "sizes_mm": [8.0],
        "heat": {"method": "gradient", "peak": [1, 2, 3], "peak_lps_mm": [-147.9, -188.6, -295.0]},
        "places": [{"structure": "heart", "share": 0.5123}],
        "lesions": [0],
    }
    assert (second["findings"], second["heat"]) == ([], None)
    assert [c["kind"] for c in evidence["contradictions"]] == ["denied", "unmentioned"]
    assert evidence["lesions"][0]["box"] == [[0, 2], [1, 4], [2, 5]]
    assert evidence["lesions"][0]["doubt"] == "hardly found in validation (Dice 0.01)"


def test_markdown_marks_what_does_not_fit_under_its_sentence(findings):
    known = replace(findings, evidence=EVIDENCE, calibrated=True, review=("Too far away.",))
    page = writer.markdown(known.to_dict())
    assert (
        "- Nodule of 8 mm in the left lung.\n  - **Check:** Unlikely.\n  - Lung nodule 3%; "
        "heat (gradient): heart 51%, elsewhere 49%; segmented: lung_nodule 1 (doubted)\n"
    ) in page
    assert "### Impression\n\n- Normal chest." in page
    assert "### Not in the report\n\n- **Check:** Missing." in page
    assert page.index("> **For review:** Too far away.") < page.index("## Report")
    assert "| lung_nodule 1 | 10 | 0.50 | 30 | - | lung_lower_lobe_right | hardly found in" in page
    assert "Calibrated probability" in page


def test_a_report_with_its_volume_is_a_page_too(findings, tmp_path):
    volume = Volume(
        array=np.zeros((3, 4, 5), np.int16),
        affine=AFFINE,
        provenance=Provenance(path="case.nii.gz", format="nifti", checksum="0"),
    )
    written = replace(findings, volume=volume).write(tmp_path / "a")
    page = written.html.read_text()
    assert FLAG in page
    assert DISCLAIMER in page
    assert "volume" not in json.loads(written.json.read_text())
    bare = replace(findings, volume=volume, generated=None, sentences=())
    assert bare.write(tmp_path / "b").html is None
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "case.html").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        replace(findings, volume=volume).write(tmp_path / "c")


def test_reasons_for_review_stand_in_json_and_markdown_without_evidence(findings, tmp_path):
    written = replace(findings, review=("Too far away.", NOTE)).write(tmp_path)
    content = json.loads(written.json.read_text())
    assert content["review"] == ["Too far away.", NOTE]
    page = written.markdown.read_text()
    assert page.index("> **For review:** Too far away.") < page.index("## Report")
    assert page.count(NOTE) == 1  # a warning already


def test_markdown_passes_no_html_through(findings):
    bad = "<script>alert(1)</script> & <b>x</b>"
    evidence = replace(
        EVIDENCE,
        sentences=(SentenceEvidence(text=bad, section="findings"),),
        contradictions=(Contradiction(kind="denied", message=bad, sentence=0),),
    )
    fields = {"study": bad, "flags": (bad,), "review": (bad + "!",), "probabilities": {bad: 0.5}}
    for each in (evidence, None):
        known = replace(findings, generated=bad, evidence=each, manifest={bad: bad}, **fields)
        page = writer.markdown(known.to_dict())
        assert "<script" not in page
        assert "<b>" not in page
        assert "- &lt;script>alert(1)&lt;/script> &amp; &lt;b>x&lt;/b>" in page
