"""The command line of reports: results on stdout, progress on stderr; exit 0 success, 1 findings, 2 wrong usage."""

from __future__ import annotations

import argparse
import difflib
import gc
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from results.received import LEAST, LEVELS, accepted
from results.schema import RecordError
from results.spoken import many, word
from results.store import ROOT, write_text
from results.suites import SuiteView, load_suites
from results.visible import bare, guarded

OUT = Path(__file__).parent


class UsageError(Exception):
    """The user asked for something that does not exist; the message says what does."""


def main(argv: Sequence[str]) -> int:
    """Run one command; a user's mistake is one sentence and exit 2."""
    with guarded():
        return _main(argv)


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    args = parser.parse_args(list(argv))
    try:
        return int(args.run(args))
    except UsageError as error:
        print(f"reports: {error}", file=sys.stderr)
        return 2
    except RecordError as error:
        print(f"reports: {error}{_mend(error, args.verb)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        print(f"reports: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2


def _mend(error: RecordError, verb: str) -> str:
    """What to do about a record's file; nothing where the error is of another kind."""
    from .leaderboard import RUN

    if not RUN.match(str(error)):
        return ""
    return ("; mend that file, or move it away and `python -m bench run` makes the run again"
            + (", or leave it out with --keep-going" if verb == "build" else ""))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports", description="Tables, pages and comparisons of records.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    build = verbs.add_parser("build", help="write the leaderboard from results/runs")
    build.add_argument("--records", type=Path, default=ROOT / "runs", help="folder of records (results/runs)")
    build.add_argument("--suites", type=Path, default=ROOT / "suites", help="folder of suite files (results/suites)")
    build.add_argument("--out", type=Path, default=OUT, help="folder to write to (reports)")
    build.add_argument("--suite", action="append", default=[], metavar="NAME", help="only this suite; may be repeated")
    build.add_argument("--keep-going", action="store_true", help="build suites that want an unreadable record too, "
                       "without it; else they are left out and the others built; exit 1 either way")
    build.add_argument("--no-index", action="store_true", help="read every record, neither use nor write the index")
    build.add_argument("--accept", nargs="+", default=[], metavar="PACK", help="also show runs of these checked packs: "
                       "a file, the first digits of its hash, or all; own results come first")
    build.add_argument("--at-least", choices=LEVELS[:3], default=LEAST, help="the verdict that such a run must have "
                       f"(default: {LEAST})")
    build.add_argument("--rank-across-pools", action="store_true", help="rank all rows of a table together, however "
                       "they were tuned, and those that adapt at test or are ensembles; else each pool for itself")
    build.add_argument("--reference", action="store_true", help="write reports/reference from results/reference")
    build.set_defaults(run=_build)
    check = verbs.add_parser("check", help="prove that the committed tables follow from the committed records")
    check.add_argument("--reference", type=Path, default=ROOT / "reference", help="records (results/reference)")
    check.add_argument("--tables", type=Path, default=OUT / "reference", help="tables (reports/reference)")
    check.set_defaults(run=_check)
    compare = verbs.add_parser("compare", help="paired differences between two sets of records; exit 1 on differences")
    compare.add_argument("a", metavar="A", help="runs, reference, git:<commit>, or a folder of records; or a "
                         "measurement of `bench perf`: its file, or the beginning of its name")
    compare.add_argument("b", metavar="B", help="the same; differences are B - A")
    compare.add_argument("--all", action="store_true", help="show every pair and every run of one side alone")
    compare.set_defaults(run=_compare)
    serve = verbs.add_parser("serve", help="show the pages at a loopback address")
    serve.add_argument("--out", type=Path, default=OUT, help="folder that `build` wrote to (reports)")
    serve.add_argument("--port", type=_port, default=8000, help="port; 0 takes a free one (8000)")
    serve.set_defaults(run=_serve)
    site = verbs.add_parser("site", help="a static site of all suites: index, suites, methods, data sets, runs; "
                                         "opens from a disk")
    site.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    site.add_argument("--records", type=Path, default=ROOT / "runs", help="folder of own records (results/runs)")
    site.add_argument("--suites", type=Path, default=ROOT / "suites", help="their suite files (results/suites)")
    site.add_argument("--reference", type=Path, default=ROOT / "reference", help="published suites (results/reference)")
    site.add_argument("--received", type=Path, default=ROOT / "received", help="unpacked archives (results/received)")
    site.add_argument("--suite", action="append", default=[], metavar="NAME", help="only this suite; may be repeated")
    site.set_defaults(run=_site)
    series = verbs.add_parser("series", help="what a part adds against training length and images: a table and a "
                              "picture over suites whose names differ by a number at their end (x, x-5, x-60)")
    series.add_argument("stem", metavar="NAME", help="the name without the number: real-regularizers")
    series.add_argument("--records", type=Path, default=ROOT / "runs", help="folder of records (results/runs)")
    series.add_argument("--suites", type=Path, default=ROOT / "suites", help="folder of suite files (results/suites)")
    series.add_argument("--out", type=Path, default=OUT / "site", help="folder to write to (reports/site)")
    series.set_defaults(run=_series)
    runs = verbs.add_parser("runs", help="every record as a line of CSV on stdout")
    runs.add_argument("--records", type=Path, default=ROOT / "runs", help="folder of records (results/runs)")
    runs.set_defaults(run=_runs)
    again = verbs.add_parser("recompute", help="metrics from stored predictions: lists what a record says otherwise, "
                                               "and files that are others than were stored; exit 1 then")
    again.add_argument("--records", type=Path, help="folder of records, or of suites (default: results/runs, then the "
                       "committed ones of results/reference)")
    again.add_argument("--write", action="store_true", help="store the new metrics in the records; exit 0 when all "
                       "files could be judged")
    again.set_defaults(run=_recompute)
    packing = verbs.add_parser("pack", help="records and their predictions in two files that read like the folder: how "
                                            "reference runs are published")
    packing.add_argument("records", type=Path, metavar="FOLDER", help="folder of records, or a pack")
    packing.add_argument("--out", type=Path, required=True, help="folder to write to, for instance "
                         "results/reference/demo; its suite.json stays")
    packing.add_argument("--suite", type=Path, metavar="FILE", help="only the runs of this suite file")
    packing.add_argument("--narrow", action="store_true", help="also write suite.json there: the rows and data sets "
                         "of --suite of which a run is packed; its note says what is left out")
    packing.add_argument("--selections", type=Path, metavar="FOLDER", help="with --suite: also what was tried and "
                         "chosen for it, from results/selections, with the records of the trials")
    packing.set_defaults(run=_pack)
    published = verbs.add_parser("published", help="numbers printed in papers: conventions and misprints; exit 1 when "
                                                   "a row does not follow and its file has no note on it")
    published.add_argument("--folder", type=Path, default=ROOT / "published", help="folder of JSON files")
    published.set_defaults(run=_published)
    _import_options(verbs.add_parser("import", help="a printed table from CSV, LaTeX or Markdown into "
                                                    "results/published; exit 1 when a row does not follow"))
    return parser


def _import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, metavar="TABLE", help="file ending in .csv, .tsv, .tex or .md")
    parser.add_argument("--paper", required=True, help="title; the part before the first colon names it in tables")
    parser.add_argument("--backbone", required=True, help="'ViT-B/16 (ImageNet-21k supervised)', ...")
    parser.add_argument("--benchmark", required=True, help="vtab1k, fgvc, fewshot, imagenet-shift, domainnet, ...")
    parser.add_argument("--year", type=int, help="year of the version read; left out: unknown")
    parser.add_argument("--arxiv", default="", help="arXiv number")
    parser.add_argument("--venue", default="", help="where it was printed")
    parser.add_argument("--name", default="Table 1", help="the table's name in the paper (Table 1)")
    parser.add_argument("--source", default="", help="page, figure or address that the numbers come from")
    parser.add_argument("--verified", default="no: imported, not yet read again", help="how they were checked")
    parser.add_argument("--convention", default="", metavar="NAME", help="mean19, group3, other, unknown (what the "
                        "rows follow)")
    parser.add_argument("--unit", choices=("percent", "share"), default="percent", help="share: cells from 0 to 1, "
                        "stored as percent")
    parser.add_argument("--column", action="append", default=[], metavar="OLD=NEW", help="what a heading means")
    parser.add_argument("--skip", action="append", default=[], metavar="OLD", help="leave a column out")
    parser.add_argument("--out", type=Path, help="file to write, or to add the table to (results/published/PAPER.json)")
    parser.add_argument("--preview", action="store_true", help="show what was understood and write nothing")
    parser.set_defaults(run=_import)


def _import(args: argparse.Namespace) -> int:
    from .importing import run

    return run(args, ROOT / "published", _shown)


def _build(args: argparse.Namespace) -> int:
    from . import leaderboard

    gc.disable()  # hundreds of thousands of small objects and no cycles: a sixth of the time went into looking for some
    if args.reference:
        if args.rank_across_pools:
            raise UsageError("the committed tables rank each pool for itself; leave --rank-across-pools out, or build "
                             "from --records")
        files = leaderboard.build_reference(ROOT / "reference", args.out / "reference", args.suite)
        for path, text in files.items():
            leaderboard.put(path, text)
        print(f"{many(len(files), 'file')} below {_shown(args.out / 'reference')}")
        return 0
    if not args.accept:  # one who has run nothing may look at the runs of others
        _records(args.records)
    suites = chosen(load_suites(args.suites), args.suite, args.suites)
    problems: list[RecordError] = []
    written = leaderboard.build(suites, args.records, args.out, selections=args.suites.parent / "selections",
                                index=not args.no_index, across=args.rank_across_pools,
                                counted=accepted(args.accept, args.at_least) if args.accept else {},
                                on_error=problems.append, keep_going=args.keep_going, progress=_progress)
    for problem in problems:
        print(f"unreadable: {problem}")
    if problems and not args.keep_going:
        print("suites that want one of them are not built; `--keep-going` builds them without")
    print(f"{_shown(written[0])}: {many(len(suites), 'suite')}, {many(len(written) - 1, 'file')} beside it")
    return 1 if problems else 0


def _check(args: argparse.Namespace) -> int:
    from . import check

    if not args.reference.is_dir():
        if args.reference != ROOT / "reference":
            raise UsageError(f"there is no folder of reference records {_shown(args.reference)}")
        print("ok: there are no reference records yet, so there is nothing to check")
        return 0
    found = list(check.findings(args.reference, args.tables))
    for finding in found:
        print(finding)
    suites = len(list(args.reference.glob("*/suite.json")))
    print(many(len(found), "finding") if found else
          f"ok: the tables of {many(suites, 'suite')} follow from {word(suites, 'its', 'their')} records")
    return 1 if found else 0


def _compare(args: argparse.Namespace) -> int:
    from . import compare, measured

    files = [measured.find(what) for what in (args.a, args.b)]
    if files[0] and files[1]:
        return measured.run(files[0], files[1], args.all)
    if any(files):
        raise UsageError(f"{args.b if files[0] else args.a} is not a measurement, the other side is; files of "
                         "`bench perf` lie in results/perf")
    with tempfile.TemporaryDirectory() as scratch:
        sides = [compare.load(compare.roots_of(what, ROOT, Path(scratch) / name))
                 for what, name in ((args.a, "a"), (args.b, "b"))]
        found = compare.compare(*sides)
        print(compare.report(found, args.a, args.b, args.all), end="")
    return 1 if found.changed() or not found.pairs else 0


def _serve(args: argparse.Namespace) -> int:
    from .serve import serve

    folder = args.out / "site"
    if not any(folder.glob("*.html")):
        raise UsageError(f"there is no page in {_shown(folder)}; `python -m reports build` writes them")
    if not 0 <= args.port < 65536:
        raise UsageError(f"--port {args.port}: a port is a number from 0 to 65535")
    return serve(folder, args.port)


def _site(args: argparse.Namespace) -> int:
    from . import static

    problems: list[str] = []
    given = static.sources(args.records, args.suites, args.reference, args.received, problems.append)
    wanted = {s.name for s in chosen([one.suite for one in given], args.suite, args.suites)}
    files = static.build([one for one in given if one.suite.name in wanted], args.out, on_error=problems.append)
    for problem in problems:
        print(f"unreadable: {problem}")
    print(f"{_shown(args.out / 'index.html')}: {many(len(wanted), 'suite')}, {many(files, 'file')}"
          + (", without what is unreadable" if problems else ""))
    return 1 if problems else 0


def _series(args: argparse.Namespace) -> int:
    from results.index import read

    from . import leaderboard, series

    intro = f"Generated by `python -m reports series {args.stem}` from the records in `results/runs`; do not edit."
    _records(args.records)
    found = series.stems(load_suites(args.suites))
    if args.stem not in found:
        raise UsageError(f"{args.stem!r} is no series of suites" + (f"; there are: {', '.join(found)}" if found else
                         ": two of them, whose names differ by a number at their end, are needed"))
    columns = read(args.records)
    files = series.build(args.stem, [(suite, columns) for suite in found[args.stem]], intro, ".")
    if not files:
        raise UsageError(f"no row of {args.stem} has its adapter alone and with a part on the same real data yet")
    written = [leaderboard.put(args.out / name, text) for name, text in files.items()]
    print(f"{_shown(written[0])}: {many(len(found[args.stem]), 'suite')}, "
          f"{many(len(files) - 1, 'file')} beside it")
    return 0


def _runs(args: argparse.Namespace) -> int:
    from .frame import frame
    from .table import csv_cell

    _records(args.records)
    found = frame(args.records)
    words = found.select_dtypes(exclude="number").columns
    found[words] = found[words].map(csv_cell, na_action="ignore")
    found.to_csv(sys.stdout, index=False)
    return 0


def _recompute(args: argparse.Namespace) -> int:
    from results.metrics import recompute, records_below

    roots = [args.records] if args.records else [r for r in (ROOT / "runs", ROOT / "reference") if r.is_dir()]
    _records(roots[0] if roots else ROOT / "runs")
    metrics = 0
    records: set[str] = set()
    problems: list[RecordError] = []
    for root in roots:
        for found in recompute(root, args.write, problems.append):
            metrics, records = metrics + 1, records | {f"{root.name}/{found.record}"}
            print(f"{found.record}: {found.metric} is stored as {_value(found.stored)}, its predictions give "
                  f"{_value(found.now)}{'; mended' if args.write else ''}")
    for problem in problems:
        print(f"not judged: {problem}")
    if problems:
        print(f"{many(len(problems), 'file')} could not be judged")
    if not metrics:
        if not problems:
            whole = sum(len(records_below(root)) for root in roots)
            print(f"ok: the metrics of {many(whole, 'record')} follow from {word(whole, 'its', 'their')} "
                  "predictions")
        return 1 if problems else 0
    print(f"{many(metrics, 'metric')} of {many(len(records), 'record')} " + (
        f"{word(metrics, 'is', 'are')} mended" if args.write else
        f"{word(metrics, 'differs', 'differ')}; `--write` stores what the predictions give"))
    return 0 if args.write and not problems else 1


def _pack(args: argparse.Namespace) -> int:
    from results.bundling import pack
    from results.selections import publish
    from results.store import record_files
    from results.suites import load_suite, narrowed, suite_to_json

    if (args.narrow or args.selections) and not args.suite:
        raise UsageError("--narrow needs --suite FILE, the suite to be narrowed" if args.narrow else
                         "--selections needs --suite FILE, the suite whose settings were chosen")
    _records(args.records)
    paths = record_files(args.records)
    if args.suite:
        suite = load_suite(args.suite)
        wanted = {entry.run_id for entry in suite.entries}
        wanted |= set(publish(suite.name, args.selections, args.out)) if args.selections else set()
        paths = [path for path in paths if path.stem.rpartition("-")[2] in wanted]
    if not paths:
        raise UsageError(f"there is no record to pack in {_shown(args.records)}")
    records, files = pack(paths, args.out)
    if args.narrow:
        own = narrowed(load_suite(args.suite), {path.stem.rpartition("-")[2] for path in paths})
        write_text(args.out / "suite.json", suite_to_json(own))
    print(f"{_shown(args.out)}: {many(records, 'record')}, {many(files, 'file')} of predictions")
    return 0


def _value(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.10g}"


def _published(args: argparse.Namespace) -> int:
    from results.published import load_published

    from . import ledger

    faulty: list[RecordError] = []
    tables = load_published(args.folder, faulty.append)
    if not tables and not faulty:
        raise UsageError(f"there is no JSON file in {_shown(args.folder)}")
    text, new = ledger.listing(tables)
    print(text, end="")
    for error in faulty:
        print(f"reports: {error}", file=sys.stderr)
    return 2 if faulty else 1 if new else 0


def chosen(suites: Sequence[SuiteView], names: Sequence[str], folder: Path) -> list[SuiteView]:
    """The named suites, or all; an unknown name is answered with the near ones."""
    known = {s.name: s for s in suites}
    if not known:
        raise UsageError(f"there is no suite file in {_shown(folder)}; `python -m bench run --suite demo` writes one")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"unknown suite {name!r}{hint} There are: {', '.join(known)}")
    return [s for s in suites if not names or s.name in names]


def _port(text: str) -> int:
    if not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"takes a number from 0 to 65535, not {text[:40]!r}")
    return int(text)


def _records(folder: Path) -> None:
    """Raises UsageError when the folder does not exist."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder of records {_shown(folder)}; `python -m bench run` makes one")


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and total > 2000:
        print(f"\rreading records {done}/{total}", end="", file=bare(sys.stderr), flush=True)


def _shown(path: Path) -> str:
    """Relative to the working folder where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
