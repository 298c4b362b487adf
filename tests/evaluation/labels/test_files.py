"""Evidence says where its words stand, in the sentence and in the report itself."""

import json

import pytest

from uvlm.evaluation.labels.files import Reports, write_labels
from uvlm.text.labelling.abdomen import ABDOMEN
from uvlm.text.labelling.chest import CHEST


def evidence(tmp_path, text, labeller=CHEST):
    reports = Reports(id_column="id", ids=("a",), texts=(text,))
    labels = labeller.label([text])
    why = tmp_path / "why.jsonl"
    write_labels(reports, labels, labeller.classes, tmp_path / "out.csv", why)
    return json.loads(why.read_text(encoding="utf-8"))["evidence"]


def squeezed(text):
    return "".join(text.replace('"', "").split())


@pytest.mark.parametrize(
    "text",
    [
        "There is emphysema. No pleural effusion is seen.",
        'Findings:  There is\n emphysema.\r\n"No  pleural   effusion. Impression: "Emphysema."',
        "Impression: Emphysema. Findings: The lungs show emphysema. No hiatal hernia.",
        "Emphysema. No consolidation. Emphysema. A hiatal hernia is seen.",
    ],
)
def test_positions_in_the_report_hold_the_words(tmp_path, text):
    found = evidence(tmp_path, text)
    assert len(found) >= 2
    for item in found:
        words = text[item["report_start"] : item["report_end"]]
        assert squeezed(words) == squeezed(item["words"])
        assert item["sentence"][item["start"] : item["end"]] == item["words"]


def test_a_sentence_said_twice_has_two_places(tmp_path):
    found = evidence(tmp_path, "Emphysema. No consolidation. Emphysema.")
    starts = [item["report_start"] for item in found if item["label"] == "Emphysema"]
    assert starts == [0, 29]


def test_positions_of_the_abdomen_are_of_the_report_too(tmp_path):
    text = "Liver: a cyst of 2 cm\nKidneys: no lesion\n"
    for item in evidence(tmp_path, text, ABDOMEN):
        if item["report_start"] is not None:
            words = text[item["report_start"] : item["report_end"]]
            assert squeezed(words) == squeezed(item["words"]).rstrip(".")
