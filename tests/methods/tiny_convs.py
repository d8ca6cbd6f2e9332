"""Tiny convolutional networks of every family, 32 x 32 pixels, with statistics and norms that are not 0 and 1."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from methods.catalog import catalog

FAMILIES = ("resnet", "convnext", "efficientnet", "mobilenet")
EFFICIENT = [["ds_r1_k3_s1_e1_c8"], ["ir_r2_k3_s2_e4_c16"], ["er_r1_k3_s2_e2_c16"], ["ir_r2_k5_s2_e2_c24_se0.25"]]
MOBILE = [["ds_r1_k3_s1_e1_c8_se0.25"], ["uir_r2_a3_k5_s2_e2_c16"], ["ir_r2_k3_s2_e2_c24"], ["cn_r1_k1_s1_c32"]]


def _resnet(**options: Any) -> nn.Module:
    return ResNet(**{"block": Bottleneck, "layers": (1, 1, 1, 3), "stem_width": 8, "channels": (8, 16, 24, 32),
                     "num_classes": 0, "zero_init_last": False} | options)


def _basic(**options: Any) -> nn.Module:
    return _resnet(block=BasicBlock, layers=(1, 2, 1, 1), **options)


def _convnext(**options: Any) -> nn.Module:
    return ConvNeXt(**{"depths": (1, 1, 2, 2), "dims": (8, 16, 24, 32), "num_classes": 0, "ls_init_value": 0.5}
                    | options)


def _efficientnet(**options: Any) -> nn.Module:
    """As a lite network of TensorFlow's: relu6 and "same" padding, which is on the right and below."""
    return EfficientNet(decode_arch_def(EFFICIENT), num_classes=0, num_features=40, stem_size=8, pad_type="same",
                        act_layer=nn.ReLU6, **options)


def _mobilenet(**options: Any) -> nn.Module:
    return MobileNetV3(decode_arch_def(MOBILE), num_classes=0, num_features=40, stem_size=8, **options)


MAKERS = {"resnet": _resnet, "convnext": _convnext, "efficientnet": _efficientnet, "mobilenet": _mobilenet,
          "basic": _basic, "convolved": lambda **o: _convnext(conv_mlp=True, **o),
          "pooled_norm": lambda **o: _mobilenet(head_norm=True, **o)}


def tiny(kind: str, seed: int = 0, **options: Any) -> Any:
    """One of MAKERS: a family by its name, or another form of it."""
    torch.manual_seed(seed)
    net = MAKERS[kind](**options)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.normal_(m.weight, mean=1.0, std=0.1)
            nn.init.normal_(m.bias, std=0.1)
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
        if isinstance(m, BatchNormAct2d) and isinstance(m.act, nn.ReLU | nn.ReLU6):
            nn.init.normal_(m.bias, mean=0.3, std=0.1)  # so that a channel is seldom dead
    return net


def carried(family: str) -> list[str]:
    """The adapters that claim the family."""
    return [name for name, info in catalog().items() if info.kind == "adapter" and family in info.families]


EVERY = [(name, family) for family in FAMILIES for name in carried(family)]
