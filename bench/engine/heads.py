"""The head's place: whatever classifier timm gives a model, ours is one linear layer on the features that it read.

timm's classifiers are mostly one `nn.Linear`. Pre-activation ResNets have a 1x1 convolution there, which computes the
same from pooled features; attention pooling ends in a linear layer that is narrower than the last feature map. Both are
brought to the common form here, before an adapter sees the model. Distilled DeiT has two, which become one module
(`methods/two_heads.py`); what has no such form is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class HeadError(ValueError):
    """The model's classifier is not one layer; a sentence for the user."""


def classifiers(model: nn.Module) -> tuple[str, ...]:
    """The paths at which timm keeps the classifier: its configuration's key, `head` where it says nothing."""
    cfg: Any = getattr(model, "pretrained_cfg", None) or {}
    stated = (cfg.get("classifier") if hasattr(cfg, "get") else None) or "head"
    return (stated,) if isinstance(stated, str) else tuple(stated)


def start_from(model: nn.Module, seed: int) -> None:
    """The new head's first weights from a seed of their own, in place: runs of other seeds begin with the same head.

    No random stream moves, so the rest of the model is that of the run's seed as it was.
    """
    import torch

    from methods.moves import isolated
    from methods.two_heads import head_like

    from .seeds import derive

    head: Any = model.get_classifier()  # type: ignore[operator]
    if getattr(head, "fixed", False):  # T5's table of words
        return
    with isolated(torch.device("cpu"), derive(seed, "head")):
        fresh = head_like(head, head.in_features, head.out_features)
    with torch.no_grad():
        for own, drawn in zip(head.parameters(), fresh.parameters(), strict=True):
            own.copy_(drawn)


def one_linear(model: nn.Module, name: str) -> None:
    """Make the place of a headless timm model fit one linear layer, in place; no random number is drawn.

    Raises HeadError for other models with several classifiers, or an MLP in front of the last layer.
    """
    from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
    from timm.layers.classifier import ClassifierHead, NormMlpClassifierHead
    from timm.models.deit import VisionTransformerDistilled
    from torch import nn

    from methods.two_heads import two_headed

    if isinstance(model, VisionTransformerDistilled):
        two_headed(model)
        return
    paths, net = classifiers(model), model
    if len(paths) > 1:
        raise HeadError(f"backbone {name!r} has {len(paths)} classifiers ({', '.join(paths)}) of a form that no method "
                        "here trains; use another backbone")
    head: Any = getattr(net, "head", None)
    if isinstance(head, ClassifierHead) and head.use_conv and not head.global_pool.is_identity():
        head.use_conv, head.flatten = False, nn.Identity()
        head.global_pool = SelectAdaptivePool2d(pool_type=head.global_pool.pool_type, flatten=True,
                                                input_fmt=head.input_fmt)
    if isinstance(head, NormMlpClassifierHead) and head.hidden_size:
        raise HeadError(f"backbone {name!r} has an MLP for a classifier, where a method here trains one layer; "
                        "use another backbone")
    read: Any = getattr(net, "head_hidden_size", None)
    if read and read != net.num_features and not hasattr(net, "conv_head"):  # what is read behind attention pooling
        net.num_features = read
