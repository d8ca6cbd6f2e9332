"""The commands: `python -m bench VERB ...`. Results go to stdout, progress to stderr.

Exit status: 0 success, 1 findings or failed runs, 2 wrong usage. A user's mistake is answered by a sentence, never by
a traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from datasets.card import DataError
from methods.grammar import MethodError
from results.schema import RecordError, RunResult
from results.visible import guarded

from . import settings, show
from .engine.backbones import BackboneError
from .plan import CACHE, CLAIMS, RUNS, STANDINS, Plan, Planned, Request, UsageError, make

if TYPE_CHECKING:
    from .dispatch.local import Tally

KINDS = ("methods", "adapters", "regularizers", "constraints", "datasets", "backbones", "suites")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if re.match("unrecognized arguments: [^-]", message):
            message += "; names stand before options"
        wrong = re.match("unrecognized arguments: (--[^ =]+)", message)
        if wrong:
            near = get_close_matches(wrong[1], self._options(), n=1, cutoff=0.7)
            message += f"; did you mean {near[0]}?" if near else ""
        print(f"regatta: {message} (see `{self.prog} --help`)", file=sys.stderr)
        raise SystemExit(2)


    def of(self, verb: str) -> _Parser:
        """The parser of a command."""
        (verbs,) = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        found: _Parser = verbs.choices[verb]
        return found

    def _options(self) -> list[str]:
        """Every option of this command; of all of them where it is not known which one is meant."""
        below = [a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        own = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        return [*own, *(name for verbs in below for verb in verbs.values() for name in verb._options())]


def main(words: Sequence[str] | None = None) -> int:
    """Parse and do; returns the exit status."""
    with guarded():
        return _main(words)


def _main(words: Sequence[str] | None) -> int:
    parser = _parser()
    args, rest = parser.parse_known_args(words)
    if rest:
        parser.of(args.verb).error(f"unrecognized arguments: {' '.join(rest)}")
    tell_broken()
    try:
        return int(args.do(args))
    except UsageError as error:
        for problem in error.problems:
            print(f"regatta: {problem}", file=sys.stderr)
        return 2
    except (MethodError, DataError, RecordError, BackboneError) as error:
        print(f"regatta: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "timm", "torchvision"):
            raise
        print(f"regatta: this Python has no {error.name}; `make setup` installs it into .venv, `. .venv/bin/activate` "
              "takes that Python", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("regatta: interrupted; what was finished is stored, the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno is None:
            raise
        print(f"regatta: {error.strerror}{f': {Path(error.filename).name}' if error.filename else ''}; what was "
              "finished is stored, the same command goes on from here", file=sys.stderr)
        return 1


def tell_broken() -> None:
    """A line for each file of a method or data set that cannot be used; everything else goes on without it."""
    from datasets import registry
    from methods import catalog

    for one in (*catalog.broken(), *registry.broken()):
        print(f"regatta: {one}; everything else goes on without it", file=sys.stderr)


def _parser() -> _Parser:
    parser = _Parser(prog="python -m bench", description="Adapt pre-trained vision transformers, honestly compared.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    def verb(name: str, do: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=help, description=help, allow_abbrev=False)
        made.set_defaults(do=do)
        return made

    listing = verb("list", _list, "a line each of " + ", ".join(KINDS))
    listing.add_argument("kind", choices=KINDS)
    listing.add_argument("--json", action="store_true")
    listing.add_argument("--all", action="store_true", help="datasets: a line for each card, the folded ones too")
    card = verb("show", _show, "the card of a method, data set, backbone or suite, or the record of a run")
    card.add_argument("name")
    card.add_argument("--backbone", help="count a method's trained weights on this backbone (imports torch)")
    planning = verb("plan", _plan, "what is done, missing, failed, stale, and what the rest would cost; runs nothing")
    _what(planning)
    _which(planning)
    planning.add_argument("--why", action="store_true", help="name each run that is not done, and why")
    planning.add_argument("--json", action="store_true")
    planning.add_argument("--memory", action="store_true", help="also the exact training memory of every method, from "
                          "the shapes alone (imports torch, needs no GPU)")
    planning.add_argument("--profile", help="the price in tasks of this profile of cluster.yaml; what does not fit is "
                          "refused")
    planning.add_argument("--cluster-file", type=Path, help="the file of profiles (default: cluster.yaml)")
    running = verb("run", _run, "run here what the plan lists, then write the tables")
    _what(running)
    _which(running)
    _how(running)
    running.add_argument("--again", choices=("stale", "failed", "all"), default=None,
                         help="also run what is stale or failed, or everything, once more")
    running.add_argument("--no-report", action="store_true", help="leave the tables as they are")
    from . import submitting
    from .docs import add_docs
    from .perf.verb import add_perf
    from .preparing import add_data
    from .status import add_status
    from .verbs import add_verbs

    submitting.add_verbs(verb, _what, _which, _how)
    add_status(verb, _what, _which)
    add_verbs(verb, _what, _how)
    add_perf(verb)
    add_data(verb)
    add_docs(verb)
    return parser


def _what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", help="demo, vtab1k, fgvc, ...: `list suites`")
    parser.add_argument("--datasets", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--methods", nargs="+", default=[], metavar="TEXT", help="for instance 'lora(rank=4)+pace'")
    parser.add_argument("--backbones", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=settings.whole, default=[], metavar="N")
    parser.add_argument("--epochs", type=settings.whole)
    parser.add_argument("--batch-size", type=settings.whole)
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="sets",
                        help="lr=1e-3, lora.rank=4; class_query=True, merged_eval=True; eval_batch_size=0: by memory; "
                        "compiled=True: steps through torch.compile, for a GPU (on a CPU it does not pay: 0.98 times "
                        "the speed, after 30 to 46 s)")
    parser.add_argument("--root", "--data", dest="data", help="where real data lies (default: the variable DATA); "
                        "'standin' for generated miniatures")
    parser.add_argument("--partial", action="store_true", help="run real data that break their card's promise too; "
                        "every number of them is marked")
    parser.add_argument("--weights", type=Path, help="a file of pre-trained weights")
    parser.add_argument("--no-pretrained", action="store_true", help="random weights, recorded as such")
    parser.add_argument("--download", action="store_true", help="allow fetching weights from the network")
    parser.add_argument("--recipe", choices=("common", "paper"), help="one recipe for all (default), or each method's "
                        "published one")
    parser.add_argument("--jobs", type=settings.whole, default=0, help="processes at once (default: one per core)")
    parser.add_argument("--config", type=Path, help="a YAML file that says the same; the command line wins")


def _which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tuned", action="store_true", help="with the settings that `select` chose, as a suite of its "
                        "own (NAME-tuned)")
    parser.add_argument("--phase", choices=("final", "peek"), default="final", help="peek looks at test along the way "
                        "and shows what that would have gained; no leaderboard accepts its records")


def _how(parser: argparse.ArgumentParser) -> None:
    """How runs are carried out: nothing of this changes their numbers."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--no-cache", action="store_true", help="keep no decoded images and no stored prefixes on "
                        "disk")
    parser.add_argument("--strict", action="store_true", help="on a GPU too: an operation without a deterministic form "
                        "is an error (on a CPU this holds always)")
    parser.add_argument("--checkpoint-every", type=_seconds, default=60.0, metavar="SECONDS",
                        help="a killed run goes on from its last checkpoint (default: every 60 s)")
    parser.add_argument("--checkpoint-epochs", type=settings.whole, default=0, metavar="N",
                        help="also after every N epochs")
    parser.add_argument("--time-limit", type=_seconds, metavar="SECONDS", help="of one run; then it is stored where it "
                        "stands (timeout), and the same command goes on")
    parser.add_argument("--keep-weights", choices=("small", "all", "none"), default="small", help="store the trained "
                        "weights beside the record: those small beside the model (default), all, none")


def _seconds(text: str) -> float:
    """More than nothing and less than for ever."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text}")
    return value


def words_of(text: str) -> list[str]:
    """Cut at spaces outside brackets and quotes, so that one make variable can hold several methods."""
    return re.findall(r"(?:[^\s('\"]|\((?:[^()'\"]|'[^']*'|\"[^\"]*\")*\)|'[^']*'|\"[^\"]*\"|[('\"])+", text)


def request_of(args: argparse.Namespace) -> Request:
    """The request that was typed, laid over the file of --config."""
    told = settings.config(args.config) if args.config else {}

    def pick(name: str, default: Any) -> Any:
        typed = getattr(args, name, None)
        return told.get(name, default) if typed is None or typed is False or typed == [] else typed

    seeds = pick("seeds", ())
    if any(s < 0 for s in seeds):
        raise UsageError([f"seeds are whole numbers of 0 or more, not {min(seeds)}"])
    weights = pick("weights", None)
    methods = tuple(m for text in pick("methods", ()) for m in words_of(text))
    listed = [name for name in (*methods, *pick("datasets", ()), *pick("backbones", ()))
              if "," in re.sub(r"\([^()]*\)", "", name)]
    if listed:
        raise UsageError([f"names are separated by spaces, not by commas: {name.replace(',', ' ')}" for name in listed])
    return Request(
        suite=pick("suite", None), datasets=tuple(pick("datasets", ())), methods=methods,
        backbones=tuple(pick("backbones", ())), seeds=tuple(seeds), sets=(*told.get("set", ()), *args.sets),
        epochs=pick("epochs", None), batch_size=pick("batch_size", None),
        data=pick("data", None) or os.environ.get("DATA") or None, weights=Path(weights) if weights else None,
        no_pretrained=bool(pick("no_pretrained", False)), download=bool(pick("download", False)),
        partial=bool(pick("partial", False)),
        recipe=_recipe(pick("recipe", "common")), tuned=getattr(args, "tuned", False),
        phase=getattr(args, "phase", "final"))


def _recipe(name: Any) -> Literal["common", "paper"]:
    if name not in ("common", "paper"):
        raise UsageError([f"there is no recipe {name!r}; there are: common, paper"])
    return name  # type: ignore[no-any-return]


def _list(args: argparse.Namespace) -> int:
    rows = show.listing(args.kind)
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    if args.kind == "datasets":
        from .catalogue import text

        print(text(args.all))
        return 0
    width = max((len(r["name"]) for r in rows), default=0)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['about']}")
    return 0


def _show(args: argparse.Namespace) -> int:
    print(show.card(args.name, args.backbone, RUNS))
    return 0


def _claims() -> Any:
    from .dispatch.state import Claims

    return Claims(CLAIMS)


def _make(args: argparse.Namespace) -> Plan:
    return make(request_of(args), alive=_claims().living())


def workers(args: argparse.Namespace) -> int:
    """Processes at once."""
    if args.jobs < 0:
        raise UsageError([f"--jobs must be 1 or more, not {args.jobs}"])
    return args.jobs or len(os.sched_getaffinity(0))


def _plan(args: argparse.Namespace) -> int:
    at_once = workers(args)
    try:
        plan = _make(args)
    except UsageError as error:
        if not args.memory or args.json or args.tuned:
            raise
        return _memory_alone(args, error)
    if args.json:
        from .plan import as_json

        print(json.dumps(as_json(plan), indent=1))
        return 0
    from . import pricing

    profile = None
    if args.profile or args.cluster_file:
        from .dispatch.profile import load

        profile = load(args.profile, args.cluster_file)
    pricing.tell(plan, RUNS, at_once, profile)
    if args.memory:
        from .memory import table

        print(table(plan.runs))
    if args.why:
        for run in plan.runs:
            if run.state != "done":
                print(f"{run.state:<8} {run.spec.id}  {run.spec.dataset}  {run.text}  {run.spec.model}  "
                      f"seed {run.spec.seed}{f'  ({run.why})' if run.why else ''}")
    return 0


def _memory_alone(args: argparse.Namespace, error: UsageError) -> int:
    """`plan --memory` where data or weights are not here: its table. Raises the error when more than that is wrong."""
    from .memory import table
    from .plan import without_inputs

    try:
        planned = without_inputs(request_of(args))
    except UsageError:
        raise error from None
    print(table(planned))
    for problem in error.problems:
        print(f"runs are not counted: {problem}")
    return 0


def _run(args: argparse.Namespace) -> int:
    workers(args)
    from results.suites import amending, save_suite

    from .progress import Bar

    with amending():
        plan = _make(args)
        if args.phase == "final":
            save_suite(plan.view)

    wanted = {"stale": ("missing", "stale"), "failed": ("missing", "failed"),
              "all": ("missing", "stale", "failed", "done")}.get(args.again or "", ("missing",))
    todo = [r for r in plan.runs if r.state in wanted]
    status = 0
    if todo:
        with Bar(len(todo), f"{plan.view.name}: runs") as bar:
            tally = carry_out(args, todo, bar.to)
        print(f"suite {plan.view.name}: " + ", ".join(f"{n} {s}" for s, n in sorted(tally.done.items()))
              + (f", {tally.elsewhere} done by another runner" if tally.elsewhere else ""))
        tell_failures(tally.failures)
        tell_uncompiled(todo)
        status = 1 if tally.failures else 0
    else:
        counts = plan.count()
        print(f"suite {plan.view.name}: nothing to run; "
              + ", ".join(f"{n} {state}" for state, n in counts.items() if n))
        status = 1 if counts["failed"] else 0
    if args.phase == "peek":
        from .verbs import tell_inflation

        tell_inflation(RUNS)
    if not args.no_report:
        status = max(status, _report())
    return status


def carry_out(args: argparse.Namespace, todo: Sequence[Planned], report: Callable[[float, str], None]) -> Tally:
    """Do these runs on this machine; `report(runs done, what is at work)` as things move."""
    from .dispatch.local import Job, run_all

    device = _device(args.device)
    _need_standins(todo)
    where = {root: _where(args, root, device) for root in {r.data_root for r in todo}}
    jobs = [Job(r.spec, r.passed, where[r.data_root].with_weights(r.weights), again=r.record is not None)
            for r in todo]
    return run_all(jobs, RUNS, _claims(), min(workers(args), len(jobs)) if device == "cpu" else 1, report)


def tell_failures(failures: Sequence[RunResult]) -> None:
    """A line for each run that did not end well, on stderr."""
    for record in failures:
        message = record.failure.message if record.failure else ""
        print(f"regatta: {record.spec.dataset} {record.method.text} seed {record.spec.seed}: {record.status}: "
              f"{message}", file=sys.stderr)


def tell_uncompiled(runs: Sequence[Planned]) -> None:
    """One line when runs that were to be compiled could not be."""
    from results import store

    paths = [store.path_of(r.spec, RUNS) for r in runs if r.spec.compiled]
    count = sum(store.load(p).diagnostics.get("compiled") == 0 for p in paths if p.exists())
    if count:
        print(f"regatta: torch.compile failed in {count} of {len(paths)} runs, which went on uncompiled and say so in "
              "their records (diagnostics: compiled 0)", file=sys.stderr)


def _report() -> int:
    """Rewrite the tables from every record and suite there is."""
    import subprocess

    done = subprocess.run([sys.executable, "-m", "reports", "build", "--keep-going"], check=False)
    return done.returncode


def _device(wanted: str) -> str:
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = wanted.partition(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        there = "cpu, cuda" if torch.cuda.is_available() else "cpu alone"
        raise UsageError([f"there is no device {wanted!r} here; this machine has {there}"])
    return wanted


def _where(args: argparse.Namespace, root: Path, device: str) -> Any:
    from .engine.where import Where

    return Where(data_root=root, cache_root=None if args.no_cache else CACHE, weights_file=None, device=device,
                 deterministic=args.strict or device == "cpu", checkpoints=RUNS.parent / "checkpoints",
                 checkpoint_every_s=max(0.0, args.checkpoint_every), checkpoint_every_epochs=args.checkpoint_epochs,
                 time_limit_s=args.time_limit, keep_weights=args.keep_weights)


def _need_standins(todo: Sequence[Planned]) -> None:
    """Write the stand-ins that the runs need and that are not there yet."""
    from datasets.standins import write_all

    from .progress import Bar

    names = list(dict.fromkeys(n for r in todo if r.spec.standin for n in (r.spec.dataset, *r.spec.also_test)))
    if names:
        with Bar(len(names), "stand-ins") as bar:
            write_all(names, STANDINS, bar.one_more)
