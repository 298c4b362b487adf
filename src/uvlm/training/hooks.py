"""What happens beside the steps: progress bar, log, TensorBoard, picture, validation."""

from __future__ import annotations

import csv
import logging
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

__all__ = ["History", "ProgressBar", "Validation"]

log = logging.getLogger(__name__)

NOT_VALIDATED = {"loss", "grad_norm", "lr", "seconds"}


class ProgressBar:
    """Steps done and the loss; silent where there is no terminal."""

    def __init__(self, name: str, first_step: int, steps: int) -> None:
        self.bar = tqdm(total=steps, initial=first_step - 1, desc=name, unit="step", disable=None)

    def __call__(self, step: int, scalars: dict[str, float]) -> None:
        self.bar.set_postfix_str(f"loss {scalars['loss']:.4f}", refresh=False)
        self.bar.update()

    def close(self) -> None:
        self.bar.close()


class Validation:
    """Adds `val/<metric>` to the scalars every `every` steps and at the last.

    Attributes:
        latest: metrics of the last validation
    """

    def __init__(self, evaluate: Callable[[], dict[str, float]], every: int, steps: int) -> None:
        self.evaluate = evaluate
        self.every = every
        self.steps = steps
        self.latest: dict[str, float] = {}

    def __call__(self, step: int, scalars: dict[str, float]) -> None:
        if step % self.every and step != self.steps:
            return
        self.latest = self.evaluate()
        scalars.update({f"val/{name}": value for name, value in self.latest.items()})
        summary = "  ".join(f"{k} {v:.4f}" for k, v in self.latest.items() if "/" not in k)
        log.info("step %d  loss %.4f  %s", step, scalars["loss"], summary)


class History:
    """log.csv (`step,name,value`), TensorBoard and progress.png, from the same numbers.

    Training scalars are averaged over the `every` steps since the last row. On resuming, rows
    after the checkpoint are dropped: the steps are made again.
    """

    def __init__(self, out: Path, every: int, steps: int, first_step: int) -> None:
        self.csv = out / "log.csv"
        self.picture = out / "progress.png"
        self.every = every
        self.steps = steps
        self.recent: dict[str, list[float]] = defaultdict(list)
        self.curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._read(first_step)
        self.board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step)

    def __call__(self, step: int, scalars: dict[str, float]) -> None:
        validated = {name: v for name, v in scalars.items() if name.startswith("val/")}
        for name in scalars.keys() - validated.keys():
            self.recent[name].append(scalars[name])
        row = dict(validated)
        if step % self.every == 0 or step == self.steps:
            row |= {name: sum(v) / len(v) for name, v in sorted(self.recent.items())}
            self.recent.clear()
        if not row:
            return
        with self.csv.open("a", newline="") as file:
            csv.writer(file).writerows((step, name, repr(v)) for name, v in row.items())
        for name, value in row.items():
            self.curves[name].append((step, value))
            self.board.add_scalar(name, value, step)
        if validated:
            self._draw()

    def close(self) -> None:
        self.board.close()

    def _read(self, first_step: int) -> None:
        """Keep what was logged before `first_step` and rewrite the file with it."""
        if self.csv.exists():
            with self.csv.open(newline="") as file:
                for row in csv.DictReader(file):
                    if int(row["step"]) < first_step:
                        self.curves[row["name"]].append((int(row["step"]), float(row["value"])))
        kept = [(s, name, repr(v)) for name, points in self.curves.items() for s, v in points]
        partial = self.csv.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            csv.writer(file).writerows([("step", "name", "value"), *sorted(kept)])
        os.replace(partial, self.csv)

    def _draw(self) -> None:
        """Loss above, validation below; a figure of its own, never matplotlib's global state."""
        figure = Figure(figsize=(8, 7), layout="constrained")
        FigureCanvasAgg(figure)
        above, below = figure.subplots(2, 1, sharex=True)
        for name, points in self.curves.items():
            if name.count("/") > 1 or name in NOT_VALIDATED - {"loss"}:
                continue
            axes = below if name.startswith("val/") else above
            axes.plot(*zip(*points, strict=True), label=name, marker=".")
        for axes, title in ((above, "training"), (below, "validation")):
            axes.set_title(title)
            axes.grid(alpha=0.3)
            axes.legend()
        below.set_xlabel("step")
        partial = self.picture.with_suffix(".partial")
        figure.savefig(partial, format="png", dpi=100)
        os.replace(partial, self.picture)
