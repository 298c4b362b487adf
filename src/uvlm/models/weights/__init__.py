"""Checkpoints of nnU-Net and of the published U-VLM and HSENet code, read safely and accounted
for."""

from __future__ import annotations

from uvlm.models.weights.checkpoint import Imported, checkpoint_bundle, import_checkpoint
from uvlm.models.weights.hsenet_bundle import import_hsenet, import_hsenet_report
from uvlm.models.weights.ledger import Record

__all__ = [
    "Imported",
    "Record",
    "checkpoint_bundle",
    "import_checkpoint",
    "import_hsenet",
    "import_hsenet_report",
]
