"""What `report`, `classify` and `segment` share: many inputs, one outcome each, an exit code.

One input: its error is the command's. Several: an error is recorded in OUT/errors.csv and the
rest goes on.
"""

from __future__ import annotations

import argparse
import csv
import io
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uvlm.errors import InputError, UvlmError
from uvlm.inference.faults import describe, exit_code_of

__all__ = [
    "Failure",
    "Outcome",
    "add_base",
    "add_bundle",
    "add_common",
    "add_device",
    "add_runtime",
    "positive",
    "refuse_batch",
    "run_studies",
    "study_names",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """One study that gave no result."""

    study: str
    """Name of the study."""

    error: str
    """What was wrong, in one line."""

    exit_code: int
    """2 for the input's fault, else 1."""


@dataclass
class Outcome:
    """Failures among `total` studies."""

    total: int
    """Inputs given."""

    failures: list[Failure] = field(default_factory=list)
    """In order of the inputs."""

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some done, 2 none done by the inputs' fault, 1 none done otherwise."""
        if not self.failures:
            return 0
        if len(self.failures) < self.total:
            return 3
        return 2 if all(failure.exit_code == 2 for failure in self.failures) else 1


def add_common(parser: argparse.ArgumentParser) -> None:
    """Arguments of every command that runs a bundle on studies."""
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="NIfTI, NRRD or MetaImage file, DICOM folder or zip, or prepared .b2nd",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="BUNDLE", help="bundle folder")
    add_base(parser)
    add_runtime(parser)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """How studies are read and the bundle is run: series, device, precision, runtime."""
    add_device(parser)
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "int8"),
        default="fp32",
        help="bf16: of encoder and decoder, where the device has it; int8: the decoder's weights "
        "(default fp32)",
    )
    parser.add_argument(
        "--runtime",
        choices=("torch", "compile", "openvino", "onnx"),
        default="torch",
        help="what runs the encoder (default torch); openvino and onnx need uvlm[runtime]",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--series` and `--device`."""
    parser.add_argument("--series", help="DICOM series to read; default: chosen by rule and said")
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ..."
    )


def add_bundle(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """`--bundle`, which `--model` of the other commands means too."""
    parser.add_argument(
        "--bundle",
        "--model",
        dest="model",
        type=Path,
        required=required,
        metavar="BUNDLE",
        help="bundle folder",
    )


def add_base(parser: argparse.ArgumentParser) -> None:
    """`--base`, for bundles that hold adapters of a language model."""
    parser.add_argument(
        "--base",
        type=Path,
        metavar="FOLDER",
        help="the pretrained language model whose adapters the bundle holds",
    )


def positive(text: str) -> int:
    """argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def study_names(inputs: Sequence[Path]) -> dict[str, Path]:
    """Name of each input's outputs.

    Raises:
        InputError: two inputs would write the same files.
    """
    from uvlm.inference.writer import study_name

    names: dict[str, Path] = {}
    for path in inputs:
        name = study_name(path)
        if name in names:
            raise InputError(
                f"{names[name]} and {path}: both would be written as {name!r}. "
                "Rename one, or give them in two runs with different --out."
            )
        names[name] = path
    return names


def refuse_batch(out: Path) -> None:
    """Raise InputError if `out` is the folder of a batch, which manages all files in it."""
    from uvlm.inference.batch.results import RUN

    if (out / RUN).is_file():
        raise InputError.about(
            out, "it holds the reports of a batch", "Give another --out for a single run."
        )


def run_studies(
    names: dict[str, Path], work: Callable[[Path], str], out: Path | None = None
) -> Outcome:
    """Print what `work` says of each study; with `out`, several studies' failures are recorded.

    Raises:
        UvlmError: of the only study.
    """
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    outcome = Outcome(total=len(names))
    with logging_redirect_tqdm():  # lines above the bar, never in it
        for name, path in tqdm(names.items(), unit="study", disable=len(names) == 1):
            try:
                tqdm.write(work(path))
            except Exception as error:  # one study must not stop the others
                if len(names) == 1:
                    raise
                outcome.failures.append(_failure(name, error))
    if out is not None and outcome.failures:
        _record(outcome.failures, out)
    return outcome


def _failure(name: str, error: Exception) -> Failure:
    """Log an error, once."""
    text = str(error) if isinstance(error, UvlmError) else f"{name}: {describe(error)}"
    log.error("%s", text)
    return Failure(name, " ".join(text.split()), exit_code_of(error))


def _record(failures: Sequence[Failure], out: Path) -> None:
    """Add to OUT/errors.csv; the file is replaced whole."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / "errors.csv"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not target.exists():
        writer.writerow(("study", "error"))
    writer.writerows((failure.study, failure.error) for failure in failures)
    earlier = target.read_text(encoding="utf-8") if target.exists() else ""
    aside = out / f".errors.csv.{os.getpid()}"
    aside.write_text(earlier + text.getvalue(), encoding="utf-8")
    os.replace(aside, target)
    log.warning("%d failed, see %s", len(failures), target)
