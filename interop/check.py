"""Portolan's encoders in timm and torchvision: strict loading, and the same features to 1e-4.

python interop/check.py             wants torch, torchvision, timm and safetensors
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import timm
    import torch
    import torchvision
    from safetensors.torch import load_file
except ImportError as missing:
    sys.exit(f"SKIPPED, nothing was checked: {missing}; pip install torch torchvision timm safetensors")

ENCODERS = [
    (name, stem)
    for name in ("resnet18", "resnet34", "resnet50")
    for stem in ("imagenet", "cifar", "cifar_strided")
] + [
    ("vit_tiny_patch16_224", "-"),
    ("vit_small_patch16_224", "-"),
    ("vit_base_patch16_224", "-"),
    ("vit_tiny_patch4_32", "-"),
    ("vit_w96d4h3_patch4_32", "-"),
]


def timm_model(folder):
    return timm.create_model(f"local-dir:{folder}", pretrained=True)


def torchvision_model(folder, config):
    net = getattr(torchvision.models, config["architecture"])()
    net.fc = torch.nn.Identity()
    stem = config["portolan"]["stem"]
    if stem != "imagenet":
        stride = 2 if stem == "cifar_strided" else 1
        net.conv1 = torch.nn.Conv2d(3, 64, 3, stride, 1, bias=False)
        net.maxpool = torch.nn.Identity()
    net.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return net


def check(folder, library, net):
    expected = load_file(folder / "check.safetensors")
    with torch.no_grad():
        features = net.eval()(expected["images"])
    largest = expected["features"].abs().max().item()
    difference = (features - expected["features"]).abs().max().item() / largest
    print(f"{folder.name:36} {library:12} {tuple(features.shape)!s:12} {difference:.1e}")
    return difference < 1e-4


def main():
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        for name, stem in ENCODERS:
            folder = Path(scratch) / f"{name}-{stem}".removesuffix("--")
            command = ["cargo", "run", "--quiet", "-p", "portolan-interchange", "--example", "hub_folder", "--"]
            subprocess.run([*command, name, stem, str(folder)], check=True)
            config = json.loads((folder / "config.json").read_text())
            if config["portolan"]["family"] == "vit" or stem == "imagenet":
                good &= check(folder, "timm", timm_model(folder))
            if config["portolan"]["family"] == "resnet":
                good &= check(folder, "torchvision", torchvision_model(folder, config))
    sys.exit(0 if good else "some features differ by more than 1e-4 of the largest")


if __name__ == "__main__":
    main()
