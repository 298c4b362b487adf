"""Flags where masks and words name different sides."""

import pytest

from uvlm.phantom.abdomen import ABDOMEN_CLASSES
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.preprocessing.laterality import Disagreement, disagreements, side_of_name
from uvlm.preprocessing.study import Statement


def facts(left_share, centre=0.0, voxels=100):
    return {"voxels": voxels, "left_share": left_share, "centroid_mm": [centre, 0.0, 0.0]}


def flags(report="", masks=(), statements=()):
    found = disagreements(report, dict(masks), statements)
    return [(flag.kind, flag.subject, flag.said) for flag in found]


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("lung_nodule", "A nodule of 5 mm in the right upper lobe."),
        ("Pulmonary nodules and masses", "A mass in the right lung."),
        ("Micronodules", "Centrilobular micronodules in the right lung."),
        ("pleural_effusion", "Pleural effusion on the right."),
        ("Pleural effusion or thickening", "Right pleural thickening."),
        ("Pneumothorax", "Pneumothorax on the right."),
        ("Atelectasis and consolidation", "Infiltration in the middle lobe."),
        ("atelectasis", "Linear atelectasis in the middle lobe."),
        ("consolidation", "Consolidation in the right lower lobe."),
        ("lung_opacity", "Ground-glass opacity in the right lung."),
        ("Groundglass opacity", "Ground glass density in the right lung."),
        ("Linear abnormalities", "Fibrotic bands in the right lung."),
        ("pulmonary_fibrotic_sequela", "Pleuroparenchymal sequelae at the right apex."),
        ("Honeycombing", "Honeycombing in the right lower lobe."),
        ("bronchiectasis", "Bronchiectasis in the right lower lobe."),
        ("Bronchial wall thickening", "Bronchial wall thickening in the right lung."),
        ("peribronchial_thickening", "Peribronchial thickening in the right lung."),
        ("emphysema", "Paraseptal emphysema in the right upper lobe."),
        ("Septal thickening", "Interlobular septal thickening in the right lung."),
        ("medical_material", "A pacemaker on the right chest wall."),
        ("kidney_lesion", "Kidney lesions: Kidney lesion 1: Location: right kidney."),
        ("kidney_lesion", "A hypoattenuating lesion of 2.0 x 1.5 cm in the right kidney."),
    ],
)
def test_a_finding_on_the_other_side_is_flagged(name, report):
    assert flags(report, {name: facts(0.97)}) == [("report", name, "right")]
    assert flags(report, {name: facts(0.03)}) == []
    assert flags(report, {name: facts(0.6)}) == []


@pytest.mark.parametrize(
    "report",
    [
        "",
        "A nodule.",
        "Nodules in both lungs.",
        "Nodules in the right lung. A nodule in the lingula.",
        "No nodule in the right lung.",
        "Nodules in the right thyroid lobe.",
        "Right pleural effusion.",
    ],
)
def test_other_words_flag_no_nodule_on_the_left(report):
    assert flags(report, {"lung_nodule": facts(1.0)}) == []


@pytest.mark.parametrize("name", ["liver_lesion", "pancreatic_lesion", "hiatal_hernia", "aorta"])
def test_classes_without_a_side_are_not_compared(name):
    assert flags("A lesion on the right. Hernia on the right.", {name: facts(1.0)}) == []


def test_statements_are_compared_with_their_own_masks():
    statements = [
        Statement("A nodule in the right lung.", 1.0),
        Statement("A nodule in the left lung.", 1.0),
        Statement("No nodule in the right lung.", 1.0),
        Statement("Bilateral effusion.", 1.0),
        Statement("Consolidation in the lingula.", 0.02),
    ]
    assert flags(statements=statements) == [
        ("statement", "finding 1", "right"),
        ("statement", "finding 5", "left"),
    ]


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("kidney_left", "left"),
        ("Kidney L", "left"),
        ("Kidney R", "right"),
        ("lung_upper_lobe_left", "left"),
        ("Lung upper lobe R", "right"),
        ("adrenal_gland_right", "right"),
        ("rib_left_4", "left"),
        ("vertebrae_L5", None),
        ("vertebrae_L1", None),
        ("heart_ventricle_left", None),
        ("atrial_appendage_left", None),
        ("liver", None),
        ("spleen", None),
    ],
)
def test_sides_in_class_names(name, side):
    assert side_of_name(name) == side


def test_names_on_the_wrong_side_of_the_midline():
    assert flags(masks={"kidney_left": facts(0.0, -50), "femur_right": facts(0.1, -40)}) == [
        ("name", "kidney_left", "left")
    ]


def test_pairs_in_the_wrong_order_wherever_the_midline_is():
    wrong = {"Kidney L": facts(0.6, 10), "Kidney R": facts(0.7, 30)}
    assert flags(masks=wrong) == [("name", "Kidney L", "left"), ("name", "Kidney R", "right")]
    right = {"Kidney L": facts(0.6, 30), "Kidney R": facts(0.5, 10)}
    assert flags(masks=right) == []


def test_a_mirrored_study_is_hinted_at_only_if_all_organs_agree():
    mirrored = {"liver_segment_1": facts(0.9), "liver_segment_2": facts(1.0), "spleen": facts(0.0)}
    assert flags(masks=mirrored) == [("organ", "liver", "right"), ("organ", "spleen", "left")]
    assert flags(masks=mirrored | {"stomach": facts(0.9)}) == []
    assert flags(masks={"liver_lesion": facts(1.0)}) == []


@pytest.mark.parametrize("classes", [CHEST_CLASSES, ABDOMEN_CLASSES])
def test_every_class_of_the_phantoms_is_understood(classes):
    """Masks where they belong, with a report that says so, raise no flag."""
    masks = {}
    for name in classes:
        side = side_of_name(name) or ("right" if "liver" in name else "left")
        masks[name] = facts(1.0, 50) if side == "left" else facts(0.0, -50)
    assert flags("A nodule, an effusion and a kidney lesion on the left.", masks) == []


def organs(*hu):
    return {f"organ {k}": facts(0.5) | {"hu": list(pair)} for k, pair in enumerate(hu)}


def test_organs_that_stand_out_more_in_the_mirror_image_are_flagged():
    fits = [(-850.0, -500.0), (40.0, -200.0), (60.0, 30.0)]
    assert flags(masks=organs(*fits)) == []
    mirrored = organs(*(pair[::-1] for pair in fits))
    assert flags(masks=mirrored) == [("image", "organs", "mirrored")]


def test_two_organs_and_lesions_say_nothing_of_the_image():
    mirrored = [(-500.0, -850.0), (-200.0, 40.0)]
    assert flags(masks=organs(*mirrored)) == []
    lesion = facts(0.5) | {"hu": [-100.0, -900.0]}
    assert flags(masks=organs(*mirrored) | {"lung_nodule": lesion, "liver_cyst": lesion}) == []


def test_a_symmetric_study_is_not_flagged():
    assert flags(masks=organs((-850.0, -850.0), (40.0, 40.0), (60.0, 60.0))) == []


def test_flags_hold_numbers_not_words():
    (flag,) = disagreements("A nodule in the right lung.", {"lung_nodule": facts(0.98)})
    assert flag == Disagreement(
        kind="report", subject="lung_nodule", said="right", found_left_share=0.98
    )
