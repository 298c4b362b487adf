"""Nodule, opacity, consolidation, atelectasis, sequela: what counts, is denied, lies elsewhere."""

import pytest

from uvlm.text.labelling.lung_dense import DENSE_RULES
from uvlm.text.labelling.rules import RuleLabeller

NODULE = "Lung nodule"
OPACITY = "Lung opacity"
CONSOLIDATION = "Consolidation"
ATELECTASIS = "Atelectasis"
SEQUELA = "Pulmonary fibrotic sequela"
CLASSES = (NODULE, OPACITY, CONSOLIDATION, ATELECTASIS, SEQUELA)
DENSE = RuleLabeller("rules@dense5", CLASSES, DENSE_RULES)


def found(report: str) -> set[str]:
    (labels,) = DENSE.label([report])
    return {label for label, value in labels.values.items() if value}


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("A round nodule of 9 mm lies in the left upper lobe.", NODULE),
        ("Tiny nodules in both lungs, unchanged since last year.", NODULE),
        ("The right lung holds a subpleural nodule.", NODULE),
        ("Micronodules are scattered over the middle lobe.", NODULE),
        ("A solid nodular lesion sits on the left fissure.", NODULE),
        ("Nodules of the lung and of the thyroid.", NODULE),
        ("A nodular density, 6 mm across, in the lingula.", NODULE),
        ("Nodül at the left base, unchanged.", NODULE),
        ("No new nodule; the old nodules of both lungs are stable.", NODULE),
        ("Apart from a few tiny nodules the lungs are clear.", NODULE),
        ("Frosted glass areas at the right base.", OPACITY),
        ("Icy density is seen around the lingula.", OPACITY),
        ("Faint ground glass, possibly of viral origin.", OPACITY),
        ("Buzlu cam areas in both lungs.", OPACITY),
        ("Gound glass densities of the lingula.", OPACITY),
        ("Frosty glass at the left base.", OPACITY),
        ("Streaky opacities in the right lower lobe.", OPACITY),
        ("Dependent density increases at the back of both lungs.", OPACITY),
        ("There is an increase in density in the left upper lobe.", OPACITY),
        ("Increased density at the base of the right lung.", OPACITY),
        ("A ground-glass nodule of 4 mm in the right apex.", OPACITY),
        ("Lobar consolidation with open bronchi on the right.", CONSOLIDATION),
        ("The consolidated area has shrunk by half.", CONSOLIDATION),
        ("Condolidation of the middle lobe.", CONSOLIDATION),
        ("Conslidation in the lingula.", CONSOLIDATION),
        ("Atelektasis of the lingula.", ATELECTASIS),
        ("Atalectatic bands on both sides.", ATELECTASIS),
        ("Athelectasis next to the fluid.", ATELECTASIS),
        ("Plate-like atelectasis at the left base.", ATELECTASIS),
        ("The middle lobe is atelectatic.", ATELECTASIS),
        ("Complete collapse of the left lung.", ATELECTASIS),
        ("Atlectasis beside the effusion.", ATELECTASIS),
        ("Sequela lines in both apices.", SEQUELA),
        ("Fibroatelectatic bands at the right base.", SEQUELA),
        ("Fibrotic strands pull on the left fissure.", SEQUELA),
        ("A parenchymal band crosses the lingula.", SEQUELA),
        ("Pleuroparenchymal density in the right apex.", SEQUELA),
        ("Apical scarring on both sides.", SEQUELA),
        ("Scar tissue in the right upper lobe.", SEQUELA),
        ("Cicatricial lines in both lungs.", SEQUELA),
        ("Squelae of an old infection at the apices.", SEQUELA),
        ("Fibrosequela lines in the lower lobes.", SEQUELA),
        ("Subpleural linear bands on the left.", SEQUELA),
        ("Pleural parenchymal densities in both apices.", SEQUELA),
    ],
)
def test_counts(sentence, label):
    assert label in found(sentence)


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("No nodule was found in either lung.", NODULE),
        ("Neither a mass nor a nodular lesion is seen in the lungs.", NODULE),
        ("Nodules were not detected in the lung parenchyma.", NODULE),
        ("The lungs are free of ground glass and opacities.", OPACITY),
        ("Ground-glass areas were not observed.", OPACITY),
        ("Lungs without consolidation.", CONSOLIDATION),
        ("The consolidation has completely resolved.", CONSOLIDATION),
        ("Atelectasis was not observed.", ATELECTASIS),
        ("No sequela or fibrotic band is noted.", SEQUELA),
    ],
)
def test_denied(sentence, label):
    assert label not in found(sentence)


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("A cold nodule sits in the right lobe of the thyroid.", NODULE),
        ("Hypodense nodules are scattered in the liver.", NODULE),
        ("Nodular lesion of the left adrenal gland.", NODULE),
        ("A nodular formation near the spleen, an accessory spleen.", NODULE),
        ("Small lymph nodules along the trachea.", NODULE),
        ("A pleural nodule next to the ribs.", NODULE),
        ("Schmorl nodules at three levels.", NODULE),
        ("A nodule under the skin of the right hemithorax.", NODULE),
        ("A round nodule in the wall of the chest, in the chest wall.", NODULE),
        ("Thyroid nodule, hiatal hernia and clear lungs.", NODULE),
        ("A nodule in the retroperitoneal fat.", NODULE),
        ("A hypodense nodule of 2 cm.", NODULE),
        ("Ground-glass matrix of a rib, fibrous dysplasia.", OPACITY),
        ("The mesentery has a ground glass look.", OPACITY),
        ("A healed, consolidated fracture of the fifth rib.", CONSOLIDATION),
        ("The atlas is fused with the skull; atlantoaxial joint intact.", ATELECTASIS),
        ("A collapsed gallbladder beside the right lobe.", ATELECTASIS),
        ("Density increases in the fatty tissue around the left kidney.", OPACITY),
        ("Increased density in the subcutaneous tissue of the chest.", OPACITY),
        ("Collapse of the second lumbar vertebra.", ATELECTASIS),
        ("The loops of small bowel are collapsed.", ATELECTASIS),
        ("Sequela of a fracture in the fourth rib.", SEQUELA),
        ("Sequela rib fractures of the right lung's side.", SEQUELA),
        ("Old fracture sequelae beside the left lung.", SEQUELA),
        ("Sequela calcified lymph nodes beside both lungs.", SEQUELA),
        ("Sequelae of a sternotomy.", SEQUELA),
        ("Scar of the skin over the right lung.", SEQUELA),
        ("Cystic fibrosis since childhood.", SEQUELA),
        ("Coarse sequela calcification in the spleen.", SEQUELA),
        ("Fibrocalcific plaques on the wall of the aorta.", SEQUELA),
    ],
)
def test_other_organs_do_not_count(sentence, label):
    assert label not in found(sentence)


def test_a_nodule_without_a_place_lies_where_the_sentence_before_was():
    assert found("The thyroid is large. A nodule of 2 cm is seen.") == set()
    assert found("The left lung is clear elsewhere. A nodule of 2 cm is seen.") == {NODULE}


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("In the previous scan, there was a consolidation on the left.", CONSOLIDATION),
        ("There was a consolidation on the left in the previous scan.", CONSOLIDATION),
        ("What was observed as consolidation is now ground glass.", CONSOLIDATION),
        ("The loss of consolidation left a thin line.", CONSOLIDATION),
    ],
)
def test_what_an_earlier_scan_showed_does_not_count(sentence, label):
    assert label not in found(sentence)


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("A shadow at the left hilum (nodule?).", NODULE),
        ("The finding may belong to a consolidation.", CONSOLIDATION),
        ("Dense area on the right (atelectasis?).", ATELECTASIS),
        ("The lesion may be a sequela.", SEQUELA),
    ],
)
def test_doubtful_findings_do_not_count(sentence, label):
    assert label not in found(sentence)


@pytest.mark.parametrize(
    ("sentence", "labels"),
    [
        ("Nodular consolidations in both lungs.", {CONSOLIDATION}),
        ("Ground-glass consolidations on the left.", {OPACITY}),
        ("Fibroatelectasis of the lingula.", {SEQUELA}),
        ("Sequela density increases at both apices.", {SEQUELA}),
        ("Atelectasis-sequela changes at the right base.", {ATELECTASIS, SEQUELA}),
        ("Lobar consolidation with an air bronchogram.", {CONSOLIDATION}),
        ("Centrilobular nodular infiltrates with tree in bud.", set()),
        ("Acinar opacities beside buds of a tree.", set()),
        ("Nodular opacities in the middle lobe.", {NODULE}),
        ("A nodular density without clear borders in the lingula.", set()),
        ("A nodular area consistent with round atelectasis.", {ATELECTASIS}),
        ("Nodular lesions on the fissure in favor of lymph nodes.", set()),
        ("Atelectatic density increases at the left base of the lung.", {ATELECTASIS}),
        ("Pleural parenchymal density increases at both apices.", {SEQUELA}),
        ("Increased density in favor of consolidation in the lingula.", {CONSOLIDATION}),
        ("Increased density of the middle lobe, atelectasis as well.", {OPACITY, ATELECTASIS}),
    ],
)
def test_classes_that_share_words_are_told_apart(sentence, labels):
    assert found(sentence) == labels


@pytest.mark.parametrize(
    "sentence",
    [
        "Nodules cannot be evaluated because of breathing.",
        "Small nodules may be overlooked.",
        "The evaluation of nodules is limited by motion.",
    ],
)
def test_what_could_not_be_judged_is_not_seen(sentence):
    assert found(sentence) == set()


def test_evidence_names_words_and_sides():
    (labels,) = DENSE.label(["A faint ground glass area is seen in the left lower lobe."])
    (item,) = labels.evidence
    assert (item.label, item.words, item.sides) == (OPACITY, "ground glass", {"left"})


@pytest.mark.parametrize(
    "words",
    ["density ", "increase in ", "nodular area ", "pleural fibro ", "sequela-", "there is a "],
)
def test_long_reports_say_what_short_ones_say(words):
    # The numbers keep any two pieces of the text apart, so that none is remembered.
    long, short = (" ".join(f"{words}{i}" for i in range(size)) for size in (25_000, 500))
    assert DENSE.label([long])[0].values == DENSE.label([short])[0].values
