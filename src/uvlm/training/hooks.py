"""What happens beside the steps: progress bar, log, TensorBoard, picture."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

__all__ = ["History", "ProgressBar"]

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


class History:
    """log.csv (`step,name,value`), TensorBoard and progress.png, from the same numbers.

    Training scalars are averaged over the `every` steps since the last row. On resuming, rows
    after the checkpoint are dropped: the steps are made again. So is a row that a kill cut short.

    Args:
        recent: what an interrupted run had collected since its last row, from its checkpoint
    """

    def __init__(
        self,
        out: Path,
        every: int,
        steps: int,
        first_step: int,
        recent: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.csv = out / "log.csv"
        self.picture = out / "progress.png"
        self.every = every
        self.steps = steps
        self.recent: dict[str, list[float]] = defaultdict(list)
        self.recent.update({name: list(values) for name, values in (recent or {}).items()})
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
            csv.writer(file).writerows((step, name, repr(v)) for name, v in sorted(row.items()))
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
            for step, name, value in self._rows():
                if step < first_step:
                    self.curves[name].append((step, value))
        kept = [(s, name, repr(v)) for name, points in self.curves.items() for s, v in points]
        partial = self.csv.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            csv.writer(file).writerows([("step", "name", "value"), *sorted(kept)])
        os.replace(partial, self.csv)

    def _rows(self) -> Iterator[tuple[int, str, float]]:
        """Up to the first line that is not whole; a kill cuts lines, it does not change them."""
        with self.csv.open(newline="", encoding="utf-8", errors="replace") as file:
            # The last line counts only with its end: "0.12" may have been "0.125".
            lines = [line for line in file if line.endswith("\n")]
        for row in list(csv.reader(line.replace("\0", "") for line in lines))[1:]:
            try:
                step, name, value = row
                found = int(step), name, float(value)
            except ValueError:
                return
            yield found

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
            if axes.get_legend_handles_labels()[0]:  # validated before the first row of the log
                axes.legend()
        below.set_xlabel("step")
        partial = self.picture.with_suffix(".partial")
        figure.savefig(partial, format="png", dpi=100)
        os.replace(partial, self.picture)
