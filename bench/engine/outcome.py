"""What a finished run leaves behind for its record, collected from what was built, trained and scored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import sha256

from torch import nn

from datasets import registry
from datasets.images import split_hash
from methods import compose
from methods.base import Adapter, Fit
from methods.weights import account
from results.schema import BackboneInfo, DatasetInfo, Memory, Params, RunSpec

from . import backbones
from .build import Built
from .course import Course
from .evaluate import Found
from .loaders import TuneData, normalisation
from .phases import Scores
from .pictures import Pictures


@dataclass
class Trained:
    """What one run leaves behind for the record."""

    spec: RunSpec
    model: nn.Module
    fit: Fit
    method: compose.Method
    predictions: dict[str, Found]  # by split
    metrics: dict[str, float | None]
    dataset: DatasetInfo
    backbone: BackboneInfo
    params: Params
    memory: Memory
    history: list[dict[str, float | None]]
    diagnostics: dict[str, float | None]
    seconds: dict[str, float]
    train_images_per_s: float | None
    eval_images_per_s: float | None
    test_passes: int
    items_hash: dict[str, str]


def collect(run: Built, course: Course, data: TuneData, scores: Scores, seconds: dict[str, float]) -> Trained:
    """The run as its record will tell it; `seconds` by stage."""
    images = max(1, run.fit.step - 1) * run.batches.batch_size
    return Trained(
        spec=run.spec, model=run.fit.model, fit=run.fit, method=run.method, predictions=scores.predictions,
        metrics=scores.metrics, dataset=dataset_of(run, data, scores), backbone=backbone_of(run),
        params=params_of(run.method.adapter, run.fit.model, run.backbone_sizes), memory=Memory(**course.memory),
        history=course.history, diagnostics=_diagnostics(run, course, scores), seconds=seconds,
        train_images_per_s=images / course.counted_s if course.counted_s > 0 else None,
        eval_images_per_s=scores.images_per_s, test_passes=data.test_passes, items_hash=scores.hashes)


def dataset_of(run: Built, data: TuneData, scores: Scores) -> DatasetInfo:
    """The data as this run saw them."""
    card, own = run.card, next(iter(scores.predictions))
    return DatasetInfo(
        classes=card.classes, train=len(run.train_pictures), holdout=len(run.held) if run.held else 0,
        val=len(data.val) if data.val else None, test=None if own == "val" else len(scores.predictions[own].pred),
        split_hash=split_hash(data.train.items, run.where.data_root), content_hash=content_hash(data.train),
        title=card.title, group=card.group, metric=card.metric, standin=run.spec.standin,
        class_names=card.class_names, origin=registry.origin(card.name), left_out=int(card.facts.get("left_out", 0)))


def backbone_of(run: Built) -> BackboneInfo:
    """The backbone as this run had it."""
    spec = run.spec
    mean, std = normalisation(spec, (run.backbone.mean, run.backbone.std))
    return BackboneInfo(params=sum(run.backbone_sizes.values()),
                        weights_sha256=None if spec.weights == "random" else spec.weights,
                        family=backbones.family(spec.model), image_size=spec.image_size, mean=mean, std=std,
                        adjusted=run.backbone.adjusted)


def _diagnostics(run: Built, course: Course, scores: Scores) -> dict[str, float | None]:
    """What is told beside the metrics: how far the weights went, and what the parts say of themselves."""
    fit, own = run.fit, next(iter(scores.predictions))
    far = math.sqrt(sum(float((fit.trainable[n].detach() - a).square().sum()) for n, a in fit.anchor.items()
                        if n in fit.trainable))
    ends = scores.metrics.get("train.top1"), scores.metrics.get(f"{own}.top1")
    gap = {"train_test_gap": (ends[0] or 0.0) - (ends[1] or 0.0)} if f"{own}.top1" in scores.metrics else {}
    cut = {"cut_share": run.train_pictures.cut / len(run.train_pictures)} if run.spec.text_length else {}
    return ({"distance_from_pretrained": far if fit.anchor else None, "grad_norm": float(course.grad_norm)}
            | gap | cut
            | {f"report.{k}": v for k, v in report_of(run.method).items()}
            | run.compiling.report() | run.splits.report())


def report_of(method: compose.Method) -> dict[str, float]:
    """What the parts say of themselves after training, as `wise.alpha_0.50`."""
    return {f"{one.name}.{k}": v for one in method.parts for k, v in one.report().items()}  # type: ignore[attr-defined]


def content_hash(pictures: Pictures) -> str:
    """Hash of the decoded training pixels and labels; empty where they are decoded on the fly."""
    if pictures.pixels is None:
        return ""
    digest = sha256(pictures.pixels.tobytes())
    digest.update(pictures.labels.numpy().tobytes())
    if pictures.texts is not None:
        digest.update(pictures.texts.tobytes())
    return digest.hexdigest()


def params_of(adapter: Adapter, model: nn.Module, backbone_sizes: dict[int, int]) -> Params:
    """Weights of the live model, the head apart."""
    counted = account(adapter, model, backbone_sizes)
    trained = counted.trained_adapter + counted.trained_head + counted.trained_backbone
    return Params(total=counted.total, trained=trained, trained_adapter=counted.trained_adapter,
                  trained_head=counted.trained_head, trained_backbone=counted.trained_backbone,
                  extra_inference=counted.extra, extra_inference_merged=counted.extra_merged, stored_bytes=None)
