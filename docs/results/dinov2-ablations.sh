#!/usr/bin/env bash
# 300 steps of DINOv2 on shapes, whole and without each of its guards: neither Sinkhorn-Knopp nor centering (the center stays
# where it is, at 0), no KoLeo, no iBOT. Each is followed by the doctor and a dense probe.
# dinov2-ablations.sh PORTOLAN FOLDER [SEED] [ARGUMENTS of reproduce…] makes the runs that are not there yet, and prints a
# Markdown table.
set -euo pipefail
portolan=$1 folder=$2 seed=${3:-0}
here=$(dirname "$(realpath "$0")")
mkdir -p "$folder"
echo "| run | doctor | kNN (%) | mean IoU | KoLeo of the features | teacher's entropy |"
echo "|---|---|---|---|---|---|"

# run NAME ARGUMENTS…; further arguments of the script come last and win: 2 epochs of 150 steps of 32 images without any.
more=("${@:4}")
run() {
    local out="$folder/$1-s$seed"
    if [ ! -e "$out/report.json" ]; then
        rm -rf "$out"
        "$portolan" reproduce dinov2 --threads 1 --seed "$seed" --set limit=4800 --set epochs=2 --set batch_size=32 \
            --set training.knn_every=1 "${@:2}" "${more[@]}" --out "$out" >"$out.log" 2>&1 ||
            { echo "$out: $(tail -n 1 "$out.log")" >&2; return; }
    fi
    "$portolan" evaluate "$out" --protocol knn,linear-dense >"$out-evaluation.log" 2>&1 ||
        echo "$out: $(tail -n 1 "$out-evaluation.log")" >&2
    local last
    last=$(python3 - "$out/metrics.jsonl" <<'PYTHON'
import json, sys

rows = [json.loads(line) for line in open(sys.argv[1])]
last = lambda name: next((f"{row[name]:.3f}" for row in reversed(rows) if name in row), "–")
print(last("koleo"), "|", last("teacher_entropy"))
PYTHON
    )
    echo "| $1 | $("$portolan" doctor "$out" --brief) |" \
        "$(python3 "$here/evaluation.py" "$out/evaluation.json" knn linear_dense.mean_iou) | $last |"
}

run guarded
run no-centering --set centering=softmax --set center_momentum=1.0
run no-koleo --set koleo_loss_scale=0.0
run no-ibot --set ibot_loss_scale=0.0
