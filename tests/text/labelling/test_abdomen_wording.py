"""Ways in which running text may name, place, compare or deny lesions of the abdominal organs."""

import pytest
from tests.text.labelling.test_abdomen import found


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("A 6 mm nodule in segment 6 of the left lung.", ""),
        ("Nodule in the superior segment (segment 6) of the right lower lobe.", ""),
        ("Lung: 4 mm nodule in segment 8.", ""),
        ("Lung bases: A nodule of 5 mm in segment 10 and one in segment 6.", ""),
        ("There is a nodule in the right lung. Another nodule lies in segment 6.", ""),
        ("A ground glass nodule in segment 3 of the right upper lobe.", ""),
        ("A nodule in segment 6 of the left lung and a cyst in segment 6 of the liver.", "L"),
        ("Lesion in segments 5 and 6.", "L"),
        ("Lesion in S6 of the liver.", "L"),
        ("Hypodense lesion at the segment 4A/4B level.", "L"),
        ("Hemangioma, segment IVb.", "L"),
        ("Lesion in segment 7/8.", "L"),
        ("A cyst of 2 cm in seg VI.", "L"),
        ("Fracture in segment 4 of the sternum.", ""),
        ("A mass in the sigmoid segment 3 cm long.", ""),
        ("Stenosis in segment 2 of the right coronary artery.", ""),
        ("The lesion in segment 3 of the left anterior descending artery was stented.", ""),
        ("Mass in the rectum, the affected segment 5 cm long.", ""),
        ("A bowel segment 6 cm long has a thick wall without a mass.", ""),
    ],
)
def test_a_numbered_segment_is_of_the_liver_unless_something_else_is_named(report, organs):
    assert found(report) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        (
            "Interval increase in size of the segment VII metastasis, now 3.1 cm, previously "
            "2.0 cm.",
            "L",
        ),
        ("Stable hypodense lesion in the left hepatic lobe, unchanged from 2019.", "L"),
        ("Previously seen lesion in hepatic segment 5 is no longer visualized.", ""),
        ("Previously described liver lesion is not seen on today's exam.", ""),
        ("Decreased size of the liver lesion, previously 4 cm.", "L"),
        ("Interval resolution of the hepatic abscess.", ""),
        ("Hepatic lesion is new compared with prior.", "L"),
        ("No new liver lesion.", ""),
        ("No new liver lesion; the known segment 2 lesion is stable.", "L"),
        ("The known liver metastases have decreased, no new lesion.", "L"),
        ("Unchanged 14 mm left renal cyst.", "K"),
        ("Bilateral simple renal cysts, no follow-up required.", "K"),
        ("Too small to characterize hypodensities in both kidneys, statistically cysts.", "K"),
        (
            "Liver: Normal. No suspicious mass. Kidneys: No hydronephrosis. Symmetric "
            "enhancement. Pancreas: Normal in appearance.",
            "",
        ),
        (
            "KIDNEYS/URETERS: Subcentimeter hypoattenuating lesions bilaterally, too small "
            "to characterize. No hydronephrosis.",
            "K",
        ),
        ("HEPATOBILIARY: Multiple hypodense lesions, the largest 2.4 cm. Gallbladder normal.", "L"),
        ("HEPATOBILIARY: No focal lesion. Cholelithiasis.", ""),
        ("PANCREAS: 1.2 cm cystic lesion in the body, likely side-branch IPMN.", "P"),
        ("Pancreatic ductal adenocarcinoma of the head with double duct sign.", "P"),
        ("Fullness of the pancreatic head with an ill-defined mass.", "P"),
        ("Fullness of the pancreatic head without a discrete mass.", ""),
        ("Chronic calcific pancreatitis, no mass.", ""),
        ("Walled-off collection in the pancreas; a 3 cm pseudocyst in the tail.", "P"),
        ("Status post Whipple, no recurrent mass in the pancreatic bed.", ""),
        (
            "Status post left nephrectomy for RCC. No recurrence in the nephrectomy bed. "
            "Right kidney normal.",
            "",
        ),
        ("Status post left nephrectomy for RCC. New liver lesion of 2 cm.", "L"),
        ("After partial nephrectomy on the right, there is a 1 cm cyst in the left kidney.", "K"),
        (
            "Hepatic metastases were treated by ablation; the ablation zone in segment 6 "
            "shows no enhancement.",
            "",
        ),
        ("Liver transplant for HCC. No focal hepatic lesion.", ""),
        ("Adrenal adenoma of 2 cm on the left. Kidneys are normal.", ""),
        ("Splenic cyst. Liver and kidneys without lesions.", ""),
        ("Gallbladder mass with extension into the gallbladder fossa.", ""),
        ("Retroperitoneal mass displacing the left kidney anteriorly.", ""),
        ("Gastric GIST abutting the left hepatic lobe.", ""),
        ("Ovarian cyst. Uterine fibroids. The kidneys show no mass.", ""),
        ("Bladder tumor. No renal mass.", ""),
        ("Peritoneal implants along the liver capsule.", ""),
        ("Lymph node mass in the porta hepatis.", ""),
        ("Duodenal mass next to the pancreatic head.", ""),
        ("Right adrenal mass inseparable from the liver and kidney.", ""),
        ("Colonic mass at the hepatic flexure.", ""),
        ("Exophytic mass from the left kidney extending toward the spleen.", "K"),
        ("Perinephric hematoma around a ruptured angiomyolipoma.", "K"),
        ("Parapelvic cysts bilaterally.", "K"),
        ("Bosniak 2F cyst, left upper pole.", "K"),
        ("Renal sinus cysts.", "K"),
        ("Horseshoe kidney with a cyst in the isthmus.", "K"),
        ("Autosomal dominant polycystic kidney disease.", "K"),
        ("Polycystic kidney and liver disease.", "KL"),
        ("Segment 4 hypodensity next to the falciform ligament, too small to characterise.", "L"),
        ("Focal fatty sparing near the gallbladder fossa.", ""),
        ("Hypoattenuation along the falciform ligament, focal fat.", ""),
        ("Diffuse low attenuation of the liver, steatosis.", ""),
        ("Geographic hypoattenuation of the liver.", ""),
        ("Perfusion anomaly in segment 4.", ""),
        ("Wedge-shaped hypodensity in the left kidney, infarct or pyelonephritis.", ""),
        ("A transient hepatic attenuation difference in the right lobe.", ""),
        ("Biliary hamartomas of the liver.", "L"),
        ("Liver abscess of 5 cm in segment 8.", "L"),
        ("Hydatid cyst in the right liver lobe.", "L"),
        ("Simple cyst in the spleen and a lipoma of the abdominal wall.", ""),
        ("Innumerable liver mets.", "L"),
        ("Hepatic mets have progressed.", "L"),
        ("Renal mass suspicious for RCC in the left interpolar region.", "K"),
        ("LI-RADS 5 observation in segment 7, 2.2 cm.", "L"),
        ("Arterially enhancing observation with washout in segment 8 (LR-5).", "L"),
        ("Hepatic adenoma in segment 6.", "L"),
        ("Calcified granuloma and cysts in the liver.", "L"),
        ("Calcified granuloma in the liver.", ""),
        ("Cholangiocarcinoma of the common bile duct without liver invasion.", ""),
        ("Intrahepatic cholangiocarcinoma with satellite nodules.", "L"),
        ("Klatskin tumor; several metastatic foci in the right hepatic lobe.", "L"),
    ],
)
def test_running_text_is_read(report, organs):
    assert found(report) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("Prior CT showed a liver lesion which is not seen today.", ""),
        ("The 2 cm cyst seen in 2019 in the left kidney is not seen on today's study.", ""),
        ("Compared to 2019, the hepatic lesion has resolved.", ""),
        (
            "COMPARISON: CT of 2019 with a liver lesion. FINDINGS: Liver, pancreas and "
            "kidneys are normal.",
            "",
        ),
        ("Compared with the prior study, several liver lesions are new.", "L"),
        ("Compared with the prior study, no change in the liver cysts.", "L"),
        ("No significant interval change in the hepatic lesions.", "L"),
        ("The hepatic lesion measures 2.1 cm (previously 2.4 cm).", "L"),
        ("Pancreatic body lesion has not changed since 2018.", "P"),
        ("Pancreatic cyst, not significantly changed.", "P"),
        ("Previously noted left renal mass has enlarged from 2.0 to 2.6 cm.", "K"),
        ("Previously noted left renal mass now measures 2.6 cm.", "K"),
        (
            "Hypodense lesion in the right hepatic lobe, previously characterized as "
            "hemangioma on MRI.",
            "L",
        ),
        ("Again seen are several hepatic cysts.", "L"),
        ("Redemonstration of a segment 8 hemangioma.", "L"),
        ("Persistent exophytic lesion of the right kidney.", "K"),
        ("Interval development of innumerable hepatic metastases.", "L"),
        ("Partial response of the hepatic metastases.", "L"),
        (
            "Complete necrosis of the segment 6 mass after embolization, which still "
            "measures 4 cm.",
            "L",
        ),
        ("The previously seen pancreatic pseudocyst has completely resolved.", ""),
        ("Previously noted renal cyst is not identified.", ""),
    ],
)
def test_a_comparison_tells_what_is_there_now(report, organs):
    assert found(report) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("History of pancreatic cancer.", ""),
        (
            "Patient with a history of renal cell carcinoma, right nephrectomy. Normal left "
            "kidney.",
            "",
        ),
        ("Postsurgical changes of right partial nephrectomy for renal mass.", ""),
        ("Status post Whipple for pancreatic head mass.", ""),
        ("Pancreatic tail mass, status post distal pancreatectomy.", ""),
        ("Surgical defect in segment 7 after metastasectomy.", ""),
        (
            "Status post hepatic metastasectomy with a resection cavity in segment 6, no "
            "recurrent lesion.",
            "",
        ),
        ("Liver metastases from colon cancer were resected in 2019.", ""),
        ("Surveillance for hepatocellular carcinoma, no lesion.", ""),
        ("Cirrhosis, HCC screening.", ""),
        ("Rule out pancreatic mass.", ""),
    ],
)
def test_what_was_or_is_looked_for_is_not_there(report, organs):
    assert found(report) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("Kidneys: No mass, stone or hydronephrosis.", ""),
        ("No evidence of metastatic disease in the abdomen or pelvis.", ""),
        ("There is no evidence of focal hepatic, pancreatic or renal lesion.", ""),
        ("No focal liver lesion is seen, although evaluation is limited without contrast.", ""),
        ("Liver: Homogeneous, no focal lesions. Spleen: Several hypodense lesions.", ""),
        ("Liver is free of mass lesions.", ""),
        ("No suspicious enhancing renal mass.", ""),
        ("No suspicious enhancing renal mass; a simple cyst is noted on the left.", "K"),
        ("Simple renal cysts. No solid renal mass.", "K"),
        ("No solid mass but several cysts in both kidneys.", "K"),
        ("Main pancreatic duct is dilated to 6 mm without obstructing mass.", ""),
        ("Column of Bertin as a pseudomass of the kidney.", ""),
        ("Focal fatty sparing mimicking a lesion next to the gallbladder in the liver.", ""),
        ("Renal cortical scarring on the left.", ""),
        ("Accessory spleen at the pancreatic tail.", ""),
        ("Hepatic contour is nodular in keeping with cirrhosis.", ""),
        (
            "Liver: Normal.\nGallbladder: Polyp of 4 mm.\nPancreas: Normal.\nKidneys: "
            "Punctate stone.",
            "",
        ),
        (
            "Liver, gallbladder, spleen, pancreas, adrenals and kidneys are normal. Uterine mass.",
            "",
        ),
        ("Stomach: A mass along the lesser curvature. Liver: Normal.", ""),
        ("Ovarian mass 5 cm. Pancreas unremarkable. Kidneys unremarkable. Liver unremarkable.", ""),
        ("Lung bases: nodules. Liver, pancreas, kidneys: unremarkable.", ""),
        ("Heart: Normal. Mass in the breast.", ""),
    ],
)
def test_denials_reach_over_their_list_and_no_further(report, organs):
    assert found(report) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("Hepatic cysts and bilateral renal cysts.", "KL"),
        ("Pancreatic head mass. Small renal cyst.", "KP"),
        ("Pancreatic tail mass with multiple hepatic metastases.", "LP"),
        ("Hypodense foci in the spleen, liver and left kidney.", "KL"),
        ("Liver: A few hypodense lesions, likely cysts. Spleen: Normal. Pancreas: No mass.", "L"),
        ("Right kidney: 1.2 cm cyst. Left kidney: Normal. Pancreas: Normal. Liver: Normal.", "K"),
        ("Metastatic disease to the liver.", "L"),
        ("Bilobar hepatic metastases.", "L"),
        ("A 12 mm lesion, stable, in segment IVa.", "L"),
        ("1.5-cm hypervascular focus in the right hepatic lobe.", "L"),
        (
            "Pancreas: Ill-defined 2.5-cm hypoenhancing mass in the uncinate process with "
            "SMV abutment.",
            "P",
        ),
        ("The pancreas shows a 14 mm cystic focus in the neck.", "P"),
        ("Serous cystadenoma of the pancreatic body.", "P"),
        ("Multiple pancreatic cysts, likely IPMNs.", "P"),
        ("Solid pseudopapillary neoplasm in the pancreatic tail.", "P"),
        ("Oncocytoma or RCC of the right kidney, 3 cm.", "K"),
        ("Hyperdense cyst in the lower pole of the right kidney.", "K"),
        ("Renal lesion with macroscopic fat.", "K"),
        ("Fat-containing lesion of the left kidney in keeping with angiomyolipoma.", "K"),
        ("Fat-containing lesion in segment 3 of the liver.", "L"),
        ("Subcapsular hypodense lesion of the right lobe of the liver.", "L"),
        ("Caudate lobe cyst.", "L"),
        (
            "Several lesions in the right hepatic lobe, the largest adjacent to the right kidney.",
            "L",
        ),
        ("Exophytic lesion of the left kidney next to the pancreatic tail.", "K"),
        ("Pancreatic tail lesion next to the left kidney and spleen.", "P"),
        ("A hepatic lesion compressing the right kidney.", "L"),
    ],
)
def test_every_lesion_goes_to_its_organ(report, organs):
    assert found(report) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("There is a 12 mm hypodense nodular lesion in liver segment 4B.", "L"),
        ("In the liver segment 8 localization, a lesion of cystic density is observed.", "L"),
        ("Millimetric cortical cysts are observed in both kidneys.", "K"),
        ("A parapelvic cyst was observed on the left.", "K"),
        (
            "No space-occupying lesion was detected in the sections of the liver within the image.",
            "",
        ),
        ("The contour, size and density of the pancreas are natural, no mass was observed.", ""),
        (
            "A lesion of 12 mm is observed in the left adrenal; the liver and both kidneys "
            "are natural.",
            "",
        ),
        ("In the upper abdominal sections, the liver has a 1 cm lesion (hemangioma?).", "L"),
        ("Solid mass of the left kidney in a patient after right nephrectomy.", "K"),
        ("Left renal mass, status post left nephrectomy.", ""),
        ("Liver metastases, status post right hemicolectomy.", "L"),
        (
            "Leberzyste und eine Metastase, kein Tumor der Niere. Die Leber ist mit dem "
            "Pankreas normal.",
            "",
        ),
        ("A new lesion in segment 5 which was not seen on the prior CT.", "L"),
        ("HCC surveillance in cirrhosis. The liver has no lesion.", ""),
    ],
)
def test_translated_reports_are_read(report, organs):
    assert found(report) == organs


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("Hypodense appearance in the liver that cannot be characterized.", "L"),
        ("A diffuse hypodense appearance in the liver due to hepatosteatosis.", ""),
        ("Cysts in the liver Note: No sign of infection was detected.", "L"),
        ("Hypodense lesions of soft tissue density in the liver.", "L"),
        ("A lesion at the diaphragmatic dome level in segment 4a.", "L"),
        ("Metastatic liver disease (stable).", "L"),
        ("A soft tissue mass fills the left renal pelvis.", "K"),
        ("A hypodense area in segment 4, evaluated in favor of focal adiposity.", ""),
        (
            "A hypodense area in segment 4B next to the falciform ligament was noted, and it "
            "was evaluated in favor of focal adiposity.",
            "",
        ),
        ("Hyperdense foci in both kidneys, compatible with stones.", ""),
        ("Lesions in the liver: 3.", "L"),
        ("Lesions in the liver: none.", ""),
        ("Liver lesions: stable.", "L"),
        ("Liver lesions: several, up to 3 cm.", "L"),
        ("Kidneys: Normal size. Mass: none. Cyst: none.", ""),
        ("Pancreas: atrophic. Cyst: 1 cm in the tail.", "P"),
        ("Lesion count:\nLiver: 3\nKidney: 0\nPancreas: 0", "L"),
        ("Number of lesions:\n- Liver: none\n- Kidney: 2\n- Spleen: 1\n- Pancreas: none", "K"),
        ("Lesions: liver (3), kidney (0), pancreas (0)", "L"),
        ("Masses: kidney yes, liver no, pancreas no.", "K"),
    ],
)
def test_unusual_wordings_are_read(report, organs):
    assert found(report) == organs
