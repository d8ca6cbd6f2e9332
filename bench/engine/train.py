"""The only training loop. It knows the step protocol and no method's name.

    build     adapter.build(backbone, classes)                     once
    attach    every regularizer, every constraint                  once
    step      zero -> grads -> clip -> optimizer -> schedule -> after_step
    finish    every constraint, with a validation callback         once
    predict   each batch of the split that the phase may see       once

A killed run goes on from its last checkpoint: everything before the first step is done anew (it follows from the
seed), then weights, optimizer, parts, random streams and the position are put back.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datasets import registry
from datasets.card import Card
from datasets.images import split_hash
from datasets.shift import masks
from methods import compose, weights
from methods.base import Batch, Fit
from methods.grammar import MethodError
from methods.vit import head_names
from results.schema import BackboneInfo, DatasetInfo, Memory, RunSpec, Status

from . import backbones, forms, meter
from .cache import ImageCache
from .checkpoint import STOP, Checkpoints, Interrupted, random_state, restore_random, restore_weights, weights_of
from .compiling import Steps
from .course import (
    Course,
    Diverged,
    Timer,
    Trained,
    content_hash,
    params_of,
    probes,
    report_of,
    set_plain_attention,
    set_train_mode,
)
from .evaluate import Predictions, Splits, adapts, metrics_of, predict, predict_among
from .feeding import Normaliser
from .firstlook import FirstLook
from .loaders import Batches, Endless, Pictures, TuneData, as_scored, hold_out, normalisation, open_data, stratified
from .optim import learning_rate, make_optimizer, warmup_steps
from .prefix import open_prefix, serving
from .seeds import seed_all
from .where import Where

PLAIN = "noadapt"  # a split scored once more without test-time adaptation
LOOKS = 20  # at most so many looks at a split along the way, evenly spread, the last epoch always among them


class Session:
    """One run from its spec: `build`, `train`, `score`, each callable once, in this order."""

    def __init__(self, spec: RunSpec, card: Card, where: Where, saver: Checkpoints | None = None) -> None:
        self.spec, self.card, self.where, self.saver = spec, card, where, saver
        self.seconds: dict[str, float] = {}
        self.stage, self.step = "data", 0
        self.course = Course()
        self.deadline = time.monotonic() + where.time_limit_s if where.time_limit_s else math.inf
        self.device = torch.device(where.device)
        torch.set_num_threads(spec.threads)
        if where.deterministic and self.device.type == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts, which is later
            torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=not where.deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # 3 % of a step

    def run(self, progress: Callable[[int, int], None] | None = None) -> Trained:
        """Everything; `progress(step, steps)` is called after each step."""
        with self._timed("data"):
            data = open_data(self.card, self.where.data_root, self.spec, ImageCache(self.where.cache_root))
        self.stage = "build"
        with self._timed("build"):
            self._build(data)
        self.stage = "train"
        self._resume(data)
        with self._timed("train"):
            self._train(data, progress or (lambda step, steps: None))
        self.seconds["train"] += self.course.train_s
        self.stage = "evaluate"
        data.finish_training()
        with self._timed("evaluate"):
            predictions, metrics, hashes = self._score(data)
            self._score_further(data, predictions, metrics, hashes)
        return self._collect(data, predictions, metrics, hashes)

    def test_again(self, stored: Path) -> tuple[Predictions, str]:
        """(predictions on test of weights that a finished run has stored, hash of the items); nothing is trained."""
        data = open_data(self.card, self.where.data_root, self.spec, ImageCache(self.where.cache_root))
        self._build(data, prepare=False)
        weights.load(stored, self.fit.model, backbone=self.spec.model, backbone_hash=self.spec.weights,
                     method=self.method.text.text(full=True))
        data.finish_training()
        predictions, _, hashes = self._score(data)
        return predictions["test"], hashes["test"]

    def _timed(self, name: str) -> AbstractContextManager[None]:
        return Timer(self.seconds, name, self.device)

    def _build(self, data: TuneData, prepare: bool = True) -> None:
        spec = self.spec
        self.method = compose.from_spec(spec.method, spec.options)
        forms.check(self.method.text, backbones.family(spec.model), spec.class_query, spec.merged_eval, spec.compiled,
                    spec.eval_batch_size)
        seed_all(spec.seed, "init")
        backbone = backbones.load(spec.model, backbones.Weights(self.where.weights_file, spec.weights), spec.drop_path)
        self.backbone = backbone
        pretrained = {id(p): p for p in backbone.model.parameters()}
        self.backbone_sizes = {key: p.numel() for key, p in pretrained.items()}
        if spec.attention == "plain":
            set_plain_attention(backbone.model)
        self.look = FirstLook(self.method.adapter, backbone.model, spec.image_size)
        model = self.look.built(backbone.model, self.card.classes, check=prepare).to(self.device)
        if spec.class_query:
            forms.use_class_query(model)
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        head = head_names(model) & trainable.keys()
        mean, std = normalisation(spec, (backbone.mean, backbone.std))
        self.normalise = Normaliser(mean, std, self.device)
        self.train_pictures, self.held = hold_out(data.train, spec, self.method.wants_holdout)
        self.batches = Batches(self.train_pictures, self.normalise, spec.batch_size, spec.seed, spec.drop_last)
        self.holdout: Endless | None = None
        if self.held is not None:
            size = self.method.holdout_batch(spec.batch_size)
            self.holdout = Batches(self.held, self.normalise, size, spec.seed).endless()
        per_epoch = len(self.batches)
        if not per_epoch:
            raise MethodError(f"{len(self.train_pictures)} training images give no batch of {spec.batch_size} with "
                              "drop_last; lower the batch size")
        self.fit = Fit(
            model=model, trainable=trainable, head=head,
            anchor={n: p.detach().clone() for n, p in trainable.items() if id(p) in pretrained and n not in head}
            | {n: a.to(self.device) for n, a in self.method.adapter.anchors(model).items()},
            holdout=self.holdout or iter(()), steps=spec.epochs * per_epoch, steps_per_epoch=per_epoch,
            warmup_steps=warmup_steps(spec, per_epoch), seed=spec.seed, classes=self.card.classes,
            train_size=len(self.train_pictures), mean=self.normalise.mean, std=self.normalise.std, lr=spec.lr,
            weight_decay=spec.weight_decay, label_smoothing=spec.label_smoothing,
            precision=self._precision, adapter=self.method.adapter)
        seed_all(spec.seed, "prepare")
        if prepare:
            once = self.train_pictures if self.held is None else as_scored(self.train_pictures, spec)
            self.method.prepare(self.fit, Batches(once, self.normalise, spec.batch_size, spec.seed).in_order())
        if spec.precision == "bf16" and not spec.merged_eval:  # merging wants the weights unrounded
            forms.store_frozen_in_bf16(model)
        self.method.attach(self.fit)
        self.optimizer = make_optimizer(self.fit, spec)
        self.compiling = Steps(self.fit, spec, len(self.train_pictures))
        self.splits = Splits(self.fit, spec, self.normalise)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.spec.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _train(self, data: TuneData, progress: Callable[[int, int], None]) -> None:
        fit, spec, at = self.fit, self.spec, self.course
        self.train_began = time.perf_counter()
        began = time.perf_counter()
        root = None if spec.compiled else self.where.cache_root  # a compiled model is entered at its beginning
        prefix = open_prefix(fit, root, self.train_pictures, self.normalise, spec)
        at.counted_s += time.perf_counter() - began if prefix is not None else 0.0  # storing is a part of training
        while at.epoch < spec.epochs:
            for batch in self.batches.epoch(at.epoch, at.batch, lazy=prefix is not None):
                started = time.perf_counter()
                with serving(prefix, batch):
                    loss = self._one_step(batch, first=fit.step == 0)
                if fit.step:  # the first step carries the meter's hooks and every lazy start
                    at.counted_s += time.perf_counter() - started
                if not math.isfinite(loss):
                    raise Diverged(fit.step)
                at.total += loss * len(batch.y)
                at.seen += len(batch.y)
                at.batch += 1
                fit.step += 1
                self.step = fit.step
                progress(fit.step, fit.steps)
                self._between_steps(data)
            at.history.append({"epoch": float(at.epoch + 1), "train.loss": at.total / at.seen,
                               "train.top1": at.right / max(1, at.judged),
                               "lr": self.optimizer.param_groups[0]["lr"]} | self._look(data))
            at.epoch, at.batch, at.seen, at.total, at.right, at.judged = at.epoch + 1, 0, 0, 0.0, 0, 0
            if self.saver is not None and at.epoch < spec.epochs and self.saver.due(at.epoch):
                self._save(data)
        self.compiling.close()
        if prefix is not None:
            prefix.close()
        if at.best_weights:
            restore_weights(fit.model, at.best_weights)
        if self.held is not None or self.method.constraints:
            self.method.finish(fit, self._validate)

    def _between_steps(self, data: TuneData) -> None:
        """Store where the run stands when it is time to, and stop when that is wanted."""
        stop: Status | None = STOP.wanted or ("timeout" if time.monotonic() > self.deadline else None)
        if self.saver is not None and (stop or self.saver.due()):
            self._save(data)
        if stop:
            raise Interrupted(stop, self.fit.step)

    def _save(self, data: TuneData) -> None:
        assert self.saver is not None
        course = dict(vars(self.course))
        course["train_s"] += time.perf_counter() - self.train_began
        course["passes"] = data.test_passes
        self.saver.save(self.fit.step, {
            "course": course, "weights": weights_of(self.fit.model), "optimizer": self.optimizer.state_dict(),
            "parts": self.method.state(), "random": random_state(),
            "holdout": self.holdout.position if self.holdout else 0})

    def _resume(self, data: TuneData) -> None:
        """Ready for the first step, or for the one after the last checkpoint."""
        set_train_mode(self.fit)
        seed_all(self.spec.seed, "train")
        state = self.saver.load(self.device) if self.saver is not None else None
        if self.saver is None or state is None:
            return
        restore_weights(self.fit.model, state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.method.restore(state["parts"])
        if self.holdout is not None:
            self.holdout.position = state["holdout"]
        self.course = Course(**state["course"])
        data.resume(self.course.passes)
        self.fit.step = self.step = self.saver.resumed_from
        restore_random(state["random"])

    def _look(self, data: TuneData) -> dict[str, float | None]:
        """After an epoch: what the phase may see along the way. Leaves no trace but the weights it keeps."""
        spec, at = self.spec, self.course
        if (spec.epochs - at.epoch - 1) % max(1, spec.epochs // LOOKS):
            return {}
        probed = self._probe(data.val)
        if not (spec.phase == "peek" or spec.select == "val"):
            return probed
        images = data.test() if spec.phase == "peek" else data.val
        if images is None:
            raise MethodError("select='val' keeps the best epoch on val; only phase 'tune' has a validation split")
        streams = random_state()
        top1 = self._top1(images)
        set_train_mode(self.fit)
        restore_random(streams)
        if spec.select == "val" and top1 > at.best:
            at.best, at.best_epoch = top1, at.epoch + 1
            at.best_weights = {n: t.clone() for n, t in weights_of(self.fit.model).items()}
        return {"peek.top1" if spec.phase == "peek" else "val.top1": top1} | probed

    def _probe(self, images: Pictures | None) -> dict[str, float | None]:
        """What the parts measure on a fixed, class-balanced validation batch of the training size; leaves no trace."""
        if images is None or not probes(self.method):
            return {}
        rows = stratified(images.labels, min(1.0, self.spec.batch_size / len(images)), seed=0)
        streams = random_state()
        self.fit.model.eval()
        found = self.method.probe(self.fit, Batches(images, self.normalise, len(rows), 0).batch(torch.tensor(rows), 0))
        set_train_mode(self.fit)
        restore_random(streams)
        return {f"probe.{k}": v for k, v in found.items()}

    def _top1(self, images: Pictures) -> float:
        found = predict(self.method, self._judged(), self.splits.of(images))
        return float((found.pred == found.label).mean())

    def _judged(self) -> Fit:
        """What predicts: the model, or its merged form."""
        return forms.merged(self.fit) if self.spec.merged_eval else self.fit

    def _one_step(self, batch: Batch, first: bool) -> float:
        fit, spec = self.fit, self.spec
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * learning_rate(spec, fit.step, fit.steps_per_epoch)
        self.optimizer.zero_grad(set_to_none=True)
        saved: int | None = None
        if first:
            with meter.saved_bytes(meter.fixed_tensors(fit.model)) as counted:
                terms = {k: v.detach() for k, v in self.method.grads(fit, batch).items()}
            self.look.after_backward(fit)
            saved = counted.peak
        else:
            self.compiling.before(batch)
            terms = self.method.grads(fit, batch)
        pred = terms["logits"].argmax(1)
        self.course.right += int((pred == batch.y[:len(pred)]).sum())
        self.course.judged += len(pred)
        if spec.clip:
            self.course.grad_norm = float(nn.utils.clip_grad_norm_(fit.trainable.values(), spec.clip))
        self.optimizer.step()
        if first:
            with meter.saved_bytes(meter.fixed_tensors(fit.model)) as counted:  # a constraint may run passes of its own
                self.method.after_step(fit)
            saved = max(saved or 0, counted.peak)
            self.course.memory = asdict(meter.ledger(fit.model, self.optimizer, saved, len(batch.y)))
        else:
            self.method.after_step(fit)
        return float(terms["loss"].detach())

    def _validate(self) -> float:
        """Top-1 on the holdout with the present weights: what a constraint may choose by."""
        if self.held is None:
            raise MethodError("a part asked for validation without asking for held-out images")
        return self._top1(self.held)

    def _score(self, data: TuneData) -> tuple[dict[str, Predictions], dict[str, float | None], dict[str, str]]:
        spec, found, hashes = self.spec, {}, {}
        metrics: dict[str, float | None] = {}
        # What was peeked at has its own name, so that nothing takes it for a result.
        split = {"tune": "val", "final": "test", "peek": "peek"}[spec.phase]
        pictures = {split: data.val if spec.phase == "tune" else data.test()}
        self.scored = sum(len(p) for p in pictures.values() if p is not None)
        for split, images in pictures.items():
            assert images is not None
            started = time.perf_counter()
            batches = self.splits.of(images)
            found[split] = predict(self.method, self._judged(), batches)
            self.eval_s = time.perf_counter() - started
            hashes[split] = split_hash(images.items, self.where.data_root)
            if adapts(self.method):  # the same weights on the same images as they are
                plain = f"{split}:{PLAIN}"
                found[plain] = predict(self.method, self.fit, batches, adapt=False)
                hashes[plain] = hashes[split]
        for name, predictions in found.items():
            metrics |= metrics_of(predictions, name)
        if self.course.history:
            metrics["train.top1"] = self.course.history[-1]["train.top1"]  # of the last epoch, as it went
        if spec.phase == "peek":
            looks = [(h["peek.top1"] or 0.0, -(h["epoch"] or 0.0)) for h in self.course.history if "peek.top1" in h]
            best, epoch = max(looks)  # the first epoch of equals
            metrics |= {"peek.best.top1": best, "peek.best.epoch": -epoch, "peek.looks": float(len(looks))}
        if spec.select == "val":
            metrics["val.best.epoch"] = float(self.course.best_epoch)
        return found, metrics, hashes

    def _score_further(self, data: TuneData, found: dict[str, Predictions], metrics: dict[str, float | None],
                       hashes: dict[str, str]) -> None:
        """The further test sets of phase `final`: each read once, with the same weights.

        A set that holds some of the classes alone is scored twice: among all classes, and as `<name>@<mask>` among
        those that it holds. The two are different benchmarks.
        """
        if self.spec.phase != "final":
            return
        for card in map(registry.get, self.spec.also_test):
            images = data.further(card)
            ways: dict[str, Sequence[int] | None] = {card.name: None}
            if "mask" in card.facts:
                ways[f"{card.name}@{card.facts['mask']}"] = masks()[card.facts["mask"]]
            batches = self.splits.of(images)
            scored = predict_among(self.method, self._judged(), batches, tuple(ways.values()))
            for name, predictions in zip(ways, scored, strict=True):
                found[f"test:{name}"] = predictions
                metrics |= metrics_of(predictions, f"test:{name}")
                hashes[f"test:{name}"] = split_hash(images.items, self.where.data_root)

    def _collect(self, data: TuneData, predictions: dict[str, Predictions], metrics: dict[str, float | None],
                 hashes: dict[str, str]) -> Trained:
        spec, fit, card = self.spec, self.fit, self.card
        steps = max(1, fit.steps - 1)
        images = steps * self.batches.batch_size
        own = next(iter(predictions))  # the data set's own split comes first
        scored, tested = metrics[f"{own}.top1"], None if own == "val" else len(predictions[own].pred)
        far = math.sqrt(sum(float((fit.trainable[n].detach() - a).square().sum()) for n, a in fit.anchor.items()
                            if n in fit.trainable))
        mean, std = normalisation(spec, (self.backbone.mean, self.backbone.std))
        return Trained(
            spec=spec, model=fit.model, fit=fit, method=self.method, predictions=predictions, metrics=metrics,
            dataset=DatasetInfo(
                classes=card.classes, train=len(self.train_pictures), holdout=len(self.held) if self.held else 0,
                val=len(data.val) if data.val else None, test=tested,
                split_hash=split_hash(data.train.items, self.where.data_root),
                content_hash=content_hash(data.train), title=card.title, group=card.group, metric=card.metric,
                standin=spec.standin),
            backbone=BackboneInfo(params=sum(self.backbone_sizes.values()),
                                  weights_sha256=None if spec.weights == "random" else spec.weights,
                                  family=backbones.family(spec.model), image_size=spec.image_size, mean=mean, std=std,
                                  adjusted=self.backbone.adjusted),
            params=params_of(self.method.adapter, fit.model, self.backbone_sizes),
            memory=Memory(**self.course.memory), history=self.course.history,
            diagnostics={"distance_from_pretrained": far if fit.anchor else None, "grad_norm": self.course.grad_norm,
                         "train_test_gap": (metrics["train.top1"] or 0.0) - (scored or 0.0)}
            | {f"report.{k}": v for k, v in report_of(self.method).items()}
            | self.compiling.report() | self.splits.report(),
            seconds=self.seconds,
            train_images_per_s=images / self.course.counted_s if self.course.counted_s > 0 else None,
            eval_images_per_s=self.scored / self.eval_s if self.eval_s > 0 else None,
            test_passes=data.test_passes, items_hash=hashes)
