"""The commands: `python -m bench VERB ...`. Results go to stdout, progress to stderr.

Exit status: 0 success, 1 findings or failed runs, 2 wrong usage. A user's mistake is answered by a sentence, never by
a traceback.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from errno import ENAMETOOLONG
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from datasets.card import DataError
from methods.grammar import MethodError
from results.schema import RecordError
from results.visible import guarded

from . import extra
from .engine.backbones import BackboneError
from .planning.request import UsageError
from .suites import outside as suites_outside
from .telling import few, missing, short

VERSION = "0.1.0"  # as pyproject.toml has it; a test compares them
EXTRA = ("a folder outside the checkout with methods, data sets and suites of your own, beside those of the variable "
         "REGATTA_EXTRA; once for each folder")
MISTAKES = (UsageError, MethodError, DataError, RecordError, BackboneError)  # of a user; their text is for him


class _Parser(argparse.ArgumentParser):
    asked = False  # by a program, which wants an exception
    typed: Sequence[str] = ()  # the words that it was given

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.typed = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        message = short(self._dashed(message))
        if self.asked:
            raise ValueError(message)
        if re.match("unrecognized arguments: [^-]", message):
            message += "; names stand before options"
        choice = re.fullmatch(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL)
        if choice and (near := get_close_matches(choice[2], re.findall("[^', ]+", choice[3]), n=1)):
            message = f"argument {choice[1]}: invalid choice {choice[2]!r}; did you mean {near[0]}?"
        wrong = re.match("unrecognized arguments: (--[^ =]+)", message)
        if wrong:
            near = get_close_matches(wrong[1], self._options(), n=1, cutoff=0.7)
            message += f"; did you mean {near[0]}?" if near else ""
        print(f"regatta: {message} (see `{self.prog} --help`)", file=sys.stderr)
        raise SystemExit(2)

    def _dashed(self, message: str) -> str:
        """The message; where an option's value begins with - and was taken for an option, what is wrong with it."""
        found = re.fullmatch(r"argument (\S+): expected (one|at least one) argument", message)
        names = found[1].split("/") if found else []
        action = next((a for a in self._actions if names and names[0] in a.option_strings), None)
        after = [self.typed[at + 1] for at, word in enumerate(self.typed[:-1]) if word in names]
        if action is None or not after or not re.match("-[^-]", after[-1]):
            return message
        try:
            self._get_value(action, after[-1])
        except argparse.ArgumentError as error:
            return str(error)
        return f"argument {names[0]}: a value that begins with - is written {names[0]}={after[-1]}"

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
        parser.of(args.verb).error("unrecognized arguments: " + " ".join(rest[:10]) + " ..." * (len(rest) > 10))
    args.parser = parser  # for `completion`
    try:
        with parts_of(args):
            tell_broken()
            return int(args.do(args))
    except UsageError as error:
        for problem in few(error.problems):
            print(f"regatta: {problem}", file=sys.stderr)
        return 2
    except MISTAKES as error:
        print(f"regatta: {short(str(error))}", file=sys.stderr)
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
        what = short(f"{error.strerror}{f': {Path(str(error.filename)).name!r}' if error.filename else ''}")
        if error.errno == ENAMETOOLONG:  # only a user writes such names
            print(f"regatta: {what}", file=sys.stderr)
            return 2
        away = missing(error)
        if away is not None:
            what = short(f"{str(away)!r} is missing; put it back")
        print(f"regatta: {what}; what was stored before stays, the same command goes on from here", file=sys.stderr)
        return 1


@contextmanager
def parts_of(args: argparse.Namespace) -> Iterator[None]:
    """In here the folders of `--extra` and REGATTA_EXTRA are known, where the command has to do with parts at all.

    Raises UsageError with a sentence for each that cannot be.
    """
    try:
        told = extra.joined([*args.extra_first, *args.extra], getattr(args, "into", None)) if args.parts else ""
        with extra.named(told):
            suites_outside.settle()
            yield
    except extra.FolderError as error:
        raise UsageError(error.problems) from None
    finally:
        suites_outside.settle()


def tell_broken() -> None:
    """A line for each file of a method, data set or suite that cannot be used; everything else goes on without it."""
    from datasets import registry
    from methods import catalog

    for one in (*catalog.broken(), *registry.broken(), *suites_outside.broken()):
        print(f"regatta: {one}; everything else goes on without it", file=sys.stderr)


def _parser() -> _Parser:
    parser = _Parser(prog="python -m bench", description="Adapt pre-trained vision transformers, honestly compared.")
    parser.add_argument("--version", action="version", version=f"regatta {VERSION}")
    parser.add_argument("--extra", action="append", default=[], dest="extra_first", metavar="DIR", help=EXTRA)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    def verb(name: str, do: Callable[[argparse.Namespace], int], help: str, parts: bool = True,
             ) -> argparse.ArgumentParser:
        """`parts`: whether the command has to do with methods, data sets or suites, and so with `--extra`."""
        made = verbs.add_parser(name, help=help, description=help, allow_abbrev=False)
        made.set_defaults(do=do, parts=parts, extra=[])
        return made

    for module in _verbs():
        module.add(verb)
    for made in verbs.choices.values():
        if made.get_default("parts"):
            made.add_argument_group("parts of your own").add_argument("--extra", action="append", default=[],
                                                                      metavar="DIR", help=EXTRA)
    return parser


def _verbs() -> list[Any]:
    """The files of verbs/ that add a command, in the order that each of them states."""
    found = [import_module(f"{__package__}.verbs.{path.stem}") for path in Path(__file__).parent.glob("verbs/*.py")]
    return sorted((m for m in found if hasattr(m, "add")), key=lambda m: int(m.ORDER))
