"""`submit-check`: what a pack is worth, run by run and row by row, and why.

    verified     everything below, and its weights, loaded here, give its predictions again
    consistent   files, hashes, metrics, seeds, budget, images and the method's source agree; nothing was scored again
    claimed      numbers that nothing supports: predictions were not sent, or the method's source is another here
    refused      something contradicts itself, the data here, or the protocol; the sentence says what

Consistent does not prove that any network gave the predictions; verified does not prove how the weights were trained.
"""

from __future__ import annotations

import argparse
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.own import note
from results import archive, evidence, received, store
from results.received import LEVELS, Judged, Verdict
from results.schema import RecordError, RunResult
from results.spoken import many
from results.suites import SuiteView, load_suite

from .. import checkout
from ..planning import own
from ..planning.examine import adapter_of, examine, row_of, rows
from ..planning.request import UsageError
from ..planning.settings import whole
from . import here
from .verify import place, tested_again
from .words import Verb, on_device

if TYPE_CHECKING:
    import numpy as np

    from ..engine.where import Where

ORDER = 140  # in the list of commands
ELSEWHERE = 0.02  # of the predictions may be others on another device, and the run is called consistent, not refused


def add(verb: Verb) -> None:
    """The command and its options."""
    judging = verb("submit-check", act, "check a pack: hashes, protocol, metrics, images; then score its weights again")
    judging.add_argument("file", type=Path, metavar="FILE", help="that `pack` wrote")
    judging.add_argument("--sample", type=whole, metavar="N", help="score N runs again, drawn by chance (default: all)")
    judging.add_argument("--root", "--data", dest="data", help="where real data lies (default: the variable DATA); of "
                         "runs of somebody's folder of images, that folder")
    judging.add_argument("--weights", type=Path, help="the file of pre-trained weights")
    judging.add_argument("--head", type=Path, metavar="FILE", help="the file of class embeddings that heads started "
                         "from, where they did")
    on_device(judging)


def act(args: argparse.Namespace) -> int:
    if args.sample is not None and args.sample < 0:
        raise UsageError([f"--sample takes a number of runs, 0 for none, not {args.sample}"])
    try:
        folder = archive.unpack(args.file, checkout.RECEIVED)
    except RecordError as error:
        print(f"refused: {error}")
        return 1
    where = place(here.device_of(args.device), args.head)
    found = judge(folder, args.data, args.weights, where, args.sample, args.file)
    received.save(folder, {run: one.judged for run, one in found.items()})
    return tell(folder, found)


@dataclass(frozen=True)
class Found:
    """A run of a pack and its verdict."""

    record: RunResult
    judged: Judged


def judge(folder: Path, data: str | None, weights: Path | None, where: Where,
          sample: int | None = None, file: Path = Path("FILE")) -> dict[str, Found]:
    """Run -> verdict, of an archive that was unpacked from `file`."""
    paths = {received.run_of(path): path for path in store.record_files(folder)}
    records = {run: store.load(path) for run, path in paths.items()}
    by_row = rows(records.values(), _suite(folder))
    command = f"python -m bench submit-check {shlex.quote(str(file))}"
    known = {key: own.lost(*key, data, command) for key in {(r.spec.dataset, r.spec.partial) for r in records.values()}}
    lost = {run: why for run, r in records.items() if (why := known[r.spec.dataset, r.spec.partial])}
    images = Images(data, where)
    doubts: dict[str, tuple[Verdict, str]] = {}
    for run, record in records.items():
        said, why = examine(paths[run], record)
        if said != "refused" and row_of(record) in by_row:
            said, why = "refused", by_row[row_of(record)]
        if said != "refused" and (other := images.differ(paths[run], record)):
            said, why = "refused", other
        if said:
            doubts[run] = said, why
    sound = [run for run in records if run not in doubts]
    drawn = set(sound if sample is None else secrets.SystemRandom().sample(sound, min(sample, len(sound))))
    for run in sound:
        doubts[run] = (("consistent", "not drawn to be scored again") if run not in drawn else
                       ("consistent", f"not scored again: {lost[run]}") if run in lost else
                       _scored(paths[run], records[run], data, weights, where))
        if run in drawn:
            print(f"{run}: {doubts[run][0]}", file=sys.stderr)
    return {run: Found(record, Judged(*doubts[run], received.sha_of(paths[run]))) for run, record in records.items()}


def _suite(folder: Path) -> SuiteView | None:
    path = folder / archive.SUITE
    return load_suite(path) if path.exists() else None


def _scored(path: Path, record: RunResult, data: str | None, weights: Path | None,
            where: Where) -> tuple[Verdict, str]:
    """A run against which nothing speaks, after its weights were loaded and tested, where that can be done."""
    from datasets.card import DataError
    from methods.grammar import MethodError
    from methods.weights import StoredError

    from ..engine.backbones import BackboneError

    if adapter_of(record, path) is None:
        return "consistent", "not scored again: its weights were not sent"
    try:
        found = tested_again(path, record, data, weights, where)
    except (DataError, BackboneError, OSError) as error:
        return "consistent", f"not scored again: {error}"
    except (StoredError, MethodError, evidence.PredictionError) as error:
        return "refused", f"another run's adapter: {error}"
    if found.same:
        return "verified", found.told
    if record.provenance.device != _device(where) and found.differing <= ELSEWHERE * found.images:
        return "consistent", f"scored again on another device ({record.provenance.device} there): {found.told}"
    return "refused", f"another run's adapter, or predictions replaced: scored again, {found.told}"


def _device(where: Where) -> str:
    import torch

    return torch.cuda.get_device_name() if where.device.startswith("cuda") else "cpu"


Tested = tuple[str, "np.ndarray"]  # of a test list: its hash, its labels in its order


class Images:
    """The images that a run says it used, beside those that lie here; each data set is looked at once."""

    def __init__(self, data: str | None, where: Where) -> None:
        self.data, self.where = data, where
        self._known: dict[tuple[object, ...], tuple[str, str, dict[str, Tested]] | str | None] = {}

    def differ(self, path: Path, record: RunResult) -> str:
        """Which images are others here; empty where all agree, or where none lie here."""
        spec = record.spec
        key = (spec.dataset, spec.data, spec.image_size, spec.augment, spec.also_test)
        if key not in self._known:
            self._known[key] = self._look(record)
        ours = self._known[key]
        if ours is None or record.dataset is None:
            return ""
        if isinstance(ours, str):
            return ours
        split, content, tests = ours
        if record.dataset.split_hash != split:
            return f"other images: the training list of {spec.dataset} is another here (split_hash)"
        if content and record.dataset.content_hash and record.dataset.content_hash != content:
            return f"other images: the training pixels of {spec.dataset} are others here (content_hash)"
        return self._tests(path, record, tests)

    def _tests(self, path: Path, record: RunResult, ours: Mapping[str, Tested]) -> str:
        for artifact in record.artifacts:
            split = evidence.split_of(artifact.kind, record.spec.phase)
            name = split.partition(":")[2].partition("@")[0]
            wanted = ours.get("" if name in (evidence.PLAIN, evidence.FOLDED) else name)
            if not split or wanted is None or not path.with_name(artifact.path).exists():
                continue
            held = evidence.arrays(evidence.stored(path.parent, artifact.path, artifact.sha256),
                                   ("pred", "label", "items"), ("task",))
            if str(held["items"]) != wanted[0]:
                return f"other images: the test list of {split} or its labels are others here"
            if len(held["label"]) != len(wanted[1]) or abs(held["label"] - wanted[1]).max() > evidence.CLOSE:
                return f"predictions replaced: the labels stored for {split} are not those of the data here"
        return ""

    def _look(self, record: RunResult) -> tuple[str, str, dict[str, Tested]] | str | None:
        """(hash of the training list, of its pixels, of every test list with its labels); a sentence where the data are
        others; None where they are not here."""
        import numpy as np

        from datasets import registry
        from datasets.card import DataError
        from datasets.images import split_hash

        from ..engine.cache import ImageCache
        from ..engine.loaders import open_data
        from ..engine.outcome import content_hash

        spec = record.spec
        try:
            cards = [registry.get(name) for name in (spec.dataset, *spec.also_test)]
            root = self._root(spec.standin, [card.name for card in cards])
            if (other := _identity(record, root)) is not None:
                return other or None
            train = open_data(cards[0], root, spec, ImageCache(checkout.CACHE)).train
            tests = {}
            for i, card in enumerate(cards):
                items = list(card.items(card.place(root), "test"))
                tests["" if i == 0 else card.name] = split_hash(items, root), np.array([one.label for one in items])
            return split_hash(train.items, root), content_hash(train), tests
        except (DataError, OSError):
            return None

    def _root(self, standin: bool, names: Sequence[str]) -> Path:
        import os

        if not standin:
            return Path(self.data or os.environ.get("DATA") or "")
        from datasets.standins import write_all

        write_all(names, checkout.STANDINS)
        return checkout.STANDINS


def _identity(record: RunResult, root: Path) -> str | None:
    """None where the data here bear the run's name; a sentence where they bear another, nothing where none are here."""
    from datasets import registry

    from ..planning.inputs import LISTED, PARTIAL, data_id

    spec, problems = record.spec, list[str]()
    ours = data_id(registry.get(spec.dataset), root, spec.standin, spec.partial, problems)
    if problems:
        return ""
    kinds = (LISTED, PARTIAL) if note.MARK in spec.dataset else ()  # what a folder holds beside its images is no matter
    alike = ours == spec.data or (ours.startswith(kinds) and ours.partition(":")[2] == spec.data.partition(":")[2])
    return None if alike else f"other images: {spec.dataset} is {ours} here, {spec.data} in the record"


def tell(folder: Path, found: Mapping[str, Found]) -> int:
    """A line for each row, then why, run by run; 1 when anything is refused."""
    from tabulate import tabulate

    by_row: dict[tuple[str, str], list[Found]] = {}
    for one in found.values():
        by_row.setdefault(row_of(one.record), []).append(one)
    lines, said = [], dict[str, list[str]]()
    for (method, backbone), its in by_row.items():
        counts = {level: sum(one.judged.verdict == level for one in its) for level in LEVELS}
        worst = max((one.judged.verdict for one in its), key=LEVELS.index)
        lines.append((method, backbone, len({one.record.spec.dataset for one in its}), len(its), worst,
                      ", ".join(f"{n} {level}" for level, n in counts.items() if n)))
        for one in its:
            if one.judged.verdict != "verified":
                said.setdefault(f"{method}: {one.judged.verdict}: {one.judged.why}", []).append(one.record.run_id)
    print(tabulate(lines, ("method", "backbone", "data sets", "runs", "verdict", "its runs"), disable_numparse=True))
    for why, runs in said.items():
        print(f"{why} ({', '.join(runs[:3])}{f' and {len(runs) - 3} more' if len(runs) > 3 else ''})")
    refused = sum(one.judged.verdict == "refused" for one in found.values())
    print(f"results/received/{folder.name}: {len(found) - refused} of {many(len(found), 'run')} may be accepted: "
          f"`plan`, `run` and `python -m reports build` take `--accept {folder.name[:8]}`")
    return 1 if refused else 0
