"""Losses, their gradients, and what else they compute. lightly's where it has them."""

import torch
from file import unit
from lightly.loss import BarlowTwinsLoss, DINOLoss, KoLeoLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
from lightly.models.utils import normalize_mean_var, patchify
from torch.nn.functional import cross_entropy, mse_loss, normalize


def info_nce_queue(q, const_k, const_queue, temperature):
    loss = NTXentLoss(temperature, memory_bank_size=tuple(const_queue.shape))
    loss.memory_bank.bank = const_queue.clone()
    return loss(q, const_k)


def moco_v3(q, const_k, temperature):
    """Algorithm 1 of arXiv:2104.02057."""
    logits = normalize(q, dim=1) @ normalize(const_k, dim=1).T / temperature
    return 2 * temperature * cross_entropy(logits, torch.arange(len(q)))


def vicreg(z_a, z_b, invariance, variance, covariance, eps):
    return VICRegLoss(invariance, variance, covariance, eps=eps)(z_a, z_b)


def dino(student, const_teacher, const_center, student_temperature, teacher_temperature, center_momentum):
    loss = DINOLoss(len(const_center), student_temp=student_temperature, center_momentum=center_momentum)
    loss.center = const_center.reshape(1, 1, -1).clone()
    value = loss(list(const_teacher), list(student), teacher_temp=teacher_temperature)
    return value, {"center": loss.center.flatten()}


def alignment(x, y, alpha):
    """Section 4.1.1 of arXiv:2005.10242."""
    return (normalize(x, dim=1) - normalize(y, dim=1)).norm(dim=1).pow(alpha).mean()


def uniformity(x, t):
    """Section 4.1.2 of arXiv:2005.10242."""
    return torch.pdist(normalize(x, dim=1)).pow(2).mul(-t).exp().mean().log()


def mae(pred, const_image, const_mask, patch, norm_pix):
    """The mean squared error of the hidden patches: section 3 of arXiv:2111.06377."""
    target = patchify(const_image, patch)
    if norm_pix:
        target = normalize_mean_var(target)
    hidden = const_mask.bool()
    return mse_loss(pred[hidden], target[hidden]), {"target": target}


def add(file, case, function, inputs, note=None, **settings):
    """The case in float64, from inputs that float32 holds exactly; stored in float32."""
    inputs = {name: x.float() for name, x in inputs.items()}
    wide = {name: x.double().requires_grad_(not name.startswith("const_")) for name, x in inputs.items()}
    arguments = {("lambda_param" if name == "lambda" else name): value for name, value in settings.items()}
    result = function(**wide, **arguments)
    loss, others = result if isinstance(result, tuple) else (result, {})
    loss.backward()
    outputs = {name: x.float() for name, x in {"loss": loss.reshape(1), **others}.items()}
    gradients = {name: x.grad.float() for name, x in wide.items() if x.requires_grad}
    settings |= {"note": note} if note else {}
    file.add(case, settings, in_=inputs, out_=outputs, grad_=gradients)


def fill(file):
    batch, dim = 5, 16
    seeds = iter(range(1, 1000))

    def rows(*names, rows=batch):
        return {name: unit(next(seeds), rows, dim) for name in names}

    def queue(length):
        return {"const_queue": normalize(unit(next(seeds), length, dim), dim=1)}

    for i, temperature in enumerate([0.5, 0.2, 0.05]):
        nt_xent = lambda z_a, z_b, temperature: NTXentLoss(temperature)(z_a, z_b)  # noqa: E731
        add(file, f"nt_xent_{i}", nt_xent, rows("z_a", "z_b"), temperature=temperature)
    for i, (temperature, length) in enumerate([(0.1, 37), (0.07, 80)]):
        inputs = rows("q", "const_k") | queue(length)
        add(file, f"info_nce_queue_{i}", info_nce_queue, inputs, temperature=temperature)
    add(file, "moco_v3", moco_v3, rows("q", "const_k"), note="one direction: 2 t CE(q k^T / t)", temperature=0.3)
    cosine = NegativeCosineSimilarity()
    similarity = lambda p, const_z: cosine(p, const_z)  # noqa: E731
    add(file, "negative_cosine", similarity, rows("p", "const_z"), note="SimSiam, one direction")
    byol = lambda p, const_z: 2 + 2 * cosine(p, const_z)  # noqa: E731
    add(file, "byol", byol, rows("p", "const_z"), note="one direction: 2 - 2 cos")
    for i, weight in enumerate([0.005, 0.0078]):
        barlow = lambda z_a, z_b, lambda_param: BarlowTwinsLoss(lambda_param)(z_a, z_b)  # noqa: E731
        note = "features standardized by the biased variance, eps 1e-5"
        add(file, f"barlow_twins_{i}", barlow, rows("z_a", "z_b", rows=9), note=note, **{"lambda": weight})
    weights = {"invariance": 20.0, "variance": 30.0, "covariance": 2.0, "eps": 1e-4}
    add(file, "vicreg", vicreg, rows("z_a", "z_b", rows=9), **weights)
    for i, (views, settings) in enumerate([(2, (0.1, 0.06, 0.9)), (5, (0.2, 0.04, 0.95))]):
        names = ("student_temperature", "teacher_temperature", "center_momentum")
        inputs = {
            "student": unit(next(seeds), views, batch, dim),
            "const_teacher": unit(next(seeds), 2, batch, dim),
            "const_center": 0.3 * unit(next(seeds), dim),
        }
        note = (
            "tensors [views, batch, dim]; the first views of the student are the teacher's; "
            "out.center is the center after the update"
        )
        add(file, f"dino_{i}", dino, inputs, note=note, **dict(zip(names, settings)))
    koleo = lambda x, eps: KoLeoLoss(eps=eps)(x)  # noqa: E731
    add(file, "koleo", koleo, rows("x"), eps=1e-8)
    for i, alpha in enumerate([2.0, 1.0]):
        add(file, f"alignment_{i}", alignment, rows("x", "y"), alpha=alpha)
    for i, t in enumerate([2.0, 3.0]):
        add(file, f"uniformity_{i}", uniformity, rows("x"), t=t)
    for i, (patch, norm_pix) in enumerate([(4, False), (3, True)]):
        patches, numbers = (12 // patch) ** 2, 3 * patch**2
        inputs = {
            "pred": unit(next(seeds), 2, patches, numbers),
            "const_image": unit(next(seeds), 2, 3, 12, 12),
            "const_mask": unit(next(seeds), 2, patches) > -0.8,
        }
        note = (
            "patch vectors ordered (row, column, channel); mask 1 = hidden; "
            "out.target is the patchified (normalized) image"
        )
        add(file, f"mae_{i}", mae, inputs, note=note, patch=patch, norm_pix=norm_pix)
