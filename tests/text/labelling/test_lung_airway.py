"""Emphysema, mosaic pattern, bronchi, septa: what counts, is denied, or lies elsewhere."""

import pytest

from uvlm.text.labelling.lung_airway import AIRWAY_RULES
from uvlm.text.labelling.rules import RuleLabeller

EMPHYSEMA = "Emphysema"
MOSAIC = "Mosaic attenuation pattern"
PERIBRONCHIAL = "Peribronchial thickening"
BRONCHIECTASIS = "Bronchiectasis"
SEPTAL = "Interlobular septal thickening"
CLASSES = (EMPHYSEMA, MOSAIC, PERIBRONCHIAL, BRONCHIECTASIS, SEPTAL)
AIRWAY = RuleLabeller("rules@airway5", CLASSES, AIRWAY_RULES)


def found(report: str) -> set[str]:
    (labels,) = AIRWAY.label([report])
    return {label for label, value in labels.values.items() if value}


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("Panlobular emphysema of both upper lobes.", EMPHYSEMA),
        ("The left lung looks emphysematous.", EMPHYSEMA),
        ("A large bulla fills the right apex.", EMPHYSEMA),
        ("Several small bullae at the left base.", EMPHYSEMA),
        ("Two blebs next to the fissure.", EMPHYSEMA),
        ("Bull-bleb formations on the right.", EMPHYSEMA),
        ("Air spreads under the skin as subcutaneous emphysema.", EMPHYSEMA),
        ("Emphysema is less marked than a year ago.", EMPHYSEMA),
        ("Lower lobes with a mosaic density pattern.", MOSAIC),
        ("Mosaic perfusion, perhaps of small airways.", MOSAIC),
        ("Slight peribronchial cuffing on the left.", PERIBRONCHIAL),
        ("Peribronchial wall thickness is increased in the lingula.", PERIBRONCHIAL),
        ("Thickening along the peribronchovascular sheath.", PERIBRONCHIAL),
        ("An increase of thickness is noted in the right peribronchial areas.", PERIBRONCHIAL),
        ("The peribronchial sheath is widened.", PERIBRONCHIAL),
        ("Soft thickening around the lower lobe bronchi.", PERIBRONCHIAL),
        ("Varicose bronchiectasis in the middle lobe.", BRONCHIECTASIS),
        ("Traction bronchiectases next to scars.", BRONCHIECTASIS),
        ("Mildly bronchiectatic lingula.", BRONCHIECTASIS),
        ("Ectasia of the segmental bronchi on both sides.", BRONCHIECTASIS),
        ("Dilated bronchi at the right base.", BRONCHIECTASIS),
        ("Bronchial dilatation of the left lower lobe.", BRONCHIECTASIS),
        ("Nodular interlobular septal thickening at the bases.", SEPTAL),
        ("The interlobular septa are slightly prominent.", SEPTAL),
        ("Irregular thickening of interlobar septa.", SEPTAL),
        ("Prominence of the septa in the upper lobes of the lung.", SEPTAL),
        ("Septal lines reach the pleura of the right lung.", SEPTAL),
        ("Interstitial thickening next to the consolidation.", SEPTAL),
        ("Kerley B lines on both sides.", SEPTAL),
    ],
)
def test_a_finding_in_other_words_counts(sentence, label):
    assert found(sentence) == {label}


@pytest.mark.parametrize(
    "sentence",
    [
        "No emphysema, bulla or bleb.",
        "The subcutaneous emphysema has resolved.",
        "A mosaic pattern was not observed.",
        "Neither bronchiectasis nor peribronchial thickening was detected.",
        "Both lungs are free of interlobular septal thickening.",
        "The septal thickening seen in the first examination is no longer present.",
        "Peribronchial thickening was not seen.",
    ],
)
def test_a_denied_finding_does_not_count(sentence):
    assert found(sentence) == set()


@pytest.mark.parametrize(
    "sentence",
    [
        "Emphysematous cholecystitis with gas in the gallbladder wall.",
        "A thick septum divides the cyst of the left kidney.",
        "Thickening of the interventricular septum.",
        "Deviation of the nasal septum.",
        "Pleural effusion with thick septa and loculated fluid.",
        "Ectasia of the ascending aorta, both main bronchi are open.",
        "Ectasia of the pelvicalyceal system.",
    ],
)
def test_the_same_words_of_another_organ_do_not_count(sentence):
    assert found(sentence) == set()


@pytest.mark.parametrize(
    "sentence",
    [
        "An air cyst of 9 mm in the right lower lobe.",
        "The walls of the lobar bronchi are thick.",
        "Bronchial wall thickening on the left.",
        "Peribronchial consolidation and pleural thickening.",
        "Pleural thickening and peribronchial nodules.",
        "Enlarged peribronchial lymph nodes.",
        "Crazy paving in the left upper lobe.",
        "Interstitial lung disease; thickening of the wall of the esophagus.",
        "Air trapping in both lower lobes.",
        "Band atelectasis at the bases.",
        "The bronchi are of normal calibre.",
        "Ill-defined density, prominent in the interlobular septa.",
    ],
)
def test_a_neighbour_of_a_finding_is_not_the_finding(sentence):
    assert found(sentence) == set()


@pytest.mark.parametrize(
    "sentence",
    [
        "The change may be compatible with emphysema.",
        "Bronchiectasis (?) in the lingula.",
        "Suspicious for septal thickening of the left lung.",
    ],
)
def test_a_doubted_finding_does_not_count(sentence):
    assert found(sentence) == set()


def test_a_doubted_cause_leaves_the_finding():
    text = "Interlobular septal thickening in both lungs (cardiac edema?)."
    assert found(text) == {SEPTAL}


def test_history_of_something_else_leaves_the_finding():
    text = "In this patient with a history of colon cancer, emphysematous changes are seen."
    assert found(text) == {EMPHYSEMA}


def test_findings_of_one_sentence_are_told_apart():
    text = (
        "Bronchiectasis with peribronchial thickening, no emphysema, mosaic pattern of both lungs."
    )
    assert found(text) >= {BRONCHIECTASIS, PERIBRONCHIAL}
    assert EMPHYSEMA not in found(text)


def test_the_evidence_holds_the_words_and_the_side():
    (labels,) = AIRWAY.label(["Thickening of the interlobular septa in the left lung."])
    (item,) = labels.evidence
    assert item.words == "Thickening of the interlobular septa"
    assert item.sides == {"left"}


@pytest.mark.parametrize("word", ["thick", "peribronchial", "interlobular septa", "ectasia", ",-/"])
def test_a_long_run_of_one_word_says_what_a_short_one_says(word):
    long, short = (
        found(" ".join(f"{word} {number}" for number in range(size))) for size in (50_000, 1_000)
    )
    assert long == short
