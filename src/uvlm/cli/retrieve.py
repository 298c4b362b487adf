"""`uvlm retrieve`: an index of studies, and search in it by words or by a study."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uvlm.cli.studies import add_bundle, add_device, positive
from uvlm.errors import ConfigError

if TYPE_CHECKING:
    from uvlm.inference.embedder import ContrastiveEmbedder
    from uvlm.inference.index import Hit, Index
    from uvlm.inference.retrieve import Slices

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    do: Callable[[argparse.Namespace], int] = _search if args.what == "search" else _index
    return do(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="uvlm retrieve",
        description="Find studies by words or by a study, with a bundle of `uvlm train hsenet_clip`"
        " or `hsenet_2e3`.",
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    index = commands.add_parser(
        "index",
        help="embed the studies of a catalog or folder",
        description="Write FILE.npz, which `uvlm evaluate retrieval` reads too, and FILE.json "
        "beside it. Reports are embedded where every study has one. A study that cannot be read is "
        "left out, and FILE.json says why (exit code 3).",
    )
    index.add_argument("source", type=Path, metavar="SOURCE", help="a catalog, or a folder of CTs")
    index.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="to write")
    index.add_argument("--split", metavar="NAME", help="only studies of this split of the catalog")
    index.add_argument(
        "--slices", type=Path, metavar="BANK", help="of `uvlm slices`, for hsenet_2e3"
    )
    add_bundle(index, required=True)
    add_device(index)
    search = commands.add_parser(
        "search",
        help="the studies of an index nearest to a query",
        description="Print rank, cosine and id. The query itself, where it is in the index, is "
        "left out of a search by volume, and that is said.",
    )
    search.add_argument("index", type=Path, metavar="INDEX", help="of `uvlm retrieve index`")
    query = search.add_mutually_exclusive_group(required=True)
    query.add_argument("--text", metavar="WORDS", help="as a report would say it")
    query.add_argument("--study", type=Path, metavar="CT", help="a CT as `uvlm report` takes it")
    query.add_argument("--id", metavar="ID", help="a study of the index; needs no bundle")
    search.add_argument(
        "--among",
        choices=("volumes", "reports"),
        default="volumes",
        help="what is searched (default volumes)",
    )
    search.add_argument(
        "--top", type=positive, default=10, metavar="K", help="so many (default 10)"
    )
    search.add_argument("--json", action="store_true", help="print JSON")
    add_bundle(search, required=False)
    add_device(search)
    return parser


def _index(args: argparse.Namespace) -> int:
    from uvlm.evaluation.written import check_free
    from uvlm.inference.batch.listed import list_studies
    from uvlm.inference.index import check_name
    from uvlm.inference.retrieve import build_index

    names = [check_name(args.out).name, args.out.with_suffix(".json").name]
    check_free(args.out.parent, names)
    studies = list_studies(args.source, args.split)
    slices = None if args.slices is None else _features_in(args.slices)
    index = build_index(_embedder(args), studies, series=args.series, slices=slices)
    index.save(args.out)
    reports = "with reports" if index.text is not None else "no reports"
    print(f"{len(index.ids)} studies, {reports}, {len(index.failed)} failed: {args.out}")
    return 3 if index.failed else 0


def _features_in(bank: Path) -> Slices:
    from uvlm.data.slice_bank import SliceBank

    found = SliceBank.open(bank)
    return lambda study: found.read(study).float().numpy()


def _search(args: argparse.Namespace) -> int:
    from uvlm.inference.index import Index

    index = Index.load(args.index)
    if args.id is None and args.model is None:
        raise ConfigError("a search by text or study needs the bundle of the index: --bundle.")
    hits, left_out = _hits(args, index)
    if args.json:
        rows: list[Any] = [{"rank": h.rank, "id": h.id, "cosine": h.cosine} for h in hits]
        print(json.dumps({"among": args.among, "left_out": left_out, "hits": rows}, indent=2))
        return 0
    print("\n".join(f"{hit.rank:>4}  {hit.cosine:+.4f}  {hit.id}" for hit in hits))
    if left_out:
        print(f"left out as the query itself: {', '.join(left_out)}")
    return 0


def _hits(args: argparse.Namespace, index: Index) -> tuple[list[Hit], list[str]]:
    """What is found, and the ids that are the query itself."""
    if args.id is not None:
        own = sorted(index.same_study(args.id)) if args.among == "volumes" else []
        return index.search_like(args.id, args.top, among=args.among), own
    embedder = _embedder(args, index)
    if args.text is not None:
        return index.search(embedder.embed_text(args.text), args.top, among=args.among), []
    from uvlm.inference.batch.items import Item
    from uvlm.inference.retrieve import embed_study
    from uvlm.inference.writer import study_name

    item = Item(id=study_name(args.study), path=args.study).signed()
    vector = embed_study(embedder, args.study, args.series)
    own = sorted(index.same_study(item.id, item.signature)) if args.among == "volumes" else []
    return index.search(vector, args.top, among=args.among, leave_out=own), own


def _embedder(args: argparse.Namespace, index: Index | None = None) -> ContrastiveEmbedder:
    """The bundle's, which is compared with that of the index before its weights are read."""
    from uvlm.inference.embedder import load_embedder
    from uvlm.inference.runtime import device_named
    from uvlm.models.bundle import read_bundle_info

    if index is None:
        return load_embedder(args.model, device_named(args.device))
    part = index.fingerprint.partition("/")[0]
    index.check(f"{part}/{read_bundle_info(args.model).fingerprint}")
    return load_embedder(args.model, device_named(args.device), part=part)
