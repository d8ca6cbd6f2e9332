"""Stand-ins of GLUE's nine sets, in the tables in which these are distributed; what they ask is about a small world.

CoLA: does the number of noun and verb agree. SST-2: praise or blame, denials among them. MRPC, QQP: the same facts in
other words, or one of them changed. STS-B: five times the share of the facts that agree. MNLI, RTE, QNLI: is a fact
stated, contradicted or left open. WNLI: what a relative clause belongs to. No text stands in two lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..glue import TASKS
from .phrases import FACTS, Chance, Scene, changed, lie, named, scene, sentence, things, verdict, word

TRAIN, VAL, TEST = 128, 32, 200
HALF = 160  # of a development set that is cut in halves: val, test
STATED = tuple(fact for fact in FACTS if fact != "form")  # what a hypothesis may be about


class Row(NamedTuple):
    """A text or two, and what stands in the label's column."""

    a: str
    b: str
    label: str


Drawer = Callable[[Chance, int], Row]  # (choices, number of the row) -> the row; classes in turns


def cola(chance: Chance, number: int) -> Row:
    of = scene(chance)
    said = {*chance.some(STATED[1:], 3), "number"}
    if number % 2:
        return Row(sentence(of, said, chance), "", "1")
    noun, verb = (not of.plural, None) if chance.below(2) else (None, not of.plural)
    return Row(sentence(of, said, chance, noun, verb), "", "0")


def sst2(chance: Chance, number: int) -> Row:
    about = things(scene(chance), ("hue",), chance)
    subject = f"this {chance.pick(('picture', 'film', 'story', 'drawing'))} of {about}"
    return Row(verdict(number % 2 == 1, chance, subject), "", str(number % 2))


def _same_or_not(chance: Chance, number: int) -> tuple[Scene, Scene, list[str]]:
    of, said = scene(chance), chance.some(STATED, 4)
    return of, of if number % 2 else changed(of, [chance.pick([*said, "form"])], chance), said


def mrpc(chance: Chance, number: int) -> Row:
    one, other, said = _same_or_not(chance, number)
    return Row(sentence(one, said, chance), sentence(other, said, chance), str(number % 2))


def qqp(chance: Chance, number: int) -> Row:
    one, other, said = _same_or_not(chance, number)
    return Row(_question(one, said, chance), _question(other, said, chance), str(number % 2))


def _question(of: Scene, said: Sequence[str], chance: Chance) -> str:
    told = sentence(of, said, chance).removesuffix(" .")
    return chance.pick(("is it true that {} ?", "would you say that {} ?", "do we see that {} ?")).format(told)


def stsb(chance: Chance, number: int) -> Row:
    of, differ = scene(chance), number % (len(FACTS) + 1)
    other = changed(of, chance.some(FACTS, differ), chance)
    score = 5 * (len(FACTS) - differ) / len(FACTS)
    return Row(sentence(of, FACTS, chance), sentence(other, FACTS, chance), f"{score:.3f}")


def _claim(of: Scene, fact: str, chance: Chance) -> str:
    """A sentence that states one fact alone."""
    noun = named(of, (), chance)
    if fact == "number":
        return f"there {'are' if of.plural else 'is'} {things(of, ('count',), chance)} ."
    if fact == "place":
        return f"the {noun} {lie(of.plural)} at the {word(of, fact, chance)} ."
    if fact == "ground":
        return f"the ground is {word(of, fact, chance)} ."
    return f"the {noun} {'are' if of.plural else 'is'} {word(of, fact, chance)} ."


def _entailed(chance: Chance, kind: int) -> tuple[str, str]:
    """(premise, hypothesis) of kind 0 stated, 1 left open, 2 contradicted."""
    of, said = scene(chance), chance.some(STATED, 4)
    fact = chance.pick([f for f in STATED if (f in said) == (kind != 1)])
    claimed = changed(of, [fact], chance) if kind == 2 else of
    return sentence(of, said, chance), _claim(claimed, fact, chance)


def mnli(chance: Chance, number: int) -> Row:
    return Row(*_entailed(chance, number % 3), ("entailment", "neutral", "contradiction")[number % 3])


def rte(chance: Chance, number: int) -> Row:
    kind = 0 if number % 2 else 1 + chance.below(2)
    return Row(*_entailed(chance, kind), "not_entailment" if kind else "entailment")


ASKED = {"number": "how many {}s are there ?", "size": "how large {} {} ?", "hue": "which colour {} {} ?",
         "fill": "how {} {} filled ?", "place": "where {} {} ?", "ground": "what is the ground like ?"}


def qnli(chance: Chance, number: int) -> Row:
    of, said = scene(chance), chance.some(STATED, 3)
    fact = chance.pick([f for f in STATED if (f in said) == (number % 2 == 1)])
    noun, be = f"the {named(of, (), chance)}", "are" if of.plural else "is"
    asked = ASKED[fact].format(word(of, "form", chance)) if fact == "number" else ASKED[fact].format(be, noun)
    return Row(asked, sentence(of, said, chance), "entailment" if number % 2 else "not_entailment")


def wnli(chance: Chance, number: int) -> Row:
    one, other = (scene(chance)._replace(number=0) for _ in range(2))
    if one.form == other.form:
        other = changed(other, ["form"], chance)
    fill = word(other, "fill", chance)
    told = f"the {named(one, ('hue',), chance)} lies above the {named(other, ('hue',), chance)} , which is {fill} ."
    return Row(told, f"the {named(other if number % 2 else one, (), chance)} is {fill} .", str(number % 2))


DRAWERS: dict[str, Drawer] = {"cola": cola, "sst2": sst2, "mrpc": mrpc, "qqp": qqp, "stsb": stsb, "mnli": mnli,
                              "qnli": qnli, "rte": rte, "wnli": wnli}


def rows(name: str, sizes: dict[str, int], seed: int) -> dict[str, list[Row]]:
    """Part -> its rows; one whose texts stand in the set already is drawn again."""
    seen: set[tuple[str, str]] = set()
    found: dict[str, list[Row]] = {part: [] for part in sizes}
    for part, size in sizes.items():
        for number in range(size):
            for attempt in range(1000):
                row = DRAWERS[name](Chance(name, part, number, attempt, seed), number)
                if row[:2] not in seen:
                    break
            else:
                raise AssertionError(f"{name}: a thousand drawings of {part} {number} stand there already")
            seen.add(row[:2])
            found[part].append(row)
        found[part].sort(key=lambda row: Chance(name, row.a, row.b, seed).below(1 << 30))
    return found


def _parts(name: str) -> dict[str, int]:
    """Files and their rows; what is tested on is drawn like the rest."""
    rule = TASKS[name].rule
    if rule == "halves":
        return {"train": TRAIN, "dev": 2 * HALF}
    if rule == "genres":
        return {"train": TRAIN, "dev_mismatched": VAL, "dev_matched": TEST}
    return {"train": TRAIN + VAL, "dev": TEST}


HEADS = {
    "sst2": "sentence|label", "mrpc": "Quality|#1 ID|#2 ID|#1 String|#2 String",
    "qqp": "id|qid1|qid2|question1|question2|is_duplicate",
    "stsb": "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2|score",
    "mnli": "index|promptID|pairID|genre|sentence1_binary_parse|sentence2_binary_parse|sentence1_parse|sentence2_parse|"
            "sentence1|sentence2|label1|gold_label",
    "qnli": "index|question|sentence|label", "rte": "index|sentence1|sentence2|label",
    "wnli": "index|sentence1|sentence2|label",
}


def _fields(name: str, number: int, row: Row) -> Sequence[str]:
    """The columns of a row as the real file has them."""
    i = str(number)
    if name == "cola":
        return "st26", row.label, "" if row.label == "1" else "*", row.a
    if name == "sst2":
        return row.a, row.label
    if name == "mrpc":
        return row.label, i, str(number + 100_000), row.a, row.b
    if name == "qqp":
        return i, str(2 * number), str(2 * number + 1), row.a, row.b, row.label
    if name == "stsb":
        return i, "main-captions", "standin", "2012test", i, "none", "none", row.a, row.b, row.label
    if name == "mnli":
        parses = [f"( {row.a} )", f"( {row.b} )", f"(ROOT {row.a})", f"(ROOT {row.b})"]
        return i, i, f"{i}{row.label[0]}", "fiction", *parses, row.a, row.b, row.label, row.label
    return i, row.a, row.b, row.label


def _written(file: Path, lines: Iterable[Sequence[str]], mark: bytes = b"") -> None:
    file.write_bytes(mark + "".join("\t".join(line) + "\n" for line in lines).encode())


def write(base: Path, name: str, seed: int) -> None:
    """The tables of one set: CoLA without a header, MRPC behind a byte-order mark, a torn row in QQP, a test table."""
    head = HEADS.get(name, "").split("|")
    for part, drawn in rows(name, _parts(name), seed).items():
        lines: list[Sequence[str]] = [_fields(name, i, row) for i, row in enumerate(drawn)]
        if name == "qqp" and part == "train":
            lines.insert(7, ("7", "7", "8", "is it true that"))
        _written(base / f"{part}.tsv", lines if name == "cola" else [head, *lines],
                 b"\xef\xbb\xbf" if name == "mrpc" else b"")
    asked = DRAWERS[name](Chance(name, "test", seed), 1)
    for part in ("test_matched", "test_mismatched") if name == "mnli" else ("test",):  # its labels are not given away
        texts = ["sentence"] if name in ("cola", "sst2") else list(TASKS[name].form.texts)
        _written(base / f"{part}.tsv", [["index", *texts], ["0", *filter(None, (asked.a, asked.b))]])


WRITERS: dict[str, Callable[[Path, int], None]] = {}  # folder -> its writer
for _name, _task in TASKS.items():
    WRITERS[f"glue/{_task.folder}"] = lambda base, seed, name=_name: write(base, name, seed)  # type: ignore[misc]
