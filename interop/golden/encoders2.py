"""Encoders of DINOv2, DINOv3, DeiT III and CLIP of timm, of small sizes and with weights by formula: features, tokens, first
gradients, and names of parameters. Each also for images of another size and aspect (`_larger`)."""

import timm
import torch
from encoders import write_keys
from file import fill_weights, unit
from timm.layers import SwiGLUPacked

BASE = 6000
SIZE, LARGER = 20, [28, 36]
SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3, "patch_size": 4, "img_size": SIZE}
# Our names, timm's, and what timm is to change.
TIMM = {
    f"vit_w48d2h3_patch4_dinov2_{SIZE}": ("vit_small_patch14_dinov2", {}),
    f"vit_w48d2h3_patch4_reg4_dinov2_{SIZE}": ("vit_small_patch14_reg4_dinov2", {}),
    f"vit_w48d2h3_patch4_dinov3_{SIZE}": ("vit_small_patch16_dinov3", {}),
    f"deit3_w48d2h3_patch4_{SIZE}": ("deit3_small_patch16_224", {}),
    f"vit_w48d2h3_patch4_clip_{SIZE}": ("vit_base_patch16_clip_224", {}),
    f"vit_w48d2h3_patch4_clip_quickgelu_{SIZE}": ("vit_base_patch16_clip_quickgelu_224", {}),
    "vit_giant_like_swiglu": (
        "vit_small_patch14_dinov2",
        {"mlp_ratio": 2 * 8 / 3, "mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU},
    ),
}
ARCH = "width 48, depth 2, 3 heads, patch 4, positions of a 5x5 grid, LayerScale, timm's SwiGLUPacked, class token"


def build(name):
    known, changes = TIMM[name]
    return timm.create_model(known, num_classes=0, **{"dynamic_img_size": True, **SMALL, **changes})


def fill(file):
    for name in TIMM:
        for case, size in [(name, [SIZE, SIZE]), (f"{name}_larger", LARGER)]:
            net = build(name).double().eval()
            fill_weights(net, BASE)
            images = unit(BASE + 999, 2, 3, *size).float().double()
            tokens = net.forward_features(images)
            features = net.forward_head(tokens)
            features.square().mean().backward()
            outputs = {"features": features, "tokens": tokens, "first_weight_grad": net.patch_embed.proj.weight.grad}
            settings = {"size": size, "base": BASE, "batch": 2, "pool": net.global_pool}
            settings["arch"] = ARCH if name == "vit_giant_like_swiglu" else ""
            file.add(case, settings, out_={what: x.float() for what, x in outputs.items()})


def save_keys(path):
    write_keys(path, {name: build(name) for name in TIMM})
