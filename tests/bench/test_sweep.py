"""Sixty-odd timm names, old and new: each is counted under linear, full and lora, or refused in a sentence.

On the meta device: no memory, no weights. tests/perf/test_perf_sweep.py times them.
"""

from __future__ import annotations

import pytest

from bench.engine.backbones import BackboneError, check_name, image_size
from bench.engine.count import trained_weights
from methods.grammar import MethodError, parse

# Patches of 7 to 32 pixels, images of 160 to 518. What LoRA trains at rank 8, 0 where it is to be refused.
CARRIED = {
    "vit_tiny_patch16_224": 73_728, "vit_small_patch32_224": 147_456, "vit_base_patch32_384": 294_912,
    "vit_base_patch16_clip_quickgelu_224.openai": 294_912, "vit_base_patch14_dinov2.lvd142m": 294_912,
    "vit_small_patch14_reg4_dinov2": 147_456, "vit_base_patch16_siglip_224": 294_912,
    "vit_base_patch16_siglip_512": 294_912, "vit_base_patch16_siglip_256.v2_webli": 294_912,
    "vit_medium_patch16_reg4_gap_256": 196_608, "vit_wee_patch16_reg1_gap_256": 114_688,
    "vit_base_patch16_rope_reg1_gap_256": 294_912, "vit_xsmall_patch16_clip_224": 81_920,
    "vit_betwixt_patch16_reg4_gap_256": 245_760, "vit_small_resnet26d_224": 196_608, "vit_base_mci_224": 294_912,
    "deit_tiny_patch16_224": 73_728, "deit_tiny_distilled_patch16_224": 73_728,
    "deit3_small_patch16_384": 147_456, "flexivit_small": 147_456,
    "eva02_tiny_patch14_224": 73_728, "eva02_small_patch14_336.mim_in22k_ft_in1k": 147_456,
    "vit_small_patch16_dinov3": 147_456, "vit_small_plus_patch16_dinov3": 147_456,
    "vit_pe_core_tiny_patch16_384": 73_728, "vit_pe_core_small_patch16_384": 147_456,
    "vit_pe_spatial_tiny_patch16_512": 73_728, "beit_base_patch16_224": 294_912, "beitv2_base_patch16_224": 294_912,
    "beit3_base_patch16_224": 294_912, "swin_tiny_patch4_window7_224": 141_312, "swin_s3_tiny_224": 141_312,
    "swinv2_tiny_window8_256": 141_312, "swinv2_tiny_window16_256": 141_312, "convnext_tiny": 529_920,
    "convnextv2_atto": 0, "convnext_pico": 0, "resnet18": 153_600, "resnet50.a1_in1k": 302_080, "resnet50d": 302_080,
    "wide_resnet50_2": 604_160, "tf_efficientnet_lite0": 169_472, "tf_efficientnet_b0": 169_472,
    "efficientnet_b3": 362_176, "tf_efficientnetv2_s": 651_520, "mobilenetv3_large_100": 98_176,
    "mobilenetv4_conv_medium": 310_528, "mobilenetv4_hybrid_medium": 322_816, "mobilenetv2_100": 135_424,
}
OTHERS = ("vit_srelpos_small_patch16_224", "samvit_base_patch16", "swinv2_cr_tiny_224", "resnetv2_50",
          "resnext50_32x4d", "regnety_032", "densenet121", "vgg16", "mixer_b16_224", "coatnet_0_rw_224",
          "pvt_v2_b1", "davit_tiny", "fastvit_t8", "hiera_tiny_224", "xcit_nano_12_p16_224")  # linear and full alone
NOT_AT_ALL = ("levit_128", "efficientformer_l1", "crossvit_9_240", "volo_d1_224", "convnext_large_mlp",
              "maxvit_tiny_tf_224")  # no single linear classifier


def weights(method: str, name: str) -> int | str:
    """How many it trains beside the head, or the sentence that refuses it."""
    try:
        return trained_weights(parse(method), name, 10)[0]
    except (MethodError, BackboneError) as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        return str(error)


@pytest.mark.parametrize("name", CARRIED)
def test_a_family_that_we_know_carries_all_three(name: str) -> None:
    check_name(name)
    assert 100 < image_size(name) < 600
    found = weights("lora", name)
    if CARRIED[name]:
        assert found == CARRIED[name]
    else:
        assert isinstance(found, int) and found > 0
    assert weights("linear", name) == 0


@pytest.mark.parametrize("name", OTHERS)
def test_another_network_trains_its_head_or_all_of_it_and_says_why_no_more(name: str) -> None:
    check_name(name)
    assert weights("linear", name) == 0
    whole, refusal = weights("full", name), weights("lora", name)
    assert isinstance(whole, int) and whole > 1_000_000
    assert isinstance(refusal, str) and ("adapts" in refusal or "grouped convolutions" in refusal)


@pytest.mark.parametrize("name", NOT_AT_ALL)
def test_a_classifier_that_is_not_one_layer_is_refused(name: str) -> None:
    assert "classifier" in str(weights("linear", name))
