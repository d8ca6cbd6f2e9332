"""Which text towers there are: BERT, T5's encoder, CLIP's text tower; a name says every number. No torch.

A name is a checkpoint that people use (`minilm`, `bert_base`), or the kind and the numbers: `bert_l6_d384_h12` has six
blocks of width 384 with twelve heads. What a kind usually has is left out of a name (`_f` width of the MLP, `_v` words,
`_n` positions, `_s` the separator's number, ...), so a local folder's config.json gives its tower one spelling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class TowerError(ValueError):
    """No such tower, or a form that is not built here; one sentence for the user."""


class Tower(NamedTuple):
    """All that decides a text tower's tensors and their function; `pool` is which tokens make the feature."""

    kind: str  # bert, t5, clip_text
    depth: int
    width: int
    heads: int
    hidden: int  # width of the MLP
    words: int
    positions: int  # tokens at most; of T5, whose positions are relative, what it was trained with
    pad: int
    mark: int  # bert: separator, behind which the second segment begins; clip_text: end of text, -1: the largest id
    act: str  # gelu, relu, quick_gelu
    pool: str  # first, mean, end


# What a kind has unless its name says otherwise; `hidden` 0 stands for four times the width.
USUAL: dict[str, dict[str, Any]] = {
    "bert": dict(hidden=0, words=30522, positions=512, pad=0, mark=102, act="gelu", pool="first"),
    "t5": dict(hidden=0, words=32128, positions=512, pad=0, mark=1, act="relu", pool="mean"),
    "clip_text": dict(hidden=0, words=49408, positions=77, pad=49407, mark=49407, act="quick_gelu", pool="end")}
LETTERS = {"l": "depth", "d": "width", "h": "heads", "f": "hidden", "v": "words", "n": "positions", "p": "pad",
           "s": "mark"}
WORDS = {"act": ("gelu", "relu", "quick_gelu"), "pool": ("first", "mean", "end")}
NAMED = {"minilm": "bert_l6_d384_h12_mean", "bert_base": "bert_l12_d768_h12", "bert_large": "bert_l24_d1024_h16",
         "t5_small": "t5_l6_d512_h8", "t5_base": "t5_l12_d768_h12", "t5_large": "t5_l24_d1024_h16",
         "clip_text_b32": "clip_text_l12_d512_h8", "clip_text_l14": "clip_text_l12_d768_h12"}
ABOUT = {"minilm": "MiniLM-L6, sentence embeddings", "bert_base": "BERT-base, uncased", "bert_large": "BERT-large, "
         "uncased", "t5_small": "T5-small's encoder", "t5_base": "T5-base's encoder", "t5_large": "T5-large's encoder",
         "clip_text_b32": "text tower of CLIP ViT-B/32", "clip_text_l14": "text tower of CLIP ViT-L/14"}


def is_tower(name: str) -> bool:
    """Whether a backbone's name is one of a text tower, or of a kind that a folder completes."""
    name = name.partition(".")[0]
    return name in USUAL or name in NAMED or re.match(rf"({'|'.join(USUAL)})_l\d", name) is not None


def tower(name: str) -> Tower:
    """The tower of a name. Raises TowerError saying how names are made."""
    text = NAMED.get(name, name)
    kind = next((k for k in USUAL if re.match(rf"{k}_l\d", text)), None)
    if kind is None:
        more = (f"{name!r} is a kind of text tower, whose numbers a folder says: --weights FOLDER" if name in USUAL else
                f"no text tower is called {name!r}; there are {', '.join(NAMED)}, and names as bert_l6_d384_h12")
        raise TowerError(more)
    told: dict[str, Any] = dict(USUAL[kind])
    for piece in _pieces(text.removeprefix(kind + "_"), name):
        match = re.fullmatch(r"([ldhfvnps])(-?\d+)", piece)
        if match:
            told[LETTERS[match[1]]] = int(match[2])
        else:
            told[next(field for field, words in WORDS.items() if piece in words)] = piece
    missing = {"depth", "width", "heads"} - told.keys()
    if missing or told["width"] % told["heads"] or min(told[n] for n in ("depth", "heads", "words", "positions")) < 1:
        raise TowerError(f"{name!r} is no text tower: its name needs blocks, width and heads, as bert_l6_d384_h12, and "
                         "the heads must divide the width")
    told["hidden"] = told["hidden"] or 4 * told["width"]
    return Tower(kind=kind, **told)


def _pieces(text: str, name: str) -> list[str]:
    known = rf"([ldhfvnps]-?\d+|{'|'.join(word for words in WORDS.values() for word in words)})"
    if not re.fullmatch(rf"{known}(_{known})*", text):
        raise TowerError(f"{name!r} is no text tower: a name is made as bert_l6_d384_h12_f1536")
    return [m[0] for m in re.finditer(known, text)]


def spelled(one: Tower) -> str:
    """The name of a tower: a checkpoint's where it is one, else its numbers, without what its kind usually has."""
    usual = USUAL[one.kind] | {"hidden": 4 * one.width}
    numbers = [f"{letter}{getattr(one, field)}" for letter, field in LETTERS.items()
               if field not in usual or getattr(one, field) != usual[field]]
    words = [getattr(one, field) for field in WORDS if getattr(one, field) != usual[field]]
    text = "_".join([one.kind, *numbers, *words])
    return next((name for name, full in NAMED.items() if full == text), text)


def from_config(config: Mapping[str, Any], mean: bool = False, mark: int | None = None) -> Tower:
    """The tower of a checkpoint's config.json; `mean`: pooled by the mean, as sentence embeddings are; `mark`: the
    number of BERT's separator, as its tokenizer has it. Raises TowerError for a form that is not built here."""
    text = config.get("text_config", config) if config.get("model_type") == "clip" else config
    given = str(config.get("model_type"))
    try:
        made = {"bert": _bert, "t5": _t5, "clip": _clip, "clip_text_model": _clip}[given](text)
    except KeyError as error:
        if given not in ("bert", "t5", "clip", "clip_text_model"):
            raise TowerError(f"config.json says model_type {given!r}; built here are bert, t5 (its encoder) and clip "
                             "(its text tower)") from None
        raise TowerError(f"config.json does not say {error.args[0]!r}") from None
    made = made._replace(pool="mean" if mean and made.kind == "bert" else made.pool)
    return made._replace(mark=mark) if mark is not None and made.kind == "bert" else made


def _bert(c: Mapping[str, Any]) -> Tower:
    _demand(c, "position_embedding_type", "absolute")
    _demand(c, "layer_norm_eps", 1e-12)
    _demand(c, "hidden_act", "gelu")
    _demand(c, "type_vocab_size", 2)
    return Tower("bert", c["num_hidden_layers"], c["hidden_size"], c["num_attention_heads"], c["intermediate_size"],
                 c["vocab_size"], c["max_position_embeddings"], c.get("pad_token_id") or 0, USUAL["bert"]["mark"],
                 "gelu", "first")


def _t5(c: Mapping[str, Any]) -> Tower:
    _demand(c, "feed_forward_proj", "relu", "a gated MLP has no fc1 (T5 v1.1, Flan)")
    _demand(c, "relative_attention_num_buckets", 32)
    _demand(c, "relative_attention_max_distance", 128)
    _demand(c, "layer_norm_epsilon", 1e-6)
    _demand(c, "d_kv", c["d_model"] // c["num_heads"], "inside attention it is wider than its stream")
    return Tower("t5", c["num_layers"], c["d_model"], c["num_heads"], c["d_ff"], c["vocab_size"],
                 c.get("n_positions") or USUAL["t5"]["positions"], c.get("pad_token_id") or 0,
                 c.get("eos_token_id") or 1, "relu", "mean")


def _clip(c: Mapping[str, Any]) -> Tower:
    _demand(c, "layer_norm_eps", 1e-5)
    usual = USUAL["clip_text"]
    act, end = c.get("hidden_act", usual["act"]), c.get("eos_token_id", usual["mark"])
    if act not in ("quick_gelu", "gelu"):
        raise TowerError(f"config.json says hidden_act {act!r}; built here are quick_gelu and gelu")
    legacy = end == 2  # written before its authors fixed it: there the end of text is the largest id
    pad = c.get("pad_token_id", usual["pad"])
    return Tower("clip_text", c["num_hidden_layers"], c["hidden_size"], c["num_attention_heads"],
                 c["intermediate_size"], c["vocab_size"], c["max_position_embeddings"],
                 usual["pad"] if legacy or pad is None else pad, usual["mark"] if legacy and c["vocab_size"] ==
                 usual["words"] else -1 if legacy else end, act, "end")


def _demand(config: Mapping[str, Any], field: str, built: object, why: str = "") -> None:
    """A number that the towers here do not vary; what a file leaves out is the usual."""
    told = config.get(field, built)
    if told != built:
        raise TowerError(f"config.json says {field} {told!r}; built here is {built!r}" + (f": {why}" if why else ""))
