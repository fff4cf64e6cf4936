"""Deep and wide ResNets of torchvision and a ConvNeXt of timm with weights by formula: features, first gradients, names."""

import json

import timm
import torch
import torchvision
from encoders import fill_weights
from file import unit

BASE = 5000
SIZES = {"": 64, "_larger": 96}
RESNETS = ["resnet101", "wide_resnet50_2"]
CONVNEXTS = ["convnext_tiny"]


def build(name):
    """The encoder without its classifier."""
    if name in CONVNEXTS:
        return timm.create_model(name, num_classes=0)
    net = getattr(torchvision.models, name)()
    net.fc = torch.nn.Identity()
    return net


def fill(file):
    for name in RESNETS + CONVNEXTS:
        for suffix, size in SIZES.items():
            net = build(name).double().eval()
            fill_weights(net, BASE)
            features = net(unit(BASE + 999, 2, 3, size, size).float().double())
            features.square().mean().backward()
            first = net.stem[0] if name in CONVNEXTS else net.conv1
            outputs = {"features": features, "first_weight_grad": first.weight.grad}
            settings = {"size": size, "base": BASE, "batch": 2, "weights": "README: weights and inputs by formula"}
            file.add(name + suffix, settings, out_={what: x.float() for what, x in outputs.items()})


def save_keys(path):
    """The names and shapes, a line each."""
    encoders = []
    for name in RESNETS + CONVNEXTS:
        shapes = build(name).state_dict().items()
        lines = [f"  {json.dumps(key)}: {json.dumps(list(tensor.shape))}" for key, tensor in shapes]
        encoders.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    path.write_text("{\n" + ",\n".join(encoders) + "\n}\n")
