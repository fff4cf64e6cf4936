"""Portolan beside lightly on Fashion-MNIST: the same images, encoder, views, batch, epochs and schedule, in turns.

lightly_compare.py PORTOLAN FOLDER [--data FOLDER] [--methods simclr,moco,…] [--seeds 0] [--threads 2] [--epochs N]

For each method and seed it trains with Portolan's recipe `fashion`, then with lightly's modules, losses and transforms by the
settings of that recipe, and measures both encoders with `portolan evaluate --protocol knn,linear`: lightly's is saved with
the names and the description of Portolan's. --data is a folder of IDX files. A run that is there is not repeated. Prints a Markdown table: accuracies, seconds
of training and peak memory. lightly reads decoded images from memory, on a worker of its own if there are several threads.
"""

import argparse
import copy
import gzip
import json
import math
import os
import resource
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
METHODS = ["simclr", "moco", "byol", "simsiam", "barlow", "vicreg", "dino", "mae"]


def recipe(method):
    return tomllib.loads((ROOT / "crates" / method / "recipes" / "fashion.toml").read_text())


def train_with_lightly(data, method, seed, threads, epochs, like, out):
    """Trains and writes `out`/encoder.safetensors, in the form of Portolan's file `like`. Prints seconds and peak memory."""
    import torch
    import torch.nn as nn
    import torchvision
    from lightly.loss import BarlowTwinsLoss, DINOLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
    from lightly.models import utils
    from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM, heads
    from lightly.transforms import DINOTransform, MAETransform, SimCLRTransform
    from PIL import Image
    from safetensors import safe_open
    from safetensors.torch import save_file
    from torchvision.models.resnet import BasicBlock

    config = recipe(method)
    settings, training, encoder = config["settings"], config["training"], config["encoder"]
    torch.set_num_threads(threads)
    torch.manual_seed(seed)

    packed, plain = data / "train-images-idx3-ubyte.gz", data / "train-images-idx3-ubyte"
    pixels = (gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes())[16:]
    gray = [Image.frombytes("L", (28, 28), pixels[i : i + 784]) for i in range(0, len(pixels), 784)]
    images = [image.convert("RGB") for image in gray]
    ops = {op["op"]: op for op in config["views"][0]["ops"]}
    with safe_open(like, "pt") as file:
        metadata = file.metadata()
    shown = json.loads(metadata["shown"])
    normalize = {"mean": shown["mean"], "std": shown["std"]}
    crop = ops["random_resized_crop"]
    jitter = ops.get("color_jitter", {"p": 0.0, "brightness": 0.0, "contrast": 0.0})
    color = {
        "cj_prob": jitter["p"], "cj_strength": 1.0, "cj_bright": jitter["brightness"],
        "cj_contrast": jitter["contrast"], "cj_sat": 0.0, "cj_hue": 0.0, "random_gray_scale": 0.0,
    }
    if method == "mae":
        view = MAETransform(input_size=28, min_scale=crop["scale"][0], normalize=normalize)
    elif method == "dino":
        local = config["views"][1]["ops"][0]
        view = DINOTransform(
            global_crop_size=28, global_crop_scale=tuple(crop["scale"]), local_crop_size=local["size"],
            local_crop_scale=tuple(local["scale"]), n_local_views=config["views"][1]["count"],
            gaussian_blur=(0.0, 0.0, 0.0), solarization_prob=0.0, normalize=normalize, **color,
        )
    else:
        view = SimCLRTransform(
            input_size=28, min_scale=crop["scale"][0], gaussian_blur=0.0, normalize=normalize, **color
        )

    class Views(torch.utils.data.Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, i):
            return view(images[i])

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

    def mlp(sizes, last_norm=None):
        """Linear layers, with batch norm and ReLU between them."""
        blocks = []
        for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
            last = i == len(sizes) - 2
            norm = last_norm if last else nn.BatchNorm1d(outputs)
            blocks.append((inputs, outputs, norm, None if last else nn.ReLU()))
        return heads.ProjectionHead(blocks)

    class SimCLR(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = heads.SimCLRProjectionHead(dim, settings["hidden"], settings["dim"], settings["layers"])
            self.loss = NTXentLoss(settings["temperature"])

        def forward(self, views):
            return self.loss(self.head(backbone(views[0])), self.head(backbone(views[1])))

    class MoCo(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = heads.MoCoProjectionHead(dim, dim, settings["dim"])
            self.key_backbone, self.key_head = copy.deepcopy(backbone), copy.deepcopy(self.head)
            utils.deactivate_requires_grad(self.key_backbone)
            utils.deactivate_requires_grad(self.key_head)
            self.loss = NTXentLoss(settings["temperature"], memory_bank_size=(settings["queue"], settings["dim"]))

        def forward(self, views):
            utils.update_momentum(backbone, self.key_backbone, settings["momentum"])
            utils.update_momentum(self.head, self.key_head, settings["momentum"])
            with torch.no_grad():
                keys = self.key_head(self.key_backbone(views[1]))
            return self.loss(self.head(backbone(views[0])), keys)

    class BYOL(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = heads.BYOLProjectionHead(dim, settings["hidden"], settings["dim"])
            self.predictor = heads.BYOLPredictionHead(settings["dim"], settings["hidden"], settings["dim"])
            self.target, self.target_head = copy.deepcopy(backbone), copy.deepcopy(self.head)
            utils.deactivate_requires_grad(self.target)
            utils.deactivate_requires_grad(self.target_head)
            self.loss = NegativeCosineSimilarity()

        def forward(self, views):
            utils.update_momentum(backbone, self.target, settings["momentum"])
            utils.update_momentum(self.head, self.target_head, settings["momentum"])
            p = [self.predictor(self.head(backbone(x))) for x in views]
            with torch.no_grad():
                z = [self.target_head(self.target(x)) for x in views]
            # Equation 2 of the paper is 2 - 2 cos.
            return 2 * (self.loss(p[0], z[1]) + self.loss(p[1], z[0]))

    class SimSiam(nn.Module):
        def __init__(self):
            super().__init__()
            wide = settings["dim"]
            self.head = mlp([dim] + [wide] * settings["layers"], nn.BatchNorm1d(wide, affine=False))
            self.predictor = heads.SimSiamPredictionHead(wide, settings["predictor_hidden"], wide)
            self.loss = NegativeCosineSimilarity()

        def forward(self, views):
            z = [self.head(backbone(x)) for x in views]
            p = [self.predictor(x) for x in z]
            return 0.5 * (self.loss(p[0], z[1].detach()) + self.loss(p[1], z[0].detach()))

    class Barlow(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = mlp([dim] + [settings["hidden"]] * (settings["layers"] - 1) + [settings["dim"]])
            self.loss = BarlowTwinsLoss(settings["lambda"])

        def forward(self, views):
            return settings["loss_scale"] * self.loss(self.head(backbone(views[0])), self.head(backbone(views[1])))

    class VICReg(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = heads.VICRegProjectionHead(dim, settings["hidden"], settings["dim"], settings["layers"])
            self.loss = VICRegLoss(settings["invariance"], settings["variance"], settings["covariance"])

        def forward(self, views):
            return self.loss(self.head(backbone(views[0])), self.head(backbone(views[1])))

    class DINO(nn.Module):
        def __init__(self):
            super().__init__()

            def head():
                sizes = (dim, settings["hidden"], settings["bottleneck"], settings["dim"])
                head = heads.DINOProjectionHead(
                    *sizes, batch_norm=settings["batch_norm"], freeze_last_layer=settings["freeze_last_layer"],
                    norm_last_layer=settings["norm_last_layer"],
                )
                if settings["layers"] == 2:
                    # lightly's head has three layers, each with batch norm and GELU: leave the second out.
                    head.layers = nn.Sequential(*head.layers[:3], *head.layers[6:])
                return head

            self.head, self.teacher, self.teacher_head = head(), copy.deepcopy(backbone), head()
            self.teacher_head.load_state_dict(self.head.state_dict())
            utils.deactivate_requires_grad(self.teacher)
            utils.deactivate_requires_grad(self.teacher_head)
            temperature = settings["teacher_temperature"]
            self.loss = DINOLoss(
                settings["dim"], settings["teacher_temperature_start"], temperature, 1,
                settings["student_temperature"], settings["center_momentum"],
            )

        def forward(self, views):
            utils.update_momentum(backbone, self.teacher, settings["momentum"])
            utils.update_momentum(self.head, self.teacher_head, settings["momentum"])
            with torch.no_grad():
                teacher = [self.teacher_head(self.teacher(x)) for x in views[:2]]
            student = [self.head(backbone(x)) for x in views]
            return self.loss(teacher, student, epoch=1)

        def before_step(self, epoch):
            self.head.cancel_last_layer_gradients(epoch)
            for parameter in self.parameters():
                if parameter.grad is not None:
                    nn.utils.clip_grad_norm_(parameter, settings["clip"])

    class MAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = (encoder["image"] // encoder["patch"]) ** 2
            self.decoder = MAEDecoderTIMM(
                num_patches=self.patches, patch_size=encoder["patch"], embed_dim=encoder["width"],
                decoder_embed_dim=settings["decoder_width"], decoder_depth=settings["decoder_depth"],
                decoder_num_heads=settings["decoder_heads"],
            )
            self.loss = nn.MSELoss()

        def forward(self, views):
            x, total = views[0], self.patches + 1
            keep, mask = utils.random_token_mask((len(x), total), settings["mask_ratio"])
            hidden = self.decoder.embed(backbone.encode(x, idx_keep=keep))
            tokens = utils.repeat_token(self.decoder.mask_token, (len(x), total))
            tokens = utils.set_at_index(tokens, keep, hidden.type_as(tokens))
            predicted = self.decoder.predict(utils.get_at_index(self.decoder.decode(tokens), mask))
            # The class token comes first.
            truth = utils.get_at_index(utils.patchify(x, encoder["patch"]), mask - 1)
            return self.loss(predicted, truth)

    if method == "mae":
        from timm.models.vision_transformer import VisionTransformer

        vit = VisionTransformer(
            encoder["image"], encoder["patch"], embed_dim=encoder["width"], depth=encoder["depth"],
            num_heads=encoder["heads"], num_classes=0,
        )
        backbone = MaskedVisionTransformerTIMM(vit=vit)
        dim, saved = encoder["width"], vit
    else:
        backbone = ResNet(encoder["width"])
        dim, saved = 8 * encoder["width"], backbone
    kinds = {
        "simclr": SimCLR, "moco": MoCo, "byol": BYOL, "simsiam": SimSiam, "barlow": Barlow, "vicreg": VICReg,
        "dino": DINO, "mae": MAE,
    }
    model = nn.ModuleDict({"backbone": backbone, "method": kinds[method]()})
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": parameters}]
    how, rate = training["optimizer"], training["learning_rate"]
    if method == "mae":
        matrices, others = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
        groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    if method == "simsiam" and settings["predictor_base_rate"]:
        own = set(model["method"].predictor.parameters())
        groups = [{"params": [p for p in parameters if p not in own]}, {"params": list(own)}]
    if how["kind"] == "sgd":
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=how["momentum"], weight_decay=how["weight_decay"])
    else:
        optimizer = torch.optim.AdamW(groups, lr=rate, betas=how["betas"], weight_decay=how["weight_decay"])
    batch, epochs = training["batch_size"], epochs or training["epochs"]
    loader = torch.utils.data.DataLoader(
        Views(), batch, shuffle=True, drop_last=True, num_workers=int(threads > 1), persistent_workers=threads > 1
    )
    steps = epochs * len(loader)
    warmup = min(training["schedule"]["warmup_epochs"], epochs / 4) * len(loader)

    def share(step):
        if step < warmup:
            return step / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

    started, step = time.time(), 0
    model.train()
    for epoch in range(epochs):
        for views in loader:
            for number, group in enumerate(optimizer.param_groups):
                fixed = method == "simsiam" and number == 1
                group["lr"] = rate if fixed else rate * share(step)
            loss = model["method"](views)
            optimizer.zero_grad()
            loss.backward()
            if method == "dino":
                for parameter in backbone.parameters():
                    nn.utils.clip_grad_norm_(parameter, settings["clip"])
                model["method"].before_step(epoch)
            optimizer.step()
            step += 1
    seconds = time.time() - started
    tensors = {}
    with safe_open(like, "pt") as file:
        for name in file.keys():
            tensors[name] = saved.state_dict()[name].contiguous()
            assert tensors[name].shape == file.get_tensor(name).shape, name
    metadata.pop("crc32c", None)
    save_file(tensors, out / "encoder.safetensors", metadata)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    (out / "training.json").write_text(json.dumps({"seconds": seconds, "memory": memory / 1e6}))


def evaluate(portolan, data, encoder):
    """kNN and linear accuracy of an encoder, in percent."""
    out = encoder.parent / "evaluation.json"
    if not out.exists():
        words = [portolan, "evaluate", encoder, "--data", data, "--protocol", "knn,linear", "--device", "cpu"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        written = next(path for path in encoder.parent.glob("*evaluation*.json"))
        written.rename(out)
    found = json.loads(out.read_text())
    starts = ("kNN, k = 20,", "linear probe, L-BFGS")
    return [100 * next(row["top1"] for row in found if row["protocol"].startswith(start)) for start in starts]


def train_with_portolan(portolan, data, method, seed, threads, epochs, out):
    words = [portolan, "pretrain", method, "--recipe", "fashion", "--data", data, "--seed", str(seed)]
    words += ["--threads", str(threads), "--device", "cpu", "--out", out, "--set", "evaluation.baselines=false"]
    words += ["--set", "training.knn_every=0"]
    words += ["--epochs", str(epochs)] if epochs else []
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(map(str, words))} failed")
    seconds = json.loads((out / "report.json").read_text())["seconds"]
    (out / "training.json").write_text(json.dumps({"seconds": seconds, "memory": usage.ru_maxrss / 1e6}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("portolan", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    portolan = args.portolan.resolve()
    if args.worker:
        method, seed, like, out = args.worker
        train_with_lightly(args.data, method, int(seed), args.threads, args.epochs, like, Path(out))
        return
    print("| method | seed | | kNN (%) | linear (%) | training (s) | memory (GB) |\n|---|---|---|---|---|---|---|")
    for method in args.methods.split(","):
        for seed in args.seeds.split(","):
            ours, theirs = (args.folder / f"{name}-{method}-s{seed}" for name in ("portolan", "lightly"))
            if not (ours / "training.json").exists():
                train_with_portolan(portolan, args.data, method, seed, args.threads, args.epochs, ours)
            if not (theirs / "training.json").exists():
                theirs.mkdir(parents=True, exist_ok=True)
                worker = ["--worker", method, seed, ours / "encoder.safetensors", theirs]
                subprocess.run([sys.executable, *sys.argv, *map(str, worker)], check=True)
            for name, out in (("Portolan", ours), ("lightly", theirs)):
                knn, linear = evaluate(portolan, args.data, out / "encoder.safetensors")
                training = json.loads((out / "training.json").read_text())
                cells = [method, seed, name, f"{knn:.1f}", f"{linear:.1f}", f"{training['seconds']:.0f}", f"{training['memory']:.2f}"]
                print("| " + " | ".join(cells) + " |", flush=True)


main()
