"""Which backbones are asked for, with which weights, and what they can carry: all their problems at once.

No torch for the backbones that we know at their own size; for others, and for a file that the user named, the model is
built without numbers and asked (`engine.carry`, `engine.pretrained`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from datasets.card import Card
from methods.catalog import catalog
from methods.grammar import MethodText

from ..engine import backbones, forms, halves, zeroshot
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


def head_of(request: Request, cards: Sequence[Card], names: Iterable[str], methods: Sequence[MethodText],
            fields: dict[str, Any], problems: list[str]) -> zeroshot.ClassHead | None:
    """The head that the file of `--head` holds, compared with all that it will meet; what is wrong is appended."""
    if request.head is None:
        return None
    try:
        head = zeroshot.read(request.head)
    except BackboneError as error:
        problems.append(str(error))
        return None
    problems += [told for card in cards if (told := zeroshot.misfit(head, card))]
    if fields.get("head_seed") is not None:
        problems.append(f"head_seed={fields['head_seed']} and --head exclude each other: both say where the head "
                        "starts; leave one of them out")
    for name in names:
        refused = dict.fromkeys(told for method in methods if (told := zeroshot.unfit(method, name)))
        problems += refused
        if not refused and (told := _put_in(name, head)):
            problems.append(told)
    return head


@cache
def _put_in(name: str, head: zeroshot.ClassHead) -> str:
    """What a model without numbers says against such a head, or nothing."""
    from ..engine.count import without_numbers
    from ..engine.projected import put_in

    try:
        without_numbers(lambda: put_in(backbones.create(name), head, name))
    except BackboneError as error:
        return str(error)
    return ""


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
