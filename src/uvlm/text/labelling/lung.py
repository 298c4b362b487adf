"""Rules of the lung classes of CT-RATE."""

from __future__ import annotations

from uvlm.text.labelling.lung_airway import AIRWAY_RULES
from uvlm.text.labelling.lung_dense import DENSE_RULES
from uvlm.text.labelling.rules import Rule

__all__ = ["LUNG_RULES"]

LUNG_RULES: tuple[Rule, ...] = DENSE_RULES + AIRWAY_RULES
