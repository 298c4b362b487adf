"""Names and tables shared by commands, documentation and tests. Data only, so instant to import."""

from __future__ import annotations

__all__ = [
    "ABDOMEN_LABELS",
    "ABDOMEN_STRUCTURES",
    "COMMANDS",
    "CT_RATE_LABELS",
    "DISCLAIMER",
    "RECIPES",
    "REGIONS",
]

CT_RATE_LABELS: tuple[str, ...] = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)
"""The 18 abnormalities of CT-RATE, in the order of its label files."""

ABDOMEN_LABELS: tuple[str, ...] = ("Liver lesion", "Kidney lesion", "Pancreas lesion")
"""The three lesion labels derived from AbdomenAtlas 3.0 masks."""

ABDOMEN_STRUCTURES: tuple[str, ...] = (
    "spleen",
    "kidney_left",
    "kidney_right",
    "stomach",
    "pancreas_head",
    "pancreas_body",
    "pancreas_tail",
    "duodenum",
    "intestine",
    "colon",
    "rectum",
    "aorta",
    "postcava",
    "portal_vein_and_splenic_vein",
    "hepatic_vessel",
    "superior_mesenteric_artery",
    "celiac_trunk",
    "celiac_aa",
    "veins",
    "bladder",
    "esophagus",
    "adrenal_gland_left",
    "adrenal_gland_right",
    "gall_bladder",
    "common_bile_duct",
    "lung_left",
    "lung_right",
    "femur_left",
    "femur_right",
    "prostate",
    *(f"liver_segment_{number}" for number in range(1, 9)),
    "liver_lesion",
    "kidney_lesion",
    "pancreatic_lesion",
)
"""The 41 structures of AbdomenAtlas 3.0; the first has the value 1."""

REGIONS: tuple[str, ...] = ("chest", "abdomen")
"""Body regions a model can be trained for."""

COMMANDS: dict[str, tuple[str, str]] = {
    "inspect": ("uvlm.cli.inspect", "show what a CT file is: geometry, HU verdict, region"),
    "phantom": ("uvlm.cli.phantom", "make synthetic CT studies with masks, labels and reports"),
    "prepare": ("uvlm.cli.prepare", "turn a raw dataset into a catalog and a store"),
    "train": ("uvlm.cli.train", "train a recipe: segmentation, classification or report"),
    "report": ("uvlm.cli.report", "write a report, with probabilities and mask, for each CT"),
    "classify": ("uvlm.cli.classify", "probability of each abnormality for each CT"),
    "segment": ("uvlm.cli.segment", "organ and lesion mask on each CT's own grid"),
    "measure": ("uvlm.cli.measure", "volume in ml and mean HU of each class of a mask"),
    "evaluate": ("uvlm.cli.evaluate", "score a bundle on the held-out studies of a catalog"),
}
"""Subcommand -> (module with `main(argv) -> int`, one line of help)."""

RECIPES: dict[str, tuple[str, str]] = {
    "segmentation": ("uvlm.training.recipes:segmentation", "task 1 at the paper's size"),
    "classification": ("uvlm.training.recipes:classification", "task 2 at the paper's size"),
    "report": ("uvlm.training.recipes:report", "task 3 at the paper's size"),
    "tiny_segmentation": ("uvlm.training.recipes:tiny_segmentation", "task 1 on a laptop"),
    "tiny_classification": ("uvlm.training.recipes:tiny_classification", "task 2 on a laptop"),
    "tiny_report": ("uvlm.training.recipes:tiny_report", "task 3 on a laptop"),
}
"""Recipe name -> (module:function returning a RunConfig, one line of help)."""

DISCLAIMER = "Not for clinical use. Written by a research model; a radiologist must read the study."
"""Stands in every report the package writes."""
