"""The card of an exported folder, its README.md: what it is, its numbers, how it was made, how to load it, licences.

The head of the page is what a hub reads: tags, licence, and the numbers as `model-index`.
"""

from __future__ import annotations

import math
from typing import Any

import yaml

from datasets import registry
from datasets.card import DataError
from results import aside
from results.schema import RunResult
from results.spoken import many

from ..engine.stored import Stored
from ..engine.transforms import evaluation
from ..planning.again import again
from .plain import Plain

Z = 1.959963984540054  # the normal quantile of a two-sided interval of 95 %
CARRIED = {"peft": "an adapter for Hugging Face's peft", "timm": "a plain timm checkpoint, with the adapter folded in",
           "state-dict": "all tensors of the adapted model, and its computation as torch exports it"}


def written(stored: Stored, plain: Plain, kind: str, code: str, far: float) -> str:
    """The page. `code` loads the folder; `far` is how far its logits were from the run's when it was written."""
    record = stored.record
    spec, dataset = record.spec, record.dataset
    assert dataset is not None
    notes = [f"{spec.model} was adapted by `{record.method.text}` to {dataset.title or spec.dataset} "
             f"({many(dataset.classes, 'class', 'classes')}, {many(dataset.train, 'training image')}). This "
             f"folder is {CARRIED[kind]}.", ""]
    if spec.standin:
        notes += ["**The images are generated stand-ins, not the real data set of this name.**", ""]
    if lacking := aside.told(record):
        notes += [f"**{lacking}.**", ""]
    if stored.adapts:
        notes += ["**The run's own numbers come from weights that adapt to the test images while they are read; what "
                  "is here does not adapt, so it predicts otherwise.**", ""]
    return "\n".join([
        "---", yaml.safe_dump(_head(record, kind), sort_keys=False).strip(), "---", "",
        f"# {record.method.text} on {spec.dataset}", "", *notes,
        "## How to load it", "", "```python", code.strip(), "```", "",
        f"Its logits were compared with the run's when it was written: they differ by {far:.1e} at most. The code runs "
        "in this folder.", "", *_pictures(stored),
        "## Numbers", "", *_numbers(record), "", "## How it was made", "", *_made(record), "",
        "## Licences", "", f"- the backbone's weights: {plain.licence}", f"- the data: {_data_licence(spec.dataset)}",
        "- what was trained here: the rights of both hold for it", ""])


def evaluation_yaml(record: RunResult) -> str:
    """The numbers alone, as the head of a model's page on a hub holds them (`model-index`)."""
    return yaml.safe_dump(_index(record), sort_keys=False)


def _head(record: RunResult, kind: str) -> dict[str, Any]:
    library = {"peft": "peft", "timm": "timm", "state-dict": "pytorch"}[kind]
    return {"library_name": library, "tags": ["image-classification", "regatta"], **_index(record)}


def _index(record: RunResult) -> dict[str, Any]:
    spec, dataset = record.spec, record.dataset
    assert dataset is not None
    title = (dataset.title or spec.dataset) + (" (generated stand-in)" if spec.standin else
                                               " (partial data)" if spec.partial else "")
    found = []
    for key, kind, name in (("top1", "accuracy", "top-1"), ("class_mean", "accuracy", "mean per class"),
                            ("macro_f1", "f1", "macro F1"), ("ece", "expected-calibration-error", "ECE")):
        value = record.metrics.get(f"test.{key}")
        if value is not None:
            interval = _interval(record) if key == "top1" else None
            found.append({"type": kind, "name": name, "value": round(value, 6)} | (
                {"args": {"interval_95": [round(v, 6) for v in interval]}} if interval else {}))
    name = f"{record.method.text} on {spec.model}, run {record.run_id} of Regatta"
    return {"model-index": [{"name": name, "results": [{
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"name": title, "type": spec.dataset, "split": "test"}, "metrics": found}]}]}


def _interval(record: RunResult) -> tuple[float, float] | None:
    """Wilson's interval of the top-1 over test images, 95 %; it says nothing of other seeds."""
    share, n = record.metrics.get("test.top1"), record.metrics.get("test.n")
    if share is None or not n:
        return None
    middle, spread = share + Z * Z / (2 * n), Z * math.sqrt(share * (1 - share) / n + (Z / (2 * n)) ** 2)
    return max(0.0, (middle - spread) / (1 + Z * Z / n)), min(1.0, (middle + spread) / (1 + Z * Z / n))


def _numbers(record: RunResult) -> list[str]:
    told, metrics = [], record.metrics
    top1, interval = metrics.get("test.top1"), _interval(record)
    if top1 is not None and interval is not None:
        told.append(f"- test top-1 {100 * top1:.2f} %, 95 % interval {100 * interval[0]:.2f} to "
                    f"{100 * interval[1]:.2f} % over {many(int(metrics['test.n'] or 0), 'test image')}; one seed "
                    f"({record.spec.seed}), so what another seed would give is not in the interval")
    for key, name in (("class_mean", "mean per class"), ("macro_f1", "macro F1")):
        if (value := metrics.get(f"test.{key}")) is not None:
            told.append(f"- {name} {100 * value:.2f} %")
    if (value := metrics.get("test.majority")) is not None:
        told.append(f"- the best constant answer scores {100 * value:.2f} %")
    if record.params is not None:
        told.append(f"- {record.params.trained:,} of {record.params.total:,} weights are trained, "
                    f"{record.params.trained_head:,} of them in the head")
    return told


def _made(record: RunResult) -> list[str]:
    spec, how = record.spec, again(record)
    told = [f"- {many(spec.epochs, 'epoch')}, batch {spec.batch_size}, {spec.optimizer}, learning rate {spec.lr:g}, "
            f"weight decay {spec.weight_decay:g}, {spec.schedule}, {spec.precision}, seed {spec.seed}",
            f"- backbone {spec.model}, weights {spec.weights[:12]}; method {record.method.text}"]
    told += [f"- our reading: {record.method.ours}"] if record.method.ours else []
    told += [f"- run {record.run_id} of Regatta at commit {record.provenance.commit[:12]}"
             + (" with changes that were not committed" if record.provenance.dirty else "")]
    return told + ([f"- again: `{how.command}`"] if how.command else [f"- {word}" for word in how.told])


def _pictures(stored: Stored) -> list[str]:
    """What the model expects, and what its answers mean."""
    spec, facts = stored.record.spec, stored.record.backbone
    assert facts is not None
    how = {"none": f"an RGB image is stretched to {spec.image_size} x {spec.image_size} pixels (Pillow, bicubic)"}.get(
        evaluation(spec.augment), f"the shorter side to {round(spec.image_size * 256 / 224)} pixels "
        f"({'bilinear' if 'bilinear' in spec.augment or spec.augment == 'resized_crop_flip' else 'bicubic'}), then the "
        f"centre of {spec.image_size} x {spec.image_size}")
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (facts.mean, facts.std))
    names = stored.names
    told = [f"Pixels: {how}, divided by 255, minus the mean ({mean}), over ({std})."]
    told += ["Classes: " + ", ".join(f"{i} {name}" for i, name in enumerate(names)) + "."] if names else [
        "Classes: by number, as their names are not known."]
    return [*told, ""]


def _data_licence(name: str) -> str:
    try:
        return registry.get(name).license or "not known"
    except DataError:
        return "not known here"
