"""The quality report: self-contained, without patient text, whatever the dataset lacks."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.imaging.bodies import chest
from uvlm.imaging.preprocess import PreprocessSpec, prepare
from uvlm.imaging.store import meta_of, write_store
from uvlm.preprocessing.catalog import Catalog, Row
from uvlm.preprocessing.entries import entries_of, grouped
from uvlm.preprocessing.outliers import outliers
from uvlm.preprocessing.quality import QUALITY, duplicates_of, write_quality
from uvlm.preprocessing.records import Record
from uvlm.preprocessing.study import Statement

VOID = {"meta", "br", "img"}
REPORT = "A nodule of 5 mm in the right upper lobe of Mr Confidential."


class Balanced(HTMLParser):
    """Collects attributes and fails on a tag that is not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def row(number, **changes):
    name = f"train_{number}_a_1"
    usual = Row(
        series_id=name,
        case_id=f"train_{number}_a",
        patient_id=f"train_{number}",
        split="train",
        image=Path(f"/secret/{name}.b2nd"),
        mask=None,
        labels=(1.0, None),
        report=None,
    )
    return replace(usual, **changes)


def record(number, masks=None, **image):
    rng = np.random.default_rng(number)
    usual = {
        "format": "nifti",
        "shape": [300, 512, 512],
        "spacing_mm": [1.0, 0.75, 0.75],
        "orientation": "LPS",
        "field_of_view_mm": [300.0, 384.0, 384.0],
        "verdict": "hu",
        "region": "chest",
        "coverage_mm": {"chest": 250.0},
        "landmarks": {"lung": -860.0 + float(rng.normal(0, 5))},
        "percentiles": {},
        "padding": None,
        "padding_share": 0.0,
        "clipped": [None, None],
        "warnings": [],
        "notes": [],
        "mean": -500.0 + float(rng.normal(0, 10)),
        "std": 480.0,
        "midline": 127.5,
        "digest": f"{number:032x}",
    }
    name = f"train_{number}_a_1"
    return Record(
        series_id=name,
        key="",
        signature="",
        source=f"/secret/{name}",
        image=usual | image,
        masks={"all": masks} if masks else {},
    )


def side(left_share):
    return {"voxels": 9, "ml": 1.5, "left_share": left_share, "centroid_mm": [0.0, 0.0, 0.0]}


def catalog(rows, labels=("Lung nodule", "Emphysema")):
    return Catalog(
        path=Path("catalog.csv"),
        name="a dataset",
        region="chest",
        labels=labels,
        segmentation=None,
        spec=PreprocessSpec(shape=(16, 24, 24)),
        rows=tuple(rows),
    )


def read(out, rows, records, **changes):
    """The page, checked for what must always hold."""
    path = write_quality(out, catalog(rows, **changes), records)
    assert path == out / QUALITY
    text = path.read_text("utf-8")
    page = Balanced()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.tags
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not re.search(r"url\(|@import|https?:", text)
    assert "Confidential" not in text
    assert "/secret" not in text
    assert "nan" not in re.sub('base64,[^"]*', "", text).lower().split()
    assert not list(out.glob(".*"))
    return text


def part(text, anchor):
    """The words of one section."""
    found = re.search(rf'<section id="{anchor}">(.*?)</section>', text, re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", found[1]).split())


def test_a_usual_dataset_raises_no_concern(tmp_path):
    numbers = range(20)
    text = read(tmp_path, [row(k) for k in numbers], [record(k) for k in numbers])
    assert "No patient or image crosses splits" in text
    assert part(text, "duplicates") == "Duplicates No two series hold the same image."
    assert part(text, "rejected") == "Rejected series None."
    assert "train 20 20 20 0 0" in part(text, "splits")


def test_one_study_is_enough(tmp_path):
    text = read(tmp_path, [row(0)], [record(0)])
    assert "1 series of 1 examinations of 1 patients" in text
    assert "too few to tell" in part(text, "outliers")


def test_a_dataset_of_nothing_says_why(tmp_path):
    failed = Record(
        series_id="a", key="", signature="", source="", error="/secret/a.nii.gz: NaN in 12 voxels."
    )
    also = replace(failed, series_id="b", error="/secret/b.nii.gz: NaN in 13 voxels.")
    more = [
        replace(also, series_id=f"c{k}", error=f"/secret/c: NaN in {k} voxels.") for k in (5, 6)
    ]
    text = read(tmp_path, [], [failed, also, *more])
    assert "NaN in # voxels. 4" in part(text, "rejected")


def test_series_rejected_before_they_were_read_are_counted(tmp_path):
    (tmp_path / "errors.csv").write_text(
        "series_id,source,error\nx,/secret/t.csv,/secret/t.csv: row 7: no text.\n", "utf-8"
    )
    text = read(tmp_path, [row(0)], [record(0)])
    assert "1 rejected" in text
    assert "no text" in part(text, "rejected")


def test_labels_are_counted_per_split_and_unknown_ones_apart(tmp_path):
    rows = [row(0), row(1, labels=(0.0, None)), row(2, split="valid", labels=(None, 1.0))]
    text = part(read(tmp_path, rows, [record(k) for k in range(3)]), "labels")
    assert "Lung nodule 1 50.0% 0 0 - 1" in text
    assert "Emphysema 0 - 2 1 100.0% 0" in text


def test_a_dataset_without_labels_reports_or_masks(tmp_path):
    text = read(tmp_path, [row(0, labels=())], [record(0)], labels=())
    assert "no label columns" in part(text, "labels")
    assert "No series has a report" in part(text, "reports")
    assert "No series has a mask" in part(text, "masks")


def test_report_length_is_told_in_words(tmp_path):
    rows = [row(0, report=REPORT), row(1, report="one two"), row(2)]
    text = part(read(tmp_path, rows, [record(k) for k in range(3)]), "reports")
    assert "2 reports: median 8 words" in text
    assert "1 series without a report" in text


def test_names_are_escaped(tmp_path):
    text = read(tmp_path, [row(0)], [record(0)], labels=("<b>x", "a & b"))
    assert "&lt;b&gt;x" in text
    assert "a &amp; b" in text


def test_duplicates_are_told_apart_by_patient_and_split(tmp_path):
    rows = [
        row(0),
        row(1, patient_id="train_0"),
        row(2),
        row(3),
        row(4),
        row(5, split="valid"),
        row(6),
    ]
    digests = ["a", "a", "b", "b", "c", "c", "d"]
    records = [record(k, digest=digest) for k, digest in enumerate(digests)]
    groups = duplicates_of(entries_of(catalog(rows), records))
    assert [(group.patients, group.splits) for group in groups] == [
        (2, ("train", "valid")),
        (2, ("train",)),
        (1, ("train",)),
    ]
    text = read(tmp_path, rows, records)
    assert text.count("<tr class=red>") == 1
    assert "1 image occurs in more than one split" in text
    assert "2 images are filed under several patients" in text
    assert "one patient train train_0_a_1, train_1_a_1" in part(text, "duplicates")


def test_a_patient_in_two_splits_is_a_concern(tmp_path):
    rows = [row(0), row(1, patient_id="train_0", split="valid")]
    text = read(tmp_path, rows, [record(0), record(1)])
    assert "1 patient has series in more than one split" in text


def test_sides_that_disagree_are_listed_without_the_sentence(tmp_path):
    rows = [row(0, report=REPORT), row(1, report=REPORT), row(2)]
    records = [
        record(0, {"lung_nodule": side(0.97)}),
        record(1, {"lung_nodule": side(0.03)}),
        replace(record(2), statements=(Statement("Mass of Confidential on the left.", 0.0),)),
    ]
    text = read(tmp_path, rows, records)
    assert "2 series have masks, texts or images that disagree on sides" in text
    sides = part(text, "sides")
    assert "train_0_a_1 lung_nodule right 97%" in sides
    assert "train_2_a_1 finding 1 left 0%" in sides
    assert "train_1_a_1" not in sides


def test_masks_of_all_scopes_are_counted(tmp_path):
    one = replace(record(0), masks={"coarse": {"lung": side(0.5)}, "fine": {"nodule": side(0.5)}})
    text = part(read(tmp_path, [row(0, mask=Path("/secret/m"))], [one]), "masks")
    assert "lung 1 100.0% 1.5 1.5 1.5" in text
    assert "nodule 1 100.0%" in text


def test_warnings_of_one_kind_are_counted_together(tmp_path):
    records = [record(k, warnings=[f"Only {k}.5 mm in {k} slices."]) for k in range(9)]
    text = part(read(tmp_path, [row(k) for k in range(9)], records), "remarks")
    assert "Only # mm in # slices. 9" in text
    assert "No notes." in text


def test_grouping_keeps_few_variants_apart_and_hides_files_and_names():
    assert grouped(["Version 1.", "Version 2.", "Version 2."]) == [
        ("Version 2.", 2),
        ("Version 1.", 1),
    ]
    (found,) = grouped(["/a/Smith/x.nii: 'Smith' is odd, see /a/Smith/y.nii."])
    assert found == ("... is odd, see ...", 1)
    assert (
        grouped(["The file's axes are the scanner's."])[0][0]
        == "The file's axes are the scanner's."
    )


def test_a_series_without_facts_is_said_so(tmp_path):
    text = read(tmp_path, [row(0), row(1)], [record(0)])
    assert "1 series has no facts" in text


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "ct.b2nd"
    prepared = prepare(chest(24, 18), PreprocessSpec(shape=(16, 24, 24)))
    write_store(path, prepared.array, meta_of(prepared))
    return path


def test_the_least_usual_study_is_shown_with_its_picture(tmp_path, store):
    rows = [row(k, image=store) for k in range(12)]
    records = [record(k) for k in range(12)]
    records[4] = record(4, spacing_mm=[12.5, 0.75, 0.75])
    records[7] = record(7, landmarks={"lung": -700.0})
    found = outliers(entries_of(catalog(rows), records))
    assert {each.entry.row.series_id: each.quantity for each in found} == {
        "train_4_a_1": "spacing z",
        "train_7_a_1": "peak of lung",
    }
    text = read(tmp_path, rows, records)
    assert text.count("data:image/png;base64,") == 2
    assert "spacing z 12.5 mm, usually 1" in part(text, "outliers")


def test_a_picture_that_cannot_be_drawn_is_said_so(tmp_path, store):
    broken = tmp_path / "broken.b2nd"
    broken.write_bytes(store.read_bytes()[:1000])
    rows = [row(k, image=broken if k else tmp_path / "none.b2nd") for k in range(12)]
    records = [record(k, mean=900.0 if k < 2 else -500.0) for k in range(12)]
    text = read(tmp_path, rows, records)
    assert part(text, "outliers").count("cannot be shown") == 2


def test_equal_studies_have_no_outliers():
    rows, records = [row(k) for k in range(30)], [record(k) for k in range(30)]
    assert outliers(entries_of(catalog(rows), records)) == []


def test_at_most_twelve_outliers_worst_first():
    rows = [row(k) for k in range(100)]
    records = [record(k, mean=1000.0 + k if k < 20 else -500.0) for k in range(100)]
    found = outliers(entries_of(catalog(rows), records))
    assert [each.value for each in found] == [1019.0 - k for k in range(12)]


def test_a_second_report_replaces_the_first(tmp_path):
    first = read(tmp_path, [row(0)], [record(0)])
    assert read(tmp_path, [row(0), row(1)], [record(0), record(1)]) != first


def test_a_large_dataset_makes_a_small_page(tmp_path):
    rows = [row(k, report=REPORT) for k in range(3000)]
    records = [record(k, {"lung_nodule": side(0.97)}, digest=f"{k // 2}") for k in range(3000)]
    text = read(tmp_path, rows, records)
    assert len(text) < 300_000
    assert "... and 2700 more." in part(text, "sides")
