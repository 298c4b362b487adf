"""RadGPT's structured grammar and tables that count lesions organ by organ."""

import pytest
from tests.text.labelling.test_abdomen import found

RADGPT_CYST = """CT Venous Phase

FINDINGS:
Spleen:
Normal size (volume: 201.4 cm^3).
Mean HU value: 112.8 +/- 19.7.

Liver:
Normal size (volume: 1388.0 cm^3).
Mean HU value: 99.1 +/- 17.5.

Liver cysts:
Liver lesion 1 appearance consistent with cyst.
Location: hepatic segment 4/8.
Size: 1.3 x 1.1 cm (image 57). Volume: 0.9 cm^3.
Enhancement relative to liver: Hypoattenuating (HU value is 11.2+/-8.4).

Pancreas:
Normal size (volume: 68.8 cm^3).
Mean HU value: 86.3 +/- 14.0.

Kidney:
Normal size (right kidney volume: 149.0 cm^3; left kidney volume: 158.3 cm^3). Mean HU value: 150.

IMPRESSION:
A hypoattenuating liver (hepatic segment 4/8) mass of cystic appearance (1.3 x 1.1 cm).
"""
RADGPT_PDAC = """FINDINGS:
Liver: Unremarkable.
Pancreas:
Pancreas is enlarged (volume: 104.9 cm^3).
Fatty infiltration, mean HU value: 61.0 +/- 22.3, pancreatic index (P/S): 0.6.

Pancreas PDACs:
Pancreas lesion 1 appearance consistent with PDAC.
Location: pancreas head/body.
Size: 3.2 x 2.1 cm (image 83). Volume: 7.7 cm^3.
Enhancement relative to pancreas: Hypoattenuating (HU value is 43.0+/-11.1).
Contact with adjacent organs: duodenum, stomach, liver, left kidney.
Surgical resectability: unresectable (SMA encasement).

IMPRESSION:
A hypoattenuating pancreas (head/body) mass (3.2 x 2.1 cm), consistent with biopsy-proven PDAC.
Clinical stage: T2NxMx.
"""
RADGPT_KIDNEY_AND_COLON = """FINDINGS:
Kidney:
Bilateral kidneys are enlarged (right kidney volume: 255.0 cm^3).
Kidney malignant tumors:
Kidney lesion 1 appearance consistent with malignant tumor.
Location: right kidney.
Size: 6.4 x 5.2 cm (image 94). Volume: 91.0 cm^3.

Colon:
Colon lesions:
Colon lesion 1:
Size: 5.6 x 3.1 cm (image 22). Volume: 20.3 cm^3.

IMPRESSION:
Enlarged kidneys. A large hyperattenuating kidney mass of malignant appearance (6.4 x 5.2 cm).
Additionally, a smaller hypoattenuating kidney malignant tumor present.
A large colon mass (5.6 x 3.1 cm).
"""
RADGPT_COLON = """FINDINGS:
Liver: Unremarkable.
Kidney:
Normal size (volume: 301.3 cm^3).
Colon:
Colon lesions:
Colon lesion 1:
Size: 5.6 x 3.1 cm (image 22). Volume: 20.3 cm^3.

IMPRESSION:
A large colon mass (5.6 x 3.1 cm).
"""
RADGPT_NONE = """FINDINGS:
Liver: Unremarkable.
Pancreas: Unremarkable.
Kidney: Unremarkable.

IMPRESSION:
Massively enlarged spleen. Enlarged kidneys. No tumor observed in the liver, pancreas or kidneys.
"""
RADGPT_SEVERAL = """IMPRESSION:
Multiple (4) hypoattenuating liver masses. Largest one (hepatic segment 2) measures 3.3 x 1.8 cm.
Total volume of all liver masses: 23.4 cm^3.
"""


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        (RADGPT_CYST, "L"),
        (RADGPT_PDAC, "P"),
        (RADGPT_KIDNEY_AND_COLON, "K"),
        (RADGPT_COLON, ""),
        (RADGPT_NONE, ""),
        (RADGPT_SEVERAL, "L"),
    ],
)
def test_structured_reports_are_read(report, organs):
    assert found(report) == organs
    assert found(" ".join(report.split())) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("Lesion count: liver 3", "L"),
        ("Lesion count: liver 3, kidney 0, pancreas 0", "L"),
        ("Lesion count: liver 3, kidney 1, pancreas 0.", "KL"),
        ("Lesion count: liver 0; kidney 0; pancreas 0.", ""),
        ("Lesions - liver: 0, kidney: 2, pancreas: 0", "K"),
        ("Number of lesions: liver = 0, kidney = 2, pancreas = 0", "K"),
        ("Liver lesions: 2. Kidney lesions: 0. Pancreas lesions: 1.", "LP"),
        ("Number of liver lesion instances: 0\nnumber of kidney lesion instances: 0", ""),
        ("number of liver cyst instances: 2", "L"),
        ("Kidney: lesion count 2", "K"),
        ("Kidney: lesion count 0", ""),
        ("largest kidney lesion diameter (cm): 2.3", "K"),
        ("largest kidney lesion diameter (cm): nan", ""),
        ("total pancreatic PDAC volume (cm^3): 4.5", "P"),
        ("total pancreatic PDAC volume (cm^3): 0.0", ""),
        ("total pancreatic lesion volume (cm^3): NaN", ""),
        ("largest kidney cyst location (left, right): left", "K"),
        ("largest liver lesion location (1-8): 4", "L"),
        (
            "largest liver lesion attenuation (hyperattenuating, isoattenuating, "
            "hypoattenuating): hypoattenuating",
            "L",
        ),
        ("largest liver lesion location (1-8): nan", ""),
        ("Liver lesion: absent. Kidney lesion: absent. Pancreas lesion: absent.", ""),
        ("Liver lesion: yes; kidney lesion: no; pancreatic lesion: no.", "L"),
        ("Liver lesion: 1, Kidney lesion: 0, Pancreas lesion: 0", "L"),
        ("Liver lesion (0), kidney lesion (1), pancreas lesion (0)", "K"),
        ("Lesions: liver 15 cm long without any lesion.", ""),
        ("Lesions: liver 3 cm cyst.", "L"),
    ],
)
def test_tables_of_counts_are_read(report, organs):
    assert found(report) == organs
