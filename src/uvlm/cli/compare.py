"""`uvlm compare A B ...`: results of several systems side by side, tested where they can be."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.errors import InputError

if TYPE_CHECKING:
    from uvlm.evaluation.compare import Comparison
    from uvlm.evaluation.published import PublishedRow
    from uvlm.evaluation.result_files import Stored

__all__ = ["main"]

ALL = "all"
FILES = ("comparison.json", "comparison.md", "comparison.html", "comparison.svg")


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)

    from uvlm.evaluation.compare import comparison
    from uvlm.evaluation.result_files import read_result
    from uvlm.evaluation.written import check_free, write_whole

    if args.list:
        print(_listed())
        return 0
    if args.out is None:
        raise InputError("uvlm compare needs --out; --help explains it.")
    check_free(args.out, FILES)
    results = [read_result(path) for path in args.results]
    names = args.names or _names(args.results)
    rows = _published(args, results)
    found = comparison(results, names, rows, by_class=args.by_class)
    written = write_whole(args.out, _contents(found))
    print(found.text())
    print("\n" + "\n".join(str(path) for path in written))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uvlm compare",
        description="Put results of `uvlm evaluate` side by side in one table and one figure. "
        "Systems scored on the same studies with the same seed are tested in pairs against the "
        "first; published values stand beside them, marked as not re-run. Writes "
        f"{', '.join(FILES)}.",
    )
    add = parser.add_argument
    add(
        "results",
        nargs="*",
        type=Path,
        metavar="RESULT",
        help="folder that `uvlm evaluate` wrote; the first is what others are compared with",
    )
    add("--out", type=Path, metavar="DIR", help="folder to write to")
    add("--names", nargs="+", metavar="NAME", help="of the systems; default: of their folders")
    add(
        "--published",
        nargs="+",
        default=[],
        metavar="SYSTEM",
        help="published systems to show, or `all`; quote names with spaces",
    )
    add(
        "--dataset",
        metavar="NAME",
        help="published values on this dataset only; default: that of the first result's region",
    )
    add("--by-class", action="store_true", help="rows for single classes too")
    add("--list", action="store_true", help="list what was published, and stop")
    return parser


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of the folders; with those above them where two are called the same."""
    resolved = [path.resolve() for path in paths]
    for depth in range(1, 4):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            return names
    raise InputError("two results have one name. Give --names, one for each.")


def _published(args: argparse.Namespace, results: Sequence[Stored]) -> list[PublishedRow]:
    """Without --dataset those of the dataset to which the first result is nearest."""
    from uvlm.evaluation.comparable import class_set
    from uvlm.evaluation.published import home_of, near, published_rows

    if not results or (not args.published and args.dataset is None):
        return []
    systems = [] if args.published in ([], [ALL]) else args.published
    first = results[0]
    rows = published_rows(first.task, args.dataset, systems)
    if args.dataset is not None:
        return rows
    return near(rows, home_of(first.about.get("region"), class_set(first.about)), systems)


def _contents(found: Comparison) -> dict[str, str]:
    contents = (
        json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        found.markdown(),
        found.html(),
        found.figure or "<svg xmlns='http://www.w3.org/2000/svg'/>\n",
    )
    return dict(zip(FILES, contents, strict=True))


def _listed() -> str:
    from uvlm.evaluation.published import MARK, published_rows

    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in published_rows():
        names = groups.setdefault((row.task, row.dataset or "not stated", row.source), [])
        if row.system not in names:
            names.append(row.system)
    lines = [
        f"{task}, {dataset} ({source}): {'; '.join(names)}"
        for (task, dataset, source), names in groups.items()
    ]
    return "\n".join([f"All of these are {MARK}.", *lines])
