"""Which backbones are asked for, with which weights, and what they can carry: all their problems at once.

No torch for the backbones that we know at their own size; for others, and for a file that the user named, the model is
built without numbers and asked (`engine.carry`, `engine.pretrained`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from methods.catalog import catalog
from methods.grammar import MethodText

from ..engine import backbones, forms, halves
from ..engine.backbones import BackboneError, Weights

if TYPE_CHECKING:
    from .request import Request


Methods = Sequence[tuple[str, MethodText]]  # as typed, and parsed


def resolve(names: Sequence[str], request: Request, methods: Methods, fields: dict[str, Any], inputs: bool,
            problems: list[str]) -> dict[str, Weights]:
    """Backbone -> its weights, where nothing is wrong with it; `inputs`: whether weights must be there at all.

    `fields` are those of the suite's protocol and of the command line; what is wrong is appended to `problems`.
    """
    found = {}
    for name in names:
        try:
            name = backbones.completed(name, request.weights)
            backbones.check_name(name)
            size = fields.get("image_size") or backbones.image_size(name)
            found[name] = _weights(request, name) if inputs else Weights(None, "random")
        except BackboneError as error:
            problems.append(str(error))
            continue
        problems += _family_problems(name, methods) or _carry_problems(name, methods, size)
        problems += [problem for _, method in methods for problem in forms.refusals(
            method, backbones.family(name), fields.get("class_query", False), fields.get("merged_eval", False),
            fields.get("compiled", False), fields.get("eval_batch_size", 1))]
        told = (forms.normed(m, backbones.family(name), fields.get("batch_norm", "method")) for _, m in methods)
        problems += [problem for problem in told if problem]
    return found


def _weights(request: Request, name: str) -> Weights:
    """Located; a file that the user named, or of a backbone that we do not know, is also read and compared."""
    found = backbones.find_weights(name, request.weights, request.no_pretrained, request.download)
    if request.weights or any(half not in backbones.KNOWN for half in halves.parts(name)):
        backbones.check_file(name, found)
    return found


def _carry_problems(name: str, methods: Methods, size: int) -> list[str]:
    """What the name alone does not tell; the backbones we know, at their own size, carry what their family does."""
    name = halves.image_of(name)
    if name in backbones.KNOWN and size == backbones.image_size(name):
        return []
    if backbones.family(name) == backbones.TEXT:  # `methods.on_text` says what runs there
        return []
    from ..engine import carry

    return carry.problems(name, [method for _, method in methods], size)


def _family_problems(backbone: str, methods: Methods) -> list[str]:
    """What the family alone tells; of another network `_carry_problems` says what it carries."""
    family, problems = backbones.family(halves.image_of(backbone)), []
    if family not in backbones.FAMILIES:
        return []
    for text, method in methods:
        if family not in method.adapter.info.families:
            fitting = [i.name for i in catalog().values() if i.kind == "adapter" and family in i.families]
            problems.append(f"{text!r} cannot run on {backbone!r} (family {family}); adapters that can: "
                            f"{', '.join(fitting) or 'none'}")
    return problems
