"""The frozen prefix: what no training step can change is computed once per image; later steps start behind it.

Three kinds of model have one (`seam_of`): where only the head trains, the pooled features; a ViT whose first blocks
are frozen, the tokens behind them; a side network, the states that it reads. `Prefix` replaces one method of the model
by one that takes the stored tensors when it is handed the very batch that the loop has announced, or the stand-in that
the loop hands over for it: then the batch's pixels are made only if something reads them. Any other images (a
regulariser's own views, test images) take the long way, so a part never has to know.

Nothing stored is taken on trust. The first batch of each size is computed as well, and if one bit differs (a device
that chooses its kernel by the batch's size), batches of that size go the long way for the rest of the run. Where
something random or learning lies inside the prefix there is no cache at all, and `why_not` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.layers.drop import DropPath
from timm.layers.patch_dropout import PatchDropout
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from methods.base import Adapter, Batch, Fit
from methods.catalog import catalog
from methods.face import Face
from methods.families import face_of
from methods.side import BESIDE, IMAGE, SideNetwork
from methods.text import shared
from methods.two_heads import TwoHeads
from results.schema import RunSpec

from . import env
from .checkpoint import STOP, Interrupted
from .feeding import Normaliser
from .pictures import Pictures
from .states import Shelf, StateCache
from .tokens import Tokens

States = dict[int, Tensor]
Early = Callable[[Tensor], States]
NORMS = nn.modules.batchnorm._BatchNorm
DROPS = (nn.modules.dropout._DropoutNd, DropPath, PatchDropout)


@dataclass(frozen=True)
class Seam:
    """Where a model can be entered behind its frozen part."""

    kind: str
    method: str  # of the model, replaced
    early: Early  # (B, 3, H, W) -> states, the long way
    late: Callable[[States, Batch], Any]  # states and the batch that they belong to -> what the method returns
    frozen: list[tuple[str, nn.Module]]  # every module in front of the seam, the containers with all they hold


def seam_of(adapter: Adapter, model: nn.Module) -> Seam | None:
    """The model's seam, or None where nothing is frozen in front."""
    net: Any = model
    if isinstance(model, SideNetwork):
        early = model.early
        stored = tuple(t for t in model.taps if t != IMAGE)

        def read(x: Tensor) -> States:
            return {i: t for i, t in early(x).items() if i != IMAGE}

        def rebuilt(states: States, batch: Batch) -> States:
            return states | ({IMAGE: batch.x} if IMAGE in model.taps else {})

        return Seam(f"side {stored}", "early", read, rebuilt, [("backbone", model.backbone)])
    head = net.get_classifier() if hasattr(net, "get_classifier") and hasattr(net, "forward_head") else None
    if not isinstance(head, nn.Linear | TwoHeads) or getattr(net, "drop_rate", False):
        return None  # some models drop without a module for it
    inside = {id(p) for p in head.parameters()}
    if all(id(p) in inside for p in model.parameters() if p.requires_grad):
        features, frozen = net.forward_features, [(n, m) for n, m in model.named_children() if m is not head]
        return Seam("features", "forward", lambda x: {0: net.forward_head(features(x), pre_logits=True)},
                    lambda states, _: head(states[0]), [(n, m) for n, m in frozen if not _holds(m, head)])
    return _between_blocks(face_of(model), adapter.frozen_blocks(model))


def _between_blocks(face: Face, first: int) -> Seam | None:
    """The seam behind the first blocks of a transformer, where tokens can be stored there."""
    front = None if face.other_form() else face.front()
    if front is None or not 0 < first <= len(face.blocks()):
        return None
    chain = face.blocks()

    def embedded(x: Tensor) -> States:
        t, context = face.embed(x)
        for block in chain[:first]:
            t = face.through(block, t, context)
        return {first: t} | {key: held for name, key in BESIDE.items() if (held := getattr(context, name)) is not None}

    def behind(states: States, _: Batch) -> Tensor:
        t = states[first]
        context = face.context()._replace(**{name: states[key] for name, key in BESIDE.items() if key in states})
        for block in chain[first:]:
            t = face.through(block, t, context)
        return face.final(t) if context.share is None else shared(face.final(t), context)

    return Seam(f"blocks {first}", "forward_features", embedded, behind,
                [*front, *((f"blocks.{i}", block) for i, block in enumerate(chain[:first]))])


def _holds(outer: nn.Module, inner: nn.Module) -> bool:
    return any(m is inner for m in outer.modules())


def why_not(seam: Seam, model: nn.Module) -> str:
    """What in front of the seam changes from step to step, as a phrase; empty when nothing does."""
    for name, module in _inside(seam):
        if any(p.requires_grad for p in module.parameters(recurse=False)):
            return f"{name} trains"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{name} is hooked"
        if isinstance(module, DROPS) and module.training and _drops(module):
            return f"{name} drops at random"
        if isinstance(module, NORMS) and module.training:
            return f"{name} collects statistics"
    own = [n for n, p in model.named_parameters(recurse=False) if p.requires_grad]  # positions, class token
    return f"{own[0]} trains" if own and not isinstance(model, SideNetwork) else ""


def _drops(module: nn.Module) -> bool:
    return any(getattr(module, rate, 0) for rate in ("p", "drop_prob", "prob"))


def _inside(seam: Seam) -> Iterator[tuple[str, nn.Module]]:
    for name, module in seam.frozen:
        yield from module.named_modules(prefix=name)


@dataclass
class Prefix:
    """Stored states of one split at work in a model."""

    model: nn.Module
    seam: Seam
    shelf: Shelf
    shape: tuple[int, ...]  # of an image, or of a text
    absent: float = torch.nan  # what the stand-in holds: -1 for texts, which is no word
    seen: dict[int, bool] = field(default_factory=dict)  # batch size -> stored and computed are equal, bit for bit
    _batch: Batch | None = None
    _found: dict[int, bool] = field(default_factory=dict)  # in this very step, which goes the long way to its end

    def __post_init__(self) -> None:
        self._plain = getattr(self.model, self.seam.method)
        self._modules = [m for _, m in _inside(self.seam)]
        self._lively = [m for m in self._modules if isinstance(m, (NORMS, *DROPS))]
        tensors = [(store, name, t) for m in (self.model, *self._modules) for store in (m._parameters, m._buffers)
                   for name, t in store.items() if t is not None and not t.requires_grad]
        self._tensors = [(store, name, t, t._version) for store, name, t in tensors]
        setattr(self.model, self.seam.method, self._enter)

    @contextmanager
    def serving(self, batch: Batch) -> Iterator[None]:
        """Inside, `batch.x` itself, or `batch.input`, need not go through the frozen part."""
        # One number seen as a batch of images: whoever computed with it by mistake would get nothing but nan.
        batch.stand_in = torch.full((), self.absent, device=batch.y.device).expand(len(batch.y), *self.shape)
        self._batch = batch
        try:
            yield
        finally:
            self._batch = batch.stand_in = None
            self.seen |= self._found

    def close(self) -> None:
        """The model as it was."""
        delattr(self.model, self.seam.method)

    def _as_it_was(self) -> bool:
        """Whether the frozen part is what was stored: nobody hooks it, moves or swaps its weights, or wakes it."""
        return not (_has_any_global_hook()  # type: ignore[no-untyped-call]
                    or any(m._forward_hooks or m._forward_pre_hooks for m in self._modules)
                    or any(m.training and (isinstance(m, NORMS) or _drops(m)) for m in self._lively)
                    or any(store.get(name) is not t or t._version != version
                           for store, name, t, version in self._tensors))

    def _enter(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        batch, count = self._batch, len(x)
        masked = args or any(v is not None and v is not False for v in kwargs.values())
        known = (batch is not None and batch.means(x) and not masked and self.seen.get(count, True)
                 and self._as_it_was())
        if batch is not None and known and count in self.seen:
            return self.seam.late(self.shelf.take(batch.index, x.device), batch)
        if batch is not None and x is batch.stand_in:
            x = batch.x
        if batch is not None and known and count not in self._found:
            states = self.shelf.take(batch.index, x.device)
            with torch.no_grad():
                computed = self.seam.early(x)
            self._found[count] = all(_equal(computed[i], states[i]) for i in computed)
        return self._plain(x, *args, **kwargs)  # in the first step too, so that the meter counts it as without a cache


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def serving(prefix: Prefix | None, batch: Batch) -> AbstractContextManager[None]:
    """`prefix.serving`, where there is one."""
    return nullcontext() if prefix is None else prefix.serving(batch)


def open_prefix(fit: Fit, root: Path | None, pictures: Pictures, normalise: Normaliser | Tokens, spec: RunSpec
                ) -> Prefix | None:
    """The prefix of the training split, computed now unless it is stored below `root`; None where there is none.

    The model must be in the mode in which it trains. Images are computed in batches of one size, the list's order, the
    last one filled up from its beginning: so what is stored does not depend on who stored it.
    """
    if root is None or pictures.pixels is None or fit.adapter is None:
        return None
    seam = seam_of(fit.adapter, fit.model)
    if seam is None or why_not(seam, fit.model):
        return None
    pixels, size, count = pictures.pixels, min(spec.batch_size, len(pictures)), len(pictures)

    def batches() -> Iterator[tuple[Tensor, States]]:
        for start in range(0, count, size):
            if STOP.wanted:  # nothing is trained yet, and nothing half-computed is kept
                raise Interrupted(STOP.wanted, fit.step)
            rows = torch.arange(start, start + size) % count
            x = normalise.rows(pixels, rows)
            with torch.no_grad(), fit.precision():
                states = seam.early(x)
            yield rows[:count - start], {i: t[:count - start] for i, t in states.items()}

    key = key_of(seam, fit, pictures, normalise, size, (spec.precision, spec.attention, spec.threads))
    shelf = StateCache(root / "prefix").shelf(key, count, batches, normalise.device)
    absent = -1 if spec.text_length else torch.nan
    return None if shelf is None else Prefix(fit.model, seam, shelf, pixels.shape[1:], absent)


def key_of(seam: Seam, fit: Fit, pictures: Pictures, normalise: Normaliser | Tokens, size: int,
           facts: tuple[object, ...]) -> str:
    """Everything that the stored numbers follow from: weights and pixels themselves, not their names."""
    assert pictures.pixels is not None
    part = catalog().get(getattr(fit.adapter, "name", ""))
    source = part.source_hash if part else ""
    words = (seam.kind, type(fit.model).__qualname__, size, pictures.pixels.shape, normalise.mean.tolist(),
             normalise.std.tolist(), *facts, source, sorted(env.versions().items()), env.cpu_name(),
             torch.backends.cpu.get_cpu_capability(), _device(normalise.device), torch.get_float32_matmul_precision(),
             torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled(), _program())
    digest = sha256("|".join(map(str, words)).encode())
    held: list[tuple[str, Tensor]] = [*fit.model.named_parameters(recurse=False)]  # positions and class token
    held += fit.model.named_buffers(recurse=False)
    for name, module in seam.frozen:
        digest.update(f"{name}:{module!r}".encode())
        held += [(f"{name}.{n}", t) for n, t in (*module.named_parameters(), *module.named_buffers())]
    for name, tensor in held:
        if not tensor.requires_grad:
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    digest.update(np.ascontiguousarray(pictures.pixels).data)
    return digest.hexdigest()[:32]


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def _program() -> str:
    """Of the files that say what a prefix is."""
    here = Path(__file__).resolve()
    methods = here.parents[2] / "methods"
    files = (here, *(methods / f"{name}.py" for name in ("face", "families", "side", "stages", "convs", "vit", "eva",
                                                         "beit", "text")))
    return sha256(b"".join(p.read_bytes() for p in files)).hexdigest()
