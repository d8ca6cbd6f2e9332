"""One tiny random instance per family of timm, width 32 and two blocks, for the battery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import LayerNorm
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer_v2 import SwinTransformerV2
from tiny_models import tiny_vit
from torch import nn

from methods.two_heads import two_headed

SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 0}


def _away(model: Any) -> Any:
    """Biases, norms, scales and tables away from where timm starts them, so that forgetting one shows."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim <= 1 or "relative" in name:
                p.add_(0.05 * torch.randn_like(p))
    return model


def eva(seed: int = 0, **settings: Any) -> nn.Module:
    """EVA-02: q, k, v apart, SwiGLU with a norm inside, absolute and rotary positions, pooled by the mean."""
    torch.manual_seed(seed)
    return _away(Eva(**SMALL | {"qkv_fused": False, "mlp_ratio": 4 * 2 / 3, "swiglu_mlp": True, "scale_mlp": True,
                                "use_rot_pos_emb": True, "ref_feat_shape": 4} | settings))


def dinov3(seed: int = 0, **settings: Any) -> nn.Module:
    """DINOv3: q, k, v fused, class token and registers, LayerScale, rotary positions alone."""
    return eva(seed, **{"qkv_fused": True, "qkv_bias": False, "mlp_ratio": 4, "swiglu_mlp": False, "scale_mlp": False,
                        "num_reg_tokens": 2, "use_abs_pos_emb": False, "rope_type": "dinov3", "init_values": 0.1,
                        "global_pool": "token", "no_embed_class": True, "rope_rotate_half": True,
                        "ref_feat_shape": None} | settings)


def giant(seed: int = 0, **settings: Any) -> nn.Module:
    """EVA-01: fused, with biases of q and v beside the layer, no rotation."""
    return eva(seed, **{"qkv_fused": True, "mlp_ratio": 4, "swiglu_mlp": False, "scale_mlp": False,
                        "use_rot_pos_emb": False} | settings)


def mixed(seed: int = 0, **settings: Any) -> nn.Module:
    """PE's attention pooling and a norm in front, with rotary positions that differ from block to block."""
    return eva(seed, **{"qkv_fused": True, "attn_type": "rope", "mlp_ratio": 4, "swiglu_mlp": False, "scale_mlp": False,
                        "rope_type": "mixed", "global_pool": "map", "attn_pool_num_heads": 4,
                        "use_pre_transformer_norm": True, "use_post_transformer_norm": True, "use_fc_norm": False,
                        "norm_layer": LayerNorm} | settings)


def beit(seed: int = 0, **settings: Any) -> nn.Module:
    """BEiT v2: relative positions in every block, LayerScale."""
    torch.manual_seed(seed)
    return _away(Beit(**SMALL | {"use_abs_pos_emb": False, "use_rel_pos_bias": True, "qkv_bias": True,
                                 "init_values": 0.1} | settings))


def shared_beit(seed: int = 0, **settings: Any) -> nn.Module:
    """BEiT with one relative position bias for all blocks."""
    return beit(seed, **{"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True} | settings)


def swinv2(seed: int = 0, **settings: Any) -> nn.Module:
    """Swin-v2: two stages of two blocks, shifted windows of 4."""
    torch.manual_seed(seed)
    return _away(SwinTransformerV2(**{"img_size": 32, "patch_size": 2, "embed_dim": 16, "depths": (2, 2),
                                      "num_heads": (2, 4), "window_size": 4, "num_classes": 0} | settings))


def siglip(seed: int = 0, **settings: Any) -> nn.Module:
    """SigLIP: no class token, attention pooling."""
    return _away(tiny_vit(seed, **{"embed_dim": 32, "num_heads": 4, "class_token": False,
                                   "global_pool": "map"} | settings))


def clip(seed: int = 0, **settings: Any) -> nn.Module:
    """CLIP: a norm in front of the blocks and quick GELU; beside that norms of q and k, registers, LayerScale."""
    return _away(tiny_vit(seed, **{"embed_dim": 32, "num_heads": 4, "pre_norm": True, "qk_norm": True,
                                   "act_layer": "quick_gelu", "reg_tokens": 2, "init_values": 0.1} | settings))


def distilled(seed: int = 0, **settings: Any) -> nn.Module:
    """Distilled DeiT: class and distillation token, two heads; three blocks, so that mixed patches reach them."""
    torch.manual_seed(seed)
    return two_headed(_away(VisionTransformerDistilled(**SMALL | {"depth": 3} | settings)))


INSTANCES: dict[str, tuple[str, Callable[..., nn.Module]]] = {
    "eva02": ("eva", eva), "dinov3": ("eva", dinov3), "eva01": ("eva", giant), "pe": ("eva", mixed),
    "beit": ("beit", beit), "beit-shared": ("beit", shared_beit), "swinv2": ("swinv2", swinv2),
    "siglip": ("vit", siglip), "clip": ("vit", clip),
    "deit-distilled": ("vit", distilled)}
