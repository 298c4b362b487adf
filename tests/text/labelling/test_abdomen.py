"""Lesions of liver, kidneys and pancreas, in tables of findings and in running text."""

from __future__ import annotations

import numpy as np
import pytest

from uvlm.phantom.abdomen import draw_abdomen_study
from uvlm.phantom.abdomen_report import narrative_report, structured_report
from uvlm.phantom.resolution import size_ranges
from uvlm.registry import ABDOMEN_LABELS
from uvlm.text.labelling.abdomen import ABDOMEN

SHAPE = (24, 48, 48)
SIZES = size_ranges(SHAPE, "abdomen")
LIVER, KIDNEY, PANCREAS = "L", "K", "P"


def found(report: str) -> str:
    """First letters of the classes with a lesion."""
    (labels,) = ABDOMEN.label([report])
    return "".join(sorted(label[0] for label, value in labels.values.items() if value))


@pytest.mark.parametrize(
    ("sentence", "organs"),
    [
        ("There is a 2 cm simple cyst in the left lobe of the liver.", "L"),
        ("Two hypodensities in the liver too small to characterize.", "L"),
        ("Hemangioma in segment VII.", "L"),
        ("Innumerable hypoattenuating metastases throughout the liver.", "L"),
        ("Peripherally enhancing lesion of the caudate lobe.", "L"),
        ("Hepatocellular carcinoma in the right lobe.", "L"),
        ("Cysts of the cortex on either side of a horseshoe kidney.", "K"),
        ("The left kidney contains two cysts, the larger of 3 cm.", "K"),
        ("Polycystic kidneys.", "K"),
        ("Bosniak II cyst on the left.", "K"),
        ("Angiomyolipoma of 8 mm on the right.", "K"),
        ("Complex cystic mass arising from the lower pole of the right kidney.", "K"),
        ("A 3 cm hypoattenuating mass in the pancreatic head, consistent with PDAC.", "P"),
        ("Neuroendocrine tumor of the pancreatic tail with a dilated duct.", "P"),
        ("Pancreatic pseudocyst of 6 cm.", "P"),
        ("Ill-defined hypodense area in the uncinate process.", "P"),
        ("IPMN of the side branch type.", "P"),
        ("Hepatic and renal cysts.", "KL"),
        ("Cysts in the liver; the kidneys have cysts as well.", "KL"),
        ("Lesions of liver, pancreas and both kidneys.", "KLP"),
        ("Pancreatic head adenocarcinoma with liver metastases.", "LP"),
    ],
)
def test_lesions_in_other_words_count(sentence, organs):
    assert found(sentence) == organs


@pytest.mark.parametrize(
    "sentence",
    [
        "No lesion of the liver, pancreas or kidneys.",
        "The liver, pancreas and kidneys are normal without focal lesion.",
        "A cyst is not seen in the kidneys.",
        "No pancreatic lesion, liver lesion or kidney lesion is identified.",
        "The liver is normal. No space-occupying solid or cystic mass was detected.",
        "The lesion in segment 4 of the liver seen before has resolved.",
        "Colon cancer; the liver is free of metastases.",
        "0 liver lesions, zero kidney lesions.",
    ],
)
def test_denied_lesions_do_not_count(sentence):
    assert found(sentence) == ""


@pytest.mark.parametrize(
    "sentence",
    [
        "Kidney stones on both sides with mild hydronephrosis.",
        "Hepatic steatosis, enlarged liver, several gallstones.",
        "Diffuse hypodensity of the liver consistent with fatty infiltration.",
        "Focal fatty area next to the falciform ligament of the liver.",
        "Nodular liver contour as in cirrhosis with regenerative nodules.",
        "Renal artery aneurysm, dilated pancreatic duct.",
        "Mass effect of the stomach on the pancreas.",
        "Acute pancreatitis with peripancreatic fluid.",
    ],
)
def test_what_is_no_lesion_does_not_count(sentence):
    assert found(sentence) == ""


@pytest.mark.parametrize(
    "sentence",
    [
        "Status post right nephrectomy for renal cell carcinoma.",
        "Renal cell carcinoma, status post partial nephrectomy.",
        "HCC in follow-up, control after liver transplantation.",
        "Whipple operation for pancreatic cancer, no recurrence.",
        "The liver lesion was resected.",
        "Ablation zone in segment 8 of the liver without residual tumor.",
    ],
)
def test_what_an_operation_took_out_does_not_count(sentence):
    assert found(sentence) == ""


def test_metastases_after_an_operation_elsewhere_count():
    assert found("Liver metastases after resection of colon cancer.") == LIVER


@pytest.mark.parametrize(
    ("sentence", "organs"),
    [
        ("Adrenal mass adjacent to the left kidney.", ""),
        ("A mass between the left kidney and the pancreas arises from the stomach.", ""),
        ("The liver is large. A mass lies between the left kidney and the pancreas.", ""),
        ("Hepatic flexure mass.", ""),
        ("Gastric mass invading the pancreas and liver.", ""),
        ("Cyst in the right ovary and free fluid around the liver.", ""),
        ("Tumor thrombus in the renal vein.", ""),
        ("Exophytic cyst of the right kidney abutting the liver.", "K"),
        ("In the liver, a lesion that abuts the gallbladder.", "L"),
        ("Hypodense lesion in segment 5, the pancreas is normal.", "L"),
        ("The liver and spleen are normal, the kidneys contain multiple cysts.", "K"),
        (
            "The liver is unremarkable, but a 12 mm low attenuation focus is in the left kidney.",
            "K",
        ),
        ("No hepatic lesion except a tiny cyst in segment 2.", "L"),
    ],
)
def test_a_lesion_belongs_to_its_own_organ(sentence, organs):
    assert found(sentence) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("The pancreas is atrophic. A 15 mm cystic lesion in the tail.", "P"),
        ("The liver is large. Its veins are open. There are several dark lesions.", "L"),
        ("Liver: Normal.\nKidneys: 2 cm exophytic lesion at the upper pole.", "K"),
        ("KIDNEYS: Bilateral cysts. ADRENALS: No nodule. LIVER: No mass.", "K"),
        ("SPLEEN: There is a cyst. KIDNEYS: Normal size.", ""),
        ("Liver: Large. The portal vein is open. A hypoattenuating mass of 4 cm.", "L"),
    ],
)
def test_a_lesion_without_an_organ_belongs_to_the_subject_or_heading(report, organs):
    assert found(report) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("Liver lesions:\nLiver lesion 1:\nLocation: hepatic segment 2.\nSize: 3 x 1 cm.", "L"),
        ("Liver lesions: None. Pancreas lesions: none. Kidney lesions: no.", ""),
        ("Liver lesions:\nPancreas:\nNormal size.", ""),
        ("Liver: Number of lesions: 0. Kidneys: number of lesions: 2.", "K"),
        ("Total liver lesion volume (cm^3): 0.0", ""),
        ("Total liver lesion volume (cm^3): 12.5", "L"),
        ("Right renal lesion: 2.3 x 2.0 cm.", "K"),
        ("Enhancement relative to liver: Hypoattenuating (HU value is 9.8+/-20.4).", ""),
        ("Small isoattenuating lesion in the pancreas body, consistent with PNET.", "P"),
    ],
)
def test_tables_of_findings_are_read(report, organs):
    assert found(report) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("A small liver lesion cannot be excluded.", ""),
        ("MRI is advised to rule out liver metastasis.", ""),
        ("Evaluate for pancreatic mass.", ""),
        ("Probable hemangioma in the liver.", "L"),
        ("Hypodense lesion of the liver (cyst?).", "L"),
    ],
)
def test_doubt_about_the_kind_leaves_the_lesion(report, organs):
    assert found(report) == organs


@pytest.mark.parametrize(
    "report",
    [
        "Clinical information: pancreatic cancer. Findings: Liver and pancreas are normal.",
        "INDICATION: renal mass\n\nThe kidneys are normal.",
        "History: liver metastases. Normal liver.",
    ],
)
def test_the_question_is_no_finding(report):
    assert found(report) == ""


def test_one_sentence_of_history_does_not_hide_the_findings():
    assert found("Indication: flank pain. There is a cyst in the left kidney.") == KIDNEY
    assert found("History: pain. Liver: Normal. Pancreas: A 2 cm mass.") == PANCREAS


def test_the_evidence_holds_words_side_and_section():
    (labels,) = ABDOMEN.label(["Findings: No stone. Impression: Cyst of the left kidney."])
    (item,) = labels.evidence
    assert (item.label, item.status, item.words) == ("Kidney lesion", "present", "Cyst")
    assert item.sides == {"left"}
    assert item.section == "impression"
    assert item.sentence[item.start : item.end] == item.words


@pytest.mark.parametrize("report", ["", "  ", "肝臓に異常なし。", "Liver", ":::", "lesion"])
def test_a_report_that_says_nothing_has_no_lesion(report):
    (labels,) = ABDOMEN.label([report])
    assert labels.values == dict.fromkeys(ABDOMEN_LABELS, 0)


@pytest.mark.parametrize("study", range(16))
def test_synthetic_reports_carry_their_labels(study):
    wanted = [label for bit, label in enumerate(ABDOMEN_LABELS) if study >> bit & 1]
    drawn = draw_abdomen_study(5, study, SHAPE, wanted, SIZES)
    drawable, rng = frozenset(SIZES), np.random.default_rng(study)
    reports = [structured_report(drawn, drawable), narrative_report(drawn, rng, drawable)]
    values = {label: int(label in wanted and label in SIZES) for label in ABDOMEN_LABELS}
    assert [labels.values for labels in ABDOMEN.label(reports)] == [values, values]


@pytest.mark.parametrize(
    "words",
    [
        *(
            "liver lesion",
            "liver lesion:",
            "cyst.",
            "cyst,",
            "history: mass",
            "\n",
            "kidney:\n",
            "and",
        ),
        *("mass and kidney", "Lesion count: liver", "segment 4 of the", "lesion in the liver:"),
    ],
)
@pytest.mark.parametrize("counted", [False, True])
def test_fifty_thousand_words_say_what_a_thousand_say(words, counted):
    def report(size):
        times = size // (len(words.split()) + counted or 1)
        return " ".join(f"{words} {number}" if counted else words for number in range(times))

    assert found(report(50_000)) == found(report(1_000))


def test_the_same_report_twice_gives_the_same_labels():
    report = "Liver: Normal. Lung: A nodule in segment 6. Kidneys: Lesion count 2."
    first, second = ABDOMEN.label([report, report])
    assert first == second
    (item,) = first.evidence
    assert (item.label, item.words) == ("Kidney lesion", "Lesion count 2")
