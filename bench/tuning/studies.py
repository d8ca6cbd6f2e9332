"""Which studies of a suite the command line means."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from results.selections import Study, load_trials

from ..planning.request import Request, UsageError


def meant(request: Request, studies: Sequence[Study]) -> list[Study]:
    """The studies that the command line names; all when it names none."""
    from datasets import registry
    from methods.grammar import parse

    methods = {parse(text).text() for text in request.methods}
    datasets = {registry.get(name).name for name in request.datasets}
    found = [s for s in studies if (not methods or s.method in methods) and (not datasets or datasets & set(s.datasets))
             and (not request.backbones or s.backbone in request.backbones)]
    absent = sorted(methods - {s.method for s in found})
    if absent or not found:
        raise UsageError([f"{', '.join(absent) or 'what is named'} has not been tuned; there are: "
                          f"{', '.join(sorted({s.method for s in studies}))}"])
    return found


def studies_of(request: Request, more: str = "") -> tuple[str, list[Study]]:
    """(the suite's name, its studies that the request means). Raises UsageError where there is none.

    `more`: options that a search needs for what is to be made of it.
    """
    from ..planning.resolve import suite_of

    suite = suite_of(request).name
    tried = load_trials(suite)
    if tried is None or not tried.studies:
        own = f"--suite {suite} " if request.suite or not request.datasets else ""
        named = [f"--{name} {shlex.join(told)} " for name in ("datasets", "methods", "backbones")
                 if (told := getattr(request, name))]
        more += " --partial" if request.partial else ""
        raise UsageError([f"nothing has been tuned in suite {suite!r}; "
                          f"`python -m bench tune {own}{''.join(named)}--budget 8{more}` does it"])
    return suite, meant(request, tried.studies)
