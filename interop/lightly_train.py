"""Trains an encoder with lightly's modules, losses and transforms, by the settings of Portolan's recipe `fashion`.

lightly_train.py DATA METHOD SEED THREADS EPOCHS LIKE OUT

Called by lightly_compare.py. DATA is a folder of IDX files; EPOCHS of 0 are the recipe's. Writes OUT/encoder.safetensors with
the names and the description of Portolan's encoder file LIKE, and OUT/training.json with seconds and peak memory.
"""

import copy
import gzip
import json
import math
import resource
import sys
import time
import tomllib
from pathlib import Path

import torch
import torch.nn as nn
import torchvision
from lightly.loss import BarlowTwinsLoss, DINOLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
from lightly.models import utils
from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM, heads
from lightly.transforms import DINOTransform, MAETransform, SimCLRTransform
from lightly.utils.scheduler import cosine_schedule
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torchvision.models.resnet import BasicBlock

ROOT = Path(__file__).resolve().parent.parent


def recipe(method):
    return tomllib.loads((ROOT / "crates" / method / "recipes" / "fashion.toml").read_text())


# Images and views


class Views(torch.utils.data.Dataset):
    """The views of the training images of a folder of IDX files, which are kept decoded."""

    def __init__(self, folder, view):
        packed, plain = folder / "train-images-idx3-ubyte.gz", folder / "train-images-idx3-ubyte"
        pixels = (gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes())[16:]
        gray = [Image.frombytes("L", (28, 28), pixels[i : i + 784]) for i in range(0, len(pixels), 784)]
        self.images, self.view = [image.convert("RGB") for image in gray], view

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.view(self.images[i])


def transform(method, config, normalize):
    """lightly's transform for the views of the recipe."""
    ops = {op["op"]: op for op in config["views"][0]["ops"]}
    crop = ops["random_resized_crop"]
    jitter = ops.get("color_jitter", {"p": 0.0, "brightness": 0.0, "contrast": 0.0})
    color = {
        "cj_prob": jitter["p"], "cj_strength": 1.0, "cj_bright": jitter["brightness"],
        "cj_contrast": jitter["contrast"], "cj_sat": 0.0, "cj_hue": 0.0, "random_gray_scale": 0.0,
    }
    if method == "mae":
        return MAETransform(input_size=28, min_scale=crop["scale"][0], normalize=normalize)
    if method == "dino":
        local = config["views"][1]["ops"][0]
        return DINOTransform(
            global_crop_size=28, global_crop_scale=tuple(crop["scale"]), local_crop_size=local["size"],
            local_crop_scale=tuple(local["scale"]), n_local_views=config["views"][1]["count"],
            gaussian_blur=(0.0, 0.0, 0.0), solarization_prob=0.0, normalize=normalize, **color,
        )
    return SimCLRTransform(input_size=28, min_scale=crop["scale"][0], gaussian_blur=0.0, normalize=normalize, **color)


# Networks


class ResNet(nn.Module):
    """torchvision's ResNet-18 of another width, with a stem of 3×3 and stride 2."""

    def __init__(self, width):
        super().__init__()
        net = torchvision.models.ResNet(BasicBlock, [2, 2, 2, 2])
        self.conv1 = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU(True)
        net.inplanes = width
        self.layer1 = net._make_layer(BasicBlock, width, 2)
        self.layer2 = net._make_layer(BasicBlock, 2 * width, 2, 2)
        self.layer3 = net._make_layer(BasicBlock, 4 * width, 2, 2)
        self.layer4 = net._make_layer(BasicBlock, 8 * width, 2, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


def networks(encoder):
    """The backbone, the width of its features, and the module whose weights are saved."""
    if encoder["family"] == "resnet":
        backbone = ResNet(encoder["width"])
        return backbone, 8 * encoder["width"], backbone
    vit = VisionTransformer(
        encoder["image"], encoder["patch"], embed_dim=encoder["width"], depth=encoder["depth"],
        num_heads=encoder["heads"], num_classes=0,
    )
    return MaskedVisionTransformerTIMM(vit=vit), encoder["width"], vit


def mlp(sizes, last_norm=None):
    """Linear layers, with batch norm and ReLU between them."""
    blocks = []
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        last = i == len(sizes) - 2
        norm = last_norm if last else nn.BatchNorm1d(outputs)
        blocks.append((inputs, outputs, norm, None if last else nn.ReLU()))
    return heads.ProjectionHead(blocks)


# Methods: each gives the loss of a batch of views. `s` are the method's settings in the recipe.


class SimCLR(nn.Module):
    def __init__(self, backbone, dim, s, encoder):
        super().__init__()
        self.backbone = backbone
        self.head = heads.SimCLRProjectionHead(dim, s["hidden"], s["dim"], s["layers"])
        self.loss = NTXentLoss(s["temperature"])

    def forward(self, views):
        return self.loss(*(self.head(self.backbone(x)) for x in views))


class MoCo(nn.Module):
    def __init__(self, backbone, dim, s, encoder):
        super().__init__()
        self.backbone, self.momentum = backbone, s["momentum"]
        self.head = heads.MoCoProjectionHead(dim, dim, s["dim"])
        self.key_backbone, self.key_head = copy.deepcopy(backbone), copy.deepcopy(self.head)
        utils.deactivate_requires_grad(self.key_backbone)
        utils.deactivate_requires_grad(self.key_head)
        self.loss = NTXentLoss(s["temperature"], memory_bank_size=(s["queue"], s["dim"]))

    def forward(self, views):
        utils.update_momentum(self.backbone, self.key_backbone, self.momentum)
        utils.update_momentum(self.head, self.key_head, self.momentum)
        with torch.no_grad():
            keys = self.key_head(self.key_backbone(views[1]))
        return self.loss(self.head(self.backbone(views[0])), keys)


class BYOL(nn.Module):
    def __init__(self, backbone, dim, s, encoder):
        super().__init__()
        self.backbone, self.first_momentum = backbone, s["momentum"]
        self.head = heads.BYOLProjectionHead(dim, s["hidden"], s["dim"])
        self.predictor = heads.BYOLPredictionHead(s["dim"], s["hidden"], s["dim"])
        self.target, self.target_head = copy.deepcopy(backbone), copy.deepcopy(self.head)
        utils.deactivate_requires_grad(self.target)
        utils.deactivate_requires_grad(self.target_head)
        self.loss = NegativeCosineSimilarity()

    def forward(self, views):
        utils.update_momentum(self.backbone, self.target, self.momentum)
        utils.update_momentum(self.head, self.target_head, self.momentum)
        p = [self.predictor(self.head(self.backbone(x))) for x in views]
        with torch.no_grad():
            z = [self.target_head(self.target(x)) for x in views]
        # Equation 2 of the paper is 2 - 2 cos.
        return 2 * (self.loss(p[0], z[1]) + self.loss(p[1], z[0]))


class SimSiam(nn.Module):
    def __init__(self, backbone, dim, s, encoder):
        super().__init__()
        self.backbone, wide = backbone, s["dim"]
        self.head = mlp([dim] + [wide] * s["layers"], nn.BatchNorm1d(wide, affine=False))
        self.predictor = heads.SimSiamPredictionHead(wide, s["predictor_hidden"], wide)
        self.loss = NegativeCosineSimilarity()

    def forward(self, views):
        z = [self.head(self.backbone(x)) for x in views]
        p = [self.predictor(x) for x in z]
        return 0.5 * (self.loss(p[0], z[1].detach()) + self.loss(p[1], z[0].detach()))


class Barlow(nn.Module):
    def __init__(self, backbone, dim, s, encoder):
        super().__init__()
        self.backbone, self.scale = backbone, s["loss_scale"]
        self.head = mlp([dim] + [s["hidden"]] * (s["layers"] - 1) + [s["dim"]])
        self.loss = BarlowTwinsLoss(s["lambda"])

    def forward(self, views):
        return self.scale * self.loss(*(self.head(self.backbone(x)) for x in views))


class VICReg(nn.Module):
    def __init__(self, backbone, dim, s, encoder):
        super().__init__()
        self.backbone = backbone
        self.head = heads.VICRegProjectionHead(dim, s["hidden"], s["dim"], s["layers"])
        self.loss = VICRegLoss(s["invariance"], s["variance"], s["covariance"])

    def forward(self, views):
        return self.loss(*(self.head(self.backbone(x)) for x in views))


class DINO(nn.Module):
    def __init__(self, backbone, dim, s, encoder):
        super().__init__()
        self.backbone, self.first_momentum, self.clip = backbone, s["momentum"], s["clip"]
        self.head, self.teacher, self.teacher_head = self.new_head(dim, s), copy.deepcopy(backbone), self.new_head(dim, s)
        self.teacher_head.load_state_dict(self.head.state_dict())
        utils.deactivate_requires_grad(self.teacher)
        utils.deactivate_requires_grad(self.teacher_head)
        temperatures = s["teacher_temperature_start"], s["teacher_temperature"]
        self.loss = DINOLoss(s["dim"], *temperatures, 1, s["student_temperature"], s["center_momentum"])

    @staticmethod
    def new_head(dim, s):
        head = heads.DINOProjectionHead(
            dim, s["hidden"], s["bottleneck"], s["dim"], batch_norm=s["batch_norm"],
            freeze_last_layer=s["freeze_last_layer"], norm_last_layer=s["norm_last_layer"],
        )
        if s["layers"] == 2:
            # lightly's head has three layers, each with batch norm and GELU: leave the second out.
            head.layers = nn.Sequential(*head.layers[:3], *head.layers[6:])
        return head

    def forward(self, views):
        utils.update_momentum(self.backbone, self.teacher, self.momentum)
        utils.update_momentum(self.head, self.teacher_head, self.momentum)
        with torch.no_grad():
            teacher = [self.teacher_head(self.teacher(x)) for x in views[:2]]
        student = [self.head(self.backbone(x)) for x in views]
        return self.loss(teacher, student, epoch=1)

    def before_step(self, epoch):
        self.head.cancel_last_layer_gradients(epoch)
        for parameter in self.parameters():
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_(parameter, self.clip)


class MAE(nn.Module):
    def __init__(self, backbone, dim, s, encoder):
        super().__init__()
        self.backbone, self.patch, self.mask_ratio = backbone, encoder["patch"], s["mask_ratio"]
        self.patches = (encoder["image"] // self.patch) ** 2
        self.decoder = MAEDecoderTIMM(
            num_patches=self.patches, patch_size=self.patch, embed_dim=dim, decoder_embed_dim=s["decoder_width"],
            decoder_depth=s["decoder_depth"], decoder_num_heads=s["decoder_heads"],
        )
        self.loss = nn.MSELoss()

    def forward(self, views):
        x, total = views[0], self.patches + 1
        keep, mask = utils.random_token_mask((len(x), total), self.mask_ratio)
        hidden = self.decoder.embed(self.backbone.encode(x, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, (len(x), total))
        tokens = utils.set_at_index(tokens, keep, hidden.type_as(tokens))
        predicted = self.decoder.predict(utils.get_at_index(self.decoder.decode(tokens), mask))
        # The class token comes first.
        truth = utils.get_at_index(utils.patchify(x, self.patch), mask - 1)
        return self.loss(predicted, truth)


METHODS = {
    "simclr": SimCLR, "moco": MoCo, "byol": BYOL, "simsiam": SimSiam, "barlow": Barlow, "vicreg": VICReg, "dino": DINO,
    "mae": MAE,
}


# Training


def optimizer_of(method, model, config):
    """The recipe's optimizer. A group with `fixed` keeps its learning rate."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": parameters}]
    if method == "mae":
        matrices, others = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
        groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    if method == "simsiam" and config["settings"]["predictor_base_rate"]:
        own = set(model.predictor.parameters())
        groups = [{"params": [p for p in parameters if p not in own]}, {"params": list(own), "fixed": True}]
    how, rate = config["training"]["optimizer"], config["training"]["learning_rate"]
    if how["kind"] == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=how["momentum"], weight_decay=how["weight_decay"])
    return torch.optim.AdamW(groups, lr=rate, betas=how["betas"], weight_decay=how["weight_decay"])


def train(model, loader, optimizer, training, epochs):
    steps = epochs * len(loader)
    warmup = min(training["schedule"]["warmup_epochs"], epochs / 4) * len(loader)

    def share(step):
        if step < warmup:
            return step / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

    step = 0
    model.train()
    for epoch in range(epochs):
        for views in loader:
            for group in optimizer.param_groups:
                group["lr"] = training["learning_rate"] * (1.0 if group.get("fixed") else share(step))
            if isinstance(model, (BYOL, DINO)):
                model.momentum = cosine_schedule(step, steps, model.first_momentum, 1.0)
            loss = model(views)
            optimizer.zero_grad()
            loss.backward()
            if isinstance(model, DINO):
                model.before_step(epoch)
            optimizer.step()
            step += 1


def save(saved, like, metadata, out):
    """The weights with the names of the file `like`, which has its shapes."""
    tensors = {}
    with safe_open(like, "pt") as file:
        for name in file.keys():
            tensors[name] = saved.state_dict()[name].contiguous()
            assert tensors[name].shape == file.get_tensor(name).shape, name
    metadata.pop("crc32c", None)
    save_file(tensors, out / "encoder.safetensors", metadata)


def main():
    data, method, seed, threads, epochs, like, out = sys.argv[1:]
    threads, out = int(threads), Path(out)
    config = recipe(method)
    training = config["training"]
    torch.set_num_threads(threads)
    torch.manual_seed(int(seed))
    with safe_open(like, "pt") as file:
        metadata = file.metadata()
    shown = json.loads(metadata["shown"])
    view = transform(method, config, {"mean": shown["mean"], "std": shown["std"]})
    loader = torch.utils.data.DataLoader(
        Views(Path(data), view), training["batch_size"], shuffle=True, drop_last=True, num_workers=int(threads > 1),
        persistent_workers=threads > 1,
    )
    backbone, dim, saved = networks(config["encoder"])
    model = METHODS[method](backbone, dim, config["settings"], config["encoder"])
    optimizer = optimizer_of(method, model, config)
    started = time.time()
    train(model, loader, optimizer, training, int(epochs) or training["epochs"])
    seconds = time.time() - started
    save(saved, like, metadata, out)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    (out / "training.json").write_text(json.dumps({"seconds": seconds, "memory": memory / 1e6}))


main()
