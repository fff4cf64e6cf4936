#!/usr/bin/env bash
# Distillation on the built-in images: a teacher (MoCo, ResNet-18 of width 16), a student of 0.32 of its parameters
# (width 9) that imitates it, and the same student pretrained alone (MoCo, 56 epochs, which take as long as 80 of these).
# distill.sh FOLDER SEEDS [PORTOLAN], for instance: docs/results/distill.sh /tmp/distill "0 1 2"
# Prints a line for each run: kNN and linear accuracy, and the seconds of its training.
set -eu
folder=$1 seeds=$2 portolan=${3:-target/release/portolan}
mkdir -p "$folder"

# run NAME SEED ARGUMENTS…: a run that is not there yet.
run() {
    local out="$folder/$1-s$2"
    [ -e "$out/report.json" ] && return
    rm -rf "$out"
    "$portolan" "${@:3}" --recipe shapes --threads 1 --seed "$2" --out "$out" >"$out.log" 2>&1 ||
        { echo "$out: $(tail -n 1 "$out.log")"; exit 1; }
}

# line NAME SEED: its accuracies.
line() {
    python3 - "$folder/$1-s$2/report.json" "$1" "$2" <<'EOF'
import json
import sys

path, name, seed = sys.argv[1:]
report = json.load(open(path))
knn, linear = report["knn"]["top1"], report["linear_probe"]["top1"]
print(f"{name:10} seed {seed}  {report['encoder']:12} {report['parameters']:>9,} parameters  {report['epochs']:3} epochs  "
      f"{report['seconds']:6.0f} s  kNN {100 * knn:.1f} %  linear {100 * linear:.1f} %")
EOF
}

for seed in $seeds; do
    run teacher "$seed" pretrain moco --data shapes
    run distilled "$seed" distill --teacher "$folder/teacher-s$seed" --data shapes
    run alone "$seed" pretrain moco --data shapes --encoder resnet18-w9 --epochs 56
    for name in teacher distilled alone; do line "$name" "$seed"; done
done
