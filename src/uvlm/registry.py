"""Names and tables shared by commands, documentation and tests. Data only, so instant to import."""

from __future__ import annotations

__all__ = [
    "ABDOMEN_LABELS",
    "ABDOMEN_STRUCTURES",
    "COMMANDS",
    "CT_RATE_LABELS",
    "DATASETS",
    "DISCLAIMER",
    "OWN_VOCABULARY",
    "PAPER_ROWS",
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
    "slices": ("uvlm.cli.slices", "describe each study's axial slices by a 2D encoder, once"),
    "features": ("uvlm.cli.features", "compute what a frozen encoder gives for each study, once"),
    "report": ("uvlm.cli.report", "write a report, with probabilities and mask, for each CT"),
    "ask": ("uvlm.cli.ask", "answer questions about a CT"),
    "retrieve": ("uvlm.cli.retrieve", "find studies by a text or by another study"),
    "classify": ("uvlm.cli.classify", "probability of each abnormality for each CT"),
    "segment": ("uvlm.cli.segment", "organ and lesion mask on each CT's own grid"),
    "measure": ("uvlm.cli.measure", "volume in ml and mean HU of each class of a mask"),
    "label": ("uvlm.cli.label", "which abnormalities each report speaks of, 0 or 1 per class"),
    "evaluate": (
        "uvlm.cli.evaluate",
        "score a bundle, or reports, labels, masks, answers in files",
    ),
    "compare": ("uvlm.cli.compare", "results of several systems side by side, with paired tests"),
    "doctor": ("uvlm.cli.doctor", "check the installation; say what a run will take"),
    "nnunet": ("uvlm.cli.nnunet", "nnU-Net's commands with the trainers of U-VLM, and its plans"),
    "import": ("uvlm.cli.import_", "checkpoint of nnU-Net or of published U-VLM to a bundle"),
    "export": ("uvlm.cli.export", "segmentation for nnU-Net, or encoder for ONNX, OpenVINO"),
}
"""Subcommand -> (module with `main(argv) -> int`, one line of help)."""

DATASETS: tuple[str, ...] = ("ct_rate", "abdomen_atlas")
"""Datasets of the paper; recipes of its runs begin with one of them."""

_BOTH: dict[str, str] = {
    "seg_c": "",
    "seg_cl": "",
    "seg_fl": "",
    "cls": "Table 4 row 1",
    "seg_c-cls": "Table 4 row 2",
    "seg_cl-cls": "Table 4 row 3",
    "seg_fl-cls": "Table 4 row 4",
    "rep": "Table 5 row 1",
    "cls-rep": "Table 5 row 2",
    "seg_cl-rep": "Table 5 row 3",
    "seg_fl-rep": "Table 5 row 4",
    "seg_c-cls-rep": "Table 5 row 5",
    "seg_cl-cls-rep": "Table 5 row 6",
    "seg_fl-cls-rep": "Table 5 row 7",
    "seg_cl-cls-rep+sc": "Table 5 row 8",
    "seg_fl-cls-rep+sc": "Table 5 row 9",
    "seg_cl-cls-rep+vt3072": "Table 5 row 10",
    "seg_fl-cls-rep+vt3072": "Table 5 row 11",
    "seg_cl-cls-rep+q4b_lora": "Table 5 row 12",
    "seg_cl-cls-rep+q4b_full": "Table 5 row 13",
    "seg_fl-cls-rep+q4b_lora": "Table 5 row 14",
    "seg_fl-cls-rep+q4b_full": "Table 5 row 15",
    "seg_cl-cls-rep+unfrozen": "Table 5 row 16",
    "seg_fl-cls-rep+unfrozen": "Table 5 row 17",
    "seg_c-cls-rep+authors": "",
    "seg_c-cls-rep+sc+authors": "",
}
"""Tasks in order and variants -> row of the paper's tables, the same on both datasets."""

_ONE: dict[str, str] = {
    "ct_rate/seg_fl-cls-rep+sc": "Table 2 U-VLM",
    "abdomen_atlas/seg_cl-cls-rep+sc": "Table 3 U-VLM Seg(C+L)",
    "abdomen_atlas/seg_fl-cls-rep+sc": "Table 3 U-VLM Seg(F+L)",
    "abdomen_atlas/seg_cl": "Table 3 nnU-Net Seg(C+L)",
    "abdomen_atlas/seg_fl": "Table 3 nnU-Net Seg(F+L)",
}
"""Rows of tables about one dataset."""

PAPER_ROWS: dict[str, tuple[str, ...]] = {
    f"{dataset}/{run}": tuple(filter(None, (row, _ONE.get(f"{dataset}/{run}", ""))))
    for dataset in DATASETS
    for run, row in _BOTH.items()
}
"""Recipe of a run of the paper -> the rows of its tables that it makes. A first task that is only
the beginning of others has none, nor has what only the published code does."""

RECIPES: dict[str, tuple[str, str]] = {
    "segmentation": ("uvlm.training.recipes:segmentation", "task 1 at the paper's size"),
    "classification": ("uvlm.training.recipes:classification", "task 2 at the paper's size"),
    "report": ("uvlm.training.recipes:report", "task 3 at the paper's size"),
    "joint": ("uvlm.training.recipes:joint", "tasks 2 and 3 at once"),
    "tiny_segmentation": ("uvlm.training.recipes:tiny_segmentation", "task 1 on a laptop"),
    "tiny_classification": ("uvlm.training.recipes:tiny_classification", "task 2 on a laptop"),
    "tiny_report": ("uvlm.training.recipes:tiny_report", "task 3 on a laptop"),
    "tiny_joint": ("uvlm.training.recipes:tiny_joint", "tasks 2 and 3 at once on a laptop"),
    **{
        name: (f"uvlm.training.hsenet:{name}", about)
        for name, about in {
            "hsenet_clip": "HSENet stage 1: volumes with reports",
            "hsenet_2e3": "HSENet stage 2: gated by slices too",
            "hsenet_report": "HSENet's reports over both its towers",
            "hsenet_vqa": "HSENet's answers over both its towers",
            "tiny_hsenet_clip": "HSENet stage 1 on a laptop",
            "tiny_hsenet_2e3": "HSENet stage 2 on a laptop",
            "tiny_hsenet_report": "HSENet's reports on a laptop",
            "tiny_hsenet_vqa": "HSENet's answers on a laptop",
            "unet_clip": "U-VLM's encoder, stage 1, on a laptop",
            "unet_packed": "U-VLM's encoder packed, on a laptop",
            "towers_injected": "HSENet's towers injected, on a laptop",
        }.items()
    },
    **{
        name: ("uvlm.training.paper:paper_run", "; ".join(rows) or "beside the paper's tables")
        for name, rows in PAPER_ROWS.items()
    },
}
"""Recipe name -> (module:function returning a RunConfig, one line of help). The function of a run
of the paper takes the name."""

OWN_VOCABULARY = 8192
"""Entries of a vocabulary learned from the reports, unless told otherwise."""

DISCLAIMER = "Not for clinical use. Written by a research model; a radiologist must read the study."
"""Stands in every report the package writes."""
