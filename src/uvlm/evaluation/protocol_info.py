"""How a protocol is described: a named way to compute a metric, never just its name."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ProtocolInfo"]


@dataclass(frozen=True, kw_only=True)
class ProtocolInfo:
    """What `uvlm evaluate TASK --list` says of one protocol."""

    name: str
    """Such as "bleu@vlm3d"."""

    task: str
    """report, cls, seg, detect, retrieval or vqa."""

    about: str
    """One paragraph: what is counted, cleaning, tokens, averages, and what empty cases give."""

    source: str
    """The paper or code that it follows."""

    needs: str = ""
    """What must be there beside Python packages, such as Java or local weights."""

    default: bool = True
    """Whether it is computed when none is named, if what it needs is there."""
