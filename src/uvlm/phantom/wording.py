"""Sentences of chest reports, as data. The first variant of each is the usual one.

Braces are filled from what was drawn: {where} lobes, {side} "left" or "right", {both} the side
with its noun, {mm} the stated size, {n} a count in words, {grade} mild, moderate or severe,
{place} stations or vessels.
"""

from __future__ import annotations

__all__ = ["ABNORMAL", "IMPRESSION", "LUNG_GROUPS", "NORMAL", "NORMAL_IMPRESSION"]

NORMAL: dict[str, tuple[str, ...]] = {
    "airways": (
        "Trachea and both main bronchi are open.",
        "The trachea and main bronchi are patent.",
        "No obstruction is seen in the trachea or main bronchi.",
    ),
    "vessels": (
        "Mediastinal great vessels are of normal caliber.",
        "The great vessels are of normal width.",
    ),
    "Cardiomegaly": (
        "Heart size is normal.",
        "The heart is of normal size.",
        "Heart contour and size are normal.",
    ),
    "Arterial wall calcification": (
        "No calcified plaque is seen in the aorta.",
        "There is no calcification of the aortic wall.",
    ),
    "Coronary artery wall calcification": (
        "No calcified plaque is seen in the coronary arteries.",
        "There is no coronary calcification.",
    ),
    "Pericardial effusion": (
        "No pericardial effusion is seen.",
        "There is no pericardial effusion.",
    ),
    "Lymphadenopathy": (
        "No enlarged mediastinal or hilar lymph node is seen.",
        "There are no enlarged lymph nodes in the mediastinum or hila.",
        "Mediastinal and hilar lymph nodes are not enlarged.",
    ),
    "Hiatal hernia": (
        "The esophagus is normal.",
        "Esophageal caliber is normal.",
    ),
    "lungs": (
        "No {absent} is seen.",
        "There is no {absent}.",
    ),
    "Pleural effusion": (
        "No pleural effusion is seen.",
        "There is no pleural effusion.",
        "Pleural spaces are free.",
    ),
    "rest": (
        "Upper abdominal organs and bones are unremarkable.",
        "No lesion is seen in the upper abdomen or the bones.",
        "The upper abdomen is normal and bones are intact.",
    ),
}
"""Statement of a normal part of the chest."""

LUNG_GROUPS: tuple[dict[str, str], ...] = (
    {
        "Lung nodule": "nodule",
        "Consolidation": "consolidation",
        "Lung opacity": "ground-glass opacity",
    },
    {
        "Emphysema": "emphysema",
        "Mosaic attenuation pattern": "mosaic attenuation",
        "Interlobular septal thickening": "septal thickening",
    },
    {
        "Peribronchial thickening": "peribronchial thickening",
        "Bronchiectasis": "bronchiectasis",
    },
    {
        "Atelectasis": "atelectasis",
        "Pulmonary fibrotic sequela": "fibrotic sequela",
    },
)
"""Abnormalities of the lungs that one sentence denies together, by the word it uses."""

ABNORMAL: dict[str, tuple[str, ...]] = {
    "Medical material pacemaker": (
        "A pacemaker is seen on the {side} chest wall with its lead in the heart.",
        "There is a {side} sided pacemaker with a lead in the heart.",
    ),
    "Medical material port": (
        "A port is seen on the {side} chest wall with its catheter in the superior vena cava.",
        "There is a {side} sided port catheter ending in the superior vena cava.",
    ),
    "Medical material sternotomy": (
        "Metallic sternotomy sutures are seen.",
        "There are sternotomy wires.",
    ),
    "Arterial wall calcification": (
        "Calcified plaques are seen in the wall of {place}.",
        "There are calcific atheroma plaques in {place}.",
    ),
    "Cardiomegaly": (
        "The heart is enlarged with a transverse diameter of {mm} mm.",
        "Heart size is increased, measuring {mm} mm across.",
        "There is {grade} cardiomegaly with a transverse diameter of {mm} mm.",
    ),
    "Pericardial effusion": (
        "Pericardial effusion is seen, {mm} mm thick.",
        "There is {grade} pericardial effusion of up to {mm} mm.",
    ),
    "Coronary artery wall calcification": (
        "Calcified plaques are seen in the {place}.",
        "There is calcification of the {place}.",
    ),
    "Hiatal hernia": (
        "A hiatal hernia of {mm} mm is seen.",
        "There is a hiatal hernia measuring {mm} mm.",
    ),
    "Lymphadenopathy": (
        "Enlarged lymph nodes are seen in the {place}, the largest {mm} mm in short axis.",
        "There are enlarged lymph nodes in the {place}, up to {mm} mm in short axis.",
    ),
    "Emphysema": (
        "{Grade} emphysema is seen in both lungs.",
        "There are {grade} emphysematous changes in both lungs.",
        "{Grade} {kind} emphysema is seen, mainly in the upper lobes.",
    ),
    "Atelectasis": (
        "Linear atelectasis is seen in {where}.",
        "There are bands of atelectasis in {where}.",
    ),
    "Atelectasis passive": (
        "Passive atelectasis is seen next to the effusion.",
        "There is compression atelectasis next to the effusion.",
    ),
    "Lung nodule one": (
        "A nodule of {mm} mm is seen in {where}.",
        "There is a {mm} mm nodule in {where}.",
    ),
    "Lung nodule": (
        "{N} nodules are seen in {where}, the largest {mm} mm.",
        "There are {n} nodules in {where}, up to {mm} mm.",
    ),
    "Lung opacity": (
        "Ground-glass opacity is seen in {where}.",
        "There are ground-glass densities in {where}, up to {mm} mm.",
    ),
    "Pulmonary fibrotic sequela": (
        "Fibrotic sequelae are seen at the {apex}.",
        "There are pleuroparenchymal sequelae at the {apex}.",
    ),
    "Pleural effusion": (
        "{Both} is seen, {mm} mm thick.",
        "There is {grade} {both} of up to {mm} mm.",
    ),
    "Mosaic attenuation pattern": (
        "A mosaic attenuation pattern is seen in both lungs.",
        "Both lungs show mosaic attenuation.",
    ),
    "Peribronchial thickening": (
        "Peribronchial thickening is seen in {where}.",
        "There is peribronchial wall thickening in {where}.",
    ),
    "Consolidation": (
        "Consolidation of {mm} mm is seen in {where}.",
        "There is a {mm} mm consolidation in {where}.",
    ),
    "Bronchiectasis": (
        "Bronchiectasis is seen in {where}.",
        "There are bronchiectatic changes in {where}.",
    ),
    "Interlobular septal thickening": (
        "Interlobular septal thickening is seen in the lower zones of both lungs.",
        "Interlobular septa are thickened in the lower zones of both lungs.",
    ),
}
"""Statement of an abnormality."""

IMPRESSION: dict[str, tuple[str, ...]] = {
    "Medical material pacemaker": ("Pacemaker.",),
    "Medical material port": ("Port catheter.",),
    "Medical material sternotomy": ("Sternotomy.",),
    "Arterial wall calcification": ("Aortic calcification.",),
    "Cardiomegaly": ("Cardiomegaly.",),
    "Pericardial effusion": ("Pericardial effusion.",),
    "Coronary artery wall calcification": ("Coronary calcification.",),
    "Hiatal hernia": ("Hiatal hernia.",),
    "Lymphadenopathy": ("Lymphadenopathy.", "Mediastinal and hilar lymphadenopathy."),
    "Emphysema": ("Emphysema.", "{Grade} emphysema."),
    "Atelectasis": ("Linear atelectasis.", "Atelectasis."),
    "Atelectasis passive": ("Passive atelectasis.",),
    "Lung nodule one": ("Lung nodule.", "Nodule in {where}."),
    "Lung nodule": ("Lung nodules.",),
    "Lung opacity": ("Ground-glass opacity.", "Ground-glass opacity in {where}."),
    "Pulmonary fibrotic sequela": ("Fibrotic sequelae.",),
    "Pleural effusion": ("{Both}.",),
    "Mosaic attenuation pattern": ("Mosaic attenuation.",),
    "Peribronchial thickening": ("Peribronchial thickening.",),
    "Consolidation": ("Consolidation in {where}.", "Consolidation in {where}, pneumonia?"),
    "Bronchiectasis": ("Bronchiectasis.",),
    "Interlobular septal thickening": ("Interlobular septal thickening.",),
}
"""Line of the impression for an abnormality."""

NORMAL_IMPRESSION = ("No pathological finding in the thorax.", "Thorax CT within normal limits.")
"""Impression of a normal study."""
