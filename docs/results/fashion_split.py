"""Splits the training images of Fashion-MNIST for tuning: the last tenth is held out, the test images are not touched.

fashion_split.py FOLDER [SOURCE] writes IDX files to FOLDER: the first 54,000 training images of SOURCE (Debian's package)
to train on, and its last 6,000 training images where the test images would be.
"""

import gzip
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1])
SOURCE = Path(sys.argv[2] if len(sys.argv) > 2 else "/usr/share/datasets/fashion-mnist")
HELD_OUT = 6_000
FOLDER.mkdir(parents=True, exist_ok=True)
for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
    data = gzip.open(SOURCE / f"train-{kind}-ubyte.gz").read()
    count = int.from_bytes(data[4:8], "big")
    size = (len(data) - header) // count
    cut = header + (count - HELD_OUT) * size
    for name, part in (("train", data[header:cut]), ("t10k", data[cut:])):
        number = (len(part) // size).to_bytes(4, "big")
        (FOLDER / f"{name}-{kind}-ubyte").write_bytes(data[:4] + number + data[8:header] + part)
