"""The record of a run: RunSpec (everything that may change the numbers, nothing that may not) and RunResult.

Units are in the names: `_bytes`, `_s`; fractions lie in [0, 1]; unknown is None, never 0 and never NaN.
A field that joins RunSpec must not rename the runs that exist: it goes into LATER with what those runs did. While a
spec holds that value, the field is neither hashed nor written, so that every spec has one spelling and keeps its id.
A field that joins another part of the record goes into `later_of`, and is left out likewise.
Anything else that changes in RunSpec changes every id: raise SCHEMA and ship the upgrade with a test.
"""

from __future__ import annotations

import json
import math
import types
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache, cached_property
from hashlib import sha256
from typing import Any, Literal

from . import ranges
from .parsing import parse

SCHEMA = 1
WHOLE = 2**53 - 1  # the largest whole number that anything may be given: JSON, doubles and tables hold it exactly
Scalar = str | int | float | bool | None
Status = Literal["ok", "failed", "oom", "diverged", "timeout", "preempted", "cancelled"]
Phase = Literal["tune", "final", "peek"]


# Fields that joined RunSpec -> what every run before them did.
LATER: dict[str, bool | int | str | tuple[str, ...] | None] = {
    "compiled": False, "decay": "matrices", "held_as": "train", "warmup_steps": 0, "head_seed": None,
    "batch_norm": "method", "until": 0, "combined": "", "ingredients": (), "text_length": 0, "tokenizer": "",
    "zero_shot": "", "loss": ""}


class RecordError(ValueError):
    """A record cannot be read; the message names the file and the field."""


@dataclass(frozen=True)
class RunSpec:
    """One run, fully resolved. `id` names it; `cell_id` names it without its seed."""

    dataset: str
    model: str  # backbone, timm's name.tag
    method: str  # canonical names alone: "lora+pace"
    options: tuple[tuple[str, Scalar], ...]  # resolved: (("lora.rank", 8), ("pace.sigma", 1.0), ...)
    seed: int
    epochs: int
    batch_size: int
    eval_batch_size: int
    lr: float
    weight_decay: float
    warmup_epochs: int
    image_size: int  # pixels on a side; 0 for texts
    augment: str  # "none", "crop_flip", "crop_flip_bilinear", "resized_crop_flip", "resized_crop_90"
    normalise: str  # "native" (the checkpoint's own), "peer" (ImageNet constants), "none" ([0, 1])
    precision: Literal["fp32", "bf16", "tf32"]  # tf32: float32 whose products a GPU's tensor cores round
    phase: Phase
    select: Literal["last", "val"]
    data: str  # hash of lists and files; "standin:<hash>" when generated, "partial:<hash>" when the card is broken
    weights: str  # sha256 of the backbone's file, or "random"
    optimizer: str  # "adamw", "sgd" (momentum 0.9, Nesterov's), "sgd_plain" (momentum 0.9)
    schedule: str  # "cosine" (per step, from and to 1 %), "cosine_zero" (per step, from and to 0), "cosine_epoch" (per
    # epoch, to 0), "cosine_timm" (per epoch, as the peers' code steps it), "linear" (per step, to 0), "constant"
    clip: float  # gradient norm; 0 for none
    drop_path: float
    head_lr_scale: float
    drop_last: bool
    attention: str  # kernel: "fused", "plain"
    threads: int  # on CPU it changes float sums
    holdout: float  # share of the training list kept aside when a part asks for it
    label_smoothing: float = 0.0
    class_query: bool = False  # last block computes the class token's query alone
    merged_eval: bool = False  # predictions come from the merged form
    fold: str = ""  # "2/5": cross-validation over the training list in phase tune
    also_test: tuple[str, ...] = ()  # further data sets scored with the same weights (distribution shift)
    compiled: bool | Literal["blocks", "graph"] = False  # training steps go through torch.compile, which orders float
    # sums in its own way: the whole model, or "blocks", one block for all; "graph": kernels replayed as a CUDA graph
    decay: str = "matrices"  # what weight decay shrinks: "matrices" (no vector, no prompt), "timm" (nor what timm's
    # no_weight_decay spares: class token, positions, ...), "all" trained weights
    held_as: str = "train"  # where training images are augmented, those held out are seen as in "train" or "evaluation"
    warmup_steps: int = 0  # warm-up for so many steps in place of epochs, at most a fifth of the run
    batch_norm: str = "method"  # in training: as the method has it, "eval" (stored statistics), "train"
    until: int = 0  # phase tune: stop after so many of the epochs, on the schedule of them all; 0: to the end
    combined: str = ""  # of several runs: "ensemble", "seeds" (means of probabilities), "soup_uniform", "soup_greedy",
    # "model_stock" (means of weights); the settings are those of the first ingredient
    ingredients: tuple[str, ...] = ()  # of a combination: "<times>*<run id>", in the order of their runs' choice
    text_length: int = 0  # tokens of a text, which is cut or padded to them; 0: the run is on images
    tokenizer: str = ""  # of texts: 12 hex digits of the hash of tokenizer.json
    loss: str = ""  # of pictures with captions: "triplet" (VSE-infinity's hinge); empty: the task's own
    head_seed: int | None = None  # where the new head starts, whatever the run's seed; None: it follows from that
    zero_shot: str = ""  # the head starts from embeddings of class names: 12 hex digits of their file's hash
    schema: int = SCHEMA

    @cached_property
    def id(self) -> str:
        """12 hex digits of sha256 over sorted, compact JSON."""
        return _hash(self.written())

    @cached_property
    def cell_id(self) -> str:
        """The id without the seed: runs of one cell differ in nothing else."""
        return _hash({k: v for k, v in self.written().items() if k != "seed"})

    @property
    def protocol_id(self) -> str:
        """What rows of one table must share: everything but data set, method, seed, and what tuning may choose."""
        free = {"dataset", "method", "options", "seed", "data", "lr", "weight_decay", "head_lr_scale", "holdout",
                "held_as", "ingredients", "text_length"}
        return _hash({k: v for k, v in self.written().items() if k not in free})

    def written(self) -> dict[str, Any]:
        """What is hashed and written: every field, without the later ones that hold their first value."""
        values = {name: getattr(self, name) for name in _SPEC_FIELDS}
        return {name: value for name, value in values.items()
                if name not in LATER or (type(value), value) != (type(LATER[name]), LATER[name])}

    @property
    def standin(self) -> bool:
        return self.data.startswith("standin:")

    @property
    def partial(self) -> bool:
        """Real data that are not what their card promises (`--partial`): marked wherever they are shown."""
        return self.data.startswith("partial:")


_SPEC_FIELDS = tuple(f.name for f in fields(RunSpec))


@dataclass(frozen=True)
class Failure:
    """Why a run did not end well. `kind` groups failures: data, memory, code, numbers, killed, node."""

    kind: str
    message: str
    stage: str  # data, build, train, evaluate, store
    step: int | None = None
    traceback: str = ""  # its tail; paths relative to the checkout


@dataclass(frozen=True)
class Attempt:
    start: str  # UTC, ISO 8601
    end: str | None
    reason: str  # ok, or why it ended
    resumed_from_step: int = 0
    job: str | None = None  # SLURM job id


@dataclass(frozen=True)
class DatasetInfo:
    classes: int
    train: int  # images trained on (holdout taken away)
    holdout: int
    val: int | None  # None when the phase does not look at it
    test: int | None
    split_hash: str
    content_hash: str
    title: str = ""
    group: str = ""
    metric: str = "top1"
    standin: bool = False
    class_names: tuple[str, ...] = ()  # by label, where the card knows them
    origin: str = ""  # of a card from a folder outside the checkout: the folder's last name, the hash of its file
    left_out: int = 0  # images of a user's folder that could not be read and were left aside (`--partial`)


@dataclass(frozen=True)
class BackboneInfo:
    params: int
    weights_sha256: str | None
    family: str
    image_size: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    adjusted: str = ""  # what was done to the file's weights before they fitted, as "positions 196 -> 576"


@dataclass(frozen=True)
class MethodInfo:
    text: str  # with the options that differ from the defaults
    source_hash: str  # of its files
    ours: str = ""  # what is our reading or our own choice
    adapts_at_test: str = ""  # "", "episodic", "online"
    origin: dict[str, str] = field(default_factory=dict)  # part from a folder outside the checkout -> that folder's
    # last name, and the hash of the part's source


@dataclass(frozen=True)
class Params:
    total: int  # of the model as trained
    trained: int
    trained_adapter: int
    trained_head: int
    trained_backbone: int
    extra_inference: int  # unmerged, head apart
    extra_inference_merged: int | None  # None when it cannot be merged
    stored_bytes: int | None  # of the adapter's file, head included


@dataclass(frozen=True)
class Memory:
    """Bytes. `saved_*` is kept for backward: unique storages that autograd saves, peak-live, parameters excluded."""

    saved_bytes: int | None
    saved_bytes_per_image: float | None
    weights_frozen_bytes: int
    weights_trained_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    cuda_peak_allocated_bytes: int | None = None
    cuda_peak_reserved_bytes: int | None = None
    eval_cuda_peak_allocated_bytes: int | None = None


@dataclass(frozen=True)
class Time:
    data_s: float | None
    build_s: float | None
    train_s: float | None
    evaluate_s: float | None
    total_s: float | None


@dataclass(frozen=True)
class Throughput:
    """Images per second; each training image counts once per step however many passes the method makes."""

    train_images_per_s: float | None
    eval_images_per_s: float | None
    source: Literal["informal", "perf"] = "informal"  # from the training log, or measured by `perf`


@dataclass(frozen=True)
class Artifact:
    kind: str  # predictions, curve, adapter, log
    path: str  # relative to the record's folder
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Provenance:
    commit: str
    dirty: bool
    diff_hash: str | None
    versions: dict[str, str]
    device: str
    cpu: str
    cores: int
    driver: str | None
    deterministic: bool
    started: str
    snapshot: str | None = None
    place: str = ""  # which of the GPUs that the program saw: "cuda:1"; empty where it had no choice


@dataclass(frozen=True)
class RunResult:
    spec: RunSpec
    passed: dict[str, Scalar]  # what was typed, beside what it resolved to
    status: Status
    failure: Failure | None
    attempts: tuple[Attempt, ...]
    dataset: DatasetInfo | None
    backbone: BackboneInfo | None
    method: MethodInfo
    metrics: dict[str, float | None]  # "val.top1", "test.top1", "test.class_mean", "test.n", "test.score", ...
    test_passes: int
    params: Params | None
    memory: Memory | None
    time: Time
    throughput: Throughput
    diagnostics: dict[str, float | None]
    artifacts: tuple[Artifact, ...]
    provenance: Provenance
    history: tuple[dict[str, float | None], ...] = field(default=())
    schema: int = SCHEMA

    @property
    def run_id(self) -> str:
        return self.spec.id


def _hash(data: dict[str, Any]) -> str:
    return sha256(json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()[:12]


def later_of(cls: type) -> dict[str, Any]:
    """Fields that joined a part of the record -> their first value; records may lack them."""
    return LATER if cls is RunSpec else _JOINED.get(cls, {})


_JOINED: dict[type, dict[str, Any]] = {BackboneInfo: {"adjusted": ""}, DatasetInfo: {
    "class_names": (), "origin": "", "left_out": 0}, MethodInfo: {"origin": {}}, Provenance: {"place": ""}}


def joins(cls: type, first: dict[str, Any]) -> None:
    """Fields that joined another file's part, with their first value: readers take it where they are left out."""
    _JOINED[cls] = first


def written(value: Any) -> Any:
    """A dataclass as JSON holds it, without the later fields that hold their first value."""
    if is_dataclass(value) and not isinstance(value, type):
        later = later_of(type(value)) if not isinstance(value, RunSpec) else {}
        return {f.name: written(getattr(value, f.name)) for f in fields(value)
                if f.name not in later or getattr(value, f.name) != later[f.name]}
    if isinstance(value, dict):
        return {k: written(v) for k, v in value.items()}
    return [written(v) for v in value] if isinstance(value, list | tuple) else value


def to_json(result: RunResult) -> str:
    """Readable JSON with the ids in front; raises ValueError on NaN, infinity, and what could not be read back."""
    body = {"schema": result.schema, "run_id": result.spec.id, "cell_id": result.spec.cell_id,
            "phase": result.spec.phase, **asdict(result)}
    body["spec"] = result.spec.written()
    for name, part in (("backbone", BackboneInfo), ("dataset", DatasetInfo), ("method", MethodInfo),
                       ("provenance", Provenance)):
        if body[name] is not None:
            first = later_of(part)
            body[name] = {k: v for k, v in body[name].items() if k not in first or v != first[k]}
    text = json.dumps(body, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    from_json(text, f"{result.spec.id}.json")  # a record that nothing reads afterwards is no record
    return text


def from_json(text: str, where: str = "record") -> RunResult:
    """Strict: an unknown or missing field, a key that stands there twice, a wrong type, a number that cannot be, an
    unknown schema or a wrong id raises RecordError."""
    try:
        body = parse(text)
    except ValueError as error:
        raise RecordError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(body, dict):
        raise RecordError(f"{where}: a record is a JSON object")
    if isinstance(body.get("schema"), int) and body["schema"] > SCHEMA:
        raise RecordError(f"{where}: made by a newer Regatta (schema {body['schema']}, this program reads {SCHEMA})")
    if body.get("schema") != SCHEMA:
        raise RecordError(f"{where}: field 'schema' is {body.get('schema')!r}, this program reads {SCHEMA}")
    head = {key: body.pop(key, None) for key in ("run_id", "cell_id", "phase")}
    result: RunResult = _build(RunResult, body, where, "")
    for name in body["spec"].keys() - result.spec.written().keys():
        raise RecordError(f"{where}: field 'spec.{name}' is left out while it is {LATER[name]!r}")
    for name, told in (("run_id", result.spec.id), ("cell_id", result.spec.cell_id)):
        if head[name] != told:
            raise RecordError(f"{where}: field {name!r} is {head[name]!r} but the spec hashes to {told!r}")
    if head["phase"] != result.spec.phase:
        raise RecordError(f"{where}: field 'phase' is {head['phase']!r}, but the spec's is {result.spec.phase!r}")
    if wrong := ranges.problem(body):
        raise RecordError(f"{where}: {wrong}")
    return result


def spec_from_json(data: dict[str, Any], where: str = "spec") -> RunSpec:
    """Strict, as from_json."""
    spec: RunSpec = _build(RunSpec, data, where, "spec")
    return spec


def finite(value: float | None) -> float | None:
    """The value, or None where JSON cannot hold it."""
    return value if value is not None and math.isfinite(value) else None


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(hint: Any, value: Any, where: str, path: str) -> Any:
    """Make a value of the annotated type out of parsed JSON, naming file and field when it does not fit."""
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise RecordError(f"{where}: field {path!r} must be an object")
        hints, known = _hints(hint), {f.name for f in fields(hint)}
        for name in (value.keys() ^ known) - (later_of(hint).keys() - value.keys()):
            problem = "is unknown" if name in value else "is missing"
            raise RecordError(f"{where}: field {(path + '.' + name).lstrip('.')!r} {problem}")
        return hint(**{n: _build(hints[n], v, where, f"{path}.{n}".lstrip(".")) for n, v in value.items()})
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        for arg in (a for a in args if a is not type(None)):
            if is_dataclass(arg) or _fits(arg, value) or (typing.get_origin(arg) is Literal and value in
                                                          typing.get_args(arg)):
                return _build(arg, value, where, path)
    elif origin is Literal:
        if value in args:
            return value
    elif origin is tuple and isinstance(value, list):
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_build(args[0], v, where, f"{path}[{i}]") for i, v in enumerate(value))
        if len(args) == len(value):
            return tuple(_build(a, v, where, f"{path}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))
    elif origin is dict and isinstance(value, dict):
        return {k: _build(args[1], v, where, f"{path}.{k}") for k, v in value.items()}
    elif _fits(hint, value):
        return float(value) if hint is float else value
    raise RecordError(f"{where}: field {path!r} has the value {str(value)[:60]!r}, which is not allowed")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _fits(hint: Any, value: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(hint, type) and isinstance(value, hint)
