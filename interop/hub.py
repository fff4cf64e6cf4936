"""The encoder of a folder that `portolan export RUN --out FOLDER` wrote, as a PyTorch module."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def encoder(folder):
    """Images, normalized, to features; with torchvision for ResNets (any stem), timm for the others."""
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    own = config["portolan"]
    if own["family"] == "vit":
        import timm

        return timm.create_model(f"local-dir:{folder}", pretrained=True)
    if own["family"] == "convnext":
        import timm

        if own["patch"] != 2:
            return timm.create_model(f"local-dir:{folder}", pretrained=True)
        # With a patch of 2, timm would shrink the map in the first stage too.
        net = timm.create_model(config["architecture"], num_classes=0, **{**config["model_args"], "patch_size": 1})
        net.stem[0] = torch.nn.Conv2d(3, own["width"], 2, 2)
        net.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        return net
    import torchvision

    if own["width"] != 64:
        raise SystemExit(f"{folder} holds a ResNet of scaled width, which torchvision cannot build")
    net = getattr(torchvision.models, config["architecture"])()
    net.fc = torch.nn.Identity()
    if own["stem"] != "imagenet":
        stride = 2 if own["stem"] == "cifar_strided" else 1
        net.conv1 = torch.nn.Conv2d(3, 64, 3, stride, 1, bias=False)
        net.maxpool = torch.nn.Identity()
    net.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return net
