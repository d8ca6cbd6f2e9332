"""What the options of `peft` are called in each tuner's own configuration, and which types it takes.

Of peft 0.21.2, all of whose tuners were tried on timm's linear layers. A default that nobody names stays peft's.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from ..grammar import MethodError

# type -> (r, alpha, key) in its configuration; "" where it has none.
WORDS: dict[str, tuple[str, str, str]] = {
    "adamss": ("r", "", "random_seed"), "beft": ("", "", ""), "boft": ("boft_block_size", "", ""),
    "c3a": ("block_size", "", ""), "deft": ("r", "alpha", ""), "delora": ("r", "delora_lambda", ""),
    "fourierft": ("n_frequency", "scaling", "random_loc_seed"), "frod": ("", "", "projection_prng_key"),
    "glora": ("r", "", ""), "gralora": ("r", "alpha", ""), "hira": ("r", "", ""), "hra": ("r", "", ""),
    "ia3": ("", "", ""), "lily": ("r", "scaling", ""), "loha": ("r", "alpha", ""), "lokr": ("r", "alpha", ""),
    "lora": ("r", "lora_alpha", ""), "miss": ("r", "", ""), "oft": ("oft_block_size", "", ""),
    "osf": ("effective_rank", "", ""), "peanut": ("r", "scaling", ""), "psoft": ("r", "psoft_alpha", "random_seed"),
    "pvera": ("r", "", "projection_prng_key"), "randlora": ("r", "randlora_alpha", "projection_prng_key"),
    "road": ("group_size", "", ""), "shira": ("r", "", "random_seed"), "supertuning": ("", "", ""),
    "tinylora": ("r", "", "projection_seed"), "unilora": ("r", "", "proj_seed"), "vblora": ("r", "", ""),
    "vera": ("r", "", "projection_prng_key"), "waveft": ("n_frequency", "scaling", "random_loc_seed"),
}
START = {"c3a": "near", "unilora": "near", "vblora": "near", "fourierft": "never"}  # the others: exact
UNMERGED = ("lily",)
QUIET = {"save_projection": False, "progressbar": False}  # what a key gives back is not stored; stderr is ours

_OURS = {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "feedforward_modules",
         "modules_to_save", "bias", "task_type", "peft_type", "inference_mode", "base_model_name_or_path", "revision",
         "auto_mapping", "peft_version"}  # where it acts and what else trains is said by the adapter
_LOOP = {"use_asa", "eva_config", "corda_config", "loftq_config", "lora_ga_config", "monteclora_config",
         "alora_invocation_tokens", "trainable_token_indices", "megatron_config", "layer_replication", "use_qalora"}
_DATA = ("eva", "corda", "loftq", "lora_ga")  # starts of LoRA that look at data or at quantised weights


def read_options(text: str) -> dict[str, Any]:
    """"use_dora=True, lora_dropout=0.1" -> its values. Raises MethodError."""
    try:
        tree = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(tree, ast.Call) or tree.args or any(k.arg is None for k in tree.keywords):
            raise ValueError
        found = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise MethodError("options of 'peft' are written name=value, joined by commas, in peft's own words, as in "
                          f"options='use_dora=True', not {text!r:.60}") from None
    for name, value in found.items():
        if name in _OURS:
            raise MethodError(f"options of 'peft' cannot set {name!r}: targets says where it acts, the head "
                              "is ours")
        if name in _LOOP or (name == "init_lora_weights" and value in _DATA):
            raise MethodError(f"options of 'peft' cannot set {name}={value!r}: it needs data, text or a training loop "
                              "of peft's own")
    return found


def settings(kind: str, r: int | None, alpha: float | None, key: int | None, options: str) -> dict[str, Any]:
    """What the configuration of this type is given. Raises MethodError for a word said twice."""
    found = read_options(options)
    for word, value in zip(WORDS[kind], (r, alpha, key), strict=True):
        if value is not None and word in found:
            raise MethodError(f"'peft' is told {word} twice: once in options")
        if value is not None:
            found[word] = int(value) if isinstance(value, float) and value.is_integer() else value
    return found


def exactly(paths: list[str]) -> str:
    """A regular expression for these paths and no other: a suffix would catch the patch embedding and heads."""
    return f"^(?:{'|'.join(map(re.escape, paths))})$"
