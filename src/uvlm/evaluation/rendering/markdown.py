"""A result as one Markdown file."""

from __future__ import annotations

from uvlm.evaluation.rendering.words import about_lines, general_notes, grids
from uvlm.evaluation.results import Result

__all__ = ["markdown"]


def markdown(result: Result) -> str:
    """What was scored, every table, and what was skipped."""
    lines = [f"- {name}: {shown}" for name, shown in about_lines(result.about)]
    blocks = [f"# Evaluation: {result.task}", "\n".join(lines)]
    if general := general_notes(result):
        blocks.append("\n".join(f"- {note}" for note in general))
    blocks += [grid.markdown() for grid in grids(result)]
    if result.skipped:
        rows = [f"- `{name}`: {why}" for name, why in result.skipped.items()]
        blocks.append("\n".join(["## Skipped\n", *rows]))
    return "\n\n".join(blocks) + "\n"
