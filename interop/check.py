"""Portolan's encoders in timm, torchvision and transformers, and theirs in Portolan: strict loading, and the same features to
1e-4. check_vits.py has the vision transformers of DINOv2, DINOv3, DeiT III and CLIP,
check_text.py runs of BERT and GPT.

python interop/check.py

Wants torch, torchvision, timm, transformers and safetensors, and installs them into a temporary folder where they are not (PyTorch's wheels
take 5 GB there for as long as it runs). Where that is not possible it says loudly that nothing was checked.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "torch": "torch==2.11.0",
    "torchvision": "torchvision==0.26.0",
    "timm": "timm==1.0.31",
    "transformers": "transformers==5.24.0",
    "safetensors": "safetensors",
}
SPACE = 8 << 30
ENCODERS = [
    (name, stem)
    for name in ("resnet18", "resnet34", "resnet50")
    for stem in ("imagenet", "cifar", "cifar_strided")
] + [
    ("resnet101", "imagenet"),
    ("wide_resnet50_2", "imagenet"),
    ("convnext_atto", "4"),
    ("convnext_tiny", "4"),
    ("convnext_tiny", "2"),
    ("convnext_pico", "1"),
    ("convnext_w48d1-2-3-1", "4"),
    ("vit_tiny_patch16_224", "-"),
    ("vit_small_patch16_224", "-"),
    ("vit_base_patch16_224", "-"),
    ("vit_tiny_patch4_32", "-"),
    ("vit_w96d4h3_patch4_32", "-"),
]


def skip(why):
    print(f"SKIPPED, nothing was checked: {why}")
    sys.exit(0)


def with_packages():
    """Runs this script again beside the packages that it wants, if they are not here."""
    missing = [what for name, what in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if not missing:
        return
    if importlib.util.find_spec("pip") is None:
        skip("this Python has no pip to install " + ", ".join(missing))
    with tempfile.TemporaryDirectory() as folder:
        if shutil.disk_usage(folder).free < SPACE:
            skip(f"{folder} has less than {SPACE >> 30} GB to install {', '.join(missing)} in")
        print(f"installing {', '.join(PACKAGES.values())} into {folder}", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--target", folder]
        if subprocess.run([*pip, *PACKAGES.values()]).returncode != 0:
            skip("pip could not install " + ", ".join(PACKAGES.values()))
        sys.exit(subprocess.run([sys.executable, __file__], env={**os.environ, "PYTHONPATH": folder}).returncode)


with_packages()

import timm  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
import check_text  # noqa: E402
import check_vits  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from hub import encoder  # noqa: E402


def example(name, *args):
    command = ["cargo", "run", "--quiet", "--release", "-p", "portolan-interchange", "--example", name, "--"]
    subprocess.run([*command, *map(str, args)], check=True, cwd=ROOT)


def near(what, library, features, expected):
    largest = expected.abs().max().item()
    difference = (features - expected).abs().max().item() / largest
    print(f"{what:58} {library:12} {tuple(features.shape)!s:12} {difference:.1e}", flush=True)
    return difference < 1e-4


def check_out(scratch):
    """Portolan's encoders in the libraries."""
    good = True
    for name, stem in ENCODERS:
        folder = Path(scratch) / f"{name}-{stem}".removesuffix("--")
        example("hub_folder", name, stem, folder)
        config = json.loads((folder / "config.json").read_text())
        nets = {}
        family = config["portolan"]["family"]
        if family == "vit" or stem == "imagenet" or (family == "convnext" and stem != "2"):
            nets["timm"] = timm.create_model(f"local-dir:{folder}", pretrained=True)
        if family == "resnet":
            nets["torchvision"] = encoder(folder)
        if family == "convnext":
            nets["timm, hub.py"] = encoder(folder)
        check = load_file(folder / "check.safetensors")
        for library, net in nets.items():
            good &= near(f"out  {folder.name}", library, net.eval()(check["images"]), check["features"])
    return good


def moved(net):
    """The network with other weights, biases, scales and statistics than its first: so that a mix-up of them shows."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.rand(tensor.shape, generator=generator)
            usual = tensor.ndim < 2 and not name.endswith(("bias", "running_mean"))
            tensor.copy_(0.5 + drawn if usual else tensor + 0.1 * (drawn - 0.5) * (1 if tensor.ndim < 2 else tensor.std()))
    return net.eval()


def prefixed(prefix, net):
    return {prefix + name: tensor for name, tensor in net.state_dict().items()}


def as_authors(convnext):
    """The weights of timm's ConvNeXt by the names of facebookresearch/ConvNeXt."""
    names = [
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1."),
        (r"\.blocks\.", "."),
        ("conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm", "norm"),
    ]
    renamed = {}
    for name, tensor in convnext.state_dict().items():
        for pattern, theirs in names:
            name = re.sub(pattern, theirs, name)
        renamed[name] = tensor
    return renamed


def check_in(scratch):
    """The libraries' networks in Portolan, as the methods' authors keep them."""
    resnet, wide = torchvision.models.resnet50(), torchvision.models.wide_resnet101_2()
    resnet.fc = wide.fc = torch.nn.Identity()
    vit = lambda name, **args: moved(timm.create_model(name, num_classes=0, **args))  # noqa: E731
    resnet, wide, dino, mae = moved(resnet), moved(wide), vit("vit_small_patch16_224"), vit("vit_base_patch16_224")
    dinov2 = vit("vit_small_patch14_dinov2", img_size=518)
    moco_v3 = vit("vit_small_patch16_224", num_heads=12)
    convnext, nano = vit("convnext_tiny"), vit("convnext_nano")
    sequence = torch.nn.Sequential(*list(resnet.children())[:-1])
    cases = [
        ("MoCo v2", resnet, {"state_dict": prefixed("module.encoder_q.", resnet)}),
        ("MoCo v3, ViT-S", moco_v3, {"state_dict": prefixed("module.base_encoder.", moco_v3)}),
        ("BYOL, in a Sequential", resnet, prefixed("online_network.encoder.", sequence)),
        ("Barlow Twins, VICReg", resnet, resnet.state_dict()),
        ("DINO", dino, {"teacher": prefixed("backbone.", dino), "student": prefixed("module.backbone.", mae)}),
        ("DINOv2, 518 px", dinov2, dinov2.state_dict()),
        ("MAE", mae, {"model": mae.state_dict()}),
        ("torchvision, wide ResNet-101", wide, wide.state_dict()),
        ("timm, ConvNeXt-T", convnext, convnext.state_dict()),
        ("ConvNeXt-T by its authors' names", convnext, {"model": as_authors(convnext)}),
        ("timm, ConvNeXt-nano", nano, nano.state_dict()),
    ]
    good = True
    for i, (name, net, contents) in enumerate(cases):
        size = 518 if net is dinov2 else 224
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
        file, seen, out = (Path(scratch) / f"{i}{end}" for end in (".pth", "-images.safetensors", "-out.safetensors"))
        torch.save(contents, file, _use_new_zipfile_serialization=i != 0)
        save_file({"images": images}, seen)
        example("features_of", file, seen, out)
        good &= near(f"in   {name}", "Portolan", load_file(out)["images.features"], net(images))
        file.unlink()
    return good


def main():
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        good = check_out(scratch)
        good &= check_in(scratch)
        good &= check_vits.check_out(scratch, example, near)
        good &= check_vits.check_in(scratch, example, near, moved)
        good &= check_text.check(ROOT, scratch)
    sys.exit(0 if good else "some features differ by more than 1e-4 of the largest, or text differs")


if __name__ == "__main__":
    main()
