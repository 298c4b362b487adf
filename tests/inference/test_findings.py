"""Findings to JSON, Markdown and mask: warnings on top, whole or not at all, never overwritten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.imaging.measure import ClassMeasure
from uvlm.inference import writer
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
