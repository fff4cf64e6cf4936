"""Scores of segmentation by torchmetrics, and of depth by their formulas."""

import torch
from file import unit
from torchmetrics.functional.classification import multiclass_jaccard_index

CLASSES, IGNORE = 7, 255


def segmentation():
    """Predicted and true classes: the truth, some of it ignored, and a prediction that is right about half of the time."""
    shape = (4, 11, 13)
    pick = lambda seed: (unit(seed, *shape) * 1000).abs().long() % CLASSES  # noqa: E731
    truth = pick(11)
    predicted = torch.where(unit(12, *shape) > 0, truth, pick(13))
    truth = torch.where(unit(14, *shape) > 1.4, IGNORE, truth)
    return predicted, truth


def depth():
    """Predicted and true depths in meters, some of them missing (0)."""
    shape = (3, 9, 12)
    truth = (3 + 1.5 * unit(21, *shape)).float()
    predicted = (truth * (1 + 0.25 * unit(22, *shape))).float()
    return predicted, torch.where(unit(23, *shape) > 1.3, 0.0, truth).float()


def fill(file):
    predicted, truth = segmentation()
    settings = {"classes": CLASSES, "ignore": IGNORE, "note": "intersection over union over all pixels of all images"}
    of = lambda average: multiclass_jaccard_index(  # noqa: E731
        predicted, truth, CLASSES, average=average, ignore_index=IGNORE
    ).float()
    inputs = {"predicted": predicted, "truth": truth}
    file.add("segmentation", settings, in_=inputs, out_iou=of("none"), out_mean_iou=of("macro").reshape(1))
    predicted, truth = depth()
    known = truth > 0
    p, t = predicted[known].double(), truth[known].double()
    outputs = {
        "rmse": (p - t).square().mean().sqrt(),
        "abs_rel": ((p - t).abs() / t).mean(),
        "delta1": (torch.maximum(p / t, t / p) < 1.25).double().mean(),
    }
    file.add(
        "depth",
        {"note": "over all pixels whose depth is above 0"},
        in_={"predicted": predicted, "truth": truth},
        out_={name: x.float().reshape(1) for name, x in outputs.items()},
    )
