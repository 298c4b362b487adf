"""Evidence as JSON: everything but the voxels of heat maps. No torch import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uvlm.inference.evidence.types import HeatMap, Lesion, ReportEvidence, SentenceEvidence

__all__ = ["evidence_dict"]


def evidence_dict(evidence: ReportEvidence) -> dict[str, Any]:
    """Everything but the heat maps' values, ready for JSON."""
    return {
        "sentences": [_sentence(sentence) for sentence in evidence.sentences],
        "contradictions": [
            {"kind": c.kind, "message": c.message, "sentence": c.sentence, "label": c.label}
            for c in evidence.contradictions
        ],
        "lesions": [_lesion(lesion, evidence.doubted) for lesion in evidence.lesions],
        "details": dict(evidence.details),
    }


def _sentence(sentence: SentenceEvidence) -> dict[str, Any]:
    return {
        "text": sentence.text,
        "section": sentence.section,
        "findings": [
            {
                "label": f.label,
                "status": f.status,
                "words": f.words,
                "start": f.start,
                "end": f.end,
                "sides": list(f.sides),
                "probability": f.probability,
            }
            for f in sentence.findings
        ],
        "sizes_mm": list(sentence.sizes_mm),
        "heat": None if sentence.heat is None else _heat(sentence.heat),
        "places": [{"structure": p.structure, "share": round(p.share, 4)} for p in sentence.places],
        "lesions": list(sentence.lesions),
    }


def _heat(heat: HeatMap) -> dict[str, Any]:
    return {
        "method": heat.method,
        "peak": None if heat.peak is None else list(heat.peak),
        "peak_lps_mm": None if heat.peak_mm is None else [round(at, 1) for at in heat.peak_mm],
    }


def _lesion(lesion: Lesion, doubted: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": lesion.name,
        "number": lesion.number,
        "volume_ml": round(lesion.volume_ml, 4),
        "diameter_mm": round(lesion.diameter_mm, 2),
        "mean_hu": round(lesion.mean_hu, 1),
        "side": lesion.side,
        "structure": lesion.structure,
        "centre": list(lesion.centre),
        "box": [list(part) for part in lesion.box],
        "doubt": doubted.get(lesion.name),
    }
