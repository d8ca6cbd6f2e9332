"""GLUE's nine sets (Wang et al., ICLR 2019, arXiv:1804.07461), from the tables in which they are distributed.

GLUE keeps the labels of its test sets, so papers cut their own, and those of SHERL, LST and UniPT cut as Compacter does
(Mahabadi et al., arXiv:2106.04647): of CoLA, RTE, MRPC and STS-B the development set, shuffled by torch's generator
with the seed 42, is val in its first half and test in its second; of SST-2, QNLI and QQP the first 1,000 rows of the
training set, shuffled so, are val, the others train, and the development set is test; MNLI is validated on its
mismatched development set and tested on the matched one. WNLI, which these papers leave out, is cut as RTE is. What
`trainval` holds, train and val together, is more than the papers train on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from .card import SPLITS, Card, DataError, Item, Metric
from .lists import Problems, complain, find_folder
from .registry import register
from .shuffle import permutation
from .tsv import Form, Table, table

SEED = 42
VAL = 1000  # rows of a large training set; of a miniature, a fifth
Rule = Literal["halves", "thousand", "genres"]


class Task(NamedTuple):
    """One of the nine: its table, how it is cut, its sizes as distributed, its terms."""

    title: str
    folder: str
    form: Form
    rule: Rule
    train: int  # rows of train.tsv that can be used
    dev: int
    metric: Metric
    license: str
    cite: str
    mismatched: int = 0  # rows of MNLI's other development set
    note: str = ""


def _form(folder: str, texts: str, label: str, labels: str = "", header: str = "", gaps: bool = False) -> Form:
    return Form(f"glue/{folder}", tuple(texts.split("|")), label, tuple(labels.split()), 0, 5, tuple(header.split()),
                gaps)


ENTAILED = "entailment not_entailment"
TASKS = {
    "cola": Task("CoLA", "CoLA", _form("CoLA", "sentence", "label", "0 1", "source label mark sentence"), "halves",
                 8551, 1043, "mcc", "published linguistics, no terms of its own (recalled)", "warstadt2019cola"),
    "sst2": Task("SST-2", "SST-2", _form("SST-2", "sentence", "label", "0 1"), "thousand", 67349, 872, "top1",
                 "none stated (recalled)", "socher2013recursive"),
    "mrpc": Task("MRPC", "MRPC", _form("MRPC", "#1 String|#2 String", "Quality", "0 1"), "halves", 3668, 408, "f1_acc",
                 "Microsoft Research's terms: no commercial use (recalled)", "dolan2005automatically"),
    "qqp": Task("QQP", "QQP", _form("QQP", "question1|question2", "is_duplicate", "0 1", gaps=True), "thousand",
                363846, 40430, "f1_acc", "Quora's terms: no commercial use (recalled)", "quora2017pairs"),
    "stsb": Task("STS-B", "STS-B", _form("STS-B", "sentence1|sentence2", "score"), "halves", 5749, 1500,
                 "pearson_spearman", "CC BY-SA 4.0, parts of their sources (recalled)", "cer2017semeval"),
    "mnli": Task("MNLI", "MNLI", _form("MNLI", "sentence1|sentence2", "gold_label", "entailment neutral contradiction"),
                 "genres", 392702, 9815, "top1", "OANC's, and CC BY of parts (recalled)", "williams2018broad", 9832,
                 "val is the mismatched development set, as the papers do"),
    "qnli": Task("QNLI", "QNLI", _form("QNLI", "question|sentence", "label", ENTAILED), "thousand", 104743, 5463,
                 "top1", "CC BY-SA 4.0 (recalled)", "rajpurkar2016squad"),
    "rte": Task("RTE", "RTE", _form("RTE", "sentence1|sentence2", "label", ENTAILED), "halves", 2490, 277, "top1",
                "none stated (recalled)", "dagan2006pascal"),
    "wnli": Task("WNLI", "WNLI", _form("WNLI", "sentence1|sentence2", "label", "0 1"), "halves", 635, 71, "top1",
                 "CC BY 4.0 (recalled)", "levesque2012winograd",
                 note="our reading: the papers leave it out, for its development set contradicts its training set"),
}


def layout(task: Task) -> str:
    """What lies in a set's folder."""
    dev = "dev_matched.tsv, dev_mismatched.tsv" if task.rule == "genres" else "dev.tsv"
    columns = ", ".join(task.form.header or (*task.form.texts, task.form.label))
    return f"train.tsv, {dev} ({'no header; ' if task.form.header else ''}columns {columns})"


def folders(task: Task) -> tuple[str, ...]:
    """Where a set may lie below the data root."""
    return f"glue/{task.folder}", f"glue_data/{task.folder}", f"GLUE/{task.folder}", task.folder


def _table(root: Path, name: str, part: str) -> Table:
    task = TASKS[name]
    base = find_folder(root, folders(task), layout(task))
    return table(base / f"{part}.tsv", task.form, layout(task))


def held(rows: Sequence[Item], first: int) -> tuple[list[Item], list[Item]]:
    """(the first of them in the order of the shuffle, the others)."""
    order = permutation(len(rows), SEED)
    return [rows[i] for i in order[:first]], [rows[i] for i in order[first:]]


def items(root: Path, split: str, name: str, problems: Problems | None = None) -> list[Item]:
    """The items of one split, in the order of the shuffle where there is one."""
    if split not in SPLITS:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(SPLITS)}")
    if split == "trainval":
        return items(root, "train", name, problems) + items(root, "val", name, problems)

    def rows(part: str) -> tuple[Item, ...]:
        found = _table(root, name, part)
        for fault in found.faults:
            complain(problems, fault)
        return found.items

    rule = TASKS[name].rule
    if rule == "genres":
        return list(rows({"train": "train", "val": "dev_mismatched", "test": "dev_matched"}[split]))
    if rule == "halves":
        if split == "train":
            return list(rows("train"))
        dev = rows("dev")
        return held(dev, len(dev) // 2)[split == "test"]
    if split == "test":
        return list(rows("dev"))
    train = rows("train")
    return held(train, min(VAL, len(train) // 5))[split == "train"]


def remarks(root: Path, name: str) -> list[str]:
    """The rows that are passed over because they have too few fields, as published, and the empty lines."""
    parts = ("train", "dev_matched", "dev_mismatched") if TASKS[name].rule == "genres" else ("train", "dev")
    return [told for part in parts for told in _table(root, name, part).remarks(f"{part}.tsv")]


def sizes(task: Task) -> dict[str, int]:
    """Texts per split, from the rows as distributed."""
    if task.rule == "halves":
        train, val, test = task.train, task.dev // 2, task.dev - task.dev // 2
    elif task.rule == "genres":
        train, val, test = task.train, task.mismatched, task.dev
    else:
        train, val, test = task.train - VAL, VAL, task.dev
    return {"train": train, "val": val, "trainval": train + val, "test": test}


for _name, _task in TASKS.items():
    register(Card(
        name=_name, title=_task.title, group="glue", classes=len(_task.form.labels) or 1, splits=sizes(_task),
        source="https://gluebenchmark.com/tasks", license=_task.license, cite=f"wang2019glue, {_task.cite}",
        folder=folders(_task)[0], layout=layout(_task), items=partial(items, name=_name), metric=_task.metric,
        by_hand=f"unpack GLUE's archive of {_task.title} into glue/",
        note="test is GLUE's development set or half of it" + (f"; {_task.note}" if _task.note else ""),
        facts={"repeats": "some texts of the development set are training texts, as distributed"},
        task="classify" if _task.form.labels else "regress", input="text", texts=len(_task.form.texts),
        remarks=partial(remarks, name=_name)))
