"""Sentences of chest reports, as data. The first variant of each is the usual one.

Braces are filled from what was drawn: {where} lobes, {side} "left" or "right", {both} the side
with its noun, {mm} the stated size, {n} a count in words, {grade} mild, moderate or severe,
{place} stations or vessels.
"""

from __future__ import annotations

__all__ = ["ABNORMAL", "IMPRESSION", "NORMAL", "NORMAL_IMPRESSION"]

NORMAL: dict[str, tuple[str, ...]] = {
    "airways": (
        "Trachea and both main bronchi are patent.",
        "The trachea is midline and both main bronchi are open.",
        "No obstructing lesion is seen in the trachea or main bronchi.",
    ),
    "vessels": (
        "Calibers of the mediastinal great vessels are normal.",
        "The great vessels of the mediastinum have a normal diameter.",
        "Thoracic aorta and pulmonary arteries are of normal width.",
    ),
    "Arterial wall calcification": (
        "",
        "No calcified plaque is seen in the aortic wall.",
    ),
    "Cardiomegaly": (
        "Heart size and contours are normal.",
        "The heart is of normal size.",
        "Cardiac size and configuration are within normal limits.",
    ),
    "Pericardial effusion": (
        "No pericardial effusion is seen.",
        "There is no pericardial effusion or thickening.",
        "Pericardial fluid is not increased.",
    ),
    "Coronary artery wall calcification": (
        "",
        "No calcification is seen in the coronary arteries.",
    ),
    "Lymphadenopathy": (
        "No enlarged lymph node is seen in the mediastinum or at either hilum.",
        "There are no mediastinal or hilar lymph nodes of pathological size.",
        "Mediastinal and hilar lymph nodes are not enlarged.",
    ),
    "Hiatal hernia": (
        "The esophagus is of normal caliber without wall thickening.",
        "Esophageal caliber is normal.",
    ),
    "lungs": (
        "No {absent} is detected in either lung.",
        "Both lungs are normally aerated and show no {absent}.",
        "Lung parenchyma is normally aerated on both sides, without {absent}.",
    ),
    "lungs otherwise": (
        "No {absent} is seen elsewhere in the lungs.",
        "There is no {absent} in the remaining parenchyma.",
        "",
    ),
    "Pleural effusion": (
        "There is no pleural effusion or thickening.",
        "No pleural effusion is detected on either side.",
        "Pleural spaces are free of fluid.",
    ),
    "abdomen": (
        "Upper abdominal organs within the scan are unremarkable.",
        "No lesion is seen in the included part of the liver.",
        "The visualized upper abdomen is normal.",
    ),
    "bones": (
        "No lytic or destructive lesion is seen in the bones.",
        "Bone structures are intact and vertebral heights are preserved.",
        "Vertebral body heights are preserved.",
    ),
}
"""Statement of a normal part of the chest."""

ABNORMAL: dict[str, tuple[str, ...]] = {
    "Medical material pacemaker": (
        "A cardiac pacemaker is placed on the {side} chest wall with its lead ending in the heart.",
        "There is a pacemaker on the {side} anterior chest wall and a lead in the right heart.",
    ),
    "Medical material port": (
        "A port is seen on the {side} chest wall, its catheter ending in the superior vena cava.",
        "There is a port catheter on the {side} whose tip lies in the superior vena cava.",
    ),
    "Medical material sternotomy": (
        "Metallic sternotomy sutures are seen.",
        "There are sternal wires from a previous operation.",
    ),
    "Arterial wall calcification": (
        "Calcified atheromatous plaques are seen in the wall of {place}.",
        "There are calcific plaques in {place}.",
        "Atherosclerotic wall calcification is present in {place}.",
    ),
    "Cardiomegaly": (
        "The heart is enlarged, with a transverse diameter of {mm} mm.",
        "Heart size is increased; its transverse diameter is {mm} mm.",
        "There is {grade} cardiomegaly, the heart measuring {mm} mm across.",
    ),
    "Pericardial effusion": (
        "Pericardial effusion is present, {mm} mm at its thickest.",
        "There is a {grade} pericardial effusion with a thickness of up to {mm} mm.",
        "Fluid measuring {mm} mm in thickness is seen in the pericardial space.",
    ),
    "Coronary artery wall calcification": (
        "Calcified plaques are seen in the {place}.",
        "There is wall calcification of the {place}.",
        "Atheromatous calcification is present in the {place}.",
    ),
    "Hiatal hernia": (
        "A hiatal hernia with a diameter of {mm} mm is seen at the lower end of the esophagus.",
        "There is a hiatal hernia measuring {mm} mm behind the heart.",
    ),
    "Lymphadenopathy": (
        "Enlarged lymph nodes are seen in the {place}, the largest with a short axis of {mm} mm.",
        "There are enlarged lymph nodes in the {place}, the largest {mm} mm in short axis.",
        "Lymphadenopathy is present in the {place}, up to {mm} mm in short axis.",
    ),
    "Emphysema": (
        "{Grade} emphysematous changes are seen in both lungs, mainly in the upper lobes.",
        "There is {grade} {kind} emphysema with upper lobe predominance in both lungs.",
        "Emphysema of {grade} degree is present in both lungs.",
    ),
    "Atelectasis": (
        "Linear atelectasis is seen in {where}.",
        "There are bands of linear atelectasis in {where}.",
        "Subsegmental atelectatic bands are present in {where}.",
    ),
    "Atelectasis passive": (
        "Passive atelectasis is seen in the lung next to the {both}.",
        "There is compressive atelectasis of the lung adjacent to the {both}.",
    ),
    "Lung nodule one": (
        "A nodule {mm} mm in diameter is seen in {where}.",
        "There is a {mm} mm solid nodule in {where}.",
    ),
    "Lung nodule": (
        "{N} nodules are seen in {where}, the largest {mm} mm in diameter.",
        "There are {n} solid nodules in {where}, the largest measuring {mm} mm.",
    ),
    "Lung opacity": (
        "Ground-glass opacity is seen in {where}.",
        "There are ground-glass densities in {where}, up to {mm} mm across.",
        "Areas of ground-glass attenuation measuring up to {mm} mm are present in {where}.",
    ),
    "Pulmonary fibrotic sequela": (
        "Pleuroparenchymal fibrotic sequelae are seen at the {apex}.",
        "There are fibrotic sequela bands at the {apex}.",
        "Sequelae of fibrosis with pleural thickening are present at the {apex}.",
    ),
    "Pleural effusion": (
        "{Both} is present, {mm} mm at its thickest.",
        "There is {grade} {both} measuring up to {mm} mm in thickness.",
        "{Both} with a thickness of {mm} mm is seen.",
    ),
    "Mosaic attenuation pattern": (
        "A mosaic attenuation pattern is seen in both lungs.",
        "Both lungs show mosaic attenuation.",
    ),
    "Peribronchial thickening": (
        "Peribronchial thickening is seen in {where}.",
        "There is thickening of the bronchial walls in {where}.",
    ),
    "Consolidation": (
        "Consolidation with air bronchograms is seen in {where}, {mm} mm across.",
        "There is an area of consolidation measuring {mm} mm in {where}.",
        "A {mm} mm consolidation is present in {where}.",
    ),
    "Bronchiectasis": (
        "Bronchiectasis is seen in {where}.",
        "There are bronchiectatic changes in {where}, up to {mm} mm in diameter.",
        "Dilated bronchi are present in {where}, in keeping with bronchiectasis.",
    ),
    "Interlobular septal thickening": (
        "Interlobular septal thickening is seen in the lower zones of both lungs.",
        "Interlobular septa are thickened in the lower parts of both lungs.",
    ),
}
"""Statement of an abnormality."""

IMPRESSION: dict[str, tuple[str, ...]] = {
    "Medical material pacemaker": ("Cardiac pacemaker.",),
    "Medical material port": ("Port catheter on the {side}.",),
    "Medical material sternotomy": ("Status after sternotomy.",),
    "Arterial wall calcification": ("Aortic wall calcification.", "Calcific plaques of the aorta."),
    "Cardiomegaly": ("Cardiomegaly.",),
    "Pericardial effusion": ("Pericardial effusion.",),
    "Coronary artery wall calcification": ("Coronary artery calcification.",),
    "Hiatal hernia": ("Hiatal hernia.",),
    "Lymphadenopathy": ("Mediastinal and hilar lymphadenopathy.", "Lymphadenopathy."),
    "Emphysema": ("Emphysema in both lungs.", "{Grade} emphysema."),
    "Atelectasis": ("Linear atelectasis in {where}.", "Atelectatic bands."),
    "Atelectasis passive": ("Passive atelectasis next to the effusion.",),
    "Lung nodule one": ("Nodule in {where}.", "{mm} mm nodule in {where}."),
    "Lung nodule": ("Nodules in {where}.", "Pulmonary nodules up to {mm} mm."),
    "Lung opacity": ("Ground-glass opacity in {where}.", "Ground-glass opacities."),
    "Pulmonary fibrotic sequela": ("Fibrotic sequelae at the {apex}.",),
    "Pleural effusion": ("{Both}.",),
    "Mosaic attenuation pattern": ("Mosaic attenuation in both lungs.",),
    "Peribronchial thickening": ("Peribronchial thickening.",),
    "Consolidation": ("Consolidation in {where}.", "Consolidation in {where}, pneumonia?"),
    "Bronchiectasis": ("Bronchiectasis in {where}.", "Bronchiectasis."),
    "Interlobular septal thickening": ("Interlobular septal thickening in both lungs.",),
}
"""Line of the impression for an abnormality."""

NORMAL_IMPRESSION = (
    "No pathological finding in the thorax.",
    "Thorax CT within normal limits.",
)
"""Impression of a normal study."""
