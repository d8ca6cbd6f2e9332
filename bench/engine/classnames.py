"""Embeddings of class names by a text tower that was trained with pictures: what a zero-shot head is made of.

As CLIP does it (Radford et al., ICML 2021, arXiv:2103.00020): each name stands in every template, each text is embedded
and brought to length 1, the mean over the templates is brought to length 1 again. Two sources are known: a folder of
CLIP as Hugging Face keeps it, whose file of weights has both projections and the logit scale beside the towers, and a
finished run of `linear` on pictures with captions, whose two heads are the projections and whose scale is one over the
temperature of its loss. timm keeps CLIP's projection of pictures as the classifier of its image tower, which is left
out when the tower is loaded; it comes back from the folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.card import Item, Text
from methods import hf, text, towers
from methods.pair import TEMPERATURE, Towers
from methods.weights import StoredError
from results.spoken import many

from . import backbones
from .backbones import BackboneError
from .halves import text_of
from .stored import open_pair
from .textfolder import described, state, tensors
from .wording import Wording, file_hash
from .zeroshot import ClassHead

BATCH = 256  # texts at a time
FULL = "give the folder of a whole CLIP (config.json with model_type clip), not of its text tower alone"
ALIKE = 1e-6  # two embeddings that lie nearer have one text behind them, as far as the tower can tell


@dataclass(frozen=True)
class Source:
    """A text tower with what goes with it; `embed` takes token numbers (B, L) to (B, E)."""

    embed: Callable[[Tensor], Tensor]
    words: Wording
    length: int
    projection: Tensor | None  # (E, D)
    shift: Tensor | None  # (E,)
    logit_scale: float
    origin: str


def of_folder(folder: Path) -> Source:
    """CLIP's. Raises BackboneError for a folder that holds no whole CLIP."""
    try:
        tower = described(folder)
        if tower.kind != "clip_text":
            raise towers.TowerError(f"{folder.name}/ holds a tower of kind {tower.kind!r}, which no pictures were "
                                    f"trained with; {FULL}")
        file = hf.weights_in(folder)
        given = tensors(file, tower)
        model = text.built(tower)
        model.load_state_dict(state(given, tower, model, file))
    except towers.TowerError as error:
        raise BackboneError(str(error)) from None
    held = {name: _float(given, name, folder) for name in ("text_projection.weight", "visual_projection.weight",
                                                           "logit_scale")}
    model.eval()
    onto = held["text_projection.weight"]  # (E, width)
    words = Wording(folder / "tokenizer.json", tower.pad)
    _check_projections(held, tower, folder)
    if tower.positions < words.least(two=False):
        raise BackboneError(f"config.json of {folder.name}/ says max_position_embeddings {tower.positions}, and a text "
                            f"takes {words.least(two=False)} tokens at least; {FULL}")

    def embed(ids: Tensor) -> Tensor:
        return model.forward_head(model.forward_features(ids), pre_logits=True) @ onto.T

    return Source(embed, words, tower.positions,
                  held["visual_projection.weight"], None, float(held["logit_scale"]), folder.resolve().name)


def _check_projections(held: dict[str, Tensor], tower: towers.Tower, folder: Path) -> None:
    """Both end in one room, and hold numbers. Raises BackboneError."""
    onto, shown, scale = held.values()
    fits = onto.ndim == shown.ndim == 2 and onto.shape == (len(shown), tower.width) and scale.numel() == 1
    odd = [name for name, value in held.items() if not bool(value.isfinite().all())]
    if odd or not fits:
        raise BackboneError(f"the weights of {folder.name}/ hold " + (
            f"numbers that no weight can be (NaN or infinite) in {odd[0]}; fetch them again" if odd else
            f"projections of shapes {tuple(onto.shape)} and {tuple(shown.shape)} that do not go together; {FULL}"))


def _float(given: dict[str, Tensor], name: str, folder: Path) -> Tensor:
    found = given.get(name, given.get(f"clip.{name}"))
    if found is None:
        raise BackboneError(f"{folder.name}/ holds no {name!r}; {FULL}")
    return found.float()


def of_run(path: Path, weights: Path | None = None) -> Source:
    """Of a finished run on pictures with captions, the record at `path`; `weights` as the run was given them.

    Raises StoredError for a run that trained its tower for pictures: its head fits no other.
    """
    stored = open_pair(path, weights)
    record, model = stored.record, stored.model
    if record.spec.method != "linear":
        raise StoredError(f"run {record.run_id} trained its tower for pictures too ({record.method.text}), so what its "
                          "head reads is no backbone's feature; name a run of linear")
    assert isinstance(model, Towers)
    file = backbones.tokenizer_file(record.spec.model, stored.plain.file)
    if file_hash(file) != record.spec.tokenizer:
        raise StoredError(f"{file.name} of {file.parent.name}/ is another than the one of run {record.run_id}")
    head = model.image.get_classifier()  # type: ignore[operator]
    return Source(model.texts, Wording(file, towers.tower(backbones.plain(text_of(record.spec.model))).pad),
                  record.spec.text_length, head.weight.detach(), head.bias.detach(), math.log(1 / TEMPERATURE),
                  f"run {record.run_id} on {record.spec.dataset}")


@torch.no_grad()
def made(source: Source, classes: Sequence[str], words: Sequence[str], templates: Sequence[str]) -> ClassHead:
    """The head of these classes, told by these words. Raises BackboneError where the tower cannot tell two apart."""
    asked = [template.replace("{}", word) for template in templates for word in words]
    items = [Item(Text(one, one), 0) for one in asked]
    longest = max(source.words.lengths(items))
    if longest > source.length:
        long = next(one for one, n in zip(asked, source.words.lengths(items), strict=True) if n == longest)
        raise BackboneError(f"{long[:60]!r} is {many(longest, 'token')} long, the tower reads {source.length}; say it "
                            "shorter")
    ids = torch.from_numpy(source.words.numbers(items, source.length)[0]).long()
    found = torch.cat([F.normalize(source.embed(part).float(), dim=1) for part in torch.split(ids, BATCH)])
    rows = F.normalize(found.view(len(templates), len(words), -1).mean(0), dim=1)  # (C, E)
    for i, row in enumerate(rows):
        near = (rows[:i] - row).abs().amax(1) < ALIKE
        if near.any():
            raise BackboneError(f"{words[int(near.nonzero()[0])]!r} and {words[i]!r} have the same embedding: the "
                                "tokenizer knows no word in which they differ, or they are the same; say them in other "
                                "words with --names")
    return ClassHead(_numbers(rows), None if source.projection is None else _numbers(source.projection),
                     None if source.shift is None else _numbers(source.shift), source.logit_scale, tuple(classes),
                     tuple(words) if tuple(words) != tuple(classes) else (), tuple(templates), source.origin)


def _numbers(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
