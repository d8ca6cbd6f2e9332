"""A head from the embeddings of class names: the file that holds one, read, written, compared with a run. No torch.

CLIP's zero-shot classifier (Radford et al., ICML 2021, arXiv:2103.00020), from which WiSE-FT (Wortsman et al., CVPR
2022, arXiv:2109.01903) and TPGM on ImageNet (Tian et al., CVPR 2023, arXiv:2303.10720) begin: the image's feature goes
through the checkpoint's projection and is brought to length 1; row c of the head is exp(logit scale) times the
embedding of the name of class c, of length 1.

The file is safetensors. `embeddings` (C, E); where the feature is projected `projection` (E, D), and `shift` (E,) if
that layer has a bias. Its metadata are texts: `classes` is a JSON list of the classes' names by label, `logit_scale`
the logarithm of the scale; `words` (what was asked in the place of the names), `templates` and `origin` may be there.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.card import Card, shown
from methods.grammar import MethodText
from results.spoken import many

from .forms import SIDE
from .known import FAMILIES, PAIR, TEXT, BackboneError, family

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[np.float32]]

LARGEST = 10.0  # of a logit scale, either way: a scale of 22,000; CLIP keeps its own below ln 100 = 4.6
OWN_START = {"lp_ft": "its head starts from the probe that it fits"}  # adapters whose heads have another start


@dataclass(frozen=True, eq=False)
class ClassHead:
    """What a head starts from. `embeddings` (C, E), `projection` (E, D) or None, `shift` (E,) or None."""

    embeddings: Numbers
    projection: Numbers | None
    shift: Numbers | None
    logit_scale: float
    classes: tuple[str, ...]  # by label, as the data set calls them
    words: tuple[str, ...] = ()  # by label, what stands in the templates; empty: the classes' names
    templates: tuple[str, ...] = ()
    origin: str = ""  # whence: a checkpoint, a run
    file: Path | None = None
    digits: str = ""  # 12 hex digits of the file's hash: what a run's name tells of it

    @property
    def width(self) -> int:
        """E, of the space that images and names share."""
        return int(self.embeddings.shape[1])

    @property
    def reads(self) -> int:
        """D, of the feature in front of the projection."""
        return self.width if self.projection is None else int(self.projection.shape[1])

    @property
    def told(self) -> str:
        """One line for a record."""
        how = f", {self.templates[0]!r}" if len(self.templates) == 1 else \
            f", {len(self.templates)} templates" if self.templates else ""
        return f"{self.origin or 'embeddings of class names'}{how}, scale {math.exp(self.logit_scale):.4g}"


def of(digits: str, file: Path | None) -> ClassHead:
    """The head that a run's spec names. Raises BackboneError where the file is not here, or is another one."""
    if file is None:
        raise BackboneError(f"its head starts from a file of class embeddings whose hash begins with {digits}; give it "
                            "with --head FILE")
    found = read(file)
    if found.digits != digits:
        raise BackboneError(f"--head {file.name!r} is another file (its hash begins with {found.digits}) than the one "
                            f"that the run's head starts from ({digits})")
    return found


def read(file: Path) -> ClassHead:
    """The head in a file. Raises BackboneError with a sentence for whatever is none."""
    try:
        stamp = file.stat()
    except OSError as error:
        raise BackboneError(f"--head {str(file)!r} cannot be read ({error.strerror}); it should be a file of class "
                            "embeddings, as `python -m bench head` writes it") from None
    if not file.is_file():
        raise BackboneError(f"--head {str(file)!r} is no file; give one of class embeddings, as `python -m bench head` "
                            "writes it")
    return _read(file, stamp.st_size, stamp.st_mtime_ns)


@cache
def _read(file: Path, size: int, mtime_ns: int) -> ClassHead:
    import numpy as np
    from safetensors import safe_open

    lead = f"--head {file.name!r}"
    try:
        with safe_open(file, "numpy") as held:  # type: ignore[no-untyped-call]
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118 (it is no dictionary)
            told: dict[str, str] = held.metadata() or {}
    except Exception as error:  # damaged files fail in as many ways as there are bytes
        raise BackboneError(f"{lead} cannot be read as safetensors in float32 or float16 ({type(error).__name__})"
                            ) from None
    if "embeddings" not in tensors or tensors.keys() - {"embeddings", "projection", "shift"}:
        raise BackboneError(f"{lead} holds {', '.join(map(repr, sorted(tensors)[:4])) or 'no tensor'}; a file of class "
                            "embeddings holds 'embeddings', and may hold 'projection' and 'shift'")
    values = {name: np.ascontiguousarray(t, dtype=np.float32) for name, t in tensors.items()}
    made = ClassHead(values["embeddings"], values.get("projection"), values.get("shift"), _scale(lead, told),
                     _texts(lead, told, "classes"), _texts(lead, told, "words"), _texts(lead, told, "templates"),
                     shown(told.get("origin", "")), file, sha256(file.read_bytes()).hexdigest()[:12])
    if problem := _odd(made):
        raise BackboneError(f"{lead} {problem}")
    return made


def _scale(lead: str, told: dict[str, str]) -> float:
    try:
        value = float(told["logit_scale"])
    except KeyError:
        raise BackboneError(f"{lead} says no logit_scale in its metadata; it is the logarithm of the scale, 4.6052 for "
                            "CLIP's 100") from None
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        raise BackboneError(f"{lead} says logit_scale {shown(told['logit_scale'][:20])!r}; it is the logarithm of the "
                            "scale, 4.6052 for CLIP's 100")
    return value


def _texts(lead: str, told: dict[str, str], name: str) -> tuple[str, ...]:
    if name not in told and name != "classes":
        return ()
    try:
        found = json.loads(told[name])
    except (KeyError, ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise BackboneError(f"{lead} must say {name} in its metadata, a JSON list of texts")
    return tuple(found)


def _odd(head: ClassHead) -> str:
    """What is wrong inside a file, as the end of a sentence; empty where nothing is."""
    import numpy as np

    rows, projection = head.embeddings, head.projection
    if rows.ndim != 2 or not rows.size:
        return f"holds embeddings of the form {rows.shape}; they are a matrix, a row for each class"
    if len(head.classes) != len(rows):
        return f"names {many(len(head.classes), 'class', 'classes')} and holds {many(len(rows), 'embedding')}"
    if head.words and len(head.words) != len(rows):
        return f"holds words for {len(head.words)} of its {many(len(rows), 'class', 'classes')}"
    if projection is not None and (projection.ndim != 2 or len(projection) != head.width):
        return (f"holds a projection of the form {projection.shape}, which does not end in the {head.width} numbers of "
                "its embeddings")
    if head.shift is not None and (projection is None or head.shift.shape != (head.width,)):
        return f"holds a shift of the form {head.shift.shape}; it is a projection's, {head.width} numbers"
    if not all(np.isfinite(one).all() for one in (rows, projection, head.shift) if one is not None):
        return "holds numbers that are not finite"
    if not (np.abs(rows).max(1) > 0).all():
        return f"holds no direction for the class {head.classes[int(np.abs(rows).max(1).argmin())]!r}: all are zero"
    return ""


def write(head: ClassHead, file: Path) -> str:
    """The file, whole or not at all; returns its digits. Raises BackboneError for what `read` would refuse."""
    from safetensors.numpy import save

    if problem := _odd(head):
        raise BackboneError(f"the head of {head.origin} {problem}")
    tensors = {name: t for name in ("embeddings", "projection", "shift") if (t := getattr(head, name)) is not None}
    told = {"classes": json.dumps(head.classes, ensure_ascii=False), "logit_scale": repr(head.logit_scale),
            "templates": json.dumps(head.templates, ensure_ascii=False), "origin": head.origin}
    told |= {"words": json.dumps(head.words, ensure_ascii=False)} if head.words else {}
    content = save(tensors, told)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")  # two may write at once
    part.write_bytes(content)
    part.replace(file)
    return sha256(content).hexdigest()[:12]


def misfit(head: ClassHead, card: Card) -> str:
    """Why a head is none for a data set, a sentence; empty where it is one. Names count where the card knows them."""
    lead = f"--head {head.file.name if head.file else ''!r}"
    if card.input != "image" or card.task != "classify":
        return f"{lead}: {card.name!r} holds {card.things} and no classes of images; leave --head out"
    count = len(head.classes)
    if count != card.classes:
        return (f"{lead} holds {many(count, 'class', 'classes')}, {card.name!r} has {card.classes}; `python -m bench "
                f"head {card.name}` makes its own")
    apart = next((i for i, pair in enumerate(zip(head.classes, card.class_names, strict=False)) if pair[0] != pair[1]),
                 None)
    if apart is None:
        return ""
    kind = "in another order" if set(head.classes) == set(card.class_names) else "by other names"
    return (f"{lead} holds the classes of {card.name!r} {kind}: label {apart} is {head.classes[apart]!r} there and "
            f"{card.class_names[apart]!r} in the data set; `python -m bench head {card.name}` makes its own")


def unfit(text: MethodText, backbone: str) -> str:
    """Why a method on a backbone cannot start from class embeddings, as far as names tell; empty where it can."""
    adapter = text.adapter.name
    if adapter in OWN_START:
        return f"--head does not fit {text.name!r}: {OWN_START[adapter]}; leave one of them out"
    if adapter in SIDE:
        return (f"--head does not fit {text.name!r}: the head of a side network reads features of its own, not the "
                "checkpoint's; leave one of them out")
    kind = family(backbone)
    if kind != "vit" and (kind in FAMILIES or kind in (TEXT, PAIR)):
        return (f"--head does not fit backbone {backbone!r} (family {kind}): class embeddings are put behind a plain "
                "ViT, whose feature is one vector; use one, as vit_base_patch16_clip_quickgelu_224.openai")
    return ""
