"""Computes the golden values of crates/*/tests/golden with the field's own libraries.

python interop/golden             writes the files
python interop/golden --check     computes them anew and compares: within 1e-6 of each tensor's largest value
"""

import argparse
import sys
import tempfile
from pathlib import Path

import augment
import dense
import encoders
import encoders2
import encoders2_conv
import evaluate
import losses
import optim
import text
import torch
from file import File, difference

ROOT = Path(__file__).parents[2]
# The crate and the module of each file.
FILES = {
    "augment": ("augment", augment),
    "dense": ("evaluate", dense),
    "encoders": ("encoders", encoders),
    "encoders2": ("encoders", encoders2),
    "evaluate": ("evaluate", evaluate),
    "losses": ("losses", losses),
    "optim": ("optim", optim),
    "text": ("sequences", text),
}
KEYS = {"encoder_keys": encoders, "encoder_keys2": encoders2}


def generate(root):
    """Writes all files under `root`; returns their paths relative to it."""
    paths = []
    for name, (crate, module) in FILES.items():
        folder = root / "crates" / crate / "tests" / "golden"
        folder.mkdir(parents=True, exist_ok=True)
        file = File()
        module.fill(file)
        paths.append(folder / f"{name}.safetensors")
        file.save(paths[-1])
    for name, module in KEYS.items():
        paths.append(root / f"crates/encoders/tests/golden/{name}.json")
        module.save_keys(paths[-1])
    file = File()
    encoders2_conv.fill(file)
    paths.append(root / "crates/encoders/tests/golden/encoders2_conv.safetensors")
    file.save(paths[-1])
    paths.append(root / "crates/encoders/tests/golden/encoder_keys2_conv.json")
    encoders2_conv.save_keys(paths[-1])
    paths.append(root / "crates/sequences/tests/golden/encoder_keys2.json")
    text.save_keys(paths[-1])
    for path in paths:
        print(f"{path.stat().st_size:9,} bytes  {path.relative_to(root)}")
    print(f"{sum(path.stat().st_size for path in paths):9,} bytes in all")
    return [path.relative_to(root) for path in paths]


def check():
    """Whether the repository's files are what this machine computes."""
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        for path in generate(Path(scratch)):
            differs = difference(ROOT / path, Path(scratch) / path)
            same = (ROOT / path).read_bytes() == (Path(scratch) / path).read_bytes()
            print(f"{path}: {differs or ('the same bytes' if same else 'within the tolerance')}")
            good &= differs is None
    return good


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--check", action="store_true", help="compare with the repository's files, and write none")
torch.set_num_threads(1)  # sums in one order
if parser.parse_args().check:
    sys.exit(0 if check() else 1)
generate(ROOT)
