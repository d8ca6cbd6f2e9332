"""A run written as a folder: what `--as` names, loaded again at once and compared, and the card beside it.

Everything is made in a folder of its own beside the wanted one and takes its name when it is whole and computes what
the run computes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import mkdtemp

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from methods.vit import head_names
from methods.weights import StoredError, merged_copy
from results.schema import RunResult

from ..engine import backbones
from ..engine.seeds import seed_all
from ..engine.stored import Stored
from . import card, peft_folder, plain
from .plain import BASE, Plain, plain_name

WEIGHTS, PROGRAM = "model.safetensors", "model.pt2"
IMAGES = 8  # of noise, on which what was written is compared with the run
CLOSE = 1e-4  # of the largest logit, or of 1: beyond it nothing is handed out

Made = tuple[str, Callable[[], nn.Module]]  # the code of the card, and what that code does


def export(stored: Stored, kind: str, out: Path) -> float:
    """Write the folder as peft, timm or state-dict; returns how far its logits are from the run's.

    Raises StoredError, MethodError.
    """
    return _whole(out, lambda part: _write(stored, kind, part))


def numbers(record: RunResult, out: Path) -> None:
    """Write the folder of a run's numbers alone, which needs no weights. Raises StoredError."""
    if record.status != "ok" or record.spec.phase != "final":
        raise StoredError(f"run {record.run_id} is {record.status}, phase {record.spec.phase}; only a finished "
                          "final run has numbers to hand out")
    text = card.evaluation_yaml(record)
    _whole(out, lambda part: float((part / "eval.yaml").write_text(text, encoding="utf-8")))


def _whole(out: Path, write: Callable[[Path], float]) -> float:
    """What `write` makes in a folder, under its name only when it is done."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoredError(f"--out {str(out)!r} is there already; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        far = write(part)
        part.chmod(0o755)  # mkdtemp's is for one user alone
        if out.is_dir():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return far


def _write(stored: Stored, kind: str, out: Path) -> float:
    if kind in ("peft", "timm") and stored.record.spec.zero_shot:
        raise StoredError(f"run {stored.record.run_id} reads its features through a projection to the space of class "
                          f"names, which no timm model has, so {kind} alone cannot compute it; export it --as "
                          "state-dict")
    base = plain.of(stored)
    code, load = {"peft": _peft, "timm": _timm, "state-dict": _state}[kind](stored, base, out)
    far = _compared(stored, load())
    (out / "README.md").write_text(card.written(stored, base, kind, code, far), encoding="utf-8")
    return far


@torch.no_grad()
def _compared(stored: Stored, found: nn.Module) -> float:
    """The largest difference of logits on images of noise. Raises StoredError where it is one."""
    size = stored.record.spec.image_size
    x = torch.randn(IMAGES, 3, size, size, generator=torch.Generator().manual_seed(0))
    wanted, logits = stored.model(x), found(x)
    far = float((wanted - logits).abs().max())
    if not far <= CLOSE * max(1.0, float(wanted.abs().max())):
        raise StoredError(f"{stored.record.method.text} was not exported: loaded again, its logits differ by {far:.1e}")
    return far


def _peft(stored: Stored, base: Plain, out: Path) -> Made:
    classes = _classes(stored)
    seed_all(stored.record.spec.seed, "init")  # a backbone of random weights is drawn by the run's seed
    ours = backbones.load(stored.record.spec.model, stored.plain, 0.0, stored.record.spec.image_size).model
    start = {name: t.detach().clone() for name, t in ours.state_dict().items()}

    def plain() -> nn.Module:
        fresh = base.build(0)
        fresh.load_state_dict(load_file(out / BASE) if (out / BASE).exists() else start)
        fresh.reset_classifier(classes)  # type: ignore[operator]
        return fresh

    peft_folder.write(stored, plain(), out)
    if base.shipped:
        _save(start, out / BASE)
        lines = [f"model = {base.code(0, checkpoint_path=repr(BASE))}", f"model.reset_classifier({classes})"]
    else:
        lines = [f"model = {base.code(classes, pretrained='True')}  # sha256 {stored.plain.sha256[:12]}"]
    code = "\n".join(["import timm", "from peft import PeftModel", "", *lines,
                      'model = PeftModel.from_pretrained(model, ".").eval()'])

    return code, lambda: peft_folder.load(plain(), out)


def _timm(stored: Stored, base: Plain, out: Path) -> Made:
    record, adapter = stored.record, stored.method.adapter
    if not adapter.mergeable:
        raise StoredError(f"{record.method.text} cannot be folded into its backbone, so timm alone cannot compute it; "
                          "export it --as state-dict")
    classes = _classes(stored)
    state = {plain_name(name): t for name, t in merged_copy(adapter, stored.model).state_dict().items()}
    wanted = {name: t.shape for name, t in base.build(classes).state_dict().items()}
    if wanted != {name: t.shape for name, t in state.items()}:
        odd = sorted(wanted.keys() ^ state.keys()) or [n for n in wanted if wanted[n] != state[n].shape]
        raise StoredError(f"{record.method.text} on {record.spec.model} is no plain timm model: {odd[0]} differs; "
                          "export it --as state-dict")
    _save(state, out / WEIGHTS)
    _config(stored, base, out)
    call = base.code(classes, checkpoint_path=repr(WEIGHTS))
    return (f"import timm\n\nmodel = {call}.eval()",
            lambda: base.build(classes, checkpoint_path=str(out / WEIGHTS)))


def _config(stored: Stored, base: Plain, out: Path) -> None:
    """What `timm.create_model('local-dir:FOLDER', pretrained=True)` reads, and a hub."""
    spec, facts = stored.record.spec, stored.record.backbone
    assert facts is not None
    heads = sorted({plain_name(name).rpartition(".")[0] for name in head_names(stored.model)})
    cfg = {"input_size": [3, spec.image_size, spec.image_size], "mean": list(facts.mean), "std": list(facts.std),
           "interpolation": "bicubic", "crop_pct": 1.0 if spec.augment == "none" else 224 / 256,
           "crop_mode": "squash" if spec.augment == "none" else "center",
           "classifier": heads[0] if len(heads) == 1 else heads,
           "first_conv": None} | ({"label_names": list(stored.names)} if stored.names else {})
    told = {"architecture": base.name, "num_classes": _classes(stored), "model_args": base.settings,
            "pretrained_cfg": cfg}
    (out / "config.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def _state(stored: Stored, base: Plain, out: Path) -> Made:
    """All tensors by name, and the computation that they go into, which needs torch alone."""
    size = stored.record.spec.image_size
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            program = torch.export.export(stored.model, (torch.zeros(2, 3, size, size),),
                                          dynamic_shapes=({0: batch},))
    except Exception as error:  # torch raises many kinds for code that it cannot follow
        raise StoredError(f"torch.export cannot follow {stored.record.method.text} "
                          f"({type(error).__name__}), so it cannot be computed elsewhere") from error
    torch.export.save(program, out / PROGRAM)
    _save(program.module().state_dict(), out / WEIGHTS)
    code = "\n".join(["import torch", "from safetensors.torch import load_file", "",
                      f'model = torch.export.load("{PROGRAM}").module()',
                      f'model.load_state_dict(load_file("{WEIGHTS}"))'])

    def load() -> nn.Module:
        model: nn.Module = torch.export.load(out / PROGRAM).module()
        model.load_state_dict(load_file(out / WEIGHTS))
        return model

    return code, load


def _classes(stored: Stored) -> int:
    return stored.header.classes


def _save(state: Mapping[str, Tensor], path: Path) -> None:
    """Tensors by name, each with memory of its own. `save_file` would make a file that its owner alone may read."""
    path.write_bytes(save({name: t.detach().cpu().contiguous().clone() for name, t in state.items()}))
