"""Do a record's numbers follow from the predictions stored beside it? The file's hash comes first, then the numbers.

Whoever changes a number in a record, or a file beside it, is found: the record keeps the hash of the file, and top-1,
class mean, number of images and standard error are computed again from it. Needs numpy, imported when there is a file.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import door, packs, scores
from .schema import RecordError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CLOSE = 1e-6  # stored and computed numbers may differ so much: other machines sum floats in another order
FILE_BYTES, ARRAY_BYTES = 2**30, 2**28  # of a file and of one of its arrays; a million images take 20 MB
CLASSES = 2**24
CONTRADICTED, UNPROVEN = "contradicted", "unproven"  # the two ways in which a number is not supported
PLAIN, FOLDED = "noadapt", "folds"  # a split's own items scored once more: weights as stored; pairs within folds
KINDS = {"": "classes", "regress": "numbers", "match": "ranks"}  # by the `task` that a file of predictions names
SPLITS = {"tune": "val", "final": "test", "peek": "peek"}  # phase -> what its metrics are called


class PredictionError(ValueError):
    """Stored predictions cannot be used; the message says why, without the file's name."""


def split_of(kind: str, phase: str) -> str:
    """What the metrics of an artifact are called: "test", "test:noadapt"; "" when it holds no predictions."""
    head, _, further = kind.partition(":")
    if head != "predictions":
        return ""
    return f"{SPLITS[phase]}:{further}" if further else SPLITS[phase]


def read_file(path: Path) -> bytes:
    """A regular file of bounded size, or a member of a pack; nothing is waited for. Raises PredictionError."""
    try:
        return door.read(path, FILE_BYTES)
    except FileNotFoundError:
        return _packed(path)
    except (door.NoRegularFileError, door.TooLargeError, IsADirectoryError):
        raise PredictionError("cannot be read (no regular file, or too large)") from None
    except (OSError, ValueError) as error:
        raise PredictionError(f"cannot be read ({type(error).__name__})") from None


def _packed(path: Path) -> bytes:
    try:
        return packs.read(path)
    except FileNotFoundError:
        raise PredictionError("is missing") from None
    except (OSError, RecordError) as error:
        raise PredictionError(f"cannot be read ({type(error).__name__})") from None


def stored(folder: Path, name: str, digest: str) -> bytes:
    """The artifact's bytes, after its hash. Raises PredictionError."""
    if not name or Path(name).name != name:
        raise PredictionError("lies elsewhere than its record")
    content = read_file(folder / name)
    if sha256(content).hexdigest() != digest:
        raise PredictionError("is not the file that was stored: its hash is another")
    return content


def arrays(content: bytes, names: Iterable[str] = ("pred", "label"), may: Iterable[str] = ()) -> dict[str, Array]:
    """Arrays of an .npz by name, those of `may` where they are, none of objects. Raises PredictionError for any damage.

    `pred` and `label` are checked to be lists of class numbers of one length, at least one; where the file has `task`,
    which says that they are no classes, of finite numbers. Of the task `match` `pred` is (N, 2), the ranks of a
    caption's picture and of that picture's best caption.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.namelist()
            if len(set(members)) != len(members):
                raise PredictionError("holds an array twice")
            wanted = [*names, *(name for name in may if f"{name}.npy" in members)]
            found = {name: _array(_member(archive, f"{name}.npy")) for name in wanted}
            second = _array(_member(archive, "rank_of_text.npy")) if str(found.get("task", "")) == "match" else None
    except PredictionError:
        raise
    except Exception as error:  # zipfile, zlib, struct and numpy have errors of their own, and none may stop a table
        raise PredictionError(f"cannot be read ({type(error).__name__})") from None
    _check(found | ({} if second is None else {"rank_of_text": second}))
    if second is not None:
        _check_ranks(found["pred"], second, found["label"])
        found["pred"] = _beside(found["pred"], second)
    return found


def numbers(pred: Array, label: Array) -> dict[str, float]:
    """What must follow: top-1, mean over the classes present, number of images, standard error of top-1."""
    import numpy as np

    right = pred == label
    counts = np.bincount(label)
    hits = np.bincount(label[right], minlength=len(counts))
    present = counts > 0
    n, good = len(right), int(right.sum())
    return {"top1": good / n, "class_mean": float((hits[present] / counts[present]).mean()), "n": float(n),
            "se": math.sqrt(good / n * (1 - good / n) / n)}


def unstored(phase: str, metrics: Mapping[str, float | None], kinds: Iterable[str]) -> list[str]:
    """Splits with a score for which no predictions were stored: it is as good as its word."""
    stored_ = {split_of(kind, phase) for kind in kinds}
    told_of = [key.rpartition(".")[0] for key, told in metrics.items()
               if told is not None and key.endswith((".top1", ".score"))]
    return [split for split in dict.fromkeys(told_of)
            if split.partition(":")[0] == SPLITS[phase] and split not in stored_]


def faults(folder: Path, phase: str, metrics: Mapping[str, float | None],
           artifacts: Sequence[tuple[str, str, str]], metric: str = "top1") -> dict[str, tuple[str, str]]:
    """split -> (CONTRADICTED or UNPROVEN, a sentence that names the file); empty when everything follows.

    `artifacts` are (kind, path, sha256) as the record has them, `metric` what its data set is told in: a score's parts
    must all be there, or leaving one out would leave the score unchecked.
    """
    found = {}
    for kind, name, digest in artifacts:
        split = split_of(kind, phase)
        if not split:
            continue
        try:
            held = arrays(stored(folder, name, digest), may=("task",))
        except PredictionError as error:
            found[split] = UNPROVEN, f"{folder.name}/{name}: {error}"
            continue
        if (why := _unlike(held, split, metrics, metric)):
            found[split] = CONTRADICTED, f"{why}: {folder.name}/{name}"
            continue
        for key, now in _follows(held, metric).items():
            told = metrics.get(f"{split}.{key}")
            if told is not None and abs(told - now) > CLOSE:
                found[split] = CONTRADICTED, (f"field 'metrics.{split}.{key}' is {told:.6g}, but the predictions in "
                                              f"{folder.name}/{name} give {now:.6g}")
                break
    for split in unstored(phase, metrics, [kind for kind, _, _ in artifacts]):
        found[split] = UNPROVEN, f"{folder.name}: no predictions are stored for metrics.{split}.top1"
    return found


def _check_ranks(of_image: Array, of_text: Array, label: Array) -> None:
    """Raises PredictionError for what no ranking of pictures numbered from 0 gives."""
    import numpy as np

    pictures = np.unique(label)
    whole = all((one >= 0).all() and (one == np.floor(one)).all() for one in (of_image, of_text, label))
    if not whole or len(pictures) != pictures[-1] + 1 or (of_image >= len(pictures)).any() or \
            (of_text >= len(label)).any():
        raise PredictionError("holds numbers that are no ranks")


def _beside(first: Array, second: Array) -> Array:
    import numpy as np

    return np.stack([first, second], 1)


def unlike(held: Mapping[str, Array], metric: str) -> str:
    """Why these predictions are not what the metric is made of, or nothing."""
    task, wanted = str(held.get("task", "")), scores.task_of(metric)
    name = scores.NAMES.get(metric, metric)
    have = KINDS.get(task, task)
    return "" if task == wanted else f"its predictions are {have}, and {name} is made of {KINDS[wanted]}"


def _unlike(held: Mapping[str, Array], split: str, metrics: Mapping[str, float | None], metric: str) -> str:
    """Predictions of another kind, a score with a part missing, or one that the data set is not told in."""
    if why := unlike(held, metric):
        return why
    own = {"score", *scores.PARTS[metric]} if scores.scored(metric) else set[str]()
    told = {key.removeprefix(f"{split}.") for key, value in metrics.items()
            if value is not None and key.startswith(f"{split}.")}
    own -= {"accuracy"}  # is top-1 in a record
    foreign = told & ({"score"}.union(*scores.PARTS.values()) - own - {"accuracy"})
    lacking = own - told
    return (f"field 'metrics.{split}.{min(lacking)}' is missing, a part of {scores.NAMES[metric]}" if lacking else
            f"field 'metrics.{split}.{min(foreign)}' is none that a set told in {scores.NAMES.get(metric, metric)} has"
            if foreign else "")


def _follows(held: Mapping[str, Array], metric: str) -> dict[str, float]:
    """What the predictions give: top-1 and its kin of classes, a score with its parts, the number of items."""
    pred, label = held["pred"], held["label"]
    found = {"n": float(len(pred))} | ({} if "task" in held else numbers(pred, label))
    if scores.scored(metric):
        found |= scores.parts(metric, pred, label)
        found["score"] = scores.score(metric, pred, label)
    return found


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > ARRAY_BYTES:
        raise PredictionError("holds an array too large")
    return archive.read(name)


def _array(raw: bytes) -> Array:
    import numpy as np

    start = 10 + int.from_bytes(raw[8:10], "little")
    dtype, shape = _head(raw[:start])
    size = math.prod(shape)
    if len(raw) != start + size * dtype.itemsize:
        raise PredictionError("is cut off, or longer than it says")
    return np.frombuffer(raw, dtype, size, start).reshape(shape)


@lru_cache(maxsize=256)
def _head(head: bytes) -> tuple[Any, tuple[int, ...]]:
    """dtype and shape out of the head of an .npy of version 1."""
    import numpy as np

    stream = io.BytesIO(head)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise PredictionError("is written in another version of its format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or dtype.kind not in "iufUb" or len(shape) > 1 or any(side < 0 for side in shape):
        raise PredictionError("holds something else than lists of numbers")
    return dtype, shape


def _check(found: Mapping[str, Array]) -> None:
    lists = [found[name] for name in ("pred", "label", "rank_of_text") if name in found]
    if "task" in found:  # numbers in the place of classes
        import numpy as np

        if any(one.ndim != 1 or not len(one) or one.dtype.kind != "f" or not np.isfinite(one).all() for one in lists):
            raise PredictionError("holds no list of finite numbers")
        lists = []
    for one in lists:
        if one.ndim != 1 or not len(one) or one.dtype.kind not in "iu":
            raise PredictionError("holds no list of class numbers")
        if one.min() < 0 or one.max() >= CLASSES:
            raise PredictionError("holds numbers that are no classes")
    lengths = {len(one) for one in found.values() if one.ndim}
    if len(lengths) > 1:
        raise PredictionError("holds lists of different lengths")
