"""Files of pre-trained weights in the shapes that people publish: each loads, or one sentence says what to do."""

from __future__ import annotations

import io
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.engine import backbones
from bench.engine.backbones import BackboneError, Weights
from bench.engine.pretrained import PretrainedError, fitted

NAME = "test_vit"
State = dict[str, Tensor]


class Other:
    """A class that no checkpoint may bring along."""


def model_of(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, **options)
    return model


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return backbones.create(name)


def hollow(name: str) -> State:
    """All tensors of timm's own file of a network, its classifier too; a number each, so that the file is small."""
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=5).state_dict()
    return {k: torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in state.items()}


@pytest.fixture(scope="module")
def state() -> State:
    return model_of(NAME, num_classes=5).state_dict()


def under(prefix: str, state: State) -> State:
    return {prefix + k: v for k, v in state.items()}


def stored(folder: Path, found: Any, name: str = "weights.pt") -> Path:
    torch.save(found, folder / name)
    return folder / name


LOAD: dict[str, tuple[Callable[[State], Any], str]] = {
    "plain": (lambda s: s, ""),
    "half precision": (lambda s: {k: v.half() for k, v in s.items()}, ""),
    "beside an epoch": (lambda s: {"state_dict": s, "epoch": 3}, ""),
    "teacher": (lambda s: {"teacher": s}, ""),
    "teacher and student": (lambda s: {"student": under("module.backbone.", s),
                                       "teacher": under("backbone.", s) | {"head.mlp.0.weight": torch.ones(2, 2)}},
                            "weights of 'teacher', not of 'student'; prefix 'backbone.' taken off"),
    "options and optimizer": (lambda s: {"model": s, "args": Namespace(lr=1), "optimizer": {
        "state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1.0}]}}, ""),
    "data parallel": (lambda s: under("module.", s), ""),
    "wrapped twice": (lambda s: {"state_dict": under("module.model.", s)}, "prefix 'module.model.' taken off"),
    "average beside it": (lambda s: {"model": s, "model_ema": s}, "weights of 'model', not of 'model_ema'"),
}


@pytest.mark.parametrize("shape", LOAD)
def test_a_checkpoint_in_a_known_wrapper_loads(shape: str, state: State, tmp_path: Path) -> None:
    make, note = LOAD[shape]
    found = backbones.load(NAME, Weights(stored(tmp_path, make(state)), "0" * 64))
    assert found.adjusted == note
    for key, value in found.model.state_dict().items():
        assert torch.equal(value, state[key].half().float() if shape == "half precision" else state[key])


def test_a_teacher_is_taken_and_not_its_student(state: State, tmp_path: Path) -> None:
    other = {k: v + 1 for k, v in state.items()}
    found, _ = fitted(stored(tmp_path, {"student": other, "teacher": state}), on_meta(NAME), NAME)
    assert torch.equal(found["norm.weight"], state["norm.weight"])


REFUSED: dict[str, tuple[Callable[[State], Any], str]] = {
    "list": (lambda s: list(s.values()), "holds a list, not tensors by name; in a program that trusts it, save the "),
    "one tensor": (lambda s: s["norm.weight"], "holds one value, not tensors by name"),
    "no tensor": (lambda s: {"epoch": 3}, "holds no tensors (only 'epoch')"),
    "objects": (lambda s: {"model": s, "args": Other()}, "holds Python objects beside tensors, which are not loaded "),
    "a whole network": (lambda s: nn.Linear(2, 2), "holds Python objects beside tensors"),
    "two networks": (lambda s: under("a.", s) | under("b.", s), "holds several networks (under 'a.', 'b.'); save the"),
    "two dictionaries": (lambda s: {"gen": s, "dis": s}, "holds several sets of tensors ('gen', 'dis')"),
    "a block less": (lambda s: {k: v for k, v in s.items() if "blocks.1." not in k},
                     "does not fit 'test_vit': 12 weights are missing and 0 unknown, first 'blocks.1.norm1.weight'"),
    "another width": (lambda s: s | {"norm.weight": torch.ones(3)},
                      "another size in 1 of the weights, first 'norm.weight': 3 for 64"),
    "hostile names": (lambda s: under("\x1b[31m\u202e", s), "does not fit 'test_vit': 78 weights are missing and "),
    "not a number": (lambda s: s | {"norm.weight": s["norm.weight"] * float("nan")}, "not finite, or not real"),
    "complex": (lambda s: s | {"norm.weight": s["norm.weight"] * 1j}, "not finite, or not real"),
}


def check_refused(file: Path, sentence: str) -> None:
    """The same sentence while planning and when loading: one line, no escape code, nothing of Python's or torch's."""
    digest = str(file)  # problems are kept by file and hash
    for ask in (lambda: backbones.check_file(NAME, Weights(file, digest)),
                lambda: backbones.load(NAME, Weights(file, digest))):
        with pytest.raises(BackboneError) as error:
            ask()
        words = str(error.value)
        assert words.startswith(repr(file.name)) and sentence in words
        assert words.isprintable() and "weights_only" not in words and "Error" not in words


@pytest.mark.parametrize("shape", REFUSED)
def test_what_is_no_checkpoint_of_the_model_is_refused_by_a_sentence(shape: str, state: State, tmp_path: Path) -> None:
    make, sentence = REFUSED[shape]
    check_refused(stored(tmp_path, make(state)), sentence)


def _numpy() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, kernel=np.ones(3))
    return stream.getvalue()


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda b: b"", "is empty; fetch it again"),
    "half": (lambda b: b[:len(b) // 2], "is cut off or damaged; fetch it again"),
    "text": (lambda b: b"weights " * 99, "is damaged, or no file of tensors; give safetensors"),
    "zeros inside": (lambda b: b[:100] + bytes(300) + b[400:], "is damaged, or no file of tensors"),
    "page": (lambda b: b"<!DOCTYPE html>", "is a web page, not weights; fetch the file itself"),
    "pointer": (lambda b: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "keras": (lambda b: b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes"),
    "numpy": (lambda b: _numpy(), "is a numpy archive, as the authors' JAX programs write; leave --weights out and "
              "name the backbone by the same weights in timm: test_vit.r160_in1k"),
}


@pytest.mark.parametrize("shape", BYTES)
@pytest.mark.parametrize("ending", ("pt", "safetensors"))
def test_a_file_is_told_by_its_content_and_not_by_its_ending(shape: str, ending: str, state: State,
                                                             tmp_path: Path) -> None:
    change, sentence = BYTES[shape]
    file = tmp_path / f"weights.{ending}"
    file.write_bytes(change(stored(tmp_path, state, "good").read_bytes()))
    check_refused(file, sentence)


def test_safetensors_under_another_ending_load_and_a_cut_file_does_not(state: State, tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    save_file(state, file)
    assert backbones.load(NAME, Weights(file, "0")).adjusted == ""
    file.write_bytes(file.read_bytes()[:-100])
    check_refused(file, "is damaged, or no file of tensors")


def test_the_archive_of_the_authors_vit_is_answered_with_timms_names_of_the_same_weights(tmp_path: Path) -> None:
    file = tmp_path / "ViT-B_16.npz"
    file.write_bytes(_numpy())
    with pytest.raises(PretrainedError, match=re.escape("vit_base_patch16_224.orig_in21k")):
        fitted(file, on_meta(NAME), "vit_base_patch16_224.augreg_in21k")


def test_other_patches_are_another_network(tmp_path: Path) -> None:
    file = stored(tmp_path, model_of(NAME, patch_size=32).state_dict())
    check_refused(file, "has patches of 32 pixels, 'test_vit' has patches of 16; name the backbone that it belongs to")


@pytest.mark.parametrize("pixels, note", ((160, ""), (320, "positions 400 -> 100"), (80, "positions 25 -> 100")))
def test_positions_that_are_resized_are_told(pixels: int, note: str, tmp_path: Path) -> None:
    file = stored(tmp_path, model_of(NAME, img_size=pixels).state_dict())
    backbones.check_file(NAME, Weights(file, f"{pixels}"))
    found = backbones.load(NAME, Weights(file, f"{pixels}"))
    assert found.adjusted == note
    assert found.model.pos_embed.shape[1] == 101  # type: ignore[index, union-attr]


@pytest.mark.parametrize("name", ("resnet50_clip", "resnet50_clip_gap", "resnetv2_50", "test_resnet", "test_vit3",
                                  "deit3_small_patch16_224", "beit_base_patch16_224", "swin_tiny_patch4_window7_224"))
def test_timms_own_file_fits_and_only_its_classifier_is_left_out(name: str, tmp_path: Path) -> None:
    whole, model = hollow(name), on_meta(name)
    found, note = fitted(stored(tmp_path, whole), model, name)
    assert note == "" and found.keys() == model.state_dict().keys()
    left = whole.keys() - found.keys()
    classifier = timm.get_pretrained_cfg(name).to_dict()["classifier"]  # type: ignore[union-attr]
    assert left and all(k.startswith(f"{classifier}.") for k in left)


def test_the_authors_file_of_a_swin_has_old_names_and_buffers(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    timms = hollow(name)
    theirs = {re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", k).replace(
        "head.fc.", "head."): v for k, v in timms.items()}
    theirs |= {"layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49),
               "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64)}
    found, note = fitted(stored(tmp_path, {"model": theirs}), on_meta(name), name)
    assert note == "" and found.keys() == {k for k in timms if not k.startswith("head.")}


def test_an_old_resnet_lacks_only_counters(tmp_path: Path) -> None:
    whole = {k: v for k, v in hollow("test_resnet").items() if not k.endswith("num_batches_tracked")}
    assert fitted(stored(tmp_path, whole), on_meta("test_resnet"), "test_resnet")[1] == ""
