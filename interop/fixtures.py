"""The small files of crates/interchange/tests/files: checkpoints with the names and shapes of the authors', written by PyTorch.

python interop/fixtures.py             wants torch, torchvision and timm

A tensor is one number, seen as if it filled the tensor, so that a whole ResNet-50 takes some kilobytes; the number tells the
tensor's name (`mark`), by which the tests see that each has come to its place.
"""

import argparse
import collections
import os
import pickle
import struct
import zipfile
from pathlib import Path

import timm
import torch
import torchvision

FILES = Path(__file__).parents[1] / "crates/interchange/tests/files"


def mark(name):
    number = 7
    for byte in name.encode():
        number = (number * 31 + byte) % 65521
    return number / 65536


def thin(named_shapes):
    """All tensors as views of one storage, each of a number of its own."""
    marks = torch.tensor([mark(name) for _, name, _ in named_shapes])
    out = collections.OrderedDict()
    for i, (full, _, shape) in enumerate(named_shapes):
        out[full] = marks[i : i + 1].expand(shape) if shape else marks[i]
    return out


def entries(prefix, net, rename=lambda name: name, drop=("fc.", "head.")):
    named = [(name, tuple(t.shape)) for name, t in net.state_dict().items() if not name.startswith(drop)]
    return [(prefix + rename(name), name, shape) for name, shape in named]


def extra(**shapes):
    return [(name.replace("__", "."), name, shape) for name, shape in shapes.items()]


def under(prefix, **shapes):
    return [(prefix + name, own, shape) for name, own, shape in extra(**shapes)]


def resnet50():
    with torch.device("meta"):
        return torchvision.models.resnet50()


def vit(name, **args):
    with torch.device("meta"):
        return timm.create_model(name, num_classes=0, **args)


def optimizer():
    return {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.03, "params": [0]}]}


def in_sequence(name):
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    first, _, rest = name.partition(".")
    return f"{places[first]}.{rest}"


class Runs:
    def __reduce__(self):
        return os.system, ("echo this must never run",)


def main():
    FILES.mkdir(exist_ok=True)
    net, small, base = resnet50(), vit("vit_small_patch16_224"), vit("vit_base_patch16_224")
    moco = (
        entries("module.encoder_q.", net)
        + under("module.encoder_q.", fc__0__weight=(2048, 2048), fc__2__weight=(128, 2048))
        + entries("module.encoder_k.", net)
        + extra(module__queue=(128, 65536), module__queue_ptr=(1,))
    )
    moco = {"epoch": 200, "arch": "resnet50", "state_dict": thin(moco), "optimizer": optimizer()}
    torch.save(moco, FILES / "moco_v2_800ep_pretrain.pth.tar", _use_new_zipfile_serialization=False)
    moco_v3 = (
        entries("module.base_encoder.", small)
        + under("module.base_encoder.", head__0__weight=(4096, 384))
        + entries("module.momentum_encoder.", small)
        + under("module.predictor.", **{"0__weight": (4096, 256)})
    )
    torch.save({"epoch": 300, "arch": "vit_small", "state_dict": thin(moco_v3)}, FILES / "moco_v3_vit-s-300ep.pth.tar")
    simclr = entries("", net) + extra(fc__weight=(1000, 2048), fc__bias=(1000,))
    torch.save({"state_dict": thin(simclr)}, FILES / "simclr_resnet50-1x.pth")
    byol = (
        entries("online_network.encoder.", net, in_sequence)
        + under("online_network.projection.", net__0__weight=(4096, 2048))
        + entries("target_network.encoder.", net, in_sequence)
    )
    torch.save(thin(byol), FILES / "byol_sequence.pth")
    barlow = (
        entries("module.backbone.", net)
        + under("module.projector.", **{"0__weight": (8192, 2048)})
        + under("module.bn.", running_mean=(8192,))
    )
    torch.save({"epoch": 1000, "model": thin(barlow), "optimizer": optimizer()}, FILES / "barlow_checkpoint.pth")
    torch.save(thin(entries("", net)), FILES / "vicreg_resnet50.pth")
    dino = {
        "student": thin(entries("module.backbone.", small) + under("module.head.", mlp__0__weight=(2048, 384))),
        "teacher": thin(entries("backbone.", small) + under("head.", mlp__0__weight=(2048, 384))),
        "optimizer": optimizer(),
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
        "dino_loss": thin(extra(center=(1, 65536))),
    }
    torch.save(dino, FILES / "dino_deitsmall16_pretrain_full_checkpoint.pth")
    dinov2 = vit("vit_small_patch14_dinov2")
    torch.save(thin(entries("", dinov2) + extra(mask_token=(1, 384))), FILES / "dinov2_vits14_pretrain.pth")
    registers = vit("vit_small_patch14_reg4_dinov2")
    registers = entries("", registers, lambda name: name.replace("reg_token", "register_tokens"))
    # The authors' also have a place for the class token, and a mask token.
    places = {"pos_embed": (1, 1 + 37 * 37, 384)}
    registers = [(full, name, places.get(name, shape)) for full, name, shape in registers] + extra(mask_token=(1, 384))
    torch.save(thin(registers), FILES / "dinov2_vits14_reg4_pretrain.pth")
    mae = entries("", base) + extra(mask_token=(1, 1, 512), decoder_pos_embed=(1, 197, 512), decoder_pred__weight=(768, 512))
    mae = {"model": thin(mae), "epoch": 800, "args": argparse.Namespace(model="mae_vit_base_patch16")}
    torch.save(mae, FILES / "mae_pretrain_vit_base_full.pth")
    with torch.device("meta"):
        grouped = torchvision.models.resnext50_32x4d()
    torch.save(thin(entries("", grouped)), FILES / "resnext50_32x4d.pth")

    harm = pickle.dumps({"state_dict": Runs()}, protocol=2)
    with zipfile.ZipFile(FILES / "harm.pth", "w") as archive:
        archive.writestr("harm/data.pkl", harm)
        archive.writestr("harm/version", "3\n")
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    (FILES / "harm_old.pth").write_bytes(magic + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + harm + struct.pack("<q", 0))


if __name__ == "__main__":
    main()
