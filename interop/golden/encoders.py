"""Encoders of torchvision and timm with weights by formula: features, first gradients, and names of parameters."""

import json
import math

import timm
import torch
import torchvision
from file import unit

BASE = 2000
RESNETS = ["resnet18", "resnet34", "resnet50"]
VITS = ["vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224"]
# A gradient of ViT-B would take 2.4 MB, and runs through the same code as those of ViT-Ti and ViT-S.
WITHOUT_GRADIENT = ["vit_base_patch16_224"]


def build(name):
    """The encoder without its classifier."""
    if name in VITS:
        return timm.create_model(name, num_classes=0)
    net = getattr(torchvision.models, name)()
    net.fc = torch.nn.Identity()
    return net


@torch.no_grad()
def fill_weights(net, base=BASE):
    """README: "Inputs by formula". In float64, from weights that float32 holds exactly."""
    for i, (name, tensor) in enumerate(sorted(net.state_dict().items())):
        if not tensor.is_floating_point():
            continue
        v = unit(base + i, *tensor.shape)
        if name.endswith("running_var"):
            v = 1 + 0.25 * v**2
        elif tensor.ndim == 1:
            v = 1 + 0.1 * v if name.endswith(("weight", "gamma")) else 0.1 * v
        elif name.endswith(("pos_embed", "token")):
            v = 0.02 * v
        else:
            v = v * math.sqrt(2 / (tensor.numel() / tensor.shape[0]))
        tensor.copy_(v.float())


def fill(file):
    for name in RESNETS + VITS:
        size, batch = (224 if name in VITS else 96), (1 if name == "vit_base_patch16_224" else 2)
        net = build(name).double()
        fill_weights(net)
        images = unit(BASE + 999, batch, 3, size, size).float().double()
        features = net.eval()(images)
        outputs = {"features": features}
        if name not in WITHOUT_GRADIENT:
            features.square().mean().backward()
            first = net.patch_embed.proj if name in VITS else net.conv1
            outputs["first_weight_grad"] = first.weight.grad
        if name in RESNETS:
            with torch.no_grad():
                outputs["features_train_mode"] = net.train()(images)
        settings = {"size": size, "base": BASE, "batch": batch, "weights": "README: weights and inputs by formula"}
        file.add(name, settings, out_={what: x.float() for what, x in outputs.items()})


def save_keys(path):
    """The names and shapes, a line each."""
    encoders = []
    for name in RESNETS + VITS:
        shapes = build(name).state_dict().items()
        lines = [f"  {json.dumps(key)}: {json.dumps(list(tensor.shape))}" for key, tensor in shapes]
        encoders.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    path.write_text("{\n" + ",\n".join(encoders) + "\n}\n")
