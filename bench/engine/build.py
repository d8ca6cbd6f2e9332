"""What a run is built of before its first step: method, backbone, model, batches, held-out images, optimizer.

Nothing here is kept by a checkpoint: it follows from the spec and its seed, and a run that goes on is built anew. The
order of the lines is part of every result, for building draws from the seed's random streams.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from datasets.card import Card
from methods import compose
from methods.base import Fit
from methods.batch_norm import set_mode
from methods.grammar import MethodError
from methods.pair import Both, Towers
from methods.triplet import asked
from methods.vit import head_names
from results.schema import RunSpec
from results.spoken import many, word

from . import backbones, forms, heads, zeroshot
from .compiling import Steps
from .course import set_plain_attention
from .evaluate import Splits
from .feeding import Normaliser
from .firstlook import FirstLook, TwoLooks
from .holdout import as_scored, hold_out
from .loaders import Batches, Endless, TuneData, normalisation
from .optim import make_optimizer, warmup_steps
from .precision import settle
from .projected import put_in, start
from .seeds import seed_all
from .tokens import Couples, Tokens
from .where import Where


def settle_torch(spec: RunSpec, where: Where) -> torch.device:
    """Threads, precision and determinism of this process, as the run wants them; its device.

    Raises MethodError where the device has not the precision.
    """
    device = torch.device(where.device)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # so that what names no GPU means this one
    torch.set_num_threads(spec.threads)
    if where.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts, which is later
        torch.backends.cudnn.benchmark = False
    settle(spec.precision, device)
    torch.use_deterministic_algorithms(True, warn_only=not where.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # 3 % of a step
    return device


class Built:
    """One run, ready for its first step. Raises MethodError where the method does not fit the spec or the backbone.

    `prepare` false leaves out what a method does once before training, and the look at what it has built.
    """

    def __init__(self, spec: RunSpec, card: Card, where: Where, data: TuneData, prepare: bool = True) -> None:
        self.spec, self.card, self.where, self.device = spec, card, where, torch.device(where.device)
        self.method = compose.from_spec(spec.method, spec.options)
        self.task = asked(card.task, spec.loss)
        forms.check_input(self.method.text, backbones.family(spec.model), card, backbones.decodes(spec.model))
        forms.check_settings(backbones.family(spec.model), vars(spec), card)
        forms.check(self.method.text, backbones.family(spec.model), spec.class_query, spec.merged_eval, spec.compiled,
                    spec.eval_batch_size)
        if spec.until and (spec.phase != "tune" or spec.until >= spec.epochs):
            raise MethodError(f"until={spec.until} of {many(spec.epochs, 'epoch')} in phase {spec.phase!r}; only a "
                              "search on validation stops a run before its end")
        if wrong := forms.normed(self.method.text, backbones.family(spec.model), spec.batch_norm):
            raise MethodError(wrong)
        seed_all(spec.seed, "init")
        self.backbone = backbones.load(spec.model, backbones.Weights(where.weights_file, spec.weights), spec.drop_path,
                                       spec.image_size)
        self.start_head = zeroshot.of(spec.zero_shot, where.head_file) if spec.zero_shot else None
        if self.start_head is not None:
            put_in(self.backbone.model, self.start_head, spec.model)
        pretrained = {id(p): p for p in self.backbone.model.parameters()}
        self.backbone_sizes = {key: p.numel() for key, p in pretrained.items()}
        model = self._model(prepare)
        self._images(data)
        self.fit = self._fit(model, pretrained)
        seed_all(spec.seed, "prepare")
        if prepare:
            once = self.train_pictures if self.held is None else as_scored(self.train_pictures, spec)
            self.method.prepare(self.fit, Batches(once, self.normalise, spec.batch_size, spec.seed).in_order())
        if spec.precision == "bf16" and not spec.merged_eval:  # merging wants the weights unrounded
            forms.store_frozen_in_bf16(model)
        self.method.attach(self.fit)
        self.optimizer = make_optimizer(self.fit, spec)
        self.compiling = Steps(self.fit, spec, len(self.train_pictures), where.cache_root)
        self.splits = Splits(self.fit, spec, self.normalise)

    def _model(self, check: bool) -> nn.Module:
        """What the adapter makes of the backbone, on the device."""
        backbone = self.backbone.model
        if self.spec.attention == "plain":
            set_plain_attention(backbone)
        self.first_look = self._look(backbone)
        model = self.first_look.built(backbone, self.task.outputs(self.card.classes), check=check)
        if self.spec.head_seed is not None:
            heads.start_from(model, self.spec.head_seed)
        if self.start_head is not None:
            start(model, self.start_head)
        model = model.to(self.device)
        set_mode(model, self.spec.batch_norm)
        if self.spec.class_query:
            forms.use_class_query(model)
        return model

    def _look(self, backbone: nn.Module) -> FirstLook:
        """What looks at what is built; two towers have each their own adapter."""
        spec = self.spec
        if not isinstance(backbone, Towers):
            return FirstLook(self.method.adapter, backbone, spec.image_size, spec.text_length)
        both = Both(self.method.adapter)
        self.method.adapter = both
        return TwoLooks(both, backbone, spec.image_size, spec.text_length)

    def _images(self, data: TuneData) -> None:
        """What is trained on and what is kept aside, in batches."""
        spec = self.spec
        mean, std = normalisation(spec, (self.backbone.mean, self.backbone.std))
        self.normalise: Normaliser | Tokens | Couples = (
            Couples(Normaliser(mean, std, self.device)) if self.card.input == "pair" else
            Tokens(self.device) if spec.text_length else Normaliser(mean, std, self.device))
        self.train_pictures, self.held = hold_out(data.train, spec, self.method.wants_holdout)
        self.batches = Batches(self.train_pictures, self.normalise, spec.batch_size, spec.seed, spec.drop_last)
        self.holdout: Endless | None = None
        if self.held is not None:
            size = self.method.holdout_batch(spec.batch_size)
            self.holdout = Batches(self.held, self.normalise, size, spec.seed).endless()
        if not len(self.batches):
            raise MethodError(f"{many(len(self.train_pictures), 'training image')} "
                              f"{word(len(self.train_pictures), 'gives', 'give')} no batch of {spec.batch_size} with "
                              "drop_last; lower the batch size")

    def _fit(self, model: nn.Module, pretrained: Mapping[int, Tensor]) -> Fit:
        """What the parts of a method are shown; `pretrained` has the backbone's tensors by identity."""
        spec, adapter, per_epoch = self.spec, self.method.adapter, len(self.batches)
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        head = head_names(model) & trainable.keys()
        anchor = {n: p.detach().clone() for n, p in trainable.items()
                  if (self.start_head is not None if n in head else id(p) in pretrained)}
        return Fit(
            model=model, trainable=trainable, head=head,
            anchor=anchor | {n: a.to(self.device) for n, a in adapter.anchors(model).items()},
            holdout=self.holdout or iter(()), steps=spec.epochs * per_epoch, steps_per_epoch=per_epoch,
            warmup_steps=warmup_steps(spec, per_epoch), seed=spec.seed, classes=self.task.outputs(self.card.classes),
            train_size=len(self.train_pictures), mean=self.normalise.mean, std=self.normalise.std, lr=spec.lr,
            weight_decay=spec.weight_decay, label_smoothing=spec.label_smoothing, precision=self._precision(),
            adapter=adapter, image_size=spec.image_size, task=self.task)

    def _precision(self) -> Callable[[], AbstractContextManager[Any]]:
        """What a forward pass runs in."""
        if self.spec.precision != "bf16":
            return nullcontext
        return partial(torch.autocast, self.device.type, torch.bfloat16)

    def judged(self) -> Fit:
        """What predicts: the model, or its merged form."""
        return forms.merged(self.fit) if self.spec.merged_eval else self.fit
