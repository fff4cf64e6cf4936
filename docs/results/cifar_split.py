"""Writes a part of CIFAR-10 in Parquet to FOLDER, for choosing settings: the first N training images of SOURCE to train on, and
its last 5,000 where the test images would be, which are not touched. Needs pyarrow.

cifar_split.py FOLDER SOURCE [--first 45000]
"""

import argparse
from pathlib import Path

import pyarrow.parquet as parquet

HELD_OUT = 5_000

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path)
parser.add_argument("source", type=Path)
parser.add_argument("--first", type=int, default=50_000 - HELD_OUT)
args = parser.parse_args()

args.folder.mkdir(parents=True, exist_ok=True)
images = parquet.read_table(args.source / "train-00000-of-00001.parquet")
held_out = images.num_rows - HELD_OUT
parquet.write_table(images.slice(0, min(args.first, held_out)), args.folder / "train-00000-of-00001.parquet")
parquet.write_table(images.slice(held_out), args.folder / "test-00000-of-00001.parquet")
