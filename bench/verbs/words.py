"""The words that name a set of runs, and how it is carried out; shared by the commands."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from datasets.own.note import MARK
from methods.faults import lacking
from results.received import LEAST, LEVELS

from ..engine.checkpoint import EVERY_S
from ..planning import config, settings
from ..planning.own import named
from ..planning.request import Request, UsageError

Verb = Callable[..., argparse.ArgumentParser]  # (name, action, help) -> the parser of a command


def what(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is run")
    group.add_argument("--suite", help="demo, vtab1k, fgvc, ...: `list suites`")
    group.add_argument("--datasets", nargs="+", default=[], metavar="NAME",
                       help="names of `list datasets`, or folder:PATH for images of your own")
    group.add_argument("--methods", nargs="+", default=[], metavar="TEXT", help="for instance 'lora(rank=4)+pace'")
    group.add_argument("--backbones", nargs="+", default=[], metavar="NAME", help="names of `list backbones`, or any "
                       "of timm's with its weights' tag (default: the suite's)")
    group.add_argument("--seeds", nargs="+", type=settings.whole, default=[], metavar="N", help="a run for each "
                       "(default: the suite's)")
    group.add_argument("--epochs", type=settings.whole, help="default: the suite's")
    group.add_argument("--batch-size", type=settings.whole, help="images per step (default: the suite's)")
    group.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="sets",
                       help="lr=1e-3, lora.rank=4; class_query=True, merged_eval=True; eval_batch_size=0: by memory; "
                       "head_seed=0: all seeds start from one head, as soups need; "
                       "batch_norm=train: a frozen network's batch norms see the batch's statistics (default: stored); "
                       "compiled=True (or blocks: one block for all, or graph: CUDA graphs): steps through "
                       "torch.compile, for a GPU (on a CPU it does not pay: 0.98 times the speed, after 30 to 46 s)")
    group.add_argument("--root", "--data", dest="data", help="where real data lies (default: the variable DATA); "
                       "'standin' for generated miniatures")
    group.add_argument("--partial", action="store_true", help="run real data that break their card's promise too; "
                       "every number of them is marked")
    group.add_argument("--weights", type=Path, help="a file of pre-trained weights")
    group.add_argument("--head", type=Path, metavar="FILE", help="start the head from class names: a file of their "
                       "embeddings, which `head` makes")
    group.add_argument("--no-pretrained", action="store_true", help="random weights, recorded as such")
    group.add_argument("--download", action="store_true", help="allow fetching weights from the network")
    group.add_argument("--recipe", choices=("common", "paper"), help="one recipe for all (default), or each method's "
                       "published one")
    group.add_argument("--jobs", type=settings.whole, default=0, help="processes at once (default: one per core)")
    group.add_argument("--config", type=Path, help="a YAML file that says the same; the command line wins")


def which(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which set, and which phase")
    group.add_argument("--name", help="of your own experiment: a set with its own chapter and page, in place of a "
                       "name made of the suite and its changed settings")
    group.add_argument("--tuned", action="store_true", help="with the settings that `select` chose, as a suite of its "
                       "own (NAME-tuned)")
    group.add_argument("--phase", choices=("final", "peek"), default="final", help="peek looks at test along the way "
                       "and shows what that would have gained; no leaderboard accepts its records")


def accepting(parser: argparse.ArgumentParser) -> None:
    """Which runs of others count as done."""
    group = parser.add_argument_group("runs of others")
    group.add_argument("--accept", nargs="+", default=[], metavar="PACK", help="count runs of these checked packs as "
                       "done: a file, the first digits of its hash, or all; own results come first")
    group.add_argument("--at-least", choices=LEVELS[:3], default=LEAST, help="the verdict that such a run must have "
                       f"(default: {LEAST})")


def how(parser: argparse.ArgumentParser) -> None:
    """How runs are carried out: nothing of this changes their numbers."""
    group = parser.add_argument_group("how it is carried out; no number depends on it")
    on_device(group)
    group.add_argument("--no-cache", action="store_true", help="keep no decoded images and no stored prefixes on "
                       "disk")
    group.add_argument("--strict", action="store_true", help="on a GPU too: an operation without a deterministic form "
                       "is an error (on a CPU this holds always)")
    group.add_argument("--checkpoint-every", type=seconds, default=EVERY_S, metavar="SECONDS",
                       help=f"a killed run goes on from its last checkpoint (default: every {EVERY_S:.0f} s)")
    group.add_argument("--checkpoint-epochs", type=settings.whole, default=0, metavar="N",
                       help="also after every N epochs")
    group.add_argument("--time-limit", type=seconds, metavar="SECONDS", help="of one run; then it is stored where it "
                       "stands (timeout), and the same command goes on")
    group.add_argument("--follow", type=follower, metavar="tensorboard", help="write curves while runs train, to "
                       "results/tensorboard; the package of that name must be installed")
    group.add_argument("--keep-weights", choices=("small", "all", "none"), default="small", help="store the trained "
                       "weights beside the record: those small beside the model (default), all, none")


def on_device(group: argparse._ActionsContainer) -> None:
    """Where it is computed."""
    group.add_argument("--device", type=_device, default="auto", help="auto, cpu, cuda")


def _device(text: str) -> str:
    """The name of a device; whether it is here, only the machine that computes can say."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?", text):
        raise argparse.ArgumentTypeError(f"takes auto, cpu, cuda or one GPU such as cuda:1, not {text!r}")
    return text


TRAINING = ("checkpoint_every", "checkpoint_epochs", "time_limit", "follow", "keep_weights")  # of `how`


def unshown(parser: argparse.ArgumentParser, *dests: str) -> None:
    """Options that this command has no use for, and takes all the same: one line of words goes through several."""
    for action in parser._actions:
        if action.dest in dests:
            action.help = argparse.SUPPRESS


def gpus(parser: argparse.ArgumentParser) -> None:
    """Which GPUs of this machine, and how many runs on each."""
    group = parser.add_argument_group("several GPUs; no number depends on it")
    group.add_argument("--devices", metavar="LIST", help="0,1,3 or all (default: all that CUDA_VISIBLE_DEVICES leaves "
                       "to see)")
    group.add_argument("--per-device", type=settings.whole, metavar="N", help="runs at once on each (default: by the "
                       "forecast of their memory, 4 at most; 1 where that is unknown)")


def follower(text: str) -> str:
    """The package that follows runs."""
    if text != "tensorboard":
        raise argparse.ArgumentTypeError(f"knows tensorboard alone, not {text!r}")
    if why := lacking((text,)):
        raise argparse.ArgumentTypeError(why)
    return text


def seconds(text: str) -> float:
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
    told = config.config(args.config) if args.config else {}
    if hasattr(args, "jobs"):
        workers(args)

    def pick(name: str, default: Any) -> Any:
        typed = getattr(args, name, None)
        return told.get(name, default) if typed is None or typed is False or typed == [] else typed

    seeds = pick("seeds", ())
    if any(s < 0 for s in seeds):
        raise UsageError([f"seeds are whole numbers of 0 or more, not {min(seeds)}"])
    if told.get("name") and not hasattr(args, "name"):
        raise UsageError([f"--config {args.config.name}: name is for run, plan, submit and status; leave it out here"])
    weights, head = pick("weights", None), pick("head", None)
    methods = tuple(m for text in pick("methods", ()) for m in words_of(text))
    listed = [name for name in (*methods, *pick("datasets", ()), *pick("backbones", ()))
              if "," in re.sub(r"\([^()]*\)", "", name)]
    if listed:
        raise UsageError([f"names are separated by spaces, not by commas: {name.replace(',', ' ')}" for name in listed])
    partial = bool(pick("partial", False))
    datasets = named(pick("datasets", ()), lambda line: print(line, file=sys.stderr), partial)
    request = Request(
        suite=pick("suite", None), datasets=datasets, methods=methods,
        backbones=tuple(pick("backbones", ())), seeds=tuple(seeds), sets=(*told.get("set", ()), *args.sets),
        epochs=pick("epochs", None), batch_size=pick("batch_size", None),
        data=pick("data", None) or os.environ.get("DATA") or None, weights=Path(weights) if weights else None,
        head=Path(head) if head else None,
        no_pretrained=bool(pick("no_pretrained", False)), download=bool(pick("download", False)),
        partial=partial, name=_named(pick("name", None)),
        recipe=_recipe(pick("recipe", "common")), tuned=getattr(args, "tuned", False),
        phase=getattr(args, "phase", "final"))
    _tell_recipe(request)
    return request


def _tell_recipe(request: Request) -> None:
    """That a user's own images have another recipe beside a named backbone than alone."""
    if request.suite is not None or not any(MARK in name for name in request.datasets):
        return
    from ..planning.resolve import suite_of

    if suite_of(request).name == "custom":
        print("regatta: with a backbone, weights or a data folder of your own the suite `custom` runs, which has "
              "another learning rate, batch and number of epochs than the suite `folder`; --suite folder keeps those",
              file=sys.stderr)


def _named(name: Any) -> str:
    """The name that was given, empty for none. Raises UsageError for one that no set may bear."""
    if name is not None and (problem := settings.name_problem(str(name))):
        raise UsageError([problem])
    return str(name or "")


def _recipe(name: Any) -> Literal["common", "paper"]:
    if name not in ("common", "paper"):
        raise UsageError([f"there is no recipe {name!r}; there are: common, paper"])
    return name  # type: ignore[no-any-return]


def workers(args: argparse.Namespace) -> int:
    """Processes at once: what was typed, else what the file of --config says, else one per core."""
    if args.jobs < 0:
        raise UsageError([f"--jobs must be 1 or more, not {args.jobs}"])
    file = getattr(args, "config", None)
    told = 0 if args.jobs or not file else config.config(file).get("jobs", 0)
    return args.jobs or told or len(os.sched_getaffinity(0))

