"""A finished run's model again, from its record and its stored weights alone: to be asked about images or texts, or
exported.

Building draws from the seed's random streams in the order of `build`, so that what a method draws and does not store
is the same. What a regularizer or constraint does while training is over; a model that would move its weights at test
(`adapts`) is given as it was stored.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods import compose, weights
from methods.pair import WIDTH
from methods.weights import Header, StoredError, merged_copy
from results import evidence, store
from results.schema import Artifact, RunResult

from . import backbones, forms, zeroshot
from .course import set_plain_attention
from .evaluate import adapts
from .feeding import Normaliser
from .firstlook import built
from .projected import put_in
from .seeds import seed_all
from .tokens import Tokens


@dataclass(frozen=True)
class Stored:
    """A run that can be asked. `model` is in eval mode with every adapter in its place."""

    record: RunResult
    header: Header
    method: compose.Method
    model: nn.Module
    plain: backbones.Weights  # of the backbone

    @property
    def adapts(self) -> bool:
        """Whether the run's own predictions came from weights that moved while it read the test images."""
        return adapts(self.method)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names by label, as far as the run knows them; empty otherwise."""
        return self.header.class_names or self.record.dataset.class_names  # type: ignore[union-attr]

    def asked(self, device: str = "cpu") -> Callable[[Tensor], Tensor]:
        """(B, 3, S, S) uint8, or (B, L) token numbers -> (B, C) logits, as the run was scored."""
        spec, facts = self.record.spec, self.record.backbone
        assert facts is not None
        place = torch.device(device)
        model = (merged_copy(self.method.adapter, self.model) if spec.merged_eval else self.model).to(place)
        normalise = Tokens(place) if spec.text_length else Normaliser(facts.mean, facts.std, place)

        def logits(raw: Tensor) -> Tensor:
            precision: AbstractContextManager[Any] = nullcontext()
            if spec.precision == "bf16":
                precision = torch.autocast(place.type, torch.bfloat16)
            with torch.inference_mode(), precision:
                return partial(model)(normalise(raw)).float()

        return logits


def open_run(path: Path, file: Path | None = None, texts: bool = False, head: Path | None = None) -> Stored:
    """The run of the record at `path`; `file` has the backbone's weights where timm's cache does not, `head` is the
    file of class embeddings that its head started from, if it did.

    `texts`: it must be one that reads texts, else images. Raises StoredError where the run stored no weights, or its
    files are others; BackboneError, MethodError and RecordError as usual.
    """
    record = _finished(path)
    if why := _unasked(record, texts):
        raise StoredError(f"run {record.run_id} {why}")
    if head is not None and not record.spec.zero_shot:
        raise StoredError(f"the head of run {record.run_id} did not start from class embeddings; leave --head out")
    return _opened(path, record, file, record.dataset.classes, head)  # type: ignore[union-attr]


def open_pair(path: Path, file: Path | None = None) -> Stored:
    """A run on pictures with captions, both its towers; `file` as with `open_run`. Raises StoredError, ..."""
    record = _finished(path)
    if backbones.family(record.spec.model) != backbones.PAIR:
        raise StoredError(f"run {record.run_id} has no text tower beside one for pictures; name a run on a pair, as "
                          f"{backbones.DISTILLED}:{backbones.EMBEDDED_TEXT}")
    return _opened(path, record, file, WIDTH)


def _finished(path: Path) -> RunResult:
    record = store.load(path)
    if record.status != "ok" or record.spec.phase != "final" or record.dataset is None or record.backbone is None:
        raise StoredError(f"run {record.run_id} is {record.status}, phase {record.spec.phase}; only a finished final "
                          "run has weights to load")
    return record


def _opened(path: Path, record: RunResult, file: Path | None, outputs: int, head: Path | None = None) -> Stored:
    """The model with its stored weights; `outputs` of its head, or of each of two."""
    spec, adapter = record.spec, _adapter(path, record)
    plain = backbones.find_weights(spec.model, file, spec.weights == "random")
    if plain.sha256 != spec.weights:
        raise StoredError(f"the weights of {spec.model} on this machine are others than those of run {record.run_id}, "
                          f"which have the sha256 {spec.weights[:12]}; give its file with --weights")
    method = compose.from_spec(spec.method, spec.options)
    seed_all(spec.seed, "init")
    backbone = backbones.load(spec.model, plain, spec.drop_path, spec.image_size)
    if spec.attention == "plain":
        set_plain_attention(backbone.model)
    if spec.zero_shot:
        put_in(backbone.model, zeroshot.of(spec.zero_shot, head), spec.model)
    model = built(method.adapter, backbone.model, outputs)
    if spec.class_query:
        forms.use_class_query(model)
    header = weights.load(path.with_name(adapter.path), model, backbone=spec.model, backbone_hash=spec.weights,
                          method=method.text.text(full=True))
    return Stored(record, header, method, model.eval(), plain)


def _unasked(record: RunResult, texts: bool) -> str:
    """Why a run is not asked about texts, or about images; or nothing."""
    spec = record.spec
    if bool(spec.text_length) != texts:
        return "reads images; name files, without --texts" if texts else \
            "reads texts; `predict RUN --texts FILE` asks it, and `export` knows images alone"
    if not texts:
        return ""
    if spec.image_size or backbones.decodes(spec.model) or "test.mse" in record.metrics:
        return "answers with no class of a text by itself: runs on pairs, with T5's decoder or to a score are not asked"
    return ""


def _adapter(path: Path, record: RunResult) -> Artifact:
    """The stored weights' entry in the record, after their hash. Raises StoredError."""
    found = next((a for a in record.artifacts if a.kind == "adapter"), None)
    if found is None:
        raise StoredError(f"run {record.run_id} stored no weights; the same words with `--keep-weights all` store them")
    try:
        evidence.stored(path.parent, found.path, found.sha256)
    except evidence.PredictionError as error:
        if not path.with_name(found.path).exists():
            raise StoredError(f"run {record.run_id} has no stored weights here: {found.path} is not beside its record "
                              "(published runs come without theirs)") from None
        raise StoredError(f"{found.path} {error}") from None
    return found
