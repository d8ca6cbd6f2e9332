"""A run told in words from its record: what was done, with what, what came of it, what it cost, where and how."""

from __future__ import annotations

from typing import Any

from results import aside, scores
from results.schema import RunResult
from results.spoken import many, thing, word

from . import sheet
from .sheet import Cell, Link
from .stats import wilson, z_value

CROPS = {"none": "stretched to", "crop_flip": "resized, cropped at random and flipped to",
         "crop_flip_bilinear": "resized (bilinear), cropped at random and flipped to",
         "resized_crop_flip": "cropped at a random size and place, and flipped, to",
         "resized_crop_90": "cropped lightly to"}
ENDS = {"ok": "It ended well.", "failed": "It failed.", "oom": "It ran out of memory.", "diverged": "Its loss was no "
        "number any more.", "timeout": "Its time was over.", "preempted": "It was preempted.",
        "cancelled": "It was cancelled."}


def told(run: RunResult, at: str, links: dict[str, Link]) -> str:
    """The page of a run; `links` lead to its suite, method and data set."""
    spec = run.spec
    title = f"{run.method.text} on {spec.dataset}, seed {spec.seed}"
    head: list[tuple[str, Cell]] = [*links.items(), ("run", run.run_id),
                                    ("cell, which its other seeds share", spec.cell_id)]
    options = [(name, str(value)) for name, value in spec.options]
    every = [(k, str(v)) for k, v in spec.written().items() if k not in ("options", "schema")]
    return sheet.page(at, title, [
        sheet.facts(at, head),
        sheet.section("What was done", *map(sheet.paragraph, _done(run))),
        sheet.section("What came of it", *map(sheet.paragraph, _result(run))),
        sheet.section("What it cost", sheet.listed(_cost(run))),
        sheet.section("Where, and by which code", sheet.listed(_where(run))),
        sheet.section("Options of the method", sheet.facts(at, options)),
        sheet.section("Everything that may change its numbers", sheet.facts(at, every))])


def _done(run: RunResult) -> list[str]:
    spec, data = run.spec, run.dataset
    one = thing(spec.image_size, spec.tokenizer)
    kind = f"generated stand-in {one}s of" if spec.standin else f"{one}s of"
    found = [f"{spec.model} was adapted by {run.method.text} to {kind} {(data.title if data else '') or spec.dataset}."]
    if data is not None:
        kept = f", {data.holdout:,} more {word(data.holdout, 'was', 'were')} held out" if data.holdout else ""
        classes = f" of {data.classes:,} {word(data.classes, 'class', 'classes')}" if data.classes else ""
        sizes = [f"{CROPS.get(spec.augment, spec.augment)} {spec.image_size} x {spec.image_size} pixels"
                 ] if spec.image_size else []
        sizes += [f"cut or padded to {many(spec.text_length, 'token')}"] if spec.text_length else []
        found[0] += (f" {data.train:,} {word(data.train, one)}{classes} {word(data.train, 'was', 'were')} trained "
                     f"on{kept}, each {', its text '.join(sizes)}.")
    if spec.combined:
        made = {"ensemble": "The probabilities of runs of a search were averaged, chosen on validation",
                "seeds": "The probabilities of all seeds were averaged"}.get(
                    spec.combined, f"The weights of several runs were averaged ({spec.combined})")
        found.append(f"{made}: {', '.join(spec.ingredients)}; the settings are those of the first of them.")
    found += [f"{lacking}."] if (lacking := aside.told(run)) else []
    bits = [f"{many(spec.epochs, 'epoch')} in batches of {spec.batch_size} by {spec.optimizer}, learning rate "
            f"{spec.lr:g} ({spec.schedule}), weight decay {spec.weight_decay:g}"]
    bits += [f"stopped after {spec.until} of them by its search"] if spec.until else []
    bits += [f"epochs of warm-up: {spec.warmup_epochs}"] if spec.warmup_epochs else []
    bits += [f"drop path {spec.drop_path:g}"] if spec.drop_path else []
    bits += [f"label smoothing {spec.label_smoothing:g}"] if spec.label_smoothing else []
    bits += [f"gradients clipped at {spec.clip:g}"] if spec.clip else []
    found.append(", ".join([*bits, spec.precision, f"seed {spec.seed}"]) + ".")
    weights = "its weights were drawn at random" if spec.weights == "random" else f"its weights {spec.weights[:12]}"
    found.append(f"The backbone: {weights}" + (f", {run.backbone.params:,} of them" if run.backbone else "") + ".")
    found += [f"Ours: {run.method.ours}."] if run.method.ours else []
    return found


def _result(run: RunResult) -> list[str]:
    found = [ENDS[run.status]]
    if run.failure is not None:
        step = f" at step {run.failure.step}" if run.failure.step is not None else ""
        found.append(f"While it was to {run.failure.stage}{step}: {run.failure.message}")
    split = "val" if run.spec.phase == "tune" else "test"
    top1, n = run.metrics.get(f"{split}.top1"), run.metrics.get(f"{split}.n")
    one = thing(run.spec.image_size, run.spec.tokenizer)
    found += _score(run, split, one)
    if top1 is not None and n:
        low, high = wilson(top1 * n, int(n))
        found.append(f"Top-1 on {split} {100 * top1:.2f} % of {int(n):,} {word(int(n), one)}; 95 % interval over "
                     f"{one}s {100 * low:.2f} to {100 * high:.2f} %, which says nothing of other seeds.")
    more = [(f"{split}.class_mean", "mean per class"), (f"{split}.macro_f1", "macro F1"), ("train.top1", f"on training "
            f"{one}s"), (f"{split}.majority", "the best constant answer"), (f"{split}.ece", "calibration error")]
    words = [f"{name} {100 * value:.2f} %" for key, name in more if (value := run.metrics.get(key)) is not None]
    found += [f"Also: {', '.join(words)}."] if words else []
    times = {1: "once"}.get(run.test_passes, f"{run.test_passes} times")
    found.append(f"The test {one}s were read {times}, in phase {run.spec.phase}.")
    if run.method.adapts_at_test:
        found.append(f"Its weights move while it reads test images ({run.method.adapts_at_test}).")
    return found


def _score(run: RunResult, split: str, one: str) -> list[str]:
    """A score that is no share of right answers, with an interval over items from its bootstrap."""
    score, error = run.metrics.get(f"{split}.score"), run.metrics.get(f"{split}.score_se")
    metric = run.dataset.metric if run.dataset is not None else ""
    if score is None or not scores.scored(metric):
        return []
    known = [f"{name.replace('_', ' ')} {100 * value:.2f}" for name in scores.PARTS[metric]
             if (value := run.metrics.get(f"{split}.{name}")) is not None]
    parts = f" ({', '.join(known)})" if len(known) > 1 else ""
    band = "" if error is None else (f"; 95 % interval over {one}s {100 * (score - z_value() * error):.2f} to "
                                     f"{100 * (score + z_value() * error):.2f}")
    return [f"{scores.NAMES[metric]} on {split}, in hundredths: {100 * score:.2f}{parts}{band}."]


def _cost(run: RunResult) -> list[str]:
    found, one = [], thing(run.spec.image_size, run.spec.tokenizer)
    if run.params is not None:
        p = run.params
        found.append(f"{p.trained:,} trained {word(p.trained, 'weight')} of {p.total:,}: {p.trained_adapter:,} of the "
                     f"adapter, {p.trained_head:,} of the head, {p.trained_backbone:,} of the backbone")
        if p.stored_bytes is not None:
            found.append(f"{p.stored_bytes:,} {word(p.stored_bytes, 'byte')} to store them")
    if run.memory is not None and run.memory.saved_bytes_per_image is not None:
        found.append(f"{run.memory.saved_bytes_per_image:,.0f} bytes kept for the backward pass, per {one}")
    if run.time.train_s is not None:
        found.append(f"{run.time.train_s:,.1f} s of training")
    if (rate := run.throughput.train_images_per_s) is not None:
        found.append(f"{rate:,.0f} training {word(round(rate), one)} a second ({run.throughput.source})")
    return found


def _where(run: RunResult) -> list[str]:
    made = run.provenance
    dirty = " with changes that were not committed" if made.dirty else ""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(made.versions.items()))
    found = [f"commit {made.commit[:12]}{dirty}, the method's files {run.method.source_hash}",
             f"{made.device}; {made.cpu}, {many(made.cores, 'core')}", versions,
             "deterministic operations alone" if made.deterministic else "operations without a deterministic form too",
             f"begun {made.started}"]
    tries = len(run.attempts)
    return [line for line in [*found, many(tries, "attempt") if tries > 1 else "", _typed(run.passed)] if line]


def _typed(passed: dict[str, Any]) -> str:
    return "typed: " + ", ".join(f"{k}={v}" for k, v in sorted(passed.items())) if passed else ""
