"""Texts -> token numbers, by the tokenizer that a checkpoint's folder holds; how long texts are. No torch.

The file is tokenizer.json as Hugging Face's `tokenizers` writes it. A text is cut or padded to the run's length, so
bytes per example, stored states and forecasts are exact. Which tokenizer was used belongs to a run's name, for it
changes the numbers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.card import DataError, Item, Pair, Text

if TYPE_CHECKING:
    import numpy as np

ANSWERS = 100  # classes at most that T5 may be asked for
# How T5's decoder is asked, as the authors of LST and SHERL do: the set's name, then each text behind its field's.
FIELDS = {"qqp": ("question1: ", "question2: "), "mnli": ("premise: ", "hypothesis "),
          "qnli": ("question: ", "sentence: ")}
LONGEST, STEP, SHARE = 128, 8, 0.99  # tokens at most; lengths are multiples; the share of texts that none is cut of


class Wording:
    """A tokenizer, and the number of its padding. Raises DataError where the file is none.

    `asks`: the name of the set, where a decoder is asked and the texts are told as one.
    """

    def __init__(self, file: Path, pad: int, asks: str = "") -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not outlive a fork
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises Exception itself
            raise DataError(f"{file.name} of {file.parent.name}/ is no tokenizer ({error}); a text backbone's folder "
                            "holds tokenizer.json beside its weights") from None
        self.pad, self.asks = pad, asks
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @property
    def largest(self) -> int:
        """The largest number that a token has."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)

    def number(self, token: str) -> int | None:
        """A token's number, in the vocabulary or beside it; None where it is in neither."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def least(self, two: bool) -> int:
        """Tokens at least that a text takes, or two of them: the marks around, and one token of each."""
        return int(self._tokenizer.num_special_tokens_to_add(two)) + 1 + two

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens of each text, marks included, uncut."""
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        return [len(e.ids) for e in self._tokenizer.encode_batch(texts(items, self.asks))]

    def numbers(self, items: Sequence[Item], length: int) -> tuple[np.ndarray[Any, Any], int]:
        """((N, length) int32, how many texts were cut): pairs lose tokens of their longer part first."""
        import numpy as np

        cut = sum(n > length for n in self.lengths(items))
        self._tokenizer.enable_truncation(length, strategy="longest_first")
        self._tokenizer.enable_padding(length=length, pad_id=self.pad)
        found = np.array([e.ids for e in self._tokenizer.encode_batch(texts(items, self.asks))], dtype=np.int32)
        return found.reshape(len(items), length), cut


def texts(items: Sequence[Item], asks: str = "") -> list[Any]:
    """A string for each item, or a pair of strings, which are one where a decoder is asked; of a pair the caption.

    Raises DataError for an item that is no text.
    """
    found: list[Any] = []
    for item in items:
        held = item.image.text if isinstance(item.image, Pair) else item.image
        if not isinstance(held, Text):
            raise DataError(f"{getattr(held, 'name', held)} is no text; a text backbone reads texts alone")
        found.append(question(asks, held) if asks else held.a if held.b is None else (held.a, held.b))
    return found


def question(name: str, held: Text) -> str:
    """What T5 is asked of a set: `mrpc sentence1: ... sentence2: ...`."""
    if held.b is None:
        return f"{name} sentence: {held.a}"
    first, second = FIELDS.get(name, ("sentence1: ", "sentence2: "))
    return f"{name} {first}{held.a} {second}{held.b}"


@cache
def spoken(file: Path) -> tuple[int, ...]:
    """The first token of 0, 1, ...: what T5 says for each class, as many as ANSWERS."""
    words = Wording(file, 0)._tokenizer
    return tuple(words.encode(str(n), add_special_tokens=False).ids[0] for n in range(ANSWERS))


def usual_length(lengths: Sequence[int]) -> int:
    """The length that cuts at most one text of a hundred, rounded up, at most LONGEST."""
    ordered = sorted(lengths)
    own = ordered[min(len(ordered) - 1, int(SHARE * len(ordered)))]
    return min(LONGEST, -(-own // STEP) * STEP)


@cache
def file_hash(file: Path) -> str:
    """12 hex digits. Raises DataError where there is no such file."""
    try:
        return sha256(file.read_bytes()).hexdigest()[:12]
    except OSError:
        raise DataError(f"{file.parent.name}/ has no {file.name}; a text backbone needs the tokenizer that it was "
                        "trained with") from None
