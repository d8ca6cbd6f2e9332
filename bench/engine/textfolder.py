"""A text checkpoint's folder, looked at before it is put together: what its three files say must hold together.

`methods.hf` and `methods.towers` know the forms and believe what a file says; here it is not believed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from datasets.card import DataError
from methods import hf
from methods.towers import Tower, TowerError

from .known import BackboneError
from .wording import Wording

_USUAL = dict(depth="num_hidden_layers", width="hidden_size", heads="num_attention_heads", hidden="intermediate_size",
              words="vocab_size", positions="max_position_embeddings")
# What a tower's numbers are called in a config.json.
FIELDS = {"bert": _USUAL, "clip_text": _USUAL,
          "t5": dict(depth="num_layers", width="d_model", heads="num_heads", hidden="d_ff", words="vocab_size",
                     positions="n_positions")}
KINDS = {"bert": "bert", "t5": "t5", "clip": "clip_text", "clip_text_model": "clip_text"}  # by model_type
MARKS = ("[CLS]", "[SEP]")  # of BERT


def described(folder: Path) -> Tower:
    """The tower of a checkpoint's folder, as `hf.described`, whose numbers can be; its words are the tokenizer's.

    Raises TowerError or BackboneError naming file and field.
    """
    _check_config(folder)
    file = folder / "tokenizer.json"
    if not file.is_file():
        return hf.described(folder)  # planning says later that it lacks
    try:
        words = Wording(file, 0)
    except DataError as error:
        raise BackboneError(str(error)) from None
    tower = hf.described(folder)
    if tower.kind == "bert":
        numbers = {mark: number for mark in MARKS if (number := words.number(mark)) is not None}
        if lacking := [mark for mark in MARKS if mark not in numbers]:
            raise BackboneError(f"tokenizer.json of {folder.name}/ knows no {' and no '.join(lacking)}, between which "
                                "a BERT reads its texts; give the tokenizer that it was trained with")
        tower = tower._replace(mark=numbers["[SEP]"])
    _check_numbers(tower, words.largest, folder)
    return tower


def _check_config(folder: Path) -> None:
    """What `hf.described` would count with: whole numbers, and heads that divide the width."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # `hf.described` says why
    kind = KINDS.get(str(config.get("model_type"))) if isinstance(config, dict) else None
    if kind is None:
        return
    if config["model_type"] == "clip":
        config = config.get("text_config", config)
        if not isinstance(config, dict):
            raise BackboneError(f"config.json of {folder.name}/ says a text_config that is no JSON object; it should "
                                "hold the numbers of CLIP's text tower")
    fields = FIELDS[kind]
    for field in fields.values():
        if field in config and not (field == "n_positions" and config[field] is None):
            _check_whole(config, field, 1, folder)
    for field in ("pad_token_id", *(("eos_token_id",) if kind != "bert" else ())):
        if field in config and not (config[field] is None and (field, kind) != ("eos_token_id", "clip_text")):
            _check_whole(config, field, 0, folder)
    width, heads = config.get(fields["width"]), config.get(fields["heads"])
    if width and heads and width % heads:
        raise BackboneError(f"config.json of {folder.name}/ says {fields['heads']} {heads}, which does not divide "
                            f"{fields['width']} {width}; give the config.json that belongs to the weights")


def _check_whole(config: Mapping[str, Any], field: str, least: int, folder: Path) -> None:
    told = config[field]
    if type(told) is not int or told < least:  # True and 16.0 are none
        raise BackboneError(f"config.json of {folder.name}/ says {field} {json.dumps(told)[:40]}, where a whole number "
                            f"of at least {least} belongs; give the config.json that belongs to the weights")


def _check_numbers(tower: Tower, largest: int, folder: Path) -> None:
    """Every number that the tokenizer or its padding may give must stand in the table of words."""
    table = f"but its table has {tower.words:,} words (vocab_size in config.json), numbered from 0"
    if largest >= tower.words:
        raise BackboneError(f"tokenizer.json of {folder.name}/ gives numbers up to {largest:,}, {table}; give the "
                            "tokenizer that it was trained with")
    for field, number in (("pad_token_id", tower.pad), ("eos_token_id", tower.mark if tower.kind != "bert" else 0)):
        if number >= tower.words:
            raise BackboneError(f"config.json of {folder.name}/ has {field} {number:,}, said or usual, {table}; say "
                                f"the tokenizer's own number as {field}")


def tensors(file: Path, tower: Tower) -> dict[str, Tensor]:
    """The tensors of a file, when there are enough for such a tower to be built at all. Raises BackboneError.

    A model of a million blocks takes hours to build even without numbers.
    """
    try:
        given = hf.tensors(file)
    except TowerError as error:
        raise BackboneError(str(error)) from None
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise BackboneError(f"{file.name} of {file.parent.name}/ holds {str(name)[:60]!r}, which is no tensor but "
                                f"of type {type(value).__name__}; save the tensors by name alone")
    sides = max((side for value in given.values() for side in value.shape), default=0)
    for field, most in (("depth", len(given)), *((n, sides) for n in ("width", "hidden", "words"))):
        if getattr(tower, field) > most:
            raise BackboneError(f"config.json of {file.parent.name}/ says {FIELDS[tower.kind][field]} "
                                f"{getattr(tower, field):,}, for which {file.name} is too small; give the two that "
                                "belong together")
    return given


def state(given: Mapping[str, Tensor], tower: Tower, model: nn.Module, file: Path, decoder: bool = False
          ) -> dict[str, Tensor]:
    """A checkpoint's tensors under the model's names. Raises TowerError where one is lacking or odd, BackboneError
    where one cannot be put in its place: of another shape, of whole numbers, not finite."""
    from methods import t5

    wanted = _shapes(tower, model, t5.DECODER if decoder else {})
    for name, value in given.items():
        shape = wanted.get(hf._known(name, tower.kind))
        if shape is None:
            continue
        lead = f"{file.name} of {file.parent.name}/"
        if tuple(value.shape) != shape:
            raise BackboneError(f"{lead} holds {name} of shape {tuple(value.shape)}, expected {shape}; give the "
                                "config.json and the weights that belong together")
        if not value.is_floating_point() or value.is_sparse or value.is_quantized:
            raise BackboneError(f"{lead} holds {name} as {str(value.dtype).removeprefix('torch.')}, not as plain "
                                "floating-point numbers; save the weights as they were before they were quantised")
        if not bool(value.float().isfinite().all()):
            raise BackboneError(f"{lead} holds numbers that no weight can be (NaN or infinite), first in {name}; "
                                "fetch it again")
    return (t5.renamed if decoder else hf.renamed)(given, tower)


def _shapes(tower: Tower, model: nn.Module, beside: hf.Names) -> dict[str, tuple[int, ...]]:
    """Theirs names -> shapes, as the model has them; what is stacked in ours has its share of the rows."""
    own = model.state_dict()
    found: dict[str, tuple[int, ...]] = {}
    for ours, theirs in (*hf.TABLES[tower.kind].items(), *beside.items()):
        sources = (theirs,) if isinstance(theirs, str) else theirs
        for i in range(tower.depth if "{i}" in ours else 1):
            for kind in ("weight", "bias"):
                if (value := own.get(f"{ours.format(i=i)}.{kind}")) is not None:
                    shape = (value.shape[0] // len(sources), *value.shape[1:])
                    found |= {f"{source.format(i=i)}.{kind}": shape for source in sources}
    if "shared.weight" in found:  # T5's table of words goes by two names
        found["encoder.embed_tokens.weight"] = found["shared.weight"]
    return found
