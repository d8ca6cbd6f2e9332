"""The small text encoder that lives in the repository: a BERT of six blocks, width 96, three heads, 40 tokens.

Its words and its tokenizer are those of `language`; `train_text` makes its weights again. Weights are stored as fp16
beside this file, under the names of `methods.text`, and used as fp32.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from bench.embedded.language import NAME as NAME
from bench.embedded.language import TOWER
from bench.embedded.model import sha256_of as sha256_of
from bench.embedded.model import sidecar as sidecar
from methods import towers
from methods.text import TextTransformer, built


def weights_path() -> Path:
    """Where the shipped weights lie; tokenizer.json and what is known of them lie beside them."""
    return Path(__file__).with_name("text.safetensors")


def create(pretrained: bool = True, weights: Path | None = None) -> TextTransformer:
    """The encoder without a head, with shipped weights, those of a file, or fresh ones; (B, L) -> (B, 96)."""
    model = built(towers.tower(TOWER))
    if pretrained:
        model.load_state_dict({name: value.float() for name, value in load_file(weights or weights_path()).items()})
    return model
