"""The outcome of an evaluation: every score with its interval, beside what needs no image.

Shapes: N studies, R resamples, S scores of all measures together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.intervals import (
    CONFIDENCE,
    Difference,
    Resamples,
    draws_of,
    limits,
    paired_difference,
    patient_resamples,
    resample_key,
)
from uvlm.evaluation.measure import Measure

__all__ = ["FORMAT", "Chart", "Floor", "Result", "Score", "build_result", "split_name"]

FORMAT = 1
"""Of result.json and draws.npz; `uvlm compare` reads this one."""

PER_CLASS = ": "
"""Between what is measured and the class, as in "F1: Lung nodule"."""


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What scores without looking at the image."""

    name: str
    value: float
    gain: Difference
    """The system minus the floor, on the same resamples."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of one protocol."""

    protocol: str
    name: str
    value: float
    """nan if it does not exist."""

    low: float
    high: float
    higher_is_better: bool = True
    floors: tuple[Floor, ...] = ()

    @property
    def per_class(self) -> bool:
        return PER_CLASS in self.name


def split_name(name: str) -> tuple[str, str]:
    """ "F1: Lung nodule" -> ("F1", "Lung nodule"); ("F1", "") of a score over all classes."""
    kind, _, class_name = name.partition(PER_CLASS)
    return kind, class_name


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Points a task wants drawn beside its scores, such as a reliability plot."""

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    """Name -> (x, y)."""

    diagonal: bool = False
    """Whether y = x is drawn, what is expected of a calibrated probability."""

    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that is written about one evaluation."""

    task: str
    about: Mapping[str, Any]
    """Inputs, unit, rule of joining, counts, resamples and seed."""

    scores: tuple[Score, ...]
    notes: Mapping[str, tuple[str, ...]]
    """Protocol -> what a reader must know; "" holds those about all."""

    skipped: Mapping[str, str]
    """Protocol -> why it was not computed."""

    ids: tuple[str, ...]
    patients: tuple[str, ...]
    per_study: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Column -> (N,) values of studies.csv."""

    draws: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    """(R, S) in the order of `scores`."""

    resample_key: str = ""
    charts: tuple[Chart, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; a number that does not exist is null."""
        content = {
            "format": FORMAT,
            "task": self.task,
            "about": dict(self.about),
            "resample_key": self.resample_key,
            "scores": [_score_dict(score) for score in self.scores],
            "notes": {name: list(notes) for name, notes in self.notes.items() if notes},
            "skipped": dict(self.skipped),
            "charts": [_chart_dict(chart) for chart in self.charts],
        }
        return {key: _without_nan(value) for key, value in content.items()}


def build_result(
    *,
    task: str,
    ids: Sequence[str],
    patients: Sequence[str],
    measures: Sequence[Measure],
    floors: Mapping[str, Sequence[Measure]] | None = None,
    about: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    skipped: Mapping[str, str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    charts: Sequence[Chart] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Result:
    """Score all measures on the data and on every resample of the patients.

    Args:
        ids, patients, columns: one entry per study
        floors: name -> measures of the same protocols and names; others are not looked at
        notes: about all protocols

    Raises:
        InputError: there is no study or nothing was measured.
    """
    if not measures:
        reasons = "; ".join(f"{name}: {why}" for name, why in (skipped or {}).items())
        raise InputError(f"no protocol could be computed. {reasons or 'None was asked for.'}")
    weights = patient_resamples(patients, resamples, seed)
    general = list(notes)
    if len(set(patients)) < 2:
        # Every resample would be the data themselves: an interval of no width says nothing.
        weights = patient_resamples(patients, 0, seed)
        general.append("One patient only: there are no intervals.")
    floor_draws = {
        name: _by_protocol(found, weights, len(ids)) for name, found in (floors or {}).items()
    }
    scores: list[Score] = []
    parts = []
    for measure in measures:
        draws = draws_of(measure, weights)
        parts.append(draws)
        scores += _scores(measure, draws, weights, floor_draws)
    return Result(
        task=task,
        about={**(about or {}), "resamples": len(weights), "seed": seed, "confidence": CONFIDENCE},
        scores=tuple(scores),
        notes={"": tuple(general), **_notes(measures)},
        skipped=dict(skipped or {}),
        ids=tuple(ids),
        patients=tuple(patients),
        per_study={**(columns or {}), **_study_columns(measures)},
        draws=np.concatenate(parts, axis=1),
        resample_key=resample_key(ids, patients, len(weights), seed),
        charts=tuple(charts),
    )


_Floor = dict[tuple[str, str], tuple[float, NDArray[np.float64], NDArray[np.bool_] | None]]
"""(protocol, name) -> (value, (R,) draws, (N,) studies scored or None for all)"""


def _by_protocol(measures: Sequence[Measure], weights: Resamples, studies: int) -> _Floor:
    found: _Floor = {}
    for measure in measures:
        draws, values = draws_of(measure, weights), measure.values(studies)
        for i, name in enumerate(measure.names):
            found[measure.protocol, name] = float(values[i]), draws[:, i], measure.members
    return found


def _scores(
    measure: Measure, draws: NDArray[np.float64], weights: Resamples, floors: Mapping[str, _Floor]
) -> list[Score]:
    values = measure.values(len(weights.member))
    low, high = limits(draws if measure.interval else np.full_like(draws, np.nan))
    scores = []
    for i, name in enumerate(measure.names):
        beside = []
        for floor, found in floors.items():
            if (measure.protocol, name) in found:
                value, floor_draws, members = found[measure.protocol, name]
                own, own_draws = values, draws
                if members is not None:
                    own, own_draws = _only(measure, members, weights)
                gain = paired_difference((float(own[i]), value), (own_draws[:, i], floor_draws))
                beside.append(Floor(name=floor, value=value, gain=gain))
        scores.append(
            Score(
                protocol=measure.protocol,
                name=name,
                value=float(values[i]),
                low=float(low[i]),
                high=float(high[i]),
                higher_is_better=measure.higher_is_better,
                floors=tuple(beside),
            )
        )
    return scores


def _only(
    measure: Measure, members: NDArray[np.bool_], weights: Resamples
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M,) scores and (R, M) draws of some studies: a difference is over the same ones."""
    part = replace(measure, score=lambda drawn: measure.score(drawn * members))
    return part.values(len(members)), draws_of(part, weights)


def _notes(measures: Sequence[Measure]) -> dict[str, tuple[str, ...]]:
    """By protocol, each once; several measures may share one."""
    notes: dict[str, dict[str, None]] = {}
    for measure in measures:
        notes.setdefault(measure.protocol, {}).update(dict.fromkeys(measure.notes))
    return {protocol: tuple(found) for protocol, found in notes.items()}


def _study_columns(measures: Sequence[Measure]) -> dict[str, Sequence[Any]]:
    """`protocol name` -> (N,), where a study has a score of its own."""
    columns: dict[str, Sequence[Any]] = {}
    for measure in measures:
        if measure.per_study is not None:
            for i, name in enumerate(measure.names):
                columns[f"{measure.protocol} {name}"] = measure.per_study[:, i].tolist()
    return columns


def _score_dict(score: Score) -> dict[str, Any]:
    content: dict[str, Any] = {
        "protocol": score.protocol,
        "name": score.name,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "higher_is_better": score.higher_is_better,
    }
    if score.floors:
        content["floors"] = {
            floor.name: {
                "value": floor.value,
                "gain": floor.gain.difference,
                "gain_low": floor.gain.low,
                "gain_high": floor.gain.high,
                "p_value": floor.gain.p_value,
            }
            for floor in score.floors
        }
    return content


def _chart_dict(chart: Chart) -> dict[str, Any]:
    lines = {name: {"x": list(x), "y": list(y)} for name, (x, y) in chart.lines.items()}
    return {"title": chart.title, "x": chart.x_label, "y": chart.y_label, "lines": lines}


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
