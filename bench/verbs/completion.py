"""`completion`: a script for bash that completes the commands, their options and the names of everything there is.

The script holds the words as they are when it is made, so that completing starts no Python:

    eval "$(python -m bench completion)"
"""

from __future__ import annotations

import argparse

from datasets import registry
from methods.catalog import aliases, catalog

from ..engine.backbones import KNOWN
from ..engine.packaged import ABOUT, TEXT_ABOUT
from ..suites import SUITES
from .words import Verb

ORDER = 160  # in the list of commands
SCRIPT = r"""
_regatta() {
    local cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[3]} last= i
    COMPREPLY=()
    [[ ${COMP_WORDS[1]} == -m && ${COMP_WORDS[2]} == bench ]] || return 0
    if (( COMP_CWORD == 3 )); then COMPREPLY=($(compgen -W "$_regatta_verbs" -- "$cur")); return 0; fi
    for (( i = COMP_CWORD - 1; i > 3; i-- )); do
        if [[ ${COMP_WORDS[i]} == --* ]]; then last=${COMP_WORDS[i]}; break; fi
    done
    if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "${_regatta_options[$verb]}" -- "$cur")); return 0; fi
    case $last in
        --methods) COMPREPLY=($(compgen -W "$_regatta_methods" -- "$cur")) ;;
        --datasets) COMPREPLY=($(compgen -W "$_regatta_datasets" -- "$cur")) ;;
        --backbones|--backbone) COMPREPLY=($(compgen -W "$_regatta_backbones" -- "$cur")) ;;
        --suite) COMPREPLY=($(compgen -W "$_regatta_suites" -- "$cur")) ;;
        "") case $verb in
            show) COMPREPLY=($(compgen -W "$_regatta_methods $_regatta_datasets $_regatta_suites" -- "$cur")) ;;
            check-method) COMPREPLY=($(compgen -W "$_regatta_methods" -- "$cur")) ;;
            *) COMPREPLY=($(compgen -W "${_regatta_words[$verb]}" -- "$cur")) ;;
        esac ;;
    esac
}
complete -o default -o bashdefault -F _regatta python python3
"""


def add(verb: Verb) -> None:
    """The command and its options."""
    verb("completion", act, "a script that completes commands, options and names in bash")


def act(args: argparse.Namespace) -> int:
    print(script(args.parser))
    return 0


def script(parser: argparse.ArgumentParser) -> str:
    """The script for the commands of a parser; every word in it is plain."""
    (verbs,) = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    names = {"verbs": list(verbs), "methods": [*catalog(), *aliases()], "datasets": registry.names(),
             "backbones": [*KNOWN, *ABOUT, *TEXT_ABOUT], "suites": list(SUITES)}
    lines = [f"_regatta_{kind}='{' '.join(words)}'" for kind, words in names.items()]
    for table, of in (("options", _options), ("words", _words)):
        rows = [f"    [{verb}]='{' '.join(found)}'" for verb, one in verbs.items() if (found := of(one))]
        lines += [f"declare -A _regatta_{table}=(", *rows, ")"]
    return "\n".join(lines) + SCRIPT.rstrip("\n")


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions if action.help is not argparse.SUPPRESS
            for name in action.option_strings if name.startswith("--")]


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """What a word without an option may be, where that is a closed choice."""
    return [str(word) for action in parser._actions if not action.option_strings for word in action.choices or ()]
