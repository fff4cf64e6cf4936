"""Parameters over four steps of an optimizer, and schedules."""

import numpy as np
import torch
from file import unit
from lightly.utils.lars import LARS
from lightly.utils.scheduler import cosine_schedule

SHAPES = {"weight": (4, 6), "bias": (4,), "norm": (6,)}
STEPS = 4


class AuthorsLars(torch.optim.Optimizer):
    """LARS of Barlow Twins' and VICReg's authors: one-dimensional tensors have neither decay nor a trust ratio."""

    def __init__(self, params, lr, momentum, weight_decay, trust_coefficient):
        settings = {"lr": lr, "momentum": momentum, "decay": weight_decay, "coefficient": trust_coefficient}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                update = p.grad
                if p.ndim > 1:
                    update = update + group["decay"] * p
                    update = update * group["coefficient"] * p.norm() / update.norm()
                velocity = self.state[p].get("velocity", torch.zeros_like(p))
                velocity = self.state[p]["velocity"] = group["momentum"] * velocity + update
                p -= group["lr"] * velocity


def steps(file, case, make, note=None, **settings):
    """In float64, from parameters and gradients that float32 holds exactly; stored in float32."""
    seeds = iter(range(100 * len(file.settings) + 1, 100 * len(file.settings) + 100))
    drawn = lambda: {name: unit(next(seeds), *shape).float() for name, shape in SHAPES.items()}  # noqa: E731
    inputs = {f"init.{name}": x for name, x in drawn().items()}
    params = {name: torch.nn.Parameter(inputs[f"init.{name}"].double()) for name in SHAPES}
    optimizer, outputs = make(params, settings), {}
    for step in range(STEPS):
        for name, gradient in drawn().items():
            inputs[f"grad{step}.{name}"] = gradient
            params[name].grad = gradient.double()
        optimizer.step()
        outputs |= {f"step{step}.{name}": p.detach().float() for name, p in params.items()}
    settings |= {"note": note} if note else {}
    file.add(case, settings, in_=inputs, out_=outputs)


def sgd(params, settings):
    return torch.optim.SGD(params.values(), **settings)


def adamw(params, settings):
    betas = (settings["beta1"], settings["beta2"])
    others = {name: value for name, value in settings.items() if not name.startswith("beta")}
    return torch.optim.AdamW(params.values(), betas=betas, **others)


def lars(params, settings):
    decayed = [p for p in params.values() if p.ndim > 1]
    others = [p for p in params.values() if p.ndim == 1]
    return LARS([{"params": decayed}, {"params": others, "weight_decay": 0.0}], **settings)


def lars_authors(params, settings):
    return AuthorsLars(params.values(), **settings)


def cosine_warmup(total_steps, warmup_steps, start, base, final):
    """DINO's: the warm-up reaches `base`, and the value after the last step would be `final`."""
    cosine = np.arange(total_steps - warmup_steps) / (total_steps - warmup_steps)
    cosine = final + 0.5 * (base - final) * (1 + np.cos(np.pi * cosine))
    return np.concatenate([np.linspace(start, base, warmup_steps), cosine])


def fill(file):
    steps(file, "sgd", sgd, lr=0.05, momentum=0.9, weight_decay=1e-3)
    steps(file, "adamw", adamw, lr=0.02, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1)
    layers = {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.02, "trust_coefficient": 0.002}
    note = (
        "lightly: trust ratio = coefficient * |p| / (|g| + wd |p|); one-dimensional tensors take no weight decay, "
        "and so no trust ratio"
    )
    steps(file, "lars", lars, note=note, **layers)
    note = (
        "trust ratio = coefficient * |p| / |g + wd p|; one-dimensional tensors take neither decay nor trust ratio"
    )
    steps(file, "lars_authors", lars_authors, note=note, **layers)
    settings = {"base": 3.2, "final": 0.01, "warmup_steps": 7, "total_steps": 60, "start": 0.1}
    file.add("cosine_warmup", settings, out_values=torch.from_numpy(cosine_warmup(**settings)))
    settings = {"base": 0.99, "final": 1.0, "total_steps": 60}
    values = [cosine_schedule(step, 60, settings["base"], settings["final"]) for step in range(60)]
    file.add("momentum_cosine", settings, out_values=torch.tensor(values, dtype=torch.float64))
