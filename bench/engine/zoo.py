"""The usual checkpoints of each family, by timm's names, for `list backbones`; any other timm name works as well.

Image sizes and licences are timm's own statements (a test compares them), weights are counted without a head. What was
learnt from is in the words after them.
"""

from __future__ import annotations

from typing import NamedTuple


class Checkpoint(NamedTuple):
    """A pre-trained network that people use."""

    name: str
    pixels: int  # on a side
    millions: float  # of weights, without a head
    licence: str  # of the weights
    about: str


CHECKPOINTS = tuple(Checkpoint(*row) for row in (
    ("vit_small_patch16_224.augreg_in21k", 224, 21.7, "apache-2.0", "ViT-S/16, ImageNet-21k, AugReg"),
    ("vit_base_patch16_224.augreg_in21k", 224, 85.8, "apache-2.0", "ViT-B/16, ImageNet-21k, AugReg"),
    ("vit_base_patch16_224.orig_in21k", 224, 85.8, "apache-2.0", "ViT-B/16, ImageNet-21k, what most papers used"),
    ("vit_large_patch16_224.augreg_in21k", 224, 303.3, "apache-2.0", "ViT-L/16, ImageNet-21k, AugReg"),
    ("vit_base_patch16_224.mae", 224, 85.8, "cc-by-nc-4.0", "ViT-B/16, masked autoencoder, no labels"),
    ("vit_base_patch16_224.dino", 224, 85.8, "apache-2.0", "ViT-B/16, DINO, no labels"),
    ("deit3_base_patch16_224.fb_in22k_ft_in1k", 224, 85.8, "apache-2.0", "DeiT III-B/16, ImageNet-22k"),
    ("vit_base_patch16_clip_224.openai", 224, 85.8, "apache-2.0", "CLIP's image tower, B/16"),
    ("vit_base_patch16_clip_224.laion2b", 224, 85.8, "apache-2.0", "OpenCLIP's image tower, B/16, LAION-2B"),
    ("vit_large_patch14_clip_224.openai", 224, 303.2, "apache-2.0", "CLIP's image tower, L/14"),
    ("vit_base_patch16_siglip_224.webli", 224, 92.9, "apache-2.0", "SigLIP's image tower, B/16"),
    ("vit_base_patch16_siglip_256.v2_webli", 256, 92.9, "apache-2.0", "SigLIP 2's image tower, B/16"),
    ("vit_small_patch14_dinov2.lvd142m", 518, 22.1, "apache-2.0", "DINOv2-S/14, no labels; 224 pixels in papers"),
    ("vit_base_patch14_dinov2.lvd142m", 518, 86.6, "apache-2.0", "DINOv2-B/14, no labels; 224 pixels in papers"),
    ("vit_base_patch14_reg4_dinov2.lvd142m", 518, 86.6, "apache-2.0", "DINOv2-B/14 with four registers"),
    ("vit_large_patch14_dinov2.lvd142m", 518, 304.4, "apache-2.0", "DINOv2-L/14, no labels; 224 pixels in papers"),
    ("vit_small_patch16_dinov3.lvd1689m", 256, 21.6, "dinov3-license", "DINOv3-S/16, no labels"),
    ("vit_base_patch16_dinov3.lvd1689m", 256, 85.6, "dinov3-license", "DINOv3-B/16, no labels"),
    ("eva02_base_patch14_224.mim_in22k", 224, 85.8, "mit", "EVA-02-B/14, masked images of ImageNet-22k"),
    ("vit_pe_core_base_patch16_224.fb", 224, 92.9, "apache-2.0", "Perception Encoder, core, B/16"),
    ("beitv2_base_patch16_224.in1k_ft_in22k", 224, 85.8, "apache-2.0", "BEiT v2-B/16, ImageNet-22k"),
    ("swin_base_patch4_window7_224.ms_in22k", 224, 86.7, "mit", "Swin-B, ImageNet-22k"),
    ("swinv2_base_window12_192.ms_in22k", 192, 86.9, "mit", "Swin-v2-B, ImageNet-22k"),
    ("convnext_tiny.fb_in22k", 224, 27.8, "apache-2.0", "ConvNeXt-T, ImageNet-22k"),
    ("convnext_base.fb_in22k", 224, 87.6, "apache-2.0", "ConvNeXt-B, ImageNet-22k"),
    ("convnextv2_base.fcmae_ft_in22k_in1k", 224, 87.7, "cc-by-nc-4.0", "ConvNeXt-v2-B, ImageNet-22k"),
    ("resnet50.a1_in1k", 224, 23.5, "apache-2.0", "ResNet-50, ImageNet-1k"),
    ("tf_efficientnet_lite0.in1k", 224, 3.4, "apache-2.0", "EfficientNet-Lite0, ImageNet-1k"),
    ("tf_efficientnetv2_s.in21k", 300, 20.2, "apache-2.0", "EfficientNet-v2-S, ImageNet-21k"),
    ("mobilenetv3_large_100.miil_in21k", 224, 4.2, "apache-2.0", "MobileNet-v3-L, ImageNet-21k"),
    ("mobilenetv4_conv_medium.e500_r256_in1k", 256, 8.4, "apache-2.0", "MobileNet-v4-M, ImageNet-1k"),
))
