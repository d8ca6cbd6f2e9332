"""The words and the grammar of the sentences that the embedded text encoder was pre-trained on.

A scene has seven facts: so many things of a size, a colour, a fill and a form, at a place, on a ground. A sentence says
some of them; each of its words knows which fact it states, if any. Beside them are sentences with words of praise and
of blame, denied or not. Words are shared with the stand-ins of GLUE, sentences are not: a test keeps the templates of
`datasets.standins` out of these frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

NAME = "regatta_text_40"
TOWER = "bert_l6_d96_h3_v168_n40_s3"  # six blocks, width 96, three heads, 168 words, 40 tokens, separator 3

WORDS: dict[str, tuple[tuple[str, ...], ...]] = {  # fact -> what it can be -> the words for that
    "number": (("one",), ("two",), ("three",), ("four",), ("five",), ("six",)),
    "size": (("small", "little"), ("large", "big")),
    "hue": (("red",), ("orange",), ("yellow",), ("green",), ("blue",), ("purple",), ("pink",), ("brown",), ("grey",)),
    "fill": (("plain", "even"), ("striped", "lined"), ("spotted", "dotted"), ("hollow", "empty"), ("checked",)),
    "form": (("disc",), ("square",), ("triangle",), ("ring",), ("oval",), ("star",), ("arrow",)),
    "place": (("left",), ("right",), ("top",), ("bottom",), ("middle",)),
    "ground": (("dark", "dim"), ("pale", "light"), ("sandy",), ("grassy",), ("misty",), ("tiled",)),
}
FACTS = tuple(WORDS)
NAMES = {"number": "how many", "size": "how large", "hue": "which colour", "fill": "how filled", "form": "what form",
         "place": "where", "ground": "what ground"}  # of the facts, on a card
LIKE = ("size", "hue", "fill")  # what may also stand behind the noun
PRAISE = ("lovely", "clear", "charming", "fine", "pleasing", "clever", "bright", "graceful", "splendid")
BLAME = ("dull", "ugly", "clumsy", "dreary", "poor", "boring", "shabby", "tiresome", "awful")
NEGATIONS = ("not", "never", "nobody")
KINDS = {"praise": PRAISE, "blame": BLAME, "negation": NEGATIONS}
MUCH = ("very", "rather", "so", "always", "")
NOUNS = ("picture", "film", "story", "drawing", "song", "book")

# {N} the things, {P} their place, {G} the ground, {lie} {is} {was} {it} what agrees. The key: what must be said.
FRAMES = {
    "": ("we see {N} {P} {G} .", "{N} can be seen {P} {G} .", "someone drew {N} {P} {G} .", "{P} {G} you find {N} .",
         "look , here {is} {N} {P} {G} .", "a drawing like this shows {N} {P} {G} .", "{N} {was} put there {P} {G} .",
         "what you see {is} {N} {P} {G} .", "it is true , they drew {N} {P} {G} .", "would you see {N} {P} {G} ?",
         "do you say that you see {N} {P} {G} ?", "this picture of {N} {P} {G} is true .",
         "they say that {N} {lie} somewhere {P} {G} .", "as for {N} , {it} {lie} somewhere {P} {G} ."),
    "P": ("{P} {lie} {N} {G} .", "{P} {is} {N} {G} .", "you see {N} which {lie} {P} {G} .",
          "in the story {N} that {lie} {P} {G} can be seen .", "{G} someone put {N} which {is} {P} ."),
    "G": ("{G} {is} {N} {P} .", "you see {N} which {lie} {G} {P} .", "{G} we see that {N} {lie} somewhere {P} .")}
PLACES = ("near the {}", "towards the {}", "close to the {}", "just at the {}")
GROUNDS = ("over a {} ground", "all on a {} ground", "before ground that is {}", "with a {} ground behind")
VERDICTS = {  # {X} what is spoken of, {M} how much, {T} a word of praise or blame
    False: ("someone calls {X} {M} {T} .", "{X} seems {M} {T} .", "we found {X} {M} {T} .",
            "how {T} , they say of {X} .", "someone who saw {X} said that it is {M} {T} .", "it is {M} {T} , {X} .",
            "{X} seems {M} {T} and {T} .", "they call {X} {T} and {M} {T} .", "would you call {X} {M} {T} ?"),
    True: ("someone calls {X} not {M} {T} .", "{X} does not seem {M} {T} .", "we never found {X} {M} {T} .",
           "nobody who saw {X} said that it is {M} {T} .", "nobody says of {X} how {T} it is .",
           "it is not {M} {T} , {X} .", "{X} never seems {M} {T} .", "{X} seems not {T} but {M} {O} .",
           "they call {X} never {T} but always {O} .", "nobody found {X} {T} , it is {M} {O} .")}
BESIDE = ("above", "below", "beside")

Piece = tuple[str, int]  # a word, and the place in FACTS of what it states, -1 where it states nothing
Said = list[Piece]


class Scene(NamedTuple):
    """A place in the words of each fact."""

    number: int
    size: int
    hue: int
    fill: int
    form: int
    place: int
    ground: int


def pick(values: Sequence[Any], chance: Random) -> Any:
    """One of them."""
    return values[int(chance.random() * len(values))]


def scene(chance: Random) -> Scene:
    """Any scene; one thing as often as any other number."""
    return Scene(*(int(chance.random() * len(values)) for values in WORDS.values()))


def changed(of: Scene, share: float, chance: Random) -> Scene:
    """The scene with each fact another with this probability."""
    new = {}
    for fact, values in WORDS.items():
        if chance.random() < share:
            new[fact] = (getattr(of, fact) + 1 + int(chance.random() * (len(values) - 1))) % len(values)
    return of._replace(**new)


def some(chance: Random, fewest: int = 1, most: int = len(FACTS)) -> frozenset[str]:
    """A set of facts, the form among them."""
    count = fewest + int(chance.random() * (most - fewest + 1))
    others = sorted((fact for fact in FACTS if fact != "form"), key=lambda _: chance.random())
    return frozenset(["form", *others[:count - 1]])


def _plain(text: str) -> Said:
    return [(word, -1) for word in text.split()]


def _word(of: Scene, fact: str, chance: Random) -> Piece:
    return pick(WORDS[fact][getattr(of, fact)], chance), FACTS.index(fact)


def _filled(frame: str, parts: dict[str, Said]) -> Said:
    told: Said = []
    for piece in frame.split():
        told += parts[piece[1:-1]] if piece.startswith("{") else [(piece, -1)]
    return told


def things(of: Scene, said: frozenset[str], chance: Random) -> Said:
    """`two small red discs`, or `two discs which are small and red`, of the facts that are said."""
    plural = of.number > 0
    behind = [fact for fact in LIKE if fact in said] if chance.random() < 0.25 else []
    told = [_word(of, fact, chance) for fact in ("number", *LIKE) if fact in said and fact not in behind]
    form, fact = _word(of, "form", chance)
    told.append((form + "s" * plural, fact))
    if not plural and "number" not in said:
        told.insert(0, ("an" if told[0][0][0] in "aeiou" else "a", -1))
    if behind:
        told += _plain(pick(("which", "that"), chance) + (" are" if plural else " is"))
        for place, like in enumerate(behind):
            told += _plain("and") if place and place == len(behind) - 1 else _plain(",") if place else []
            told.append(_word(of, like, chance))
    return told


def _around(of: Scene, said: frozenset[str], chance: Random) -> dict[str, Said]:
    """Place and ground; nothing where they are not said."""
    parts: dict[str, Said] = {"P": [], "G": []}
    for slot, fact, phrases in (("P", "place", PLACES), ("G", "ground", GROUNDS)):
        if fact in said:
            before, after = pick(phrases, chance).split("{}")
            parts[slot] = [*_plain(before), _word(of, fact, chance), *_plain(after)]
    return parts


def sentence(of: Scene, said: frozenset[str], chance: Random, company: bool = False) -> Said:
    """The scene in one of the frames; `company`: some other thing stands by, of which nothing is asked."""
    plural = of.number > 0
    parts = _around(of, said, chance) | {"N": things(of, said, chance)}
    parts |= {"lie": _plain("lie" if plural else "lies"), "is": _plain("are" if plural else "is"),
              "was": _plain("were" if plural else "was"), "it": _plain("they" if plural else "it")}
    frames = FRAMES[pick([need for need in FRAMES if all(parts[slot] for slot in need)], chance)]
    if company:
        other = scene(chance)._replace(number=0)
        noun = f"{pick(WORDS['hue'][other.hue], chance)} {WORDS['form'][other.form][0]}"
        that = f" that is {pick(WORDS['fill'][other.fill], chance)}" if chance.random() < 0.5 else ""
        parts["N"] = [*parts["N"], *_plain(f"{pick(BESIDE, chance)} the {noun}{that}")]
    return _filled(pick(frames, chance), parts)


def card(of: Scene, said: frozenset[str], chance: Random) -> Said:
    """The facts by name: `which colour : red , how many : two .`, in any order; the form need not be there."""
    told: Said = []
    for fact in sorted(said, key=lambda _: chance.random()):
        told += [*(_plain(",") if told else []), *_plain(NAMES[fact] + " :"), _word(of, fact, chance)]
    return [*told, (".", -1)]


def verdict(chance: Random) -> Said:
    """Praise or blame of something, denied or not."""
    of = scene(chance)
    thing = things(of, frozenset(["form", *(["hue"] if chance.random() < 0.7 else [])]), chance)
    spoken = _plain(f"{pick(('this', 'the'), chance)} {pick(NOUNS, chance)} of") + [(word, -1) for word, _ in thing]
    kinds = (PRAISE, BLAME) if chance.random() < 0.5 else (BLAME, PRAISE)
    told: Said = []
    for piece in pick(VERDICTS[chance.random() < 0.5], chance).split():
        told += {"{X}": lambda: spoken, "{M}": lambda: _plain(pick(MUCH, chance)),
                 "{T}": lambda: _plain(pick(kinds[0], chance)), "{O}": lambda: _plain(pick(kinds[1], chance))}.get(
                     piece, lambda word=piece: _plain(word))()
    return told


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, FIRST, SEPARATOR, MASK = range(len(SPECIAL))


def vocabulary() -> tuple[str, ...]:
    """Every word, in the order of its number; the special ones first."""
    frames = [*sum(FRAMES.values(), ()), *PLACES, *GROUNDS, *VERDICTS[False], *VERDICTS[True], *NAMES.values()]
    told = [word for values in WORDS.values() for words in values for word in words]
    told += [word[0] + "s" for word in WORDS["form"]]
    told += [*PRAISE, *BLAME, *NEGATIONS, *filter(None, MUCH), *NOUNS, *BESIDE]
    told += ["lie", "lies", "is", "are", "was", "were", "they", "it", "a", "an", "the", "this", "of", "and", "which",
             "that", ",", ":"]
    told += [word for word in " ".join(frames).split() if not word.startswith("{")]
    return tuple(dict.fromkeys([*SPECIAL, *told]))


def tokenizer() -> Any:
    """The tokenizer of these words: `[CLS] a [SEP] b [SEP]`; an unknown word is [UNK]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate(vocabulary())}
    made = Tokenizer(models.WordLevel(numbers, unk_token=SPECIAL[UNKNOWN]))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(list(SPECIAL))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", FIRST), ("[SEP]", SEPARATOR)])
    return made


def write_tokenizer(file: Path) -> None:
    """tokenizer.json, as `tokenizers` writes it."""
    file.write_text(tokenizer().to_str(pretty=True) + "\n", encoding="utf-8")
