"""Files of pre-trained weights: whatever people publish -> the tensors of one model, or one sentence on what to do.

Nothing is executed: torch's files are read with `weights_only`, and a file that needs more is refused. Wrappers such as
`{"state_dict": ...}` or a teacher beside its student, and prefixes such as `module.`, are taken away; names are brought
to timm's by timm's own filter for the architecture; the classifier is left out. What was chosen or resized on the way
is told, so that the record can say it.
"""

from __future__ import annotations

import zipfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.spoken import many, word

from .heads import classifiers

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "teacher", "module", "network", "net", "student",
            "encoder", "backbone", "model_ema", "state_dict_ema", "params")  # where programs put the weights; first hit
POSITIONS = ("pos_embed", "positional_embedding", "relative_position_bias_table")
PATCHES = ("patch_embed.proj.weight", "visual.conv1.weight", "patchifier.proj.weight")
SAVE_ALONE = ("in a program that trusts it, save the tensors alone: torch.save({name: tensor, ...}, FILE) or "
              "safetensors.torch.save_file")


class PretrainedError(ValueError):
    """The file cannot be used for this model; one sentence for the user."""


def fitted(file: Path, model: nn.Module, name: str) -> tuple[dict[str, Tensor], str]:
    """(the model's tensors in float32, what was chosen or resized). The model may lie on the meta device.

    Raises PretrainedError for whatever is no file of this model's weights.
    """
    state, told = _unwrapped(file, read(file, name), [])
    state, prefix = _stripped(file, state, model)
    notes = [*told, *([f"prefix {prefix!r} taken off"] if prefix not in ("", "module.", "_orig_mod.") else [])]
    _check_patches(file, state, model, name)
    resized = _resized(state, model)
    state = _named(file, state, model, name)
    _compare(file, state, model, name)
    return {k: v.float() for k, v in state.items()}, "; ".join([*notes, *resized])


def read(file: Path, name: str) -> Any:
    """What the file holds: tensors in dictionaries, as a rule. Told apart by content, not by the file's ending."""
    import torch
    from safetensors.torch import load_file

    kind = _kind(file, name)
    try:
        if kind == "safetensors":
            return load_file(file)
        with torch.serialization.safe_globals([Namespace]):  # options beside the weights; it has no code
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in as many ways as there are bytes
        if "GLOBAL" in str(error) or "can still be loaded" in str(error):  # torch's words for both cases differ so
            raise PretrainedError(f"{_shown(file)} holds Python objects beside tensors, which are not loaded because "
                                  f"that can run code; {SAVE_ALONE}") from None
        raise PretrainedError(f"{_shown(file)} is damaged, or no file of tensors; give safetensors, or a torch "
                              "checkpoint of tensors") from None


def _kind(file: Path, name: str) -> str:
    """`safetensors` or `torch`; everything else that can be told by its first bytes is refused by its name."""
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
    except OSError as error:
        raise PretrainedError(f"{_shown(file)} cannot be read: {error.strerror}") from None
    if not start:
        raise PretrainedError(f"{_shown(file)} is empty; fetch it again")
    if start[8:9] == b"{":
        return "safetensors"
    for magic, words in ((b"\x89HDF", "an HDF5 file, as Keras writes"), (b"\x1f\x8b", "compressed; unpack it first"),
                         (b"<", "a web page, not weights; fetch the file itself"),
                         (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
                         (b"\x93NUMPY", "one numpy array, not a network")):
        if start.startswith(magic):
            raise PretrainedError(f"{_shown(file)} is {words}")
    if start.startswith(b"PK"):
        try:
            inside = zipfile.ZipFile(file).namelist()
        except (zipfile.BadZipFile, OSError):
            raise PretrainedError(f"{_shown(file)} is cut off or damaged; fetch it again") from None
        if any(n.endswith(".npy") for n in inside):
            raise PretrainedError(f"{_shown(file)} is a numpy archive, as the authors' JAX programs write; "
                                  f"{_same(name)}")
        if any("/code/" in n for n in inside):
            raise PretrainedError(f"{_shown(file)} is a TorchScript program, not a checkpoint of tensors; "
                                  f"{_same(name)}")
    return "torch"


def _same(name: str) -> str:
    """Where timm has the weights that come in other formats."""
    import timm

    known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
    known.sort(key=lambda n: ("in21k" not in n or "_ft_" in n, "orig" not in n and "augreg" not in n, n))
    return (f"leave --weights out and name the backbone by the same weights in timm: {', '.join(known[:4])}" if known
            else "convert it to safetensors under timm's names")


def _shown(file: Path) -> str:
    return repr(file.name)


def _keys(names: Any) -> str:
    return ", ".join(repr(str(n))[:40] for n in list(names)[:4])


def _unwrapped(file: Path, found: Any, told: list[str]) -> tuple[dict[str, Tensor], list[str]]:
    """The dictionary of tensors inside, and which one was taken where there were several."""
    from torch import Tensor

    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list | tuple) else "one value"
        raise PretrainedError(f"{_shown(file)} holds {kind}, not tensors by name; {SAVE_ALONE}")
    tensors = {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Tensor)}
    inner = [k for k, v in found.items() if isinstance(v, dict) and _deep(v)]
    if not inner or len(tensors) > 2:  # a step counter may stand beside the wrapped weights
        if not tensors:
            raise PretrainedError(f"{_shown(file)} holds no tensors" + (f" (only {_keys(found)})" if found else ""))
        return tensors, told
    known = [k for k in WRAPPERS if k in inner]
    if not known and len(inner) > 1:
        raise PretrainedError(f"{_shown(file)} holds several sets of tensors ({_keys(inner)}); save the network's "
                              "alone")
    key = known[0] if known else inner[0]
    others = [k for k in known[1:] if k not in ("params",)]
    chosen = [f"weights of {key!r}, not of {' or '.join(map(repr, others))}"] if others else []
    return _unwrapped(file, found[key], [*told, *chosen])


def _deep(value: dict[Any, Any], depth: int = 3) -> bool:
    """Whether named tensors lie somewhere inside (an optimizer's state is keyed by numbers)."""
    from torch import Tensor

    return any(isinstance(k, str) and (isinstance(v, Tensor) or (isinstance(v, dict) and depth > 0
                                                                 and _deep(v, depth - 1))) for k, v in value.items())


def _stripped(file: Path, state: dict[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], str]:
    """The tensors without the prefix under which another program kept the model, and that prefix."""
    wanted = [n for n in model.state_dict() if "." in n][:40]
    starts = {k.removesuffix(n) for n in wanted[:1] for k in state if k == n or k.endswith("." + n)}
    found = sorted(p for p in starts if 2 * sum(p + n in state for n in wanted) > len(wanted))
    if "" in found:
        return state, ""
    if len(found) > 1:
        raise PretrainedError(f"{_shown(file)} holds several networks (under {_keys(found)}); save the one that you "
                              "mean alone")
    plain = [p for p in ("module.", "_orig_mod.") if all(k.startswith(p) for k in state)]  # timm's filter does the rest
    for prefix in found or plain:
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, prefix
    return state, ""


def _check_patches(file: Path, state: dict[str, Tensor], model: nn.Module, name: str) -> None:
    """timm would resize a patch embedding without a word; that is another network."""
    ours: Any = model.state_dict().get("patch_embed.proj.weight")
    theirs = next((v for k, v in state.items() if k.endswith(PATCHES) and v.ndim == 4), None)
    if ours is not None and ours.ndim == 4 and theirs is not None and ours.shape[-2:] != theirs.shape[-2:]:
        raise PretrainedError(f"{_shown(file)} has patches of {theirs.shape[-1]} pixels, {name!r} has patches of "
                              f"{ours.shape[-1]}; name the backbone that it belongs to")


def _resized(state: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Which positions timm's filter will resize, as `positions 196 -> 576`; class tokens are not counted."""
    net: Any = model
    own = model.state_dict()
    notes = {}
    for key, value in state.items():
        kind = key.rpartition(".")[2]
        if kind not in POSITIONS or value.ndim < 2:
            continue
        if kind == POSITIONS[-1]:
            if key in own and own[key].shape != value.shape:
                notes["relative"] = f"relative positions {value.shape[0]} -> {own[key].shape[0]}"
        elif getattr(net, "pos_embed", None) is not None and hasattr(net, "patch_embed") and "." not in key.replace(
                "visual.", ""):
            count, prefix = int(net.patch_embed.num_patches), int(getattr(net, "num_prefix_tokens", 1))
            given = value.shape[-2]
            if given - count not in (0, 1, prefix):
                bare = given - (0 if getattr(net, "no_embed_class", False) else prefix)
                notes["absolute"] = f"positions {bare} -> {count}"
    return list(notes.values())


def _named(file: Path, state: dict[str, Tensor], model: nn.Module, name: str) -> dict[str, Tensor]:
    """timm's names and sizes for the architecture, the classifier left out."""
    keep = _filter(name, model)
    try:
        state = dict(keep(dict(state), model)) if keep else state
    except Exception:  # the filter reads names that it expects; other networks' files lack them
        raise PretrainedError(f"{_shown(file)} does not fit {name!r}: its names are those of another network "
                              f"({_keys(state)})") from None
    own = model.state_dict()
    heads = {*classifiers(model), "head", "fc", "head_dist"}
    return {k: v for k, v in state.items() if k in own or k.rpartition(".")[0] not in heads}


def _filter(name: str, model: nn.Module) -> Any:
    """timm's function (tensors by name, model) -> tensors by timm's names, or None where it needs none."""
    import inspect
    import sys
    from functools import partial

    from timm.models import is_model, model_entrypoint

    arch = name.partition(".")[0]
    homes = [model_entrypoint(arch).__module__] if is_model(arch) else []
    for home in (*homes, type(model).__module__):
        found = getattr(sys.modules.get(home), "checkpoint_filter_fn", None)
        if found is not None:
            scaled = arch.startswith("deit") and "adapt_layer_scale" in inspect.signature(found).parameters
            return partial(found, adapt_layer_scale=True) if scaled else found
    return None


def _compare(file: Path, state: dict[str, Tensor], model: nn.Module, name: str) -> None:
    """Raises PretrainedError unless every weight of the model is there, in its shape, and nothing else."""
    own = model.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]  # a counter, not a weight
    unknown = [k for k in state if k not in own]
    lead = f"{_shown(file)} does not fit {name!r}: "
    if missing or unknown:
        raise PretrainedError(f"{lead}{many(len(missing), 'weight')} {word(len(missing), 'is', 'are')} missing and "
                              f"{len(unknown)} unknown, first {_keys([*missing, *unknown][:1])}; name the backbone "
                              "that it belongs to")
    shaped = [k for k in state if state[k].shape != own[k].shape]
    if shaped:
        raise PretrainedError(f"{lead}another size in {len(shaped)} of the weights, first {_keys(shaped[:1])}: "
                              f"{'x'.join(map(str, state[shaped[0]].shape))} for "
                              f"{'x'.join(map(str, own[shaped[0]].shape))}")
    for key, value in state.items():
        if value.is_complex() or value.is_sparse or value.is_quantized or (
                value.is_floating_point() and not bool(value.isfinite().all())):
            raise PretrainedError(f"{_shown(file)} holds numbers that no weight can be (not finite, or not real), "
                                  f"first in {_keys([key])}; fetch it again")
