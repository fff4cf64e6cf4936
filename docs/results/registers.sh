#!/usr/bin/env bash
# DINOv2 on shapes without registers and with four (Darcet et al. 2023): outliers among the patch tokens and how well attention
# fits the objects. registers.sh PORTOLAN FOLDER [SEED] [ARGUMENTS of reproduce…] makes the runs that are not there yet, and
# prints a Markdown table.
set -euo pipefail
portolan=$1 folder=$2 seed=${3:-0}
mkdir -p "$folder"

for registers in 0 4; do
    out="$folder/registers$registers-s$seed"
    if [ ! -e "$out/report.json" ]; then
        rm -rf "$out"
        "$portolan" reproduce dinov2 --threads 1 --seed "$seed" --set registers=$registers "${@:4}" --out "$out" >"$out.log" 2>&1 ||
            { tail -n 1 "$out.log" >&2; exit 1; }
    fi
    "$portolan" attention "$out" --score >"$out-attention.log"
done

python3 - "$folder" "$seed" <<'PYTHON'
import json, sys

folder, seed = sys.argv[1:]
print("| registers | kNN (%) | attention, best head | untrained | mean of the heads | patches over 3 medians (%) | longest, in medians |")
print("|---|---|---|---|---|---|---|")
for registers in (0, 4):
    run = f"{folder}/registers{registers}-s{seed}"
    scores = json.load(open(f"{run}/attention.json"))
    knn = json.load(open(f"{run}/report.json"))["knn"]["top1"]
    after, before = scores["trained"], scores["untrained"]
    norms = after["patch_norms"]
    cells = [registers, f"{100 * knn:.1f}", f"{after['best_head']:.3f}", f"{before['best_head']:.3f}",
             f"{after['mean_of_heads']:.3f}", f"{100 * norms['outliers']:.2f}", f"{norms['largest']:.2f}"]
    print("| " + " | ".join(map(str, cells)) + " |")
PYTHON
