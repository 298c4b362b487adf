"""Which slices show what a report states, and the pictures of them.

For each pathology of each sentence: the axial slice with most of its largest lesion, or without a
lesion to be believed that of the heat map's peak; the same enlarged, with the heat map, and a
coronal view. What an impression repeats is shown once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvlm.imaging.geometry import Reorientation, to_lps
from uvlm.imaging.preprocess import Grid
from uvlm.imaging.volume import Volume
from uvlm.inference.evidence.structures import is_lesion, labels_of
from uvlm.inference.evidence.types import (
    CLASS_METHOD,
    HeatMap,
    Lesion,
    ReportEvidence,
    SentenceEvidence,
    StatedFinding,
)
from uvlm.inference.findings import Findings
from uvlm.inference.rendering.colours import STATED, Mark, marks_of, organ_colour
from uvlm.inference.rendering.views import (
    AXIAL,
    CORONAL,
    Layer,
    Peak,
    Plane,
    Ranges,
    body_box,
    draw,
    plane_of,
)
from uvlm.inference.rendering.warmth import Warmth, warmth_of
from uvlm.inference.rendering.windows import SOFT, Window, window_of

__all__ = ["KeyImage", "Picture", "Scene", "key_images", "overview", "scene_of", "whose"]

LARGE, SMALL = 380, 220
"""Pixels along the longer side of a picture."""

CLOSE_MM = 80.0
"""Least side of an enlarged part."""

CLOSE_SHARE = 0.6
"""Of the whole slice, beyond which a part is not worth enlarging."""

MOST_IMAGES = 16
"""Findings with pictures; beyond these the page would grow past what a browser or a mail likes."""

Voxel = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Picture:
    jpeg: bytes
    title: str
    """What it shows, for a caption."""

    small: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyImage:
    """What shows one pathology that one sentence states."""

    mark: Mark
    sentence: int
    """Index in the report."""

    stated: StatedFinding
    lesions: tuple[Lesion, ...]
    """Those of the pathology's classes that the sentence may speak of; the first is shown, unless
    its class is doubted."""

    slice: int
    """Axial slice shown, 1 is the lowest."""

    slices: int
    """Of the study."""

    window: Window
    heat_slice: int | None
    """Axial slice of the heat map's peak; None without a heat map."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A study's CT and mask with axes turned to LPS, and what is drawn over them."""

    volume: Volume
    mask: NDArray[Any] | None
    turn: Reorientation
    classes: Mapping[str, int]
    marks: Mapping[str, Mark]
    grids: Mapping[str, Grid]
    box: Ranges

    def turned(self, voxel: Voxel) -> Voxel:
        """A voxel (z, y, x) of the study's own grid."""
        at = [
            self.volume.shape[axis] - 1 - voxel[source] if flip else voxel[source]
            for axis, (source, flip) in enumerate(zip(self.turn.order, self.turn.flip, strict=True))
        ]
        return at[0], at[1], at[2]

    def mark_of(self, name: str) -> Mark | None:
        """The mark of the first stated pathology that a class of the mask shows."""
        return next((self.marks[label] for label in labels_of(name) if label in self.marks), None)

    def layers(self, plane: Plane, mark: Mark | None) -> list[Layer]:
        """Every marked lesion of a plane outlined, those of `mark` filled a little and on top."""
        if self.mask is None:
            return []
        labels = self.mask[plane.cut]
        found = []
        for name, value in self.classes.items():
            other = self.mark_of(name)
            if other is None or not is_lesion(name):
                continue
            if mark is not None and mark.label in labels_of(name):
                other = mark
            opacity = 0.22 if other == mark else 0.0
            layer = Layer(
                inside=labels == value, colour=other.colour, opacity=opacity, number=other.number
            )
            found.append((other == mark, layer))
        return [layer for _, layer in sorted(found, key=lambda pair: pair[0])]

    def warmth(self, sentence: SentenceEvidence) -> Warmth | None:
        heat = sentence.heat
        if heat is None or heat.spec_hash not in self.grids:
            return None
        return warmth_of(heat, self.grids[heat.spec_hash], self.volume)


@dataclass(frozen=True)
class _Where:
    """What a key image would show."""

    sentence: int
    label: str
    lesions: tuple[Lesion, ...]
    believed: Lesion | None
    """The lesion whose slice is shown; without it that of the heat's peak."""

    warmth: Warmth | None


def scene_of(findings: Findings, volume: Volume) -> Scene:
    """Ready to be drawn; `volume` is the CT in HU on the mask's grid."""
    turned, turn = to_lps(volume)
    return Scene(
        volume=turned,
        mask=None if findings.mask is None else turn.apply(findings.mask),
        turn=turn,
        classes=findings.classes,
        marks=marks_of(findings.evidence),
        grids=findings.grids,
        box=body_box(turned),
    )


def key_images(findings: Findings, scene: Scene) -> tuple[tuple[KeyImage, ...], int]:
    """One for each pathology of each sentence that states it, in the order of the report; and of
    how many more there would be pictures."""
    evidence = findings.evidence
    if evidence is None:
        return (), 0
    places: list[_Where] = []
    shown: set[str] = set()
    for index, sentence in enumerate(evidence.sentences):
        warmth = scene.warmth(sentence)
        for label in dict.fromkeys(f.label for f in sentence.findings if f.status in STATED):
            if sentence.section == "impression" and label in shown:
                continue
            lesions = _lesions_of(sentence, label, evidence)
            believed = next((x for x in lesions if x.name not in evidence.doubted), None)
            if believed is not None or warmth is not None:
                places.append(_Where(index, label, lesions, believed, warmth))
                shown.add(label)
    drawn = (_key_image(evidence.sentences[w.sentence], w, scene) for w in places[:MOST_IMAGES])
    return tuple(drawn), max(0, len(places) - MOST_IMAGES)


def whose(heat: HeatMap) -> str:
    """What a heat map shows, for a caption."""
    if heat.method == CLASS_METHOD:
        return "where the image classifier saw it"
    return "where the decoder looked while writing"


def overview(scene: Scene) -> tuple[Picture, ...]:
    """The segmentation, axial and coronal: organs pale, marked lesions in their colours."""
    mask = scene.mask
    if mask is None:
        return ()
    z, y, _ = _centre(scene)
    pictures = []
    for axis, index, title in ((AXIAL, z, "Axial"), (CORONAL, y, "Coronal")):
        plane = plane_of(scene.volume, axis, index, scene.box)
        labels = mask[plane.cut]
        organs = [
            Layer(inside=labels == value, colour=organ_colour(value), opacity=0.4, outlined=False)
            for name, value in scene.classes.items()
            if not is_lesion(name)
        ]
        lesions = [
            Layer(inside=layer.inside, colour=layer.colour, opacity=0.75, number=layer.number)
            for layer in scene.layers(plane, None)
        ]
        jpeg = draw(scene.volume, plane, SOFT.range, LARGE, layers=[*organs, *lesions])
        pictures.append(Picture(jpeg=jpeg, title=f"{title}, {_counted(plane, scene)}"))
    return tuple(pictures)


def _lesions_of(
    sentence: SentenceEvidence, label: str, evidence: ReportEvidence
) -> tuple[Lesion, ...]:
    """Those of a label that a sentence may speak of: believed ones first, then the largest."""
    spoken = (evidence.lesions[at] for at in sentence.lesions)
    own = [lesion for lesion in spoken if label in labels_of(lesion.name)]
    return tuple(sorted(own, key=lambda x: (x.name in evidence.doubted, -x.volume_ml)))


def _key_image(sentence: SentenceEvidence, where: _Where, scene: Scene) -> KeyImage:
    label, believed, warmth = where.label, where.believed, where.warmth
    side = None
    if believed is not None:
        centre = _best_slice(believed, scene)
        side = max(CLOSE_MM, 1.8 * _extent(believed, scene))
    else:
        assert warmth is not None
        centre = warmth.peak
    mark, window = scene.marks[label], window_of(label)
    seen = "" if sentence.heat is None else whose(sentence.heat)
    return KeyImage(
        mark=mark,
        sentence=where.sentence,
        stated=next(f for f in sentence.findings if f.label == label and f.status in STATED),
        lesions=where.lesions,
        slice=centre[0] + 1,
        slices=scene.volume.shape[0],
        window=window,
        heat_slice=None if warmth is None else warmth.peak[0] + 1,
        pictures=tuple(_pictures(centre, side, mark, window, (warmth, seen), scene)),
    )


def _pictures(
    centre: Voxel,
    side: float | None,
    mark: Mark,
    window: Window,
    heat_map: tuple[Warmth | None, str],
    scene: Scene,
) -> list[Picture]:
    """Axial and heat map, large; enlarged (not without a lesion that leaves room) and coronal."""
    volume = scene.volume
    warmth, seen = heat_map
    axial = plane_of(volume, AXIAL, centre[0], scene.box)
    jpeg = draw(volume, axial, window.range, LARGE, layers=scene.layers(axial, mark))
    pictures = [Picture(jpeg=jpeg, title=f"Axial, {_counted(axial, scene)}")]
    if warmth is not None:
        peak = Peak(voxel=warmth.peak, colour=mark.colour)
        warm = plane_of(volume, AXIAL, warmth.peak[0], scene.box)
        jpeg = draw(volume, warm, window.range, LARGE, heat=warmth.on(warm), peak=peak)
        title = f"{seen[:1].upper()}{seen[1:]}; cross: most, {_counted(warm, scene)}"
        pictures.append(Picture(jpeg=jpeg, title=title))
    if side is not None and side < CLOSE_SHARE * max(axial.size_mm):
        close = plane_of(volume, AXIAL, centre[0], scene.box, (centre, side))
        jpeg = draw(volume, close, window.range, SMALL)
        pictures.append(Picture(jpeg=jpeg, title="Enlarged, nothing drawn over it", small=True))
    coronal = plane_of(volume, CORONAL, centre[1], scene.box)
    heat = warmth.on(coronal) if warmth is not None and side is None else None
    layers = scene.layers(coronal, mark)
    jpeg = draw(volume, coronal, window.range, SMALL, layers=layers, heat=heat)
    pictures.append(Picture(jpeg=jpeg, title=f"Coronal, {_counted(coronal, scene)}", small=True))
    return pictures


def _best_slice(lesion: Lesion, scene: Scene) -> Voxel:
    """The axial slice with most of a lesion's voxels, and the voxel amid them."""
    first = scene.turned((lesion.box[0][0], lesion.box[1][0], lesion.box[2][0]))
    last = scene.turned((lesion.box[0][1] - 1, lesion.box[1][1] - 1, lesion.box[2][1] - 1))
    z, y, x = scene.turned(lesion.centre)
    if scene.mask is None:
        return z, y, x
    box = tuple(slice(min(a, b), max(a, b) + 1) for a, b in zip(first, last, strict=True))
    inside = scene.mask[box] == scene.classes.get(lesion.name, -1)
    if not inside.any():
        return z, y, x
    counts = inside.sum(axis=(1, 2))
    largest = np.flatnonzero(counts == counts.max())
    best = int(largest[len(largest) // 2])
    rows, columns = np.nonzero(inside[best])
    return (
        best + box[0].start,
        round(float(rows.mean())) + box[1].start,
        round(float(columns.mean())) + box[2].start,
    )


def _extent(lesion: Lesion, scene: Scene) -> float:
    """Largest axial side of a lesion's box, mm."""
    sides = [stop - start for start, stop in lesion.box]
    order, spacing = scene.turn.order, scene.volume.spacing
    return max(sides[order[axis]] * spacing[axis] for axis in (1, 2))


def _centre(scene: Scene) -> Voxel:
    """The slices with most voxels of marked lesions; the middle of the volume without any."""
    z, y, x = (n // 2 for n in scene.volume.shape)
    values = [value for name, value in scene.classes.items() if scene.mark_of(name)]
    mask = scene.mask
    if mask is None or not values:
        return z, y, x
    # By classes, not voxels: a slice that shows three findings tells more than one full of fluid.
    boxes = ndimage.find_objects(mask)
    counts = [np.zeros(n) for n in mask.shape[:2]]
    for value in values:
        box = boxes[value - 1] if value <= len(boxes) else None
        if box is not None:
            inside = mask[box] == value
            for count, part, others in zip(counts, box, ((1, 2), (0, 2)), strict=False):
                found = inside.sum(axis=others)
                count[part] += found / found.max()
    if not counts[0].any():
        return z, y, x
    return int(counts[0].argmax()), int(counts[1].argmax()), x


def _counted(plane: Plane, scene: Scene) -> str:
    what = "slice" if plane.axis == AXIAL else "row"
    return f"{what} {plane.index + 1} of {scene.volume.shape[plane.axis]}"
