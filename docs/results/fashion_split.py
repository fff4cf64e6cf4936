"""Writes a part of Fashion-MNIST as IDX files to FOLDER.

fashion_split.py FOLDER [SOURCE]              for tuning: the first 54,000 training images of SOURCE (Debian's package) to train
                                              on, and its last 6,000 where the test images would be, which are not touched
fashion_split.py FOLDER [SOURCE] --first N    for short runs: the first N training images, and all test images
"""

import argparse
import gzip
from pathlib import Path

HELD_OUT = 6_000

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path)
parser.add_argument("source", type=Path, nargs="?", default="/usr/share/datasets/fashion-mnist")
parser.add_argument("--first", type=int)
args = parser.parse_args()

args.folder.mkdir(parents=True, exist_ok=True)
for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):

    def read(split):
        return gzip.open(args.source / f"{split}-{kind}-ubyte.gz").read()

    def write(split, data, begin, end):
        size = (len(data) - header) // int.from_bytes(data[4:8], "big")
        part = data[header + begin * size : header + end * size]
        number = (len(part) // size).to_bytes(4, "big")
        (args.folder / f"{split}-{kind}-ubyte").write_bytes(data[:4] + number + data[8:header] + part)

    train = read("train")
    count = int.from_bytes(train[4:8], "big")
    if args.first:
        write("train", train, 0, min(args.first, count))
        test = read("t10k")
        write("t10k", test, 0, int.from_bytes(test[4:8], "big"))
    else:
        write("train", train, 0, count - HELD_OUT)
        write("t10k", train, count - HELD_OUT, count)
