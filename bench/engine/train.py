"""The only training loop. It knows the step protocol and no method's name.

    build     adapter.build(backbone, classes)                     once
    attach    every regularizer, every constraint                  once
    step      zero -> grads -> clip -> optimizer -> schedule -> after_step
    finish    every constraint, with a validation callback         once
    predict   each batch of the split that the phase may see       once
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datasets.card import Card
from datasets.images import split_hash
from methods import compose
from methods.base import Batch, Fit
from methods.grammar import MethodError
from methods.vit import head_names
from methods.weights import no_decay
from results.schema import BackboneInfo, DatasetInfo, Memory, RunSpec

from . import backbones, meter
from .cache import ImageCache
from .evaluate import Predictions, metrics_of, predict
from .loaders import Batches, Normaliser, Pictures, TuneData, normalisation, open_data, stratified
from .seeds import seed_all
from .where import Where

PEAK_SHARE = 0.01  # the cosine ends, and the warm-up begins, at this share of the peak learning rate


class Diverged(RuntimeError):
    """The loss is not finite; carries the step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


@dataclass
class Trained:
    """What one run leaves behind for the record."""

    model: nn.Module
    fit: Fit
    method: compose.Method
    predictions: dict[str, Predictions]  # by split
    metrics: dict[str, float | None]
    dataset: DatasetInfo
    backbone: BackboneInfo
    params: Any
    memory: Memory
    history: list[dict[str, float | None]]
    diagnostics: dict[str, float | None]
    seconds: dict[str, float]
    train_images_per_s: float | None
    eval_images_per_s: float | None
    test_passes: int
    items_hash: dict[str, str]


class Session:
    """One run from its spec: `build`, `train`, `score`, each callable once, in this order."""

    def __init__(self, spec: RunSpec, card: Card, where: Where) -> None:
        self.spec, self.card, self.where = spec, card, where
        self.seconds: dict[str, float] = {}
        self.stage, self.step = "data", 0
        self.device = torch.device(where.device)
        torch.set_num_threads(spec.threads)
        torch.use_deterministic_algorithms(where.deterministic, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs 3 % of a step and nothing here reads it

    def run(self, progress: Callable[[int, int], None] | None = None) -> Trained:
        """Everything; `progress(step, steps)` is called after each step."""
        with self._timed("data"):
            data = open_data(self.card, self.where.data_root, self.spec, ImageCache(self.where.cache_root))
        self.stage = "build"
        with self._timed("build"):
            self._build(data)
        self.stage = "train"
        with self._timed("train"):
            history = self._train(progress or (lambda step, steps: None))
        self.stage = "evaluate"
        data.finish_training()
        with self._timed("evaluate"):
            predictions, metrics, hashes = self._score(data)
        return self._collect(data, history, predictions, metrics, hashes)

    def _timed(self, name: str) -> AbstractContextManager[None]:
        return _Timer(self.seconds, name, self.device)

    def _build(self, data: TuneData) -> None:
        spec = self.spec
        self.method = compose.from_spec(spec.method, spec.options)
        seed_all(spec.seed, "init")
        backbone = backbones.load(spec.model, backbones.Weights(self.where.weights_file, spec.weights), spec.drop_path)
        self.backbone = backbone
        pretrained = {id(p): p for p in backbone.model.parameters()}
        self.backbone_sizes = {key: p.numel() for key, p in pretrained.items()}
        if spec.attention == "plain":
            set_plain_attention(backbone.model)
        model = self.method.adapter.build(backbone.model, self.card.classes).to(self.device)
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        head = head_names(model) & trainable.keys()
        mean, std = normalisation(spec, (backbone.mean, backbone.std))
        self.normalise = Normaliser(mean, std, self.device)
        self.train_pictures, self.held = self._hold_out(data.train)
        self.batches = Batches(self.train_pictures, self.normalise, spec.batch_size, spec.seed, spec.drop_last)
        holdout: Iterator[Batch] = iter(())
        if self.held is not None:
            holdout = Batches(self.held, self.normalise, spec.batch_size, spec.seed).endless()
        per_epoch = len(self.batches)
        if not per_epoch:
            raise MethodError(f"{len(self.train_pictures)} training images give no batch of {spec.batch_size} with "
                              "drop_last; lower the batch size")
        self.fit = Fit(
            model=model, trainable=trainable, head=head,
            anchor={n: p.detach().clone() for n, p in trainable.items() if id(p) in pretrained and n not in head}
            | {n: a.to(self.device) for n, a in self.method.adapter.anchors(model).items()},
            holdout=holdout, steps=spec.epochs * per_epoch, steps_per_epoch=per_epoch,
            warmup_steps=min(spec.warmup_epochs, spec.epochs) * per_epoch, seed=spec.seed, classes=self.card.classes,
            train_size=len(self.train_pictures), mean=self.normalise.mean, std=self.normalise.std, lr=spec.lr,
            weight_decay=spec.weight_decay, label_smoothing=spec.label_smoothing,
            precision=self._precision, adapter=self.method.adapter)
        seed_all(spec.seed, "prepare")
        self.method.prepare(self.fit, self.batches.in_order())
        self.method.attach(self.fit)
        self.optimizer = make_optimizer(self.fit, spec)

    def _hold_out(self, train: Pictures) -> tuple[Pictures, Pictures | None]:
        if not self.method.wants_holdout:
            return train, None
        rows = stratified(train.labels, self.spec.holdout, self.spec.seed)
        inside = set(rows)
        return train.take([i for i in range(len(train)) if i not in inside]), train.take(rows)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.spec.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _train(self, progress: Callable[[int, int], None]) -> list[dict[str, float | None]]:
        fit, spec = self.fit, self.spec
        set_train_mode(fit)
        seed_all(spec.seed, "train")
        history: list[dict[str, float | None]] = []
        self.saved: int | None = None
        self.counted_s = 0.0
        self.grad_norm = 0.0
        for epoch in range(spec.epochs):
            seen, total = 0, 0.0
            for batch in self.batches.epoch(epoch):
                started = time.perf_counter()
                loss = self._one_step(batch, first=fit.step == 0)
                if fit.step:  # the first step carries the meter's hooks and every lazy start
                    self.counted_s += time.perf_counter() - started
                if not math.isfinite(loss):
                    raise Diverged(fit.step)
                total += loss * len(batch.y)
                seen += len(batch.y)
                fit.step += 1
                self.step = fit.step
                progress(fit.step, fit.steps)
            history.append({"epoch": float(epoch + 1), "train.loss": total / seen,
                            "lr": self.optimizer.param_groups[0]["lr"]})
        if self.held is not None or self.method.constraints:
            self.method.finish(fit, self._validate)
        return history

    def _one_step(self, batch: Batch, first: bool) -> float:
        fit, spec = self.fit, self.spec
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate(spec, fit.step, fit.steps_per_epoch)
        self.optimizer.zero_grad(set_to_none=True)
        if first:
            with meter.saved_bytes(meter.fixed_tensors(fit.model)) as saved:
                terms = self.method.grads(fit, batch)
                loss = terms["loss"].detach()
                del terms
            self.saved = saved.peak
        else:
            loss = self.method.grads(fit, batch)["loss"].detach()
        if spec.clip:
            norm = nn.utils.clip_grad_norm_(fit.trainable.values(), spec.clip)
            self.grad_norm = float(norm)
        self.optimizer.step()
        self.method.after_step(fit)
        if first:
            self.memory = meter.ledger(fit.model, self.optimizer, self.saved, len(batch.y))
        return float(loss)

    def _validate(self) -> float:
        """Top-1 on the holdout with the present weights: what a constraint may choose by."""
        if self.held is None:
            raise MethodError("a part asked for validation without asking for held-out images")
        found = predict(self.method, self.fit, Batches(self.held, self.normalise, self.spec.eval_batch_size, 0))
        return float((found.pred == found.label).mean())

    def _score(self, data: TuneData) -> tuple[dict[str, Predictions], dict[str, float | None], dict[str, str]]:
        spec, found, hashes = self.spec, {}, {}
        metrics: dict[str, float | None] = {}
        pictures = {"val": data.val} if spec.phase == "tune" else {"test": data.test()}
        self.scored = sum(len(p) for p in pictures.values() if p is not None)
        for split, images in pictures.items():
            assert images is not None
            started = time.perf_counter()
            found[split] = predict(self.method, self.fit, Batches(images, self.normalise, spec.eval_batch_size, 0))
            self.eval_s = time.perf_counter() - started
            metrics |= metrics_of(found[split], split)
            hashes[split] = split_hash(images.items, self.where.data_root)
        train = predict_plain(self.fit, Batches(self.train_pictures, self.normalise, spec.eval_batch_size, 0))
        metrics["train.top1"] = train
        return found, metrics, hashes

    def _collect(self, data: TuneData, history: list[dict[str, float | None]], predictions: dict[str, Predictions],
                 metrics: dict[str, float | None], hashes: dict[str, str]) -> Trained:
        spec, fit, card = self.spec, self.fit, self.card
        steps = max(1, fit.steps - 1)
        images = steps * self.batches.batch_size
        scored = next(iter(metrics[k] for k in ("test.top1", "val.top1") if k in metrics))
        far = math.sqrt(sum(float((fit.trainable[n].detach() - a).square().sum()) for n, a in fit.anchor.items()
                            if n in fit.trainable))
        mean, std = normalisation(spec, (self.backbone.mean, self.backbone.std))
        merged_extra = 0 if self.method.adapter.mergeable else None
        return Trained(
            model=fit.model, fit=fit, method=self.method, predictions=predictions, metrics=metrics,
            dataset=DatasetInfo(
                classes=card.classes, train=len(self.train_pictures), holdout=len(self.held) if self.held else 0,
                val=len(data.val) if data.val else None, test=len(predictions["test"].pred) if "test" in predictions
                else None, split_hash=split_hash(data.train.items, self.where.data_root),
                content_hash=_content(data.train), title=card.title, group=card.group, metric=card.metric,
                standin=spec.standin),
            backbone=BackboneInfo(params=sum(self.backbone_sizes.values()),
                                  weights_sha256=None if spec.weights == "random" else spec.weights,
                                  family=backbones.family(spec.model), image_size=spec.image_size, mean=mean, std=std),
            params=meter.count_params(fit.model, self.backbone_sizes, fit.head, None, merged_extra),
            memory=self.memory, history=history,
            diagnostics={"distance_from_pretrained": far if fit.anchor else None, "grad_norm": self.grad_norm,
                         "train_test_gap": (metrics["train.top1"] or 0.0) - (scored or 0.0)},
            seconds=self.seconds,
            train_images_per_s=images / self.counted_s if self.counted_s > 0 else None,
            eval_images_per_s=self.scored / self.eval_s if self.eval_s > 0 else None,
            test_passes=data.test_passes, items_hash=hashes)


class _Timer:
    """Adds the seconds of a block, the device synchronised at both ends."""

    def __init__(self, into: dict[str, float], name: str, device: torch.device) -> None:
        self.into, self.name, self.device = into, name, device

    def __enter__(self) -> None:
        self._sync()
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._sync()
        self.into[self.name] = time.perf_counter() - self.started

    def _sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def learning_rate(spec: RunSpec, step: int, per_epoch: int) -> float:
    """The rate of a step (from 0): linear warm-up, then cosine; `cosine_timm` moves once per epoch, one late."""
    warm, total = spec.warmup_epochs * per_epoch, spec.epochs * per_epoch
    low = PEAK_SHARE * spec.lr
    if spec.schedule == "constant":
        return spec.lr
    if spec.schedule == "cosine_timm":
        epoch = max(0, step // per_epoch - 1)
        if epoch < spec.warmup_epochs:
            return 1e-6 + epoch * (spec.lr - 1e-6) / spec.warmup_epochs
        return 1e-5 + 0.5 * (spec.lr - 1e-5) * (1 + math.cos(math.pi * epoch / spec.epochs))
    if step < warm:
        return low + (spec.lr - low) * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    return low + 0.5 * (spec.lr - low) * (1 + math.cos(math.pi * share))


def make_optimizer(fit: Fit, spec: RunSpec) -> torch.optim.Optimizer:
    """AdamW or SGD; vectors, prompts and norms are not decayed (no_decay), the head may have its own rate."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, p in fit.trainable.items():
        key = (no_decay(name, p), spec.head_lr_scale if name in fit.head else 1.0)
        groups.setdefault(key, []).append(p)
    listed = [{"params": ps, "weight_decay": 0.0 if bare else spec.weight_decay, "scale": scale}
              for (bare, scale), ps in groups.items()]
    if spec.optimizer == "sgd":
        return torch.optim.SGD(listed, lr=spec.lr, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(listed, lr=spec.lr, fused=True)


def set_train_mode(fit: Fit) -> None:
    """Train mode; a backbone that is only read stays in eval mode, so no DropPath or dropout acts inside it."""
    fit.model.train()
    if fit.adapter is not None and fit.adapter.frozen_backbone:
        for module in fit.model.modules():
            if not any(p.requires_grad for p in module.parameters()):
                module.eval()


def set_plain_attention(model: nn.Module) -> None:
    """softmax(q k') v spelled out, in place of the fused kernel."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]


@torch.no_grad()
def predict_plain(fit: Fit, batches: Batches) -> float:
    """Top-1 of the plain forward pass, in eval mode: for the training list, where nothing adapts."""
    was_training = fit.model.training
    fit.model.eval()
    right: list[Tensor] = [(fit.forward(b.x).argmax(1) == b.y).float() for b in batches.in_order()]
    fit.model.train(was_training)
    return float(torch.cat(right).mean())


def _content(pictures: Pictures) -> str:
    """Hash of the decoded training pixels and labels; empty where they are decoded on the fly."""
    from hashlib import sha256

    if pictures.pixels is None:
        return ""
    digest = sha256(pictures.pixels.tobytes())
    digest.update(pictures.labels.numpy().tobytes())
    return digest.hexdigest()
