"""From a checked text to a living method: parts are instantiated and their functions nested in written order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, dataclass_transform

from torch import Tensor, nn

from .base import Adapter, Batch, Constraint, Fit, Objective, Part, Predictor, Regularizer, Terms, cross_entropy
from .catalog import Scalar
from .faults import INSTALLED
from .grammar import Choice, MethodError, MethodText, from_record
from .outside import imported

P = TypeVar("P", bound=Part)
BASES: dict[str, type[Part]] = {"adapter": Adapter, "regularizer": Regularizer, "constraint": Constraint}


@dataclass_transform()
def part(*names: str) -> Callable[[type[P]], type[P]]:
    """Register a class under a name and its aliases; its annotated fields become its options.

    The catalog reads the decorator from the source; here the class only becomes a dataclass and learns its name.
    """

    def decorate(cls: type[P]) -> type[P]:
        cls = dataclass(cls)
        cls.name = names[0]  # type: ignore[attr-defined]
        return cls

    return decorate


@dataclass
class Method:
    """An adapter, regularizers and constraints that were checked to go together."""

    text: MethodText
    adapter: Adapter
    regularizers: list[Regularizer]
    constraints: list[Constraint]

    @property
    def parts(self) -> list[Part]:
        return [self.adapter, *self.regularizers, *self.constraints]

    @property
    def wants_holdout(self) -> bool:
        """Whether a part asks for images kept aside from the training list."""
        return any(getattr(p, "wants_holdout", False) for p in self.parts)

    def holdout_batch(self, batch_size: int) -> int:
        """How many held-out images come at a time: as many as are trained on, or the least that a part allows."""
        return min([batch_size, *(c.holdout_batch for c in self.constraints if c.holdout_batch is not None)])

    def prepare(self, fit: Fit, train: Iterable[Batch]) -> None:
        self.adapter.prepare(fit, train)

    def attach(self, fit: Fit) -> None:
        for regularizer in self.regularizers:
            regularizer.attach(fit)
        for constraint in self.constraints:
            constraint.attach(fit)

    def grads(self, fit: Fit, batch: Batch) -> Terms:
        """Fill .grad: grads_n( ... grads_1( backward of loss_n( ... loss_1(cross-entropy) ) ) )."""
        return self._shaper(fit, batch)

    def after_step(self, fit: Fit) -> None:
        for one in sorted(self.constraints, key=lambda c: c.averages):  # a mean is of what the others have left
            one.after_step(fit)

    def finish(self, fit: Fit, validate: Callable[[], float]) -> None:
        for one in sorted(self.constraints, key=lambda c: not c.averages):
            one.finish(fit, validate)

    def predict(self, fit: Fit, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C)."""
        predictor: Predictor = fit.forward
        for one in self.regularizers:
            predictor = partial(one.predict, fit, base=predictor)  # type: ignore[call-arg]
        return predictor(x)

    def start_split(self, fit: Fit) -> None:
        """Before the first batch of a split is predicted; who moves weights between batches starts here."""
        for one in self.regularizers:
            one.start_split(fit)

    def probe(self, fit: Fit, batch: Batch) -> dict[str, float]:
        """What the regularizers measure on a fixed validation batch, as `pace.fp_dist`."""
        return {f"{one.name}.{k}": v for one in self.regularizers  # type: ignore[attr-defined]
                for k, v in one.probe(fit, batch).items()}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs back of every part."""
        return {f"{i}": p.state() for i, p in enumerate(self.parts)}

    def restore(self, state: dict[str, Any]) -> None:
        for i, one in enumerate(self.parts):
            one.restore(state[f"{i}"])

    def __post_init__(self) -> None:
        objective: Objective = task
        for one in self.regularizers:
            objective = partial(one.loss, base=objective)
        shaper: Objective = partial(_backward, objective=objective)
        for one in self.regularizers:
            shaper = partial(one.grads, base=shaper)
        self._shaper = shaper


def task(fit: Fit, batch: Batch) -> Terms:
    """Cross-entropy of the plain forward pass: the innermost objective."""
    logits = fit.forward(batch.input)
    return {"loss": cross_entropy(fit, logits, batch.y), "logits": logits}


def _backward(fit: Fit, batch: Batch, objective: Objective) -> Terms:
    terms = objective(fit, batch)
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    return terms


def create(text: MethodText) -> Method:
    """Instantiate the parts of a checked text."""
    made = [_instance(choice) for choice in text.parts]
    return Method(text, made[0], [m for m in made if isinstance(m, Regularizer)],  # type: ignore[arg-type]
                  [m for m in made if isinstance(m, Constraint)])


def from_spec(name: str, options: tuple[tuple[str, Scalar], ...]) -> Method:
    """The method of a RunSpec: its `method` and `options`."""
    return create(from_record(name, options))


def _instance(choice: Choice) -> Part:
    info = choice.info
    try:
        cls = getattr(imported(info.module), info.cls)
    except (MethodError, MemoryError):
        raise
    except Exception as error:  # of a user's file: whatever it says while it is imported
        if isinstance(error, ModuleNotFoundError) and error.name in INSTALLED:
            raise
        raise MethodError(f"{info.name!r} cannot be used until {info.file} is mended: "
                          f"importing it raises {type(error).__name__}: {error}") from error
    wanted = BASES[info.kind]
    if not issubclass(cls, wanted):
        raise MethodError(f"{info.name!r} is no {info.kind}: write class {info.cls}({wanted.__name__}) in "
                          f"{info.file}")
    made: Part = cls(**dict(choice.options))
    return made


def new_head(in_features: int, classes: int) -> nn.Linear:
    """The head of every method: weight trunc-normal(0.02), bias 0; one rule, so that no method gains by its head."""
    head = nn.Linear(in_features, classes)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head
