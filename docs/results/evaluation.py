"""Prints numbers of an evaluation.json as the cells of a Markdown row: `evaluation.py FILE WHAT …`.

WHAT is knn, linear, linear_dinov2, finetune or scratch (accuracies in %), or the path of a number, such as
linear_dense.mean_iou. A number that is not there is a dash.
"""

import json
import sys

STARTS = {
    "knn": "kNN, k = 20,",
    "linear": "linear probe, L-BFGS",
    "linear_dinov2": "linear-dinov2",
    "finetune": "fine-tuned",
    "scratch": "from scratch",
}


def at(node, path):
    """The number at this path, below any node."""
    inner = node
    for key in path:
        inner = inner.get(key) if isinstance(inner, dict) else None
    if isinstance(inner, (int, float)):
        return inner
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return next((found for each in below if (found := at(each, path)) is not None), None)


def cell(results, what):
    if what in STARTS:
        named = (each for each in results if each.get("protocol", "").startswith(STARTS[what]))
        found = next((each["top1"] for each in named), None)
        return "–" if found is None else f"{100 * found:.1f}"
    found = at(results, what.split("."))
    return "–" if found is None else f"{found:.3f}"


if __name__ == "__main__":
    file, *wanted = sys.argv[1:]
    with open(file) as opened:
        results = json.load(opened)
    print(" | ".join(cell(results, what) for what in wanted))
