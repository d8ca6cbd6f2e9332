"""A method's training memory and arithmetic before anything runs: the first step of a run on tensors without numbers.

The model is built on the meta device, its tensors become fake CPU tensors (shapes only), and one whole training step is
taken on them under the same hooks that measure a real run (`meter`). The bytes are equal to the measured ones, on a
machine without a GPU, in a fraction of a second. A method whose step reads numbers to decide what to do next cannot be
forecast; it is measured in its first step, as every run is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode

from methods import compose
from methods.base import Batch, Fit
from methods.batch_norm import set_mode
from methods.pair import Both, Inputs
from methods.tasks import Classify, Task
from methods.triplet import asked
from methods.vit import head_names
from results.schema import Memory, RunSpec

from . import backbones, flops, forms, meter
from .count import without_numbers
from .course import set_plain_attention, set_train_mode
from .firstlook import built
from .optim import make_optimizer, warmup_steps
from .projected import put_in
from .zeroshot import ClassHead, read

VALUES_READ = "its step reads numbers; the first step of a run measures it"
SPARSE = "its step works on sparse tensors; the first step of a run measures it"


@dataclass(frozen=True)
class Forecast:
    """Per step and per image, at the spec's batch size and precision; `memory` is None where `why` says so."""

    memory: Memory | None
    weights: int  # trained, head included
    forward_flops: float | None  # per image, the model alone
    step_flops: float | None  # per image and training step, every pass that the method makes
    why: str = ""

    @property
    def total_bytes(self) -> int | None:
        """The ledger's sum."""
        return None if self.memory is None else meter.total_bytes(self.memory)


def forecast(spec: RunSpec, classes: int, train_size: int = 1000, head: Path | None = None) -> Forecast:
    """What one training step of the run will keep and compute; `head`: the file that its head starts from, if any."""
    method = compose.from_spec(spec.method, spec.options)
    task: Task = Classify()
    if backbones.family(spec.model) == backbones.PAIR:
        task, method.adapter = asked("match", spec.loss), Both(method.adapter)
    classes = task.outputs(classes)
    model, pretrained = _on_meta(spec, method, classes, read(head) if head else None)
    with FakeTensorMode(allow_non_fake_inputs=True), _NormStatistics():  # type: ignore[no-untyped-call]
        make_fake(model)
        fit = _lend(spec, method, model, pretrained, classes, train_size, task)
        batch = _images(spec, spec.batch_size)
        weights = sum(p.numel() for p in fit.trainable.values())
        if method.text.adapter.holds("sparse_if"):
            return Forecast(None, weights, None, None, SPARSE)
        try:
            forward = _count(lambda: fit.forward(batch.x), fit) / spec.batch_size
        except (DataDependentOutputException, DynamicOutputShapeException):
            return Forecast(None, weights, None, None, VALUES_READ)
        try:
            memory, step = _step(spec, method, fit, batch)
        except (DataDependentOutputException, DynamicOutputShapeException):
            return Forecast(None, weights, forward, None, VALUES_READ)
    return Forecast(memory, weights, forward, step / spec.batch_size)


class _NormStatistics(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Layer norm of bf16 inputs with float32 weights keeps mean and deviation in float32; torch's shapes say bf16."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.native_layer_norm.default and args[2] is not None:
            return out[0], *(t.to(args[2].dtype) for t in out[1:])
        return out


def _on_meta(spec: RunSpec, method: compose.Method, classes: int, head: ClassHead | None
             ) -> tuple[nn.Module, set[str]]:
    """The adapted model without numbers, and the names of its pre-trained weights."""
    backbones.check_name(spec.model)

    def make() -> tuple[nn.Module, set[int]]:
        backbone = backbones.create(spec.model, spec.drop_path, spec.image_size)
        if head is not None:
            put_in(backbone, head, spec.model)
        pretrained = {id(p) for p in backbone.parameters()}
        if spec.attention == "plain":
            set_plain_attention(backbone)
        return built(method.adapter, backbone, classes), pretrained

    model, pretrained = without_numbers(make)
    set_mode(model, spec.batch_norm)
    if spec.class_query:
        forms.use_class_query(model)
    if spec.precision == "bf16" and not spec.merged_eval:
        forms.store_frozen_in_bf16(model)
    return model, {name for name, p in model.named_parameters() if id(p) in pretrained}


def make_fake(model: nn.Module) -> None:
    """Meta tensors of the model -> fake CPU tensors of the same shapes and strides; shared ones stay shared."""
    made: dict[int, Any] = {}

    def fake(tensor: Tensor) -> Any:
        if id(tensor) not in made:
            made[id(tensor)] = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
            if isinstance(tensor, nn.Parameter):
                made[id(tensor)] = nn.Parameter(made[id(tensor)], requires_grad=tensor.requires_grad)
        return made[id(tensor)]

    for module in model.modules():
        tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for own in tables:
            for name, tensor in own.items():
                if tensor is not None:
                    own[name] = fake(tensor)


def _images(spec: RunSpec, count: int) -> Batch:
    size = spec.image_size
    x: Any = torch.empty(count, 3, size, size) if size else None
    if spec.text_length:
        ids = torch.zeros(count, spec.text_length, dtype=torch.int64)
        x = ids if x is None else Inputs(x, ids)
    return Batch(x, torch.empty(count, dtype=torch.int64), torch.empty(count, dtype=torch.int64))


def _lend(spec: RunSpec, method: compose.Method, model: nn.Module, pretrained: set[str], classes: int,
          train_size: int, task: Task) -> Fit:
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = head_names(model) & trainable.keys()
    held = max(1, round(spec.holdout * train_size)) if method.wants_holdout else 0
    per_epoch = max(1, (train_size - held) // spec.batch_size)

    def holdout() -> Iterator[Batch]:
        while held:
            yield _images(spec, min(method.holdout_batch(spec.batch_size), held))

    def precision() -> AbstractContextManager[Any]:
        return torch.autocast("cpu", torch.bfloat16) if spec.precision == "bf16" else nullcontext()

    fit = Fit(model=model, trainable=trainable, head=head,
              anchor={n: p.detach().clone() for n, p in trainable.items()
                      if (bool(spec.zero_shot) if n in head else n in pretrained)}
              | method.adapter.anchors(model),
              holdout=holdout(), steps=spec.epochs * per_epoch, steps_per_epoch=per_epoch,
              warmup_steps=warmup_steps(spec, per_epoch), seed=spec.seed, classes=classes,
              train_size=train_size - held, mean=torch.zeros(3), std=torch.ones(3), lr=spec.lr,
              weight_decay=spec.weight_decay, label_smoothing=spec.label_smoothing, precision=precision,
              adapter=method.adapter, image_size=spec.image_size, task=task)
    method.attach(fit)
    return fit


def _count(run: Callable[[], object], fit: Fit) -> int:
    fit.model.eval()
    with torch.no_grad(), flops.FlopCounter() as counted:
        run()
    return counted.total


def _step(spec: RunSpec, method: compose.Method, fit: Fit, batch: Batch) -> tuple[Memory, int]:
    """The first training step as the loop takes it: what it keeps, and its operations."""
    set_train_mode(fit)
    optimizer = make_optimizer(fit, spec)
    with flops.FlopCounter() as counted:
        with meter.saved_bytes(meter.fixed_tensors(fit.model)) as first:
            method.grads(fit, batch)
        optimizer.step()
        with meter.saved_bytes(meter.fixed_tensors(fit.model)) as second:
            method.after_step(fit)
    saved = max(first.peak, second.peak)
    return meter.ledger(fit.model, optimizer, saved, len(batch.y)), counted.total
