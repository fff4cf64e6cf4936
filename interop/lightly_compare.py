"""Portolan beside lightly on Fashion-MNIST: the same images, encoder, views, batch, epochs and schedule, in turns.

lightly_compare.py PORTOLAN FOLDER [--data FOLDER] [--methods simclr,moco,…] [--seeds 0] [--threads 2] [--epochs N]

For each method and seed it trains with Portolan's recipe `fashion`, then with lightly by the settings of that recipe
(lightly_train.py), and measures both encoders with `portolan evaluate --protocol knn,linear`: lightly's is saved with the
names and the description of Portolan's. --data is a folder of IDX files. A run that is there is not repeated. Prints a
Markdown table: accuracies, seconds of training and peak memory. lightly reads decoded images from memory, on a worker of its
own if there are several threads.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

METHODS = ["simclr", "moco", "byol", "simsiam", "barlow", "vicreg", "dino", "mae"]
LIGHTLY = Path(__file__).resolve().with_name("lightly_train.py")


def evaluate(portolan, data, encoder):
    """kNN and linear accuracy of an encoder, in percent."""
    out = encoder.parent / "evaluation.json"
    if not out.exists():
        words = [portolan, "evaluate", encoder, "--data", data, "--protocol", "knn,linear", "--device", "cpu"]
        subprocess.run([*words, "--out", out], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
    args = parser.parse_args()
    portolan = args.portolan.resolve()
    print("| method | seed | | kNN (%) | linear (%) | training (s) | memory (GB) |\n|---|---|---|---|---|---|---|")
    for method in args.methods.split(","):
        for seed in args.seeds.split(","):
            ours, theirs = (args.folder / f"{name}-{method}-s{seed}" for name in ("portolan", "lightly"))
            if not (ours / "training.json").exists():
                train_with_portolan(portolan, args.data, method, seed, args.threads, args.epochs, ours)
            if not (theirs / "training.json").exists():
                theirs.mkdir(parents=True, exist_ok=True)
                words = [args.data, method, seed, args.threads, args.epochs, ours / "encoder.safetensors", theirs]
                subprocess.run([sys.executable, LIGHTLY, *map(str, words)], check=True)
            for name, out in (("Portolan", ours), ("lightly", theirs)):
                knn, linear = evaluate(portolan, args.data, out / "encoder.safetensors")
                training = json.loads((out / "training.json").read_text())
                figures = f"{knn:.1f} | {linear:.1f} | {training['seconds']:.0f} | {training['memory']:.2f}"
                print(f"| {method} | {seed} | {name} | {figures} |", flush=True)


main()
